"""Videos that are cut off, damaged, or no videos: what decodes is used, the rest is counted or told."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from posedance.stages.errors import VideoError
from posedance.stages.media.video import Clip, DecodeReport, probe, read_frames

NTSC = Fraction(30000, 1001)


def test_a_truncated_file_gives_what_decodes_and_counts_the_rest(tmp_path, make_video, numbers):
    path = make_video(tmp_path / "v.mp4", 120, muxing={"movflags": "+faststart"})
    data = path.read_bytes()
    for share in (0.5, 0.8):
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(data[: len(data) - int((len(data) - data.index(b"mdat")) * share)])
        report = DecodeReport()
        got = numbers(cut, report=report)
        assert 0 < len(got) < 120
        assert got[:-3] == list(range(len(got) - 3))  # the last may be patched up by the decoder
        assert report.decoded + report.lost == 120
        assert report.lost >= 120 - len(got)
        assert probe(cut).num_frames < 120


def test_a_truncated_matroska_is_noticed_too(tmp_path, make_video, numbers):
    path = make_video(tmp_path / "v.mkv", 120)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = DecodeReport()
    got = numbers(cut, report=report)
    assert 0 < len(got) < 110
    assert report.decoded + report.lost == 120


def test_packets_that_do_not_decode_are_held_over_and_counted(tmp_path, make_video, numbers):
    path = make_video(tmp_path / "v.avi", 60, codec="mjpeg", pix_fmt="yuvj420p", options={"strict": "-1"})
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for index in (20, 21, 40):
        position, size = places[index]
        data[position + 16 : position + size - 16] = bytes(size - 32)
    broken = tmp_path / "broken.avi"
    broken.write_bytes(data)
    report = DecodeReport()
    got = numbers(broken, report=report)
    assert report.lost == 3
    assert report.decoded == 57
    assert report.places == [20, 21, 40]
    assert len(got) >= 57


def test_damage_in_the_middle_keeps_the_other_frames_in_their_places(tmp_path, make_video, numbers):
    path = make_video(tmp_path / "v.mp4", 90, options={"g": "10", "bf": "0", "keyint_min": "10"})
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in places[30:40]:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    report = DecodeReport()
    got = numbers(path, report=report)
    assert len(got) == 90
    assert got[:30] == list(range(30))
    assert got[40:] == list(range(40, 90))
    assert report.lost + report.damaged == 10
    assert report.places == list(range(30, 40))
    later = DecodeReport()
    assert numbers(path, Clip(start=2), later) == list(range(60, 90))
    assert later.lost == 0


def sound_only(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def cut_before_index(path: Path) -> None:
    path.write_bytes(b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(3000))


BAD_FILES = {
    "missing": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "not a file"),
    "empty": (lambda path: path.touch(), "empty"),
    "text": (lambda path: path.write_text("not a video\n" * 200), "cannot be read as a video"),
    "playlist": (lambda path: path.write_text("#EXTM3U\n#EXTINF:5,\n/etc/hosts\n"), "cannot be read"),
    "sound": (sound_only, "only sound"),
    "picture": (lambda path: cv2.imwrite(str(path) + ".png", np.zeros((64, 64, 3))), "does not exist"),
    "no index": (cut_before_index, "cannot be read as a video"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_is_no_video_says_why(tmp_path, kind):
    make, reason = BAD_FILES[kind]
    path = tmp_path / "dance.mp4"
    make(path)
    for use in (probe, lambda path: read_frames(path, Clip())):
        with pytest.raises(VideoError, match=reason) as caught:
            use(path)
        assert "dance.mp4" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_picture_is_no_video(tmp_path):
    path = tmp_path / "dance.mp4"
    path.write_bytes(cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes())
    with pytest.raises(VideoError, match="picture"):
        probe(path)


def test_a_video_without_a_frame_that_decodes(tmp_path, make_video):
    path = make_video(tmp_path / "v.mp4", 20)
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in places:
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"no frame of .* can be decoded"):
        probe(path)
    with pytest.raises(VideoError, match=r"no frame of .* can be decoded"):
        list(read_frames(path, Clip()))
