"""The measures of a pose estimator: the truth is found everywhere, a fault shows in its own group."""

import json

import numpy as np
import pytest

from posedance.pipeline.evaluate.pose import (
    FPS,
    GROUPS,
    EvaluatePoseConfig,
    drawn_frames,
    evaluate_pose,
    measure_poses,
)
from posedance.stages.pose.estimators import why_unusable
from posedance.stages.types import PoseSequence


@pytest.fixture(scope="module")
def truth():
    config, known = EvaluatePoseConfig(frames=3, width=72, height=128), []
    for number in range(3):
        assert all(frame.shape == (128, 72, 3) for frame in drawn_frames(config, number, known))
    keypoints, scores = (np.stack(values) for values in zip(*known, strict=True))
    return PoseSequence(keypoints, scores, (72, 128), FPS)


def test_the_truth_is_found_everywhere(truth):
    figures = measure_poses([truth], [truth])
    for name in GROUPS:
        assert figures[f"{name}_shown"] > 0
        assert figures[f"{name}_found_percent"] == 100
        assert figures[f"{name}_error_percent"] == 0


def test_what_is_off_or_missing_shows_in_its_own_group(truth):
    keypoints, scores = truth.keypoints.copy(), truth.scores.copy()
    keypoints[:, :17, 1] += 1.28
    scores[:, 91:112] = 0
    figures = measure_poses([PoseSequence(keypoints, scores, truth.size, FPS)], [truth])
    assert figures["body_error_percent"] == pytest.approx(1, rel=1e-4)
    assert figures["face_error_percent"] == 0
    assert figures["body_found_percent"] == 100
    assert 20 < figures["hands_found_percent"] < 80


@pytest.mark.slow
def test_mediapipe_is_measured(tmp_path):
    if (reason := why_unusable("mediapipe")) is not None:
        pytest.skip(reason)
    config = EvaluatePoseConfig(clips=2, frames=4, width=288, height=512, json_file=tmp_path / "a/pose.json")
    figures = evaluate_pose(config)
    assert figures["body_found_percent"] == 100
    assert figures["body_error_percent"] < 1.5
    assert json.loads((tmp_path / "a/pose.json").read_text()) == figures
