"""`upscale`, as a user types it: size, rate and sound, going on after a stop, what is refused."""

from fractions import Fraction

import numpy as np
import pytest

from posedance.pipeline.cli import main
from posedance.pipeline.upscale import enlarge as room
from posedance.pipeline.upscale.config import UpscaleConfig
from posedance.pipeline.upscale.upscale import upscale
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
    config = UpscaleConfig(video=video, output=tmp_path / "out")
    seen = []

    def stops(painter, how, frame):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(1)
        return np.repeat(np.repeat(frame, 2, 0), 2, 1)

    monkeypatch.setattr(room, "enlarge", stops)
    with pytest.raises(KeyboardInterrupt):
        upscale(config)
    assert len(list((tmp_path / "out/.work").glob("frames-*/*.png"))) == 2
    monkeypatch.setattr(room, "enlarge", lambda *a: seen.append(1) or np.repeat(np.repeat(a[2], 2, 0), 2, 1))
    upscale(config)
    assert len(seen) == 4, "two before the stop, two after"
    frames = list(read_frames(tmp_path / "out/result.mp4", Clip(stride=1)))
    assert len(frames) == 4 and frames[0].shape == (64, 96, 3)


def test_what_is_missing_is_told(video, tmp_path, capsys):
    for words, line in (
        (["--method", "lanczos"], "--video is missing"),
        (["--video", str(video), "--tile", "64", "--overlap", "40"], "more than half of tile 64"),
        (["--video", str(video), "--method", "lanczos", "--encode.bit-depth", "10"], "paints 8 bits"),
        (["--video", str(video), "--unet", "some.bin"], "unet some.bin without a base"),
    ):
        assert main(["upscale", *words, "-o", str(tmp_path / "out")]) == 2
        assert line in capsys.readouterr().err
