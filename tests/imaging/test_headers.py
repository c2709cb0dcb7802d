"""Headers that end, hang or fill a process are refused before a library sees them; those that are in order are not."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from frugalseg.engine import host_memory
from frugalseg.errors import ScanError
from frugalseg.imaging import dicom_header, plausibility
from frugalseg.imaging.bounded import BoundedReader
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Volume
from tests.imaging.scans import make_affine, numbered, write_slice

VOXELS = np.arange(64, dtype=np.int16).tobytes()

NRRD = """NRRD0004
# made by hand
type: short
dimension: 3
space: left-posterior-superior
sizes: 4 4 4
space directions: (1,0,0) (0,1,0) (0,0,2.5)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (0,0,0)

"""

META = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementSpacing = 1 1 2.5
DimSize = 4 4 4
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""


def write(path: Path, header: str, voxels: bytes = VOXELS) -> Path:
    path.write_bytes(header.encode() + voxels)
    return path


def refuse(path: Path, words: str) -> None:
    with pytest.raises(ScanError, match=words) as caught:
        read_volume(path)
    assert path.name in caught.value.problem


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("dimension: 3", "dimension: 99999999999", "dimension is 99999999999"),
        ("sizes: 4 4 4", "sizes: 4 4 -4", "claims 4×4×-4"),
        ("sizes: 4 4 4", "sizes: 4 4", "sizes is '4 4', expected 3"),
        ("sizes: 4 4 4", "sizes: %s%n%d", "sizes is '%s%n%d'"),
        ("sizes: 4 4 4", "sizes: 1400 1400 1300", "claims 1400×1400×1300 voxels, but holds only 128 bytes"),
        ("sizes: 4 4 4", "sizes: 4 4 4\nsizes: 9 9 9", "sizes occurs twice"),
        ("(0,0,2.5)", "(0,0,inf)", "space directions is"),
        ("(0,0,2.5)", "(0,0,nan)", "space directions is"),
        ("(0,0,2.5)", "(0,0,1e300)", "numbers up to"),
        ("(0,0,2.5)", "(1,0,1e-7)", "parallel axes"),
        ("encoding: raw", "encoding: %n%n%n", "encoding is"),
        ("type: short", "type: block", "type is 'block'"),
        ("kinds: domain domain domain", "kinds: %s%n %s%n %s%n", "kinds is"),
        ("kinds: domain domain domain", f"kinds: {'domain ' * 200}", "kinds is longer than 500"),
        ("kinds: domain domain domain", "space units: " + '"mm" ' * 2000, "space units is longer than 500"),
        ("# made by hand", f"# {'x' * 100_000}", "a line is longer"),
        ("# made by hand", "# a\x00b", "not text"),
        ("# made by hand", "colour: red", "not an NRRD field"),
        ("encoding: raw", "encoding: raw\ndata file: /etc/passwd", "outside its folder"),
        ("encoding: raw", "encoding: raw\ndata file: ../x.raw", "outside its folder"),
        ("encoding: raw", "encoding: raw\ndata file: LIST", "several files"),
        ("encoding: raw", "encoding: raw\ndata file: x%03d.raw 1 9 1", "several files"),
        ("encoding: raw", "encoding: raw\ndata file: gone.raw", "lacks its data file 'gone.raw'"),
        ("encoding: raw", f"encoding: raw\ndata file: {'x' * 300}", "lacks its data file"),
        ("encoding: raw", "encoding: raw\nbyte skip: -2", "byte skip is -2"),
        ("encoding: raw", "encoding: raw\nline skip: 99999999", "line skip is 99999999"),
    ],
)
def test_hostile_nrrd_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in NRRD
    refuse(write(tmp_path / "a.nrrd", NRRD.replace(old, new)), words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("NDims = 3", "NDims = 99999999999", "NDims is '99999999999'"),
        ("NDims = 3", "NDims = 0", "NDims is '0'"),
        ("NDims = 3\n", "", "TransformMatrix occurs before NDims"),
        ("1 0 0 0 1 0 0 0 1", "inf 0 0 0 1 0 0 0 1", "TransformMatrix is"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 0", "TransformMatrix is.*expected 9"),
        ("1 0 0 0 1 0 0 0 1", "1 1 0 0 1 1e-9 0 0 1e-9", "parallel axes"),
        ("ElementSpacing = 1 1 2.5", "ElementSpacing = 1 1 nan", "ElementSpacing is"),
        ("ElementSpacing = 1 1 2.5", "ElementSpacing = 1 1 0", "zero spacing"),
        ("ElementSpacing = 1 1 2.5", "ElementSpacing = %s%n%d", "ElementSpacing is '%s%n%d'"),
        ("DimSize = 4 4 4", "DimSize = 1400 1400 1300", "claims 1400×1400×1300 voxels, but holds only 128 bytes"),
        ("DimSize = 4 4 4", "DimSize = 4 4 -4", "claims 4×4×-4"),
        ("DimSize = 4 4 4", "DimSize = 4 4 4\nDimSize = 5 5 5", "DimSize occurs twice"),
        ("DimSize = 4 4 4", f"DimSize = 4 4 4\nComment = {'v' * 5000}", "Comment is longer"),
        ("DimSize = 4 4 4", f"DimSize = 4 4 4\n{'k' * 5000} = v", "not of the form 'key = value'"),
        ("DimSize = 4 4 4", f"DimSize = 4 4 4\nComment = {'v' * 100_000}", "a line is longer"),
        ("MET_SHORT", "MET_STRING", "ElementType is"),
        ("ElementType", "ElementNumberOfChannels = 0\nElementType", "ElementNumberOfChannels is 0"),
        ("ElementType", "HeaderSize = 99999\nElementType", "HeaderSize is 99999"),
        ("ElementType", "CompressedDataSize = 999999999999\nElementType", "CompressedDataSize is 999999999999"),
        ("= LOCAL", "= /etc/passwd", "outside its folder"),
        ("= LOCAL", "= ../../x.raw", "outside its folder"),
        ("= LOCAL", r"= C:\x.raw", "outside its folder"),
        ("= LOCAL", "= LIST", "several files"),
        ("= LOCAL", "= %s%n%d", "several files"),
        ("= LOCAL", "= gone.raw", "lacks its data file"),
        ("ElementDataFile = LOCAL\n", "", "ElementDataFile is missing|not text|not of the form 'key = value'"),
    ],
)
def test_hostile_metaimage_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in META
    refuse(write(tmp_path / "a.mha", META.replace(old, new)), words)


@pytest.mark.parametrize("word", ["x" * 3000, "%s%n%d", "9" * 3000, "\x7f"])
def test_voxels_of_text_are_numbers(tmp_path: Path, word: str) -> None:
    header, voxels = NRRD.replace("raw", "ascii"), [str(n) for n in range(64)]
    path = write(tmp_path / "a.nrrd", header, " ".join(voxels).encode())
    assert read_volume(path).array.ravel("F").tolist() == list(range(64))
    refuse(write(path, header, " ".join([*voxels[:50], word, *voxels[51:]]).encode()), "its voxels hold .* numbers")


def test_what_other_programs_write_is_read(tmp_path: Path) -> None:
    slicer = NRRD.replace("\n\n", f"\nmeasurement frame: (1,0,0) (0,1,0) (0,0,1)\nSegment0_Tags:={'t' * 9000}|%d\n\n")
    for header in (NRRD, slicer, NRRD.replace("\n", "\r\n"), NRRD.replace("sizes", "content: 50% of it\nSizes")):
        assert read_volume(write(tmp_path / "a.nrrd", header)).array.ravel("F").tolist() == list(range(64))
    spaced = "NRRD0001\ntype: short\ndimension: 3\nsizes: 4 4 4\nspacings: 1 nan 2\nendian: little\nencoding: raw\n\n"
    assert read_volume(write(tmp_path / "a.nrrd", spaced)).array.shape == (4, 4, 4)
    for header in (
        META,
        META.replace("ElementType", "HeaderSize = -1\nAnatomicalOrientation = RAI\nMy.key =\nElementType"),
    ):
        assert read_volume(write(tmp_path / "a.mha", header)).array.ravel("F").tolist() == list(range(64))


def test_voxels_in_a_file_of_their_own_are_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "List.raw").write_bytes(VOXELS)
    nhdr = NRRD.replace("encoding: raw\n", "encoding: raw\ndata file: data/List.raw\n")
    mhd = META.replace("LOCAL", "data/List.raw")
    for name, header in (("a.nhdr", nhdr), ("a.mhd", mhd)):
        assert read_volume(write(tmp_path / name, header, b"")).array.ravel("F").tolist() == list(range(64))
        longer = header.replace("4 4 4", "4 4 5")
        refuse(write(tmp_path / name, longer, b""), "claims 4×4×5 voxels, but holds only 128 bytes")


def _packed(suffix: str, shape: tuple[int, int, int], voxels: bytes) -> bytes:
    sizes = " ".join(map(str, shape))
    if suffix == ".nrrd":
        return NRRD.replace("4 4 4", sizes).replace("raw", "gzip").encode() + gzip.compress(voxels, 9)
    if suffix == ".mha":
        header = META.replace("DimSize = 4 4 4", f"DimSize = {sizes}").replace(
            "CompressedData = False", "CompressedData = True"
        )
        return header.encode() + zlib.compress(voxels, 9)
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header["vox_offset"], header["sform_code"] = 352, 1
    header["srow_x"], header["srow_y"], header["srow_z"] = np.eye(4)[:3]
    header["magic"] = b"n+1"
    return gzip.compress(header.binaryblock + bytes(4) + voxels, 9)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_the_best_compressed_scan_is_read(tmp_path: Path, suffix: str) -> None:
    # Zeros compress as far as deflate can; more than that no header may claim.
    path, voxels = tmp_path / f"a{suffix}", bytes(2 * 300 * 300 * 200)
    path.write_bytes(_packed(suffix, (300, 300, 200), voxels))
    assert path.stat().st_size * 1000 < len(voxels)
    assert read_volume(path).array.shape == (300, 300, 200)
    path.write_bytes(_packed(suffix, (1400, 1400, 1300), voxels))
    refuse(path, "claims 1400×1400×1300 voxels")


def test_more_than_the_memory_holds_is_refused_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(tmp_path / "a.nrrd", NRRD), write(tmp_path / "a.mha", META), tmp_path / "a.nii"]
    nib.save(nib.Nifti1Image(numbered(), make_affine()), paths[2])
    write_slice(tmp_path / "d" / "0", np.zeros((4, 4), np.int16), (0, 0, 0))
    monkeypatch.setattr(plausibility, "free_host_memory", lambda: 10)
    for path in (*paths, tmp_path / "d"):
        refuse(path, "GB of memory")


def test_free_memory_heeds_the_limit_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    assert 0 < host_memory.free_host_memory() < 1 << 50
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1, 1))
    assert host_memory.free_host_memory() == 0


def _nifti(path: Path, kind: type = nib.Nifti1Image) -> bytearray:
    image = kind(numbered(), make_affine(spacing=(1, 1, 2)))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a phantom"))
    nib.save(image, path)
    return bytearray(path.read_bytes())


@pytest.mark.parametrize(
    ("kind", "place", "value", "words"),
    [
        (nib.Nifti1Image, 40, struct.pack("<8h", 3, 1400, 1400, 1300, 1, 1, 1, 1), "claims 1400×1400×1300"),
        (nib.Nifti1Image, 40, struct.pack("<h", 30), "dim is"),
        (nib.Nifti1Image, 42, struct.pack("<h", -4), "dim is"),
        (nib.Nifti1Image, 70, struct.pack("<h", 999), "datatype is 999"),
        (nib.Nifti1Image, 108, struct.pack("<f", 1e30), "vox_offset is 1.0"),
        (nib.Nifti1Image, 108, struct.pack("<f", np.nan), "vox_offset is nan"),
        (nib.Nifti1Image, 352, struct.pack("<i", 2**31 - 1), "an extension claims 2147483647 bytes"),
        (nib.Nifti1Image, 352, struct.pack("<i", 0), "an extension claims 0 bytes"),
        (nib.Nifti2Image, 16, struct.pack("<4q", 3, 2**40, 2**40, 2**40), "claims 1099511627776"),
        (nib.Nifti2Image, 168, struct.pack("<q", 2**60), "vox_offset is 1152921504606846976"),
        (nib.Nifti2Image, 544, struct.pack("<i", -5), "an extension claims -5 bytes"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_hostile_nifti_is_refused(
    tmp_path: Path, kind: type, place: int, value: bytes, words: str, packed: bool
) -> None:
    content = _nifti(tmp_path / "whole.nii", kind)
    assert read_volume(tmp_path / "whole.nii").array.shape == (3, 4, 5)
    content[place : place + len(value)] = value
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    refuse(path, words)


def test_a_nearly_flat_grid_is_refused_and_a_tilted_one_is_not() -> None:
    tilted, flat = make_affine(shear=1.0), make_affine(shear=100.0)
    assert Volume(numbered(), tilted).spacing[2] == pytest.approx(2**0.5)
    with pytest.raises(ScanError, match="parallel axes"):
        Volume(numbered(), flat)
    with pytest.raises(ScanError, match="affine with values up to 1e\\+08 mm"):
        Volume(numbered(), make_affine(origin=(1e8, 0, 0)))


def test_a_damaged_length_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    with BoundedReader(tmp_path / "a") as file:
        assert file.read(4) == b"0123"
        assert file.read(1 << 60) == b"456789"  # a plain file raises MemoryError
        assert file.read(1) == b""
        file.seek(8)
        assert file.read() == b"89"


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(_nifti(tmp_path / "whole.nii") + bytes(100 << 20)))
    refuse(path, "decompresses to far more")
    path = write_slice(tmp_path / "a.dcm", np.zeros((64, 64), np.int16), (0, 0, 0))
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    assert read_volume(path).array.shape == (64, 64, 1)
    monkeypatch.setattr(dicom_header, "free_host_memory", lambda: path.stat().st_size * 1000)
    refuse(path, "is deflated and may inflate to")


def test_deep_sequences_and_absurd_sizes_in_dicom_are_refused(tmp_path: Path) -> None:
    path = write_slice(tmp_path / "a.dcm", np.zeros((4, 4), np.int16), (0, 0, 0), Rows=65535, Columns=65535)
    refuse(path, "decoded|GB of memory")
    path = write_slice(tmp_path / "b.dcm", np.zeros((4, 4), np.int16), (0, 0, 0), NumberOfFrames=2**31 - 1)
    refuse(path, "multi-frame")
    start = path.read_bytes()[:132]
    path.write_bytes(start + (b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 5000)
    refuse(path, "damaged DICOM header|holds no image")
