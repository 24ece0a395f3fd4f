"""Poses made steady: outliers, blinking joints, cuts, and nothing at all where nothing is asked for."""

from fractions import Fraction

import numpy as np
import pytest

from posedance.stages.pose import skeleton
from posedance.stages.pose.follow.steady import body_height, hold_scores, repair_outliers, steady
from posedance.stages.types import PoseSequence

FPS = Fraction(30)
JOINTS = {
    0: (50, 10), 5: (60, 25), 6: (40, 25), 7: (62, 43), 8: (38, 43), 9: (63, 58), 10: (37, 58),
    11: (56, 54), 12: (44, 54), 13: (56, 78), 14: (44, 78), 15: (56, 103), 16: (44, 103),
}  # fmt: skip
"""Somebody of 100 pixels' height, upright."""
FIGURE = np.random.default_rng(1).uniform((58, 58), (68, 70), (133, 2))
FIGURE[list(JOINTS)] = list(JOINTS.values())


def dance(frames: int, reach: float = 20.0, hertz: float = 1.0) -> PoseSequence:
    """The figure, whose left wrist and hand go up and down by `reach` pixels."""
    points = np.repeat(FIGURE[None], frames, 0)
    way = reach * np.sin(2 * np.pi * hertz * np.arange(frames) / 30)
    points[:, [9, *range(91, 112)], 1] += way[:, None]
    return PoseSequence(points, np.full((frames, 133), 0.9), (200, 200), FPS)


def test_a_body_s_height_is_told_by_its_bones():
    assert body_height(dance(9)) == pytest.approx(100, rel=0.05)
    half = dance(9).scores.copy()
    half[:, 11:17] = 0
    assert body_height(PoseSequence(dance(9).keypoints, half, (200, 200), FPS)) == pytest.approx(100, rel=0.1)
    nobody = PoseSequence(np.zeros((2, 133, 2)), np.zeros((2, 133)), (200, 300), FPS)
    assert body_height(nobody) == 300


@pytest.mark.parametrize("part", [slice(9, 10), skeleton.LEFT_HAND])
def test_what_lies_off_for_one_frame_is_put_back_and_scores_less(part: slice):
    whole = dance(20)
    points, scores = whole.keypoints.astype(float), whole.scores.astype(float)
    points[10, part] += (-15, 8)
    repair_outliers(points, scores, 100)
    np.testing.assert_allclose(points, whole.keypoints, atol=0.5)
    assert (scores[10, part] < 0.8).all()
    assert (np.delete(scores, np.r_[part], 1) == np.float32(0.9)).all()


def test_a_hand_that_is_off_by_more_than_half_is_put_back_as_a_whole():
    whole = dance(20)
    points, scores = whole.keypoints.astype(float), whole.scores.astype(float)
    hand = slice(91, 91 + 12)
    points[10, hand] += (-15, 8)
    repair_outliers(points, scores, 100)
    assert (scores[10, skeleton.LEFT_HAND] < 0.8).all()


@pytest.mark.parametrize("fps", [12, 30])
def test_a_fast_move_is_no_outlier(fps: int):
    """A hand that claps twice a second, 60 % of the body's height each way."""
    fast = dance(60, 60, 2 * 30 / fps)
    points, scores = fast.keypoints.astype(float), fast.scores.astype(float)
    repair_outliers(points, scores, 100)
    np.testing.assert_array_equal(points, fast.keypoints)


def test_a_joint_about_the_threshold_does_not_blink():
    scores = np.full((40, 133), 0.9)
    scores[:, 7] = 0.3 + 0.01 * (-1.0) ** np.arange(40)
    scores[:, 8] = [*[0.1] * 10, *[0.31, 0.29] * 5, *[0.5] * 5, *[0.29, 0.31] * 5, *[0.2] * 5]
    hold_scores(scores)
    shown = scores > skeleton.VISIBLE
    assert shown[:, 7].all()
    assert (np.flatnonzero(np.diff(shown[:, 8])) == [19, 34]).all()
    assert (np.delete(scores, [7, 8], 1) == 0.9).all()


def test_hands_and_face_keep_their_scores():
    scores = np.full((4, 133), 0.31)
    scores[1] = 0.29
    hold_scores(scores)
    assert (scores[1, 23:] == 0.29).all() and (scores[1, :23] > skeleton.VISIBLE).all()


def test_trembling_goes_and_the_dance_stays():
    whole = dance(90)
    noise = np.random.default_rng(2).normal(0, 0.3, whole.keypoints.shape)
    found = PoseSequence(whole.keypoints + noise, whole.scores, whole.size, FPS)
    smooth = steady(found, 5, 1.0)

    def trembling(points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.diff(points - whole.keypoints, 2, axis=0), axis=-1).mean(0)

    less = trembling(smooth.keypoints) / trembling(found.keypoints)
    assert less.max() < 0.65 and less.mean() < 0.45
    off = [np.linalg.norm(poses.keypoints - whole.keypoints, axis=-1).mean() for poses in (smooth, found)]
    assert off[0] < 0.8 * off[1]
    more = trembling(steady(found, 5, 2.0).keypoints)
    assert more.mean() < 0.8 * trembling(smooth.keypoints).mean()


def test_an_outlier_does_not_reach_the_frames_beside_it():
    whole = dance(40)
    points = whole.keypoints.copy()
    points[20, 9] += (-30, 20)
    smooth = steady(PoseSequence(points, whole.scores, whole.size, FPS), 5, 1.0)
    np.testing.assert_allclose(smooth.keypoints[:, 9], whole.keypoints[:, 9], atol=0.7)


def test_a_cut_is_not_smeared():
    points = dance(40, 0).keypoints.copy()
    points[20:, :, 0] += 90
    found = PoseSequence(points, np.full((40, 133), 0.9), (400, 200), FPS)
    np.testing.assert_allclose(steady(found, 5, 1.0).keypoints, points, atol=1e-4)


def test_a_point_that_is_missing_alone_leaves_the_others_filtered():
    found = dance(40)
    scores = found.scores.copy()
    scores[20, 95] = 0
    smooth = steady(PoseSequence(found.keypoints, scores, found.size, FPS), 5, 1.0)
    assert smooth.scores[20, 95] == 0
    np.testing.assert_allclose(smooth.keypoints[:20], found.keypoints[:20], atol=1)


def test_without_strength_all_stays_as_it_was_found():
    found = dance(20)
    points, scores = found.keypoints.copy(), found.scores.copy()
    points[5, 9] += 40
    scores[8:10], scores[12, 7] = 0, 0.29
    given = PoseSequence(points, scores, found.size, FPS)
    left = steady(given, 5, 0.0)
    np.testing.assert_array_equal(left.keypoints, points)
    np.testing.assert_array_equal(left.scores, scores)
