"""A killed server loses nothing; a restarted one goes on where it was."""

from __future__ import annotations

import json
import signal
import urllib.request

import nibabel as nib
import numpy as np
import psutil
import pytest
import SimpleITK

from tests.annotation.session import disc, serve, wait_for
from tests.scans import write_cohort

SHAPE = (32, 32)


def request(address, method, place, body=None, **headers):
    given = {"X-Frugalseg": "1", "X-Client": "tab-1", "Content-Type": "application/octet-stream"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    asked = urllib.request.Request(address.rstrip("/") + place, data=body, method=method, headers=given)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return answer.read()


def draw(address, case, z, mask, version):
    body = np.ascontiguousarray(mask, dtype=np.uint8).tobytes()
    place = f"/api/cases/{case}/slices/{z}/mask"
    return json.loads(request(address, "PUT", place, body, If_Match=str(version), X_Tool="brush", X_Seconds="1"))


@pytest.fixture
def folders(tmp_path):
    images, _ = write_cohort(tmp_path, 2)
    return ["--images", images, "--out", tmp_path / "out", "--target", "liver=6"], tmp_path / "out"


def test_a_killed_server_loses_no_stroke_and_the_files_follow_at_the_next_start(folders):
    arguments, out = folders
    strokes = [disc(SHAPE, radius=0.05 + number / 100) for number in range(20)]
    with serve(*arguments, end=signal.SIGKILL) as (address, _):
        for number, mask in enumerate(strokes):
            draw(address, "scan_00", 5, mask, number)
        request(address, "POST", "/api/cases/scan_01/slices/3/accept")
        # Killed at once, before any file was written.
    assert not (out / "scan_00.nii.gz").exists()
    with serve(*arguments) as (address, process):
        found = np.frombuffer(request(address, "GET", "/api/cases/scan_00/slices/5/mask"), np.uint8)
        np.testing.assert_array_equal(found.reshape(SHAPE), strokes[-1])
        assert wait_for(lambda: (out / "scan_00.nii.gz").is_file())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    mask, scan = (nib.load(folder / "scan_00.nii.gz") for folder in (out, out.parent / "images"))
    np.testing.assert_array_equal(mask.affine, scan.affine)
    np.testing.assert_array_equal(np.asarray(mask.dataobj)[:, :, 5].T, strokes[-1])
    read = SimpleITK.ReadImage(str(out / "scan_00.nii.gz"))
    assert read.GetDirection() == SimpleITK.ReadImage(str(out.parent / "images" / "scan_00.nii.gz")).GetDirection()
    record = json.loads((out / "annotations.json").read_text())
    assert record["scans"]["scan_00"]["outlined"] == [5]
    assert record["scans"]["scan_01"]["reviewed"] == [3]


def test_ending_writes_what_was_just_drawn(folders):
    arguments, out = folders
    with serve(*arguments) as (address, process):
        draw(address, "scan_00", 5, disc(SHAPE), 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert np.count_nonzero(np.asarray(nib.load(out / "scan_00.nii.gz").dataobj)) == np.count_nonzero(disc(SHAPE))


def test_an_open_event_stream_does_not_keep_the_server_from_ending(folders):
    arguments, _ = folders
    with serve(*arguments) as (address, process):
        stream = urllib.request.urlopen(address.rstrip("/") + "/api/events?client=tab-1", timeout=60)
        assert b'"type": "hello"' in stream.readline()
        draw(address, "scan_00", 5, disc(SHAPE), 0)
        events = (json.loads(line.removeprefix(b"data: ")) for line in stream if line.startswith(b"data: "))
        event = next(event for event in events if event["type"] == "case")
        assert (event["id"], event["slices"]) == ("scan_00", [5])
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_second_server_on_the_same_folder_is_refused(folders):
    import subprocess
    import sys

    arguments, _ = folders
    with serve(*arguments):
        again = [sys.executable, "-m", "frugalseg", "annotate", *map(str, arguments), "--port", "0", "--no-browser"]
        done = subprocess.run(again, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert "another process works in" in done.stderr


def test_a_scan_of_4_gb_is_opened_and_drawn_on_in_little_memory(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.int16), np.diag([-1.0, -1, 1, 1])).header
    header.set_data_shape((512, 512, 8000))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with (images / "huge.nii").open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.truncate(352 + 2 * 512 * 512 * 8000)  # a hole: it takes no space on the disk
    with serve("--images", images, "--out", tmp_path / "out", end=signal.SIGKILL) as (address, process):
        case = json.loads(request(address, "GET", "/api/cases/huge"))
        assert case["shape"] == [512, 512, 8000]
        assert len(request(address, "GET", "/api/cases/huge/slices/7999/image")) == 2 * 512 * 512
        assert draw(address, "huge", 4000, disc((512, 512), value=1), 0)["version"] == 1
        assert psutil.Process(process.pid).memory_full_info().uss < 500e6


def test_memory_does_not_grow_with_the_number_of_scans(tmp_path):
    """Twenty scans of 8 MB are opened and drawn on; the server grows by far less than they hold."""
    images = tmp_path / "images"
    images.mkdir()
    affine = np.diag([-1.0, -1, 2, 1])
    values = np.random.default_rng(0).integers(-200, 200, (256, 256, 64)).astype(np.int16)
    for number in range(20):
        nib.save(nib.Nifti1Image(values, affine), images / f"scan_{number:02d}.nii")
    with serve("--images", images, "--out", tmp_path / "out") as (address, process):
        server = psutil.Process(process.pid)

        def look_at(number):
            case = f"scan_{number:02d}"
            request(address, "GET", f"/api/cases/{case}/slices/32/image")
            draw(address, case, 32, disc((256, 256), value=1), 0)

        for number in range(4):
            look_at(number)
        # Pages of mapped files are the system's to drop; they are no memory of the server.
        before = server.memory_full_info().uss
        for number in range(4, 20):
            look_at(number)
        assert server.memory_full_info().uss - before < 4 * values.nbytes
