"""The overlay of `pose`: the driving video, read once, with the poses in their places."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from posedance.pipeline.animate import report
from posedance.pipeline.config import EncodeConfig
from posedance.stages.media.encode import VideoWriter
from posedance.stages.media.video import Clip, probe, read_frames
from posedance.stages.pose.files import save_poses
from posedance.stages.types import PoseSequence


def test_the_overlay_has_the_poses_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A nose that walks over grey frames of 300x400, beside the frames as they are; every frame read once."""
    driving, count = tmp_path / "dance.mp4", 6
    with VideoWriter(driving, 300, 400, Fraction(10)) as writer:
        for _ in range(count):
            writer.write(np.full((400, 300, 3), 100, np.uint8))
    keypoints, scores = np.zeros((count, 133, 2), np.float32), np.zeros((count, 133), np.float32)
    keypoints[:, 0] = [(30 + 40 * frame, 100) for frame in range(count)]
    scores[:, 0] = 1
    save_poses(tmp_path / "poses.npz", PoseSequence(keypoints, scores, (300, 400), Fraction(10)))
    read: list[Path] = []

    def counted(path: Path, clip: Clip):
        read.append(path)
        return read_frames(path, clip)

    monkeypatch.setattr(report, "read_frames", counted)
    report.write_overlay(driving, Clip(), tmp_path / "poses.npz", tmp_path, None, EncodeConfig(crf=10))
    assert read == [driving] and (tmp_path / "contact_sheet.png").is_file()
    info = probe(tmp_path / "overlay.mp4")
    assert (info.width, info.height, info.num_frames) == (2 * 384, report.PANEL_HEIGHT, count)
    for index, frame in enumerate(read_frames(tmp_path / "overlay.mp4", Clip())):
        below_labels = frame[60:].astype(int).mean(-1)
        x, y = np.array((30 + 40 * index, 100)) * report.PANEL_HEIGHT / 400
        rows, columns = np.nonzero(below_labels > 160)
        np.testing.assert_allclose((columns.mean(), rows.mean() + 60), (384 + x, y), atol=1.5)
