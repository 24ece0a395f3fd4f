"""Gaps of one person's poses: what is filled, from what, and how it scores."""

import numpy as np

from posedance.stages.pose import skeleton
from posedance.stages.pose.gaps import fill_gaps

SHAPE = np.random.default_rng(0).uniform(0, 1, (133, 2))
"""A person of one by one, whole body."""


def person(x: float) -> tuple[np.ndarray, np.ndarray]:
    return (SHAPE * 100 + (x, 20)).astype(np.float32), np.full(133, 0.9, np.float32)


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
