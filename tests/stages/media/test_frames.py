"""Frames on disk come back as they were."""

from pathlib import Path

import numpy as np
import pytest

from posedance.stages.media.frames import StoredFrames, write_frames


def test_frames_come_back_identical(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, 10, 6, 3), dtype=np.uint8)
    assert write_frames(tmp_path / "f.zip", iter(frames)) == 7
    stored = StoredFrames(tmp_path / "f.zip")
    assert len(stored) == 7
    for part in (slice(None), slice(2, 5), slice(6, None), slice(0, 1)):
        np.testing.assert_array_equal(stored[part], frames[part])


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def frames():
        yield np.zeros((4, 4, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_frames(tmp_path / "f.zip", frames())
    assert not list(tmp_path.iterdir())
