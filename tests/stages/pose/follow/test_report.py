"""What is told of a dancer in figures: shares before and after filling, what is cut off, and jitter."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from posedance.stages.pose.follow.report import jitter, report, report_of_file
from posedance.stages.pose.follow.steady import body_height
from posedance.stages.pose.skeleton import BODY, FACE, LEFT_HAND, RIGHT_HAND
from posedance.stages.types import PoseSequence

SIZE = (100, 200)
FPS = Fraction(30)
FRAMES = 20


def standing(frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray]:
    """A dancer who stands still, 100 pixels high: keypoints and scores."""
    rng = np.random.default_rng(0)
    one = np.stack([rng.uniform(30, 70, 133), rng.uniform(60, 140, 133)], axis=1)
    one[0, 1], one[16, 1] = 50, 150
    return np.repeat(one[None], frames, 0).astype(np.float32), np.full((frames, 133), 0.9, np.float32)


def test_hands_count_as_found_and_as_filled() -> None:
    keypoints, scores = standing()
    found = scores.copy()
    found[:5] = 0  # nobody
    found[5:10, LEFT_HAND] = 0
    found[:15, FACE] = 0
    scores[:2] = 0  # three of the five frames were filled
    told = report(found, PoseSequence(keypoints, scores, SIZE, FPS), 2)
    assert (told.frames, told.missing, told.filled, told.people) == (20, 2, 3, 2)
    assert (told.left_hand, told.left_hand_filled) == (0.5, 0.9)
    assert (told.right_hand, told.right_hand_filled, told.face) == (0.75, 0.9, 0.25)
    assert told.body == 0.75 and told.seen == 0.9 and told.hands == 0.625


def test_visible_joints_outside_the_picture_are_cut_off() -> None:
    keypoints, scores = standing()
    keypoints[:, 11:17, 1] += 200  # hips and what is below
    scores[:, 15:17] = 0.1  # ankles are not visible
    told = report(scores, PoseSequence(keypoints, scores, SIZE, FPS), 1)
    assert told.cut_off == pytest.approx(4 / 15) and told.body == pytest.approx(15 / 17)


def test_of_a_pose_file_nobody_knows_what_its_layout_lacks() -> None:
    keypoints, scores = standing()
    scores[:, BODY.stop :] = 0
    told = report_of_file(PoseSequence(keypoints, scores, SIZE, FPS))
    assert told.hands is told.face is told.people is None and told.body == 1
    scores[:10, RIGHT_HAND] = 0.9
    told = report_of_file(PoseSequence(keypoints, scores, SIZE, FPS))
    assert (told.left_hand, told.right_hand, told.hands) == (0, 0.5, 0.25)


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_jitter_is_of_the_noise_whatever_the_rate_and_not_of_the_dance(fps: int) -> None:
    keypoints, scores = standing(4 * fps)
    still = PoseSequence(keypoints, scores, SIZE, Fraction(fps))
    assert jitter(still) == 0
    height = body_height(still)
    times = np.arange(4 * fps) / fps
    keypoints[:, 9, 0] += 0.4 * height * np.sin(2 * np.pi * 2 * times)  # a wrist, up to 5 heights a second
    dancing = jitter(replace(still, keypoints=keypoints))
    assert dancing is not None and dancing < 0.2
    noise = np.random.default_rng(1).normal(0, 0.005 * height, keypoints.shape)
    shaken = jitter(replace(still, keypoints=keypoints + noise))
    rayleigh = 0.5 * np.sqrt(6) * np.sqrt(np.pi / 2)  # mean length of a second difference of such noise
    assert shaken == pytest.approx(rayleigh, rel=0.25)


def test_nobody_has_no_jitter_and_nothing_cut_off() -> None:
    keypoints, scores = standing()
    nobody = PoseSequence(keypoints * 0, scores * 0, SIZE, FPS)
    told = report(nobody.scores, nobody, 0)
    assert told.jitter is None and told.cut_off == 0 and told.missing == told.frames
    assert jitter(PoseSequence(keypoints[:2], scores[:2], SIZE, FPS)) is None
