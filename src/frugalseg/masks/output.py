"""The file of a mask: its name, its format, and what a DICOM object says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from frugalseg._version import __version__
from frugalseg.errors import OptionError
from frugalseg.imaging.volume import Volume
from frugalseg.imaging.write import mask_path, write_mask
from frugalseg.options import OutputType
from frugalseg.records.predictions import TargetValues

if TYPE_CHECKING:
    from frugalseg.imaging.segments.source import Organ

SUFFIXES: Mapping[OutputType, str] = {"nifti": ".nii.gz", "nrrd": ".nrrd", "dicom-seg": ".dcm", "rtstruct": ".dcm"}
DICOM_OBJECTS = ("dicom-seg", "rtstruct")


class OutputOptions(Protocol):
    """The options that say how masks are written; see `options.MaskOutputOptions`."""

    @property
    def output_type(self) -> OutputType:
        """The format of the masks."""

    @property
    def segment_codes(self) -> Path | None:
        """Coded terms for organs."""


def output_path(folder: Path, case: str, source: Path, kind: OutputType) -> Path:
    """The file for the mask of a case."""
    return mask_path(folder, case, source) if kind == "scan" else folder / f"{case}{SUFFIXES[kind]}"


@dataclass(frozen=True)
class MaskOutput:
    """How a mask is written.

    Attributes:
        kind: the format.
        organs: organ → label values.
        command: the command that made the mask.
        manual: whether a person outlined a part of it.
        codes: the file of `--segment-codes`.
    """

    kind: OutputType = "scan"
    organs: TargetValues | None = None
    command: str = ""
    manual: bool = False
    codes: Path | None = None

    @classmethod
    def of(cls, options: OutputOptions, organs: TargetValues, command: str, manual: bool = False) -> MaskOutput:
        """The output that the options of a command ask for."""
        return cls(options.output_type, organs, command, manual, options.segment_codes)

    def write(self, mask: Volume, path: Path, source: Path) -> None:
        """Write a mask of the scan at `source`; for errors see `write_mask`, `write_seg` and `write_rtstruct`."""
        if self.kind not in DICOM_OBJECTS:
            write_mask(mask, path)
            return
        from frugalseg.imaging.segments.source import Author

        author = Author(f"frugalseg {self.command}", __version__, "SEMIAUTOMATIC" if self.manual else "AUTOMATIC")
        if self.kind == "dicom-seg":
            from frugalseg.imaging.segments.seg_writer import write_seg as write
        else:
            from frugalseg.imaging.segments.rtstruct_writer import write_rtstruct as write
        write(mask, path, source, name_organs(self.organs or {}, self.kind, self.codes), author)


def name_organs(organs: TargetValues, kind: OutputType, codes: Path | None) -> list[Organ]:
    """Organs with their coded terms, which RTSTRUCT may lack; raises `OptionError` where DICOM SEG lacks one."""
    from frugalseg.imaging.segments.codes import find_codes, read_codes, to_key
    from frugalseg.imaging.segments.source import Organ

    known = read_codes(codes)
    if kind == "dicom-seg":
        find_codes(organs, codes)
    return [Organ(name, values[0], known.get(to_key(name))) for name, values in organs.items()]


def check_output(options: OutputOptions, images: Mapping[str, Path], organs: TargetValues) -> None:
    """Check before the first scan that its mask can be written as the user wants.

    Raises:
        OptionError: --segment-codes without a DICOM object, or an organ without a coded term or without a name.
        ScanError: a scan is no DICOM series.
    """
    if options.output_type not in DICOM_OBJECTS:
        if options.segment_codes is not None:
            raise OptionError(
                f"--segment-codes {options.segment_codes}: masks of type {options.output_type} have no coded terms",
                "leave it out, or give --output-type dicom-seg",
            )
        return
    from frugalseg.imaging.segments.source import require_series

    if not organs:
        raise OptionError(
            f"--output-type {options.output_type} needs the names of the organs", "give --target, for example liver=6"
        )
    name_organs(organs, options.output_type, options.segment_codes)
    for path in images.values():
        require_series(path)
