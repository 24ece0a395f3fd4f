"""Bad sources: each has a row with its reason, and none ends the run or hangs it."""

import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from curations import LENGTH, config_of, rows

from posedance.pipeline.cli import main
from posedance.pipeline.curate.curate import curate
from posedance.pipeline.curate.sources import find_sources, licence_of, read_licences, read_overrides
from posedance.stages.errors import ConfigError
from posedance.stages.media.encode import VideoWriter


def test_each_bad_source_is_rejected_with_its_reason(sources: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    still = (sources / "still.mp4").read_bytes()
    (raw / "empty.mp4").touch()
    (raw / "text.mp4").write_text("no video at all")
    (raw / "video.dat").write_bytes(still)
    (raw / "cut.mp4").write_bytes(still[: len(still) * 2 // 3])
    (raw / "headless.mp4").write_bytes(still[len(still) // 2 :])
    (raw / "noise.mp4").write_bytes(with_noise(still))
    (raw / "self.mp4").symlink_to("self.mp4")
    (raw / "gone.mp4").symlink_to("nowhere.mp4")
    (raw / "around").symlink_to(".")
    (raw / "pair").symlink_to("riap")
    (raw / "riap").symlink_to("pair")
    os.mkfifo(raw / "pipe.mp4")
    write_sound(raw / "sound.mp4")
    with VideoWriter(raw / "huge.mp4", 4200, 2400, Fraction(5), preset="veryfast") as writer:
        writer.write(np.zeros((2400, 4200, 3), np.uint8))
    shutil.copy(sources / "still.mp4", raw / "fine.mp4")
    (raw / "unreadable.mp4").write_bytes(still)
    (raw / "unreadable.mp4").chmod(0)

    assert curate(config_of(raw, tmp_path / "out")) == 0
    reasons = {source: row["reason"] for (source, _), row in rows(tmp_path / "out").items()}
    assert all(row["status"] == "rejected" for row in rows(tmp_path / "out").values())
    begins = {
        "empty.mp4": "empty: 0 bytes",
        "text.mp4": "unreadable: text.mp4 cannot be read as a video",
        "video.dat": "not a video: its name ends in .dat",
        "cut.mp4": ("cut off:", "damaged:"),
        "headless.mp4": "unreadable: headless.mp4 cannot be read",
        "noise.mp4": "damaged",
        "self.mp4": "broken link:",
        "gone.mp4": "broken link:",
        "pair": "broken link:",
        "riap": "broken link:",
        "pipe.mp4": "not a file:",
        "sound.mp4": "unreadable: sound.mp4 holds only sound",
        "huge.mp4": "too large: 4200x2400",
        "fine.mp4": "frozen",
        "unreadable.mp4": "frozen" if os.geteuid() == 0 else "unreadable:",
    }
    assert set(reasons) == set(begins), "and no folder is entered twice"
    for source, begin in begins.items():
        assert reasons[source].startswith(begin), (source, reasons[source])
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("refused before any picture was looked at") == 1, "noise.mp4 alone has a clip of those"


def with_noise(data: bytes) -> bytes:
    """A video with noise in the middle of its pictures: its index is whole."""
    start, stop = len(data) // 2, len(data) // 2 + 400
    noise = np.random.default_rng(0).integers(0, 256, stop - start, np.uint8).tobytes()
    return data[:start] + noise + data[stop:]


def without_pictures(path: Path, frames: slice) -> bytes:
    """A video in which the data of some frames are zeros."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as video:
        packets = [packet for packet in video.demux(video=0) if packet.size]
    assert packets[LENGTH].is_keyframe
    for packet in packets[frames]:
        assert packet.pos is not None
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    return bytes(data)


def test_what_does_not_decode_is_told_wherever_it_is(sources: Path, tmp_path: Path) -> None:
    """A first clip of which nothing decodes, while the second is fine; and an end that does not decode."""
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "begins.mp4").write_bytes(without_pictures(sources / "two.mp4", slice(None, LENGTH)))
    (raw / "ends.mp4").write_bytes(without_pictures(sources / "two.mp4", slice(LENGTH, None)))
    bounds = {"sharpness": {"at_least": 2.0}, "damaged": {"at_most": None}}
    strict = {"longest": "2.1", "thresholds": bounds}
    for _ in range(2):
        assert curate(config_of(raw, tmp_path / "out", **strict)) == 0
    reasons = {key: row["reason"] for key, row in rows(tmp_path / "out").items()}
    assert reasons.pop(("begins.mp4", 0)).startswith("unreadable: no frame of the source can be decoded")
    assert reasons.pop(("ends.mp4", None)).startswith("cut off: 31 frames do not decode")
    assert reasons == {("begins.mp4", LENGTH): "sharpness"}
    del bounds["damaged"]
    assert curate(config_of(raw, tmp_path / "out", **strict)) == 0
    assert rows(tmp_path / "out")["begins.mp4", 0]["reason"] == "damaged"


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=48000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 48000
        output.mux(stream.encode(silence))
        output.mux(stream.encode(None))


def test_output_and_manifest_are_no_sources_and_names_that_are_no_text_are_told(tmp_path: Path) -> None:
    for name in (b"b\xff.mp4", b".hidden.mp4", b"out/x.mp4"):
        path = Path(os.fsdecode(bytes(tmp_path) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "licences.csv").touch()
    (found,) = find_sources(tmp_path, tmp_path / "out", tmp_path / "licences.csv")
    assert found.name == r"b\udcff.mp4" and found.path.is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "--sources is missing"),
        (["--sources", "nowhere"], "is no folder"),
        (["--sources", "."], "there is no file"),
        (["--sources", "s3://bucket/raw"], "name a folder of this machine"),
        (["--sources", ".", "--thresholds.sharpnes.at-least", "1"], "sharpnes"),
        (["--sources", ".", "--captions", "no.such.function"], "PYTHONPATH"),
        (["--sources", ".", "-o", "x.mp4"], "name one, such as x"),
        (["--sources", ".", "--executor", "local", "--ray-address", "auto"], "choose one"),
    ],
)
def test_a_request_that_cannot_be_run_ends_in_one_line(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--captions" in words:
        (tmp_path / "a.mp4").touch()
    assert main(["curate", *words]) == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and says in last


def test_licences_are_found_by_path_or_name(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("source,licence\na/x.mp4,CC0\nx.mp4,CC-BY-4.0\ny.mp4,\n")
    licences = read_licences(tmp_path / "m.csv")
    names = ("a/x.mp4", "b/x.mp4", "y.mp4", "z.mp4")
    assert [licence_of(name, licences) for name in names] == ["CC0", "CC-BY-4.0", "", ""]
    (tmp_path / "m.csv").write_text("file,licence\na.mp4,CC0\n")
    with pytest.raises(ConfigError, match="row 1: source is missing"):
        read_licences(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a.mp4,0,maybe", "write kept or rejected"),
        ("a.mp4,first,kept", "a number"),
        ("a.mp4", "expected the columns"),
    ],
)
def test_a_row_that_says_nothing_is_told(row: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "said.csv").write_text(f"source,start_frame,status\n{row}\n")
    with pytest.raises(ConfigError, match=f"row 1: .*{says}"):
        read_overrides(tmp_path / "said.csv")
