"""Small scans of every format, and ways to corrupt their files, all determined by a random generator."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK
from pydicom import Dataset, dcmread
from pydicom.uid import JPEG2000Lossless, RLELossless

from frugalseg.imaging.read import read_volume
from frugalseg.imaging.segments.rtstruct_writer import write_rtstruct
from frugalseg.imaging.segments.seg_writer import write_seg
from tests.imaging.scans import make_affine, write_slice
from tests.imaging.segments.series import AUTHOR, make_organs, write_source
from tests.imaging.zarrs import write_zarr
from tests.scans import tiny_scan

Random = np.random.Generator
Mutation = Callable[[bytes, Random], bytes]

SHAPE = (10, 9, 8)


@dataclass(frozen=True)
class Original:
    """A whole file, and those that lie beside it.

    Attributes:
        name: file name; of DICOM, one slice of a series.
        kind: for the table.
        content: bytes of the file that is mutated.
        beside: name → bytes of the files that it needs.
        header: length of what comes before the voxels, in bytes, after unpacking.
        opened: what is to be read, if not the file itself.
    """

    name: str
    kind: str
    content: bytes
    beside: dict[str, bytes]
    header: int
    opened: str = ""

    def write(self, folder: Path, content: bytes) -> Path:
        """Write the file with this content, and those that lie beside it; returns what is to be read."""
        for name, own in {**self.beside, self.name: content}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(own)
        return folder / (self.opened or self.name)


SCAN = "scan.nii"
"""The scan of a mask, beside it."""


def originals(folder: Path) -> list[Original]:
    """The whole files, made in `folder`, which must exist."""
    return [*_nifti(folder), *_itk(folder), *_text(), *_dicom(folder), *_masks(folder), *_zarr(folder)]


def _nifti(folder: Path) -> list[Original]:
    image, _ = tiny_scan(3, SHAPE)
    made = []
    for name, kind, array in (
        ("plain.nii", nib.Nifti1Image, image),
        ("packed.nii.gz", nib.Nifti1Image, image),
        ("real.nii.gz", nib.Nifti1Image, image.astype(np.float32)),
        ("second.nii", nib.Nifti2Image, image),
    ):
        scan = kind(array, make_affine(5, (1.5, 2, 2.5), (10, 5, 0)))
        scan.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a phantom" * 5))
        scan.set_qform(scan.affine, code=1)
        nib.save(scan, folder / name)
        made.append(Original(name, "NIfTI", (folder / name).read_bytes(), {}, 620))
    return made


def _itk(folder: Path) -> list[Original]:
    image = SimpleITK.GetImageFromArray(tiny_scan(4, SHAPE)[0])
    image.SetSpacing((1.5, 2, 2.5))
    made = []
    for suffix, data in ((".nrrd", None), (".nhdr", ".raw"), (".mha", None), (".mhd", ".raw")):
        for packed in (False, True):
            name = f"{'packed' if packed else 'plain'}{suffix}"
            place = folder / f"{name}.files"
            place.mkdir()
            SimpleITK.WriteImage(image, str(place / name), packed)
            content = (place / name).read_bytes()
            others = {path.name: path.read_bytes() for path in place.iterdir() if path.name != name}
            assert bool(others) == bool(data)
            kind = "NRRD" if suffix in (".nrrd", ".nhdr") else "MetaImage"
            end = content.find(b"\n\n") + 2 if kind == "NRRD" else content.find(b"LOCAL\n") + 6
            made.append(Original(name, kind, content, others, len(content) if data else end))
    return made


def _text() -> list[Original]:
    """Files whose voxels are written as text."""
    voxels = " ".join(map(str, range(60))).encode() + b"\n"
    nrrd = (
        b"NRRD0005\n# a comment\ntype: int16\ndimension: 3\nspace: left-posterior-superior\nsizes: 3 4 5\n"
        b'space directions: (1,0,0) (0,1,0) (0,0,2)\nspace units: "mm" "mm" "mm"\nkinds: domain domain domain\n'
        b"encoding: txt\nspace origin: (1,2,3)\nkey:=value\n\n"
    )
    hexadecimal = nrrd.replace(b"encoding: txt", b"encoding: hex").replace(b"int16", b"uint8")
    mha = (
        b"ObjectType = Image\nNDims = 3\nBinaryData = False\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        b"TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\n"
        b"ElementSpacing = 1 1 2\nDimSize = 3 4 5\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    return [
        Original("text.nrrd", "NRRD", nrrd + voxels, {}, len(nrrd)),
        Original("hex.nrrd", "NRRD", hexadecimal + bytes(range(60)).hex(" ", 20).encode(), {}, len(hexadecimal)),
        Original("text.mha", "MetaImage", mha + voxels, {}, len(mha)),
    ]


def _dicom(folder: Path) -> list[Original]:
    rows = (1000 * np.sin(np.arange(36 * 40)).reshape(36, 40)).astype(np.int16)
    nested = Dataset()
    nested.CodeValue = "1"
    for _ in range(20):
        outer = Dataset()
        outer.ConceptNameCodeSequence = [nested]
        nested = outer
    slices = [
        write_slice(folder / "series" / f"{z}.dcm", rows + z, (0, 0, 2.5 * z), RequestAttributesSequence=[nested])
        for z in range(3)
    ]
    beside = {path.name: path.read_bytes() for path in slices[1:]}
    made = [Original("0.dcm", "DICOM", slices[0].read_bytes(), beside, slices[0].stat().st_size - rows.nbytes)]
    for name, syntax in (("rle", RLELossless), ("jpeg", JPEG2000Lossless)):
        dataset = dcmread(slices[0])
        dataset.compress(syntax)
        dataset.save_as(folder / name)
        content = (folder / name).read_bytes()
        made.append(Original("0.dcm", f"DICOM, {name}", content, beside, content.rfind(b"\xe0\x7f\x10\x00")))
    return made


def _masks(folder: Path) -> list[Original]:
    """Masks as DICOM objects, with their scan."""
    source = write_source(folder / "source", "oblique")
    scan = read_volume(source)
    nib.save(nib.Nifti1Image(scan.array, scan.affine), folder / SCAN)
    beside = {SCAN: (folder / SCAN).read_bytes()}
    mask = scan.with_array(np.zeros(scan.array.shape, np.uint8))
    mask.array[2:9, 3:8, 1:5], mask.array[10:13, 2:9, 2:4] = 6, 1
    made = []
    for kind, write in (("DICOM SEG", write_seg), ("RTSTRUCT", write_rtstruct)):
        write(mask, folder / kind, source, make_organs(liver=6, spleen=1), AUTHOR)
        content = (folder / kind).read_bytes()
        pixels = content.rfind(b"\xe0\x7f\x10\x00")
        made.append(Original("mask.dcm", kind, content, beside, pixels if pixels > 0 else len(content)))
    return made


def _zarr(folder: Path) -> list[Original]:
    """The metadata and a chunk of images in both versions; none where zarr is missing."""
    if find_spec("zarr") is None:
        return []
    made = []
    for version, files in (("0.4", (".zattrs", "0/.zarray", "0/0.0.0")), ("0.5", ("zarr.json", "0/zarr.json"))):
        place = write_zarr(folder / version / "a.zarr", tiny_scan(5, SHAPE)[0], None, (2, 1, 1), version=version)
        whole = {str(p.relative_to(place.parent)): p.read_bytes() for p in place.rglob("*") if p.is_file()}
        for name in (f"a.zarr/{file}" for file in files):
            beside = {other: content for other, content in whole.items() if other != name}
            made.append(Original(name, "OME-Zarr", whole[name], beside, len(whole[name]), opened="a.zarr"))
    return made


HOSTILE_TEXT = (
    *("0", "-1", "1", "3", "7", "99999999999", "4294967297", "18446744073709551616", "1e308", "1e-308", "inf", "-inf"),
    *(
        "nan",
        "%s%n%d",
        "%99999d",
        "",
        "A" * 300,
        "A" * 5000,
        "9 " * 3000,
        "/etc/passwd",
        "../../x",
        "LIST",
        "x%03d.raw",
    ),
    *("x%03d.raw 1 9 1", "True", "False", "None", "none", "(1,0,0)", "gzip", "raw", "MET_DOUBLE", "double", "block"),
    *("\x00", "é", "\t", "(nan,0,0)", "(1e300,0,0)"),
)
_EXTREMES = {
    1: (b"\x00", b"\xff", b"\x7f", b"\x80"),
    2: tuple(struct.pack("<h", v) for v in (0, -1, 1, 7, 256, 32767, -32768)),
    4: (
        *(struct.pack("<i", v) for v in (0, -1, 16, 2**31 - 1, -(2**31))),
        *(struct.pack("<f", v) for v in (1e38, 1e-38)),
    ),
    8: (*(struct.pack("<q", v) for v in (0, -1, 2**63 - 1, 2**40)), *(struct.pack("<d", v) for v in (np.inf, np.nan))),
}
EXTREMES = {**_EXTREMES, 4: (*_EXTREMES[4], struct.pack("<f", np.inf), struct.pack("<f", np.nan))}
"""Bytes → values at the edges of what so many bytes can hold."""


def flip_bits(content: bytes, rng: Random) -> bytes:
    """One to twenty bits flipped."""
    array = np.frombuffer(content, np.uint8).copy()
    for place in rng.integers(0, len(array), rng.integers(1, 21)):
        array[place] ^= 1 << int(rng.integers(8))
    return array.tobytes()


def cut(content: bytes, rng: Random) -> bytes:
    """The beginning of the file."""
    return content[: int(rng.integers(len(content)))]


def insert(content: bytes, rng: Random) -> bytes:
    """Random bytes, or many of one, in some place."""
    place, count = int(rng.integers(len(content))), int(rng.choice([1, 2, 7, 100, 10_000]))
    new = rng.bytes(count) if rng.random() < 0.5 else rng.bytes(1) * count
    return content[:place] + new + content[place:]


def remove(content: bytes, rng: Random) -> bytes:
    """The file without a piece."""
    place = int(rng.integers(len(content)))
    return content[:place] + content[place + int(rng.choice([1, 2, 8, 100])) :]


def swap(content: bytes, rng: Random) -> bytes:
    """Two pieces in each other's place."""
    length = int(rng.choice([1, 4, 16, 64]))
    a, b = sorted(int(v) for v in rng.integers(0, max(1, len(content) - length), 2))
    if b < a + length:
        return content[::-1]
    first, second = content[a : a + length], content[b : b + length]
    return content[:a] + second + content[a + length : b] + first + content[b + length :]


