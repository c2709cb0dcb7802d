"""Every transfer syntax that stores a series of CT or MR slices is decoded to the numbers that were stored."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import SimpleITK
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames

from frugalseg.errors import ScanError
from frugalseg.imaging.dicom import load_dicom
from frugalseg.imaging.dicom_jpeg import JPEG, decode_jpeg
from tests.imaging.scans import write_slice

Pixels = npt.NDArray[np.generic]


def blob(kind: type = np.int16) -> Pixels:
    noise = np.random.default_rng(0).integers(0, 50, (64, 48))
    values = np.indices((64, 48)).sum(0) * 18 + noise
    return {np.int16: values - 900, np.uint16: values * 20, np.uint8: values // 8}[kind].astype(kind)


def rewritten(path: Path, pixels: Pixels, syntax: str, stream: bytes, **tags: object) -> Path:
    """A slice whose pixels are this compressed stream."""
    bits = 8 * pixels.dtype.itemsize
    bitwise = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
    dataset = dcmread(write_slice(path, pixels, (0, 0, 0), **bitwise | tags))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path


def lossless_jpeg(pixels: Pixels, folder: Path) -> bytes:
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(folder / "itk.dcm"))
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    writer.Execute(SimpleITK.GetImageFromArray(pixels))
    dataset = dcmread(folder / "itk.dcm")
    assert dataset.file_meta.TransferSyntaxUID == uid.JPEGLosslessSV1
    return next(generate_frames(dataset.PixelData, number_of_frames=1))


def stored(path: Path) -> Pixels:
    return load_dicom(path).array[:, ::-1, 0].T


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.uint8])
@pytest.mark.parametrize("syntax", [uid.JPEGLossless, uid.JPEGLosslessSV1])
def test_lossless_jpeg(tmp_path: Path, kind: type, syntax: str) -> None:
    pixels = blob(kind)
    path = rewritten(tmp_path / "a.dcm", pixels, syntax, lossless_jpeg(pixels, tmp_path))
    assert np.array_equal(stored(path), pixels)


def test_a_stream_may_have_more_bits_than_are_stored(tmp_path: Path) -> None:
    pixels = blob(np.uint16) // 16
    assert pixels.max() < 1 << 12
    path = rewritten(
        tmp_path / "a.dcm", pixels, uid.JPEGLosslessSV1, lossless_jpeg(pixels, tmp_path), BitsStored=12, HighBit=11
    )
    assert np.array_equal(stored(path), pixels)


def test_the_rescaling_is_applied_to_decoded_pixels_once(tmp_path: Path) -> None:
    pixels = blob(np.uint16) // 16
    path = rewritten(
        tmp_path / "a.dcm",
        pixels,
        uid.JPEGLosslessSV1,
        lossless_jpeg(pixels, tmp_path),
        RescaleSlope=2,
        RescaleIntercept=-1024,
    )
    assert np.array_equal(stored(path), pixels.astype(int) * 2 - 1024)


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit])
def test_jpeg_of_8_bits_is_what_pillow_reads(tmp_path: Path, syntax: str) -> None:
    pixels = blob(np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    path = rewritten(tmp_path / "a.dcm", pixels, syntax, stream.getvalue())
    expected = np.asarray(PIL.Image.open(stream)).astype(int)
    assert np.abs(stored(path) - expected).max() <= 1
    assert np.abs(stored(path) - pixels.astype(int)).max() < 20


def test_jpeg_of_12_bits() -> None:
    """A file of a public collection; libjpeg-turbo (imagecodecs 2026.3.6) gives exactly these values."""
    dataset = dcmread(get_testdata_file("JPEG-lossy.dcm"))
    assert dataset.file_meta.TransferSyntaxUID == uid.JPEGExtended12Bit
    assert dataset.BitsStored == 12
    pixels = decode_jpeg(dataset)
    assert pixels.shape == (1024, 256)
    assert (pixels.min(), pixels.max()) == (0, 264)
    assert pixels.mean() == pytest.approx(14.369991302490234, abs=1e-9)


@pytest.mark.parametrize(
    "name", ["MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"]
)
def test_files_of_other_programs(name: str) -> None:
    """The same slice, uncompressed and as another program compressed it."""
    path, plain = (Path(get_testdata_file(one)) for one in (name, "MR_small.dcm"))
    assert dcmread(path).file_meta.TransferSyntaxUID != dcmread(plain).file_meta.TransferSyntaxUID
    assert np.array_equal(load_dicom(path).array, load_dicom(plain).array)


@pytest.mark.parametrize(
    ("name", "total", "highest"),
    [("JPEGLSNearLossless_08.dcm", 25000, 255), ("JPEGLSNearLossless_16.dcm", 6007250, 65535)],
)
def test_nearly_lossless_jpeg_ls(name: str, total: int, highest: int) -> None:
    """CharLS itself (pyjpegls 1.5.1) gives exactly these values."""
    pixels = decode_jpeg(dcmread(get_testdata_file(name)))
    assert int(pixels.sum()) == total
    assert pixels.max() == highest


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEG2000Lossless])
@pytest.mark.parametrize("kind", [np.int16, np.uint16])
def test_what_pydicom_compresses(tmp_path: Path, syntax: str, kind: type) -> None:
    pixels = blob(kind)
    path = write_slice(tmp_path / "a.dcm", pixels, (0, 0, 0))
    dataset = dcmread(path)
    dataset.compress(syntax)
    dataset.save_as(path)
    assert np.array_equal(stored(path), pixels)


def test_no_decoder_under_the_gpl_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libjpeg", None)
    pixels = blob()
    for syntax in JPEG[2:4]:
        path = rewritten(tmp_path / "a.dcm", pixels, syntax, lossless_jpeg(pixels, tmp_path))
        assert np.array_equal(stored(path), pixels)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.99])
def test_a_stream_cut_short_is_named(tmp_path: Path, share: float) -> None:
    pixels = blob()
    stream = lossless_jpeg(pixels, tmp_path)
    path = rewritten(tmp_path / "a.dcm", pixels, uid.JPEGLosslessSV1, stream[: int(share * len(stream))])
    with pytest.raises(ScanError, match=r"a\.dcm has pixels that cannot be decoded") as caught:
        load_dicom(path)
    assert "tmp" not in caught.value.problem.replace(str(tmp_path), "")


def test_a_stream_of_another_image_is_named(tmp_path: Path) -> None:
    pixels = blob()
    stream = bytearray(lossless_jpeg(pixels, tmp_path))
    precision = stream.index(b"\xff\xc3") + 4
    assert stream[precision] == 16
    stream[precision] = 173  # GDCM writes beyond its buffer when it believes this
    path = rewritten(tmp_path / "a.dcm", pixels, uid.JPEGLosslessSV1, bytes(stream))
    with pytest.raises(ScanError, match="48×64 pixels of 173 bits"):
        load_dicom(path)
    path = rewritten(tmp_path / "a.dcm", pixels[:16], uid.JPEGLosslessSV1, lossless_jpeg(pixels, tmp_path))
    with pytest.raises(ScanError, match="holds 48×64 pixels of 16 bits.*header says 48×16"):
        load_dicom(path)
