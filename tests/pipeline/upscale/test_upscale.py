"""`upscale`, as a user types it: size, rate and sound, going on after a stop, what is refused."""

from fractions import Fraction

import numpy as np
import pytest

from posedance.pipeline.cli import main
from posedance.pipeline.upscale import upscale as room
from posedance.pipeline.upscale.config import UpscaleConfig
from posedance.stages.media.video import Clip, probe, read_frames


@pytest.fixture
def video(make_video, tmp_path):
    return make_video(
        tmp_path / "small.mp4", 4, Fraction(25), size=(48, 32), sound=np.zeros(8000, np.float32)
    )


def test_plain_enlarging_keeps_rate_and_sound(video, tmp_path, capsys):
    words = [
        "upscale",
        "--video",
        str(video),
        "-o",
        str(tmp_path / "out"),
        "--method",
        "lanczos",
        "--factor",
        "4",
    ]
    assert main(words) == 0
    result = tmp_path / "out/result.mp4"
    assert capsys.readouterr().out.strip() == str(result)
    info = probe(result, Clip(stride=1))
    assert (info.width, info.height, info.num_frames, info.fps) == (192, 128, 4, Fraction(25))
    assert info.has_audio
    made = result.stat().st_mtime_ns
    assert main(words) == 0 and result.stat().st_mtime_ns == made
    assert not list((tmp_path / "out/.work").glob("frames-*"))


def test_a_stopped_run_goes_on(video, tmp_path, monkeypatch):
    config = UpscaleConfig(video=video, output=tmp_path / "out", method="lanczos")
    low, seen = room.low_resolution, []

    def stops(frame, width, height):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(1)
        return low(frame, width, height)

    monkeypatch.setattr(room, "low_resolution", stops)
    with pytest.raises(KeyboardInterrupt):
        room.upscale(config)
    monkeypatch.setattr(room, "low_resolution", lambda *a: seen.append(1) or low(*a))
    room.upscale(config)
    assert len(seen) == 4, "two before the stop, two after"
    frames = list(read_frames(tmp_path / "out/result.mp4", Clip(stride=1)))
    assert len(frames) == 4 and frames[0].shape == (64, 96, 3)


def test_what_is_missing_is_told(video, tmp_path, capsys):
    for words, line in (
        (["--method", "lanczos"], "--video is missing"),
        (["--video", str(video)], "--base is missing"),
        (["--video", str(video), "--tile", "64", "--overlap", "40"], "more than half of tile 64"),
        (["--video", str(video), "--method", "lanczos", "--encode.lossless"], "8 bits and mp4"),
    ):
        assert main(["upscale", *words, "-o", str(tmp_path / "out")]) == 2
        assert line in capsys.readouterr().err