def set_extreme(content: bytes, rng: Random) -> bytes:
    """An aligned value set to the edge of what it can hold; in either byte order."""
    width = int(rng.choice(list(EXTREMES)))
    place = int(rng.integers(0, max(1, len(content) // width))) * width
    value = EXTREMES[width][int(rng.integers(len(EXTREMES[width])))]
    return content[:place] + (value if rng.random() < 0.7 else value[::-1]) + content[place + width :]


def set_word(content: bytes, rng: Random) -> bytes:
    """A word of a text replaced by a hostile one."""
    words = list(re.finditer(rb"[^\s:=(),]+", content))
    if not words:
        return content
    word = words[int(rng.integers(len(words)))]
    return content[: word.start()] + _hostile(rng) + content[word.end() :]


def set_value(content: bytes, rng: Random) -> bytes:
    """The value of a line `key: value` or `key = value` replaced by a hostile one."""
    values = list(re.finditer(rb"(?m)(?<=[:=] ).*$", content))
    if not values:
        return content
    value = values[int(rng.integers(len(values)))]
    return content[: value.start()] + _hostile(rng) + content[value.end() :]


def move_lines(content: bytes, rng: Random) -> bytes:
    """A line twice, not at all, elsewhere, or joined to the next."""
    lines = content.split(b"\n")
    a, b = (int(v) for v in rng.integers(0, len(lines), 2))
    change = rng.integers(4)
    if change == 0:
        lines.insert(b, lines[a])
    elif change == 1:
        del lines[a]
    elif change == 2:
        lines[a], lines[b] = lines[b], lines[a]
    else:
        lines[a] += b" " + _hostile(rng)
    return b"\n".join(lines)


def _hostile(rng: Random) -> bytes:
    return HOSTILE_TEXT[int(rng.integers(len(HOSTILE_TEXT)))].encode()


ANYWHERE: tuple[Mutation, ...] = (flip_bits, cut, insert, remove, swap, set_extreme)
IN_TEXT: tuple[Mutation, ...] = (set_word, set_value, set_value, move_lines)


def mutate(original: Original, rng: Random) -> bytes:
    """The file corrupted in one to three ways, in two of three cases in its header only."""
    content = original.content
    packed = content[:2] == b"\x1f\x8b" and rng.random() < 0.8
    if packed:
        content = gzip.decompress(content)
    ways: Sequence[Mutation] = ANYWHERE
    if original.kind in ("NRRD", "MetaImage") or original.name.endswith((".zattrs", ".zarray", ".json")):
        ways = (*ANYWHERE, *IN_TEXT * 3)
    header, rest = content, b""
    if rng.random() < 2 / 3:
        header, rest = content[: original.header], content[original.header :]
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        if header:
            header = ways[int(rng.integers(len(ways)))](header, rng)
    corrupted = header + rest
    return gzip.compress(corrupted, 1, mtime=0) if packed else corrupted
