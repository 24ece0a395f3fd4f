"""The command line: every mistake ends in one line and exit code 2, and nothing is written."""

import errno
import fcntl
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from posedance.pipeline.batch.status import status
from posedance.pipeline.cli import main
from posedance.pipeline.job.system_errors import told

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in a folder with a video of nobody and a picture; returns exit code and its last line."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 96), (120, 120, 120)).save("grey.png")

    def run(*words: str) -> tuple[int, str]:
        model = [] if "--model" in words else ["--model", "tiny-random"]
        code = main(["animate", *model, *words])
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return code, said.strip().splitlines()[-1] if said.strip() else ""

    return run


@pytest.fixture
def nobody(tmp_path: Path, make_video: Callable[..., Path]) -> str:
    """Half a second of grey."""
    return str(make_video(tmp_path / "nobody.mp4", 12, draw=lambda k, w, h: np.full((h, w, 3), 90, np.uint8)))


def silent_film(path: Path) -> None:
    """An mp4 with sound alone."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, 0
        for part in av.AudioResampler("fltp", "mono", 48000, 1024).resample(frame):
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("no video\n" * 99), "cannot be read as a video"),
        (silent_film, "holds only sound"),
        (lambda path: path.mkdir(), "is not a file"),
    ],
    ids=["missing", "empty", "text", "sound", "folder"],
)
def test_a_bad_driving_video(run: Run, make: Callable[[Path], object], expected: str) -> None:
    make(Path("d.mp4"))
    code, line = run("--driving", "d.mp4", "--reference", "grey.png")
    assert code == 2 and line.startswith("error: ") and expected in line and "d.mp4" in line
    assert not Path("out").exists()


def test_a_truncated_video_without_index_is_refused_and_with_one_is_used(
    run: Run, make_video: Callable[..., Path]
) -> None:
    from posedance.pipeline.animate.pose_steps import decoding_notes
    from posedance.stages.media.video import Clip, DecodeReport, read_frames

    whole = make_video(Path("w.mp4"), 120, muxing={"movflags": "+faststart"}).read_bytes()
    Path("cut.mp4").write_bytes(whole[: len(whole) * 3 // 5])
    report = DecodeReport()
    frames = list(read_frames("cut.mp4", Clip(), report))
    assert 0 < len(frames) < 120
    assert f"{report.lost} lost" in next(decoding_notes(report)) and report.lost >= 120 - len(frames)
    whole = make_video(Path("w.mp4"), 60).read_bytes()
    Path("cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert run("--driving", "cut.mp4", "--reference", "grey.png")[0] == 2


def test_nobody_in_the_picture_or_the_video(run: Run, nobody: str, samples: Path) -> None:
    code, line = run("--driving", nobody, "--reference", "grey.png")
    assert code == 2 and "no person found in reference image grey.png" in line
    assert "--align none" in line and ".npz" in line
    code, line = run("--driving", nobody, "--reference", str(samples / "ref_03.jpeg"))
    assert code == 2 and "no person found in any of the 6 frames" in line
    assert not Path("out/result.mp4").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--start", "100"], "past the end"),
        (["--start=-1"], "start = -1"),
        (["--duration", "0"], "duration = 0"),
        (["--stride", "0"], "stride = 0"),
        (["--width", "100", "--height", "130"], "--width 96 --height 128"),
        (["--window.size", "4", "--window.overlap", "4"], "overlap 4"),
        (["--steps", "many"], "steps = many"),
        (["--stepz", "3"], "--steps"),
        (["--pose", "p.npz"], "both given"),
        (["--model", "demoo"], "demoo"),
        (["--output", "/proc/out"], "cannot write to output folder /proc/out"),
        (["--config", "none.yaml"], "cannot read config file none.yaml"),
        (["spare"], "spare"),
    ],
)
def test_a_bad_option(run: Run, nobody: str, words: list[str], expected: str) -> None:
    code, line = run("--driving", nobody, "--reference", "grey.png", *words)
    assert code == 2 and line.startswith("error: ") and expected in line


def test_weights_that_would_run_code_are_refused(run: Run, nobody: str) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, ("proof",)

    Path("w.bin").write_bytes(pickle.dumps({"weight": Code()}))
    words = ["--model", "svd-xt-1.1", "--weights.base", ".", "--weights.controlnext", "w.bin"]
    code, line = run("--driving", nobody, "--reference", "grey.png", *words, "--weights.unet", "w.bin")
    assert code == 2 and line.startswith("error: ")
    assert not Path("proof").exists()


@pytest.mark.parametrize("picture", ["cmyk.jpg", "alpha.png", "deep.png", "turned.jpg"])
def test_unusual_pictures_are_read(picture: str, tmp_path: Path) -> None:
    from posedance.stages.media.picture import read_picture

    path = tmp_path / picture
    if picture == "cmyk.jpg":
        Image.new("CMYK", (8, 16)).save(path)
    elif picture == "alpha.png":
        Image.new("RGBA", (8, 16), (0, 0, 0, 0)).save(path)
    elif picture == "deep.png":
        Image.fromarray(np.full((16, 8), 65535, np.uint16)).save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6  # rotated by 90 degrees
        Image.new("RGB", (16, 8)).save(path, exif=exif)
    image = read_picture(path)
    assert image.shape == (16, 8, 3) and image.dtype == np.uint8
    assert (image == 255).all() == (picture != "turned.jpg")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda out: out.touch(), "cannot write to output folder"),
        (lambda out: (out.mkdir(), (out / ".work").touch()), "cannot write to output folder"),
        (
            lambda out: (out.mkdir(), (out / "inputs").touch()),
            "out/inputs: file exists: something of that name",
        ),
        (
            lambda out: (out / ".work" / "lock").mkdir(parents=True),
            "lock: is a directory: it is a folder where",
        ),
        (lambda out: (out / "config.yaml").mkdir(parents=True), "config.yaml: it is a folder"),
        (
            lambda out: (out / ".work" / "records" / "inputs.json").mkdir(parents=True),
            ".json: is a directory",
        ),
        (lambda out: out.symlink_to(out), "too many levels of symbolic links"),
    ],
    ids=["file", "work", "inputs", "lock", "config", "record", "circle"],
)
def test_what_is_in_the_way_is_told(run: Run, make: Callable[[Path], object], expected: str) -> None:
    make(Path("out"))
    code, line = run("--steps", "1")
    assert code == 2 and line.startswith("error: ") and expected in line.lower() and "out" in line


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "/a/b: no space left: free some space, then run the same command again to go on"),
        (errno.EACCES, "/a/b: permission denied: let this user read and write it, or name another place"),
        (errno.EEXIST, "/a/b: file exists: something of that name is in the way: move it elsewhere"),
        (errno.ENOTDIR, "/a/b: not a directory: a part of this path is a file where a folder is wanted: "),
        (errno.EHOSTDOWN, "/a/b: host is down: see to it, then run the same command again to go on"),
    ],
)
def test_what_the_system_refuses_is_told(number: int, expected: str) -> None:
    assert told(OSError(number, os.strerror(number), "/a/b")).startswith(expected)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_a_file_system_without_locks_is_told(
    run: Run, number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As NFS without its lock daemon is, and NFS for files opened for reading."""

    def no_locks(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "done" / ".work").mkdir(parents=True)
    for name, text in (("items.json", "{}"), ("lock", "")):
        (tmp_path / "done" / ".work" / name).write_text(text)
    assert status(tmp_path / "done").endswith("; not running")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    code, line = run("--steps", "1")
    assert code == 2 and "lies on a file system without locks" in line and "--output" in line
    assert "whether it runs cannot be told" in status(tmp_path / "done")


