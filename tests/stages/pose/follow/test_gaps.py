"""Gaps of one person's poses: what is filled, from what, for how long, and how it scores."""

from fractions import Fraction

import numpy as np
import pytest

from posedance.stages.pose import skeleton
from posedance.stages.pose.follow.gaps import FILLED, HAND_GAP, bridge_gaps, fill_gaps

FPS = Fraction(30)
SHAPE = np.random.default_rng(0).uniform(0, 1, (133, 2))
"""A person of one by one, whole body."""
LEFT, RIGHT, FACE = skeleton.LEFT_HAND, skeleton.RIGHT_HAND, skeleton.FACE


def person(x: float) -> tuple[np.ndarray, np.ndarray]:
    return (SHAPE * 100 + (x, 20)).astype(np.float32), np.full(133, 0.9, np.float32)


def still(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Somebody who stands still for so many frames: keypoints float64 and scores, in pixels."""
    return np.repeat(SHAPE[None] * 100, frames, 0), np.full((frames, 133), 0.9)


def swinging(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The left forearm turns by 3 degrees a frame about the elbow, and its hand with it."""
    points, scores = still(frames)
    angles = np.radians(3 * np.arange(frames))
    turns = np.stack([[np.cos(angles), np.sin(angles)], [-np.sin(angles), np.cos(angles)]]).transpose(2, 0, 1)
    for part in (slice(9, 10), LEFT):
        points[:, part] = (points[:, part] - points[:, 7:8]) @ turns + points[:, 7:8]
    return points, scores


def test_a_joint_moves_with_the_one_that_carries_it():
    points, scores = still(9)
    points[:, 5, 1] += 20 * np.sin(np.arange(9))
    points[:, 7] = points[:, 5] + np.linspace((10, 20), (30, 10), 9)
    whole = points.copy()
    points[3:6, 7], scores[3:6, 7] = 0, 0.1
    bridge_gaps(points, scores, 3, FPS)
    np.testing.assert_allclose(points, whole, atol=1e-9)
    assert (scores[3:6, 7] == pytest.approx(0.9 * FILLED)) and (np.delete(scores, 7, 1) == 0.9).all()


def test_a_joint_that_is_lost_with_its_carrier_is_filled_after_it():
    points, scores = still(9)
    points += 2 * np.arange(9)[:, None, None]
    whole = points.copy()
    points[3:6], scores[3:6] = 0, 0
    bridge_gaps(points, scores, 3, FPS)
    np.testing.assert_allclose(points, whole, atol=1e-9)


def test_a_filled_joint_shows():
    points, scores = still(5)
    scores[:, 7] = 0.32
    scores[2, 7] = 0
    bridge_gaps(points, scores, 1, FPS)
    assert skeleton.VISIBLE < scores[2, 7] < 0.32


def test_longer_gaps_and_those_at_the_ends_stay():
    points, scores = still(12)
    for frames in (slice(0, 2), slice(4, 8), slice(11, 12)):
        scores[frames, 7] = scores[frames, FACE] = 0
    before = scores.copy()
    bridge_gaps(points, scores, 3, FPS)
    np.testing.assert_array_equal(scores, before)
    bridge_gaps(points, scores, 4, FPS)
    assert (scores[4:8, 7] > 0).all() and (scores[4:8, FACE] > 0).all()
    assert not scores[:2, 7].any() and not scores[11, 7]


def test_nothing_is_filled_with_no_gap_allowed():
    points, scores = swinging(9)
    scores[3, 7], scores[5, LEFT] = 0, 0
    before = scores.copy()
    bridge_gaps(points, scores, 0, FPS)
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("fps", [Fraction(15), Fraction(60)])
def test_a_hand_turns_with_its_forearm_for_a_second(fps: Fraction):
    longest = int(HAND_GAP * fps)
    for lost, filled in ((longest, True), (longest + 1, False)):
        points, scores = swinging(lost + 4)
        whole = points.copy()
        points[2 : 2 + lost, LEFT], scores[2 : 2 + lost, LEFT] = 0, 0
        bridge_gaps(points, scores, 5, fps)
        assert scores[2 : 2 + lost, LEFT].all() == filled
        if filled:
            np.testing.assert_allclose(points, whole, atol=1e-9)
            assert scores[3, LEFT.start] == pytest.approx(0.9 * FILLED)


def test_a_hand_is_not_turned_with_a_forearm_that_points_at_the_camera():
    points, scores = still(9)
    points[4, 9] = points[4, 7] + (0.1, -0.1)
    scores[3:6, LEFT] = 0
    bridge_gaps(points, scores, 5, FPS)
    np.testing.assert_allclose(points[4, LEFT] - points[4, 9], points[0, LEFT] - points[0, 9], atol=1e-9)


def test_a_hand_without_its_wrist_stays_lost():
    points, scores = still(9)
    scores[3:6, RIGHT] = 0
    scores[4:, 10] = 0.2
    bridge_gaps(points, scores, 5, FPS)
    assert not scores[3:6, RIGHT].any()


def test_hand_that_flickers_moves_with_its_wrist():
    frames = [person(10 + 10 * i) for i in range(9)]
    points, scores = (np.stack([frame[part] for frame in frames]) for part in (0, 1))
    whole = points.copy()
    bend = 20 * np.sin(np.arange(9))
    for part in (9, skeleton.LEFT_HAND):
        points[:, part, 1] += bend.reshape(-1, *[1] * (points[:, part, 1].ndim - 1))
        whole[:, part, 1] += bend.reshape(-1, *[1] * (whole[:, part, 1].ndim - 1))
    for i in (3, 4):
        points[i, skeleton.LEFT_HAND], scores[i, skeleton.LEFT_HAND] = 0, 0
        points[i, skeleton.RIGHT_HAND], scores[i, skeleton.RIGHT_HAND] = 0, 0
    points[3, 10], scores[3, 10] = 0, 0
    fill_gaps(points, scores, 3)
    np.testing.assert_allclose(points[:, skeleton.LEFT_HAND], whole[:, skeleton.LEFT_HAND], atol=1e-3)
    assert (scores[:, skeleton.LEFT_HAND] > 0).all()
    assert not scores[3:5, skeleton.RIGHT_HAND].any() and not points[3:5, skeleton.RIGHT_HAND].any()
