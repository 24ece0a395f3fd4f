"""The second look at hands: where it looks, and which hands it takes."""

import numpy as np
import pytest

from posedance.stages.pose.estimate.second_look import (
    BENT,
    LEFT,
    RIGHT,
    Hand,
    arm_square,
    bent_squares,
    crop_square,
    facing,
    fits,
    forearm_length,
    hand_square,
    is_mirrored,
    is_missing,
    refuse_twins,
)
from posedance.stages.pose.skeleton import LEFT_HAND, RIGHT_HAND

FINGERS_UP = np.array(
    [
        *((0, 0), (-15, -10), (-25, -20), (-32, -30), (-38, -40)),
        *((x, y) for x in (-12, -3, 6, 15) for y in (-45, -60, -70, -80)),
    ],
    np.float32,
)
"""The points of a hand whose root is at (0, 0) and whose fingers point up."""


def body() -> tuple[np.ndarray, np.ndarray]:
    """Somebody who faces the viewer: both forearms, 100 long, hang down, 300 apart."""
    keypoints, scores = np.zeros((133, 2), np.float32), np.zeros(133, np.float32)
    keypoints[[5, 7, 9]] = (450, 80), (450, 200), (450, 300)
    keypoints[[6, 8, 10]] = (150, 80), (150, 200), (150, 300)
    scores[5:11] = 0.9
    return keypoints, scores


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Points turned clockwise about (0, 0), as the frame shows it."""
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def hanging(x: float, y: float) -> np.ndarray:
    """A hand with its root there, and its fingers down."""
    return turned(FINGERS_UP, np.pi) + np.array([x, y])


def test_looks_beyond_the_wrist_along_the_forearm():
    keypoints, scores = body()
    crop, arm = crop_square(keypoints, scores, LEFT), arm_square(keypoints, scores, LEFT)
    assert (crop.x, crop.y, crop.side, crop.rotation) == pytest.approx((450, 330, 180, 0))
    assert (arm.x, arm.y, arm.side, abs(arm.rotation)) == pytest.approx((450, 330, 100, np.pi))
    bent = bent_squares(arm)
    assert {(square.x, square.y, square.side) for square in bent} == {(arm.x, arm.y, arm.side)}
    assert sum(square.rotation for square in bent) == pytest.approx(2 * arm.rotation)
    assert bent[0].rotation - bent[1].rotation == pytest.approx(2 * BENT)


def test_an_arm_that_points_at_the_camera_is_as_long_as_the_other():
    keypoints, scores = body()
    keypoints[9] = (450, 210)
    assert forearm_length(keypoints, scores) == pytest.approx(100)
    scores[[8, 10]] = 0
    assert forearm_length(keypoints, scores) == pytest.approx(96)  # of the upper arm
    scores[:] = 0
    assert forearm_length(keypoints, scores) == 0


@pytest.mark.parametrize("angle", [0.0, 0.7, -1.6, 3.0])
def test_the_square_of_a_hand_turns_with_it(angle: float):
    up, square = hand_square(FINGERS_UP), hand_square(turned(FINGERS_UP, angle))
    assert square.side == pytest.approx(up.side, rel=1e-4)
    apart = (square.rotation - up.rotation - angle) % (2 * np.pi)
    assert min(apart, 2 * np.pi - apart) < 1e-4
    centre = turned(np.array([[up.x, up.y]]), angle)[0]
    np.testing.assert_allclose((square.x, square.y), centre, atol=1e-3)
    inside = turned(turned(FINGERS_UP, angle) - (square.x, square.y), -square.rotation)
    assert (np.abs(inside) < square.side / 2).all()


def test_looks_where_the_wrist_is_seen_and_the_hand_is_not():
    keypoints, scores = body()
    assert is_missing(keypoints, scores, LEFT) and is_missing(keypoints, scores, RIGHT)
    scores[LEFT_HAND], scores[10] = 0.8, 0.45
    assert not is_missing(keypoints, scores, LEFT) and not is_missing(keypoints, scores, RIGHT)


def test_a_hand_has_its_root_at_the_wrist():
    keypoints, scores = body()
    assert fits(Hand(hanging(450, 340), 0.9, 0.9), keypoints, scores, LEFT)
    assert not fits(Hand(hanging(450, 350), 0.9, 0.9), keypoints, scores, LEFT)
    assert not fits(Hand(hanging(450, 340), 0.9, 0.9), keypoints, scores, RIGHT)


def test_a_hand_is_of_its_own_side_and_surely_so_where_the_other_wrist_is_near():
    keypoints, scores = body()
    hands = [Hand(hanging(450, 310), 0.9, own) for own in (0.05, 0.3, 0.6)]
    assert [fits(hand, keypoints, scores, LEFT) for hand in hands] == [False, True, True]
    keypoints[[8, 10]] = (400, 230), (400, 330)
    assert [fits(hand, keypoints, scores, LEFT) for hand in hands] == [False, False, True]
    keypoints[[8, 10]], scores[10] = (150, 300), 0.1  # unseen, and so perhaps there
    assert [fits(hand, keypoints, scores, LEFT) for hand in hands] == [False, False, True]


def test_a_hand_does_not_change_its_size_at_once():
    keypoints, scores = body()
    hand = Hand(hanging(450, 310), 0.9, 0.9)
    for zoom, same in ((1.0, True), (0.45, False), (2.2, False)):
        assert fits(hand, keypoints, scores, LEFT, hand.points * zoom) is same
    tiny = Hand((hand.points - hand.points[0]) * 0.1 + hand.points[0], 0.9, 0.9)
    assert not fits(tiny, keypoints, scores, LEFT)


def test_one_hand_that_is_found_for_both_arms_is_of_the_nearer_wrist():
    keypoints, scores = body()
    keypoints[[8, 10]] = (440, 205), (460, 303)
    scores[91:] = 0.8
    keypoints[LEFT_HAND], keypoints[RIGHT_HAND] = hanging(450, 310), hanging(451, 311)
    refuse_twins(keypoints, scores)
    assert (scores[LEFT_HAND] == np.float32(0.8)).all()
    assert not scores[RIGHT_HAND].any() and not keypoints[RIGHT_HAND].any()
    keypoints[RIGHT_HAND], scores[RIGHT_HAND] = hanging(480, 311), 0.8
    refuse_twins(keypoints, scores)
    assert scores[LEFT_HAND].any() and scores[RIGHT_HAND].any()


def test_an_unsure_hand_that_faces_the_other_way_is_mirrored():
    hand = np.zeros((21, 2))
    hand[[5, 9, 17]] = ((-30, -80), (0, -100), (40, -70))
    mirrored, edge_on = hand * (-1, 1), hand * (0.1, 1)
    before = facing(hand)
    assert before == pytest.approx(0.53) and facing(mirrored) == -before
    assert is_mirrored(Hand(mirrored, 1, 0.3), before)
    assert not is_mirrored(Hand(mirrored, 1, 0.7), before), "it was turned over"
    assert not is_mirrored(Hand(hand, 1, 0.3), before)
    assert not is_mirrored(Hand(-edge_on * (1, -1), 1, 0.3), before)
