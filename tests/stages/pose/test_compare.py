"""Poses found in a result against those that were drawn for it."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from posedance.datasets.puppets.render import make_character, make_motion, render
from posedance.stages.pose.compare import compare_poses
from posedance.stages.pose.follow.steady import body_height
from posedance.stages.pose.skeleton import LEFT_HAND
from posedance.stages.types import PoseSequence

SIZE = (288, 256)


@pytest.fixture(scope="module")
def drawn() -> PoseSequence:
    """Ten frames of a drawn dancer, nothing of whom is covered."""
    frames = [render(make_character(5), make_motion(2, Fraction(15)), frame, 144, 256) for frame in range(10)]
    keypoints = np.stack([frame.keypoints for frame in frames]) + np.array([72, 0], np.float32)
    return PoseSequence(keypoints, np.ones(keypoints.shape[:2], np.float32), SIZE, Fraction(15))


def test_the_drawn_pose_itself_is_right(drawn: PoseSequence) -> None:
    assert compare_poses(drawn, drawn) == {
        "pose_found": 1, "error_percent": 0, "pck_10": 1, "pck_05": 1, "left_hand": 1, "right_hand": 1
    }  # fmt: skip


def test_what_is_off_or_missing_shows_in_its_own_figure(drawn: PoseSequence) -> None:
    keypoints, scores = drawn.keypoints.copy(), drawn.scores.copy()
    keypoints[:, 9, 0] += 0.07 * body_height(drawn)
    keypoints[:, 10, 0] += 0.2 * body_height(drawn)
    scores[:5, LEFT_HAND] = 0
    told = compare_poses(replace(drawn, keypoints=keypoints, scores=scores), drawn)
    assert told["pck_05"] == pytest.approx(15 / 17) and told["pck_10"] == pytest.approx(16 / 17)
    assert told["error_percent"] == pytest.approx(27 / 17, rel=1e-4)
    assert (told["left_hand"], told["right_hand"], told["pose_found"]) == (0.5, 1, 1)
    scores[:2] = 0
    told = compare_poses(replace(drawn, scores=scores), drawn)
    assert told["pose_found"] == 0.8 and told["pck_10"] == 0.8 and told["error_percent"] == 0


def test_what_is_drawn_outside_the_picture_is_not_looked_for(drawn: PoseSequence) -> None:
    away = replace(drawn, keypoints=drawn.keypoints + np.array([SIZE[0], 0], np.float32))
    told = compare_poses(drawn, away)
    assert set(told.values()) == {None}
    beside = drawn.keypoints.copy()
    beside[:, 9, 0] += SIZE[0]
    scores = drawn.scores.copy()
    scores[:, 9] = 0
    assert compare_poses(replace(drawn, scores=scores), replace(drawn, keypoints=beside))["pck_05"] == 1