def test_what_nobody_reads_ends_in_silence(tmp_path: Path) -> None:
    """As `run.py status OUT | head -1` does, where head has gone before."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "posedance.pipeline", "cost", "--window-seconds", "1"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=100)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_home_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("driving,reference\n~nobody-of-that-name/a.mp4,b.png\n")
    assert main(["batch", "--manifest", str(tmp_path / "m.csv"), "-o", str(tmp_path / "out")]) == 2
    assert "~nobody-of-that-name/a.mp4: there is no home of that user" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_torn_file(tmp_path: Path) -> None:
    """On a real small file system; skipped where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        command = [sys.executable, "-m", "posedance.pipeline", "animate", "--model", "tiny-random", "-o"]
        done = subprocess.run([*command, str(disk / "out")], capture_output=True, text=True, timeout=200)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("error: ") and "space" in done.stderr
        assert not list(disk.rglob("*.tmp")) and not list(disk.rglob("*.mp4"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    "command",
    [
        ["animate"],
        ["pose"],
        ["batch"],
        ["status"],
        ["cancel"],
        ["train"],
        ["train", "vae"],
        ["train", "image-encoder"],
        ["evaluate", "model"],
        ["convert"],
        ["bench"],
        ["doctor"],
        ["teach"],
    ],
    ids=" ".join,
)
def test_every_command_teaches(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert f"Usage: run.py {' '.join(command)}" in capsys.readouterr().out
