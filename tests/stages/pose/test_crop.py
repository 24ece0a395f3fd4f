"""Crops around the reference's pose: what stays in the frame, and that picture and keypoints move alike."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from posedance.stages.media.picture import place
from posedance.stages.media.placement import Placement, centre_crop, letterbox
from posedance.stages.pose.crop import HEAD, MARGIN, place_around_pose, share_inside
from posedance.stages.pose.fit.affine import placed_alignment
from posedance.stages.types import PoseSequence

SIDE = st.integers(64, 1600)
SIZES = st.tuples(SIDE, SIDE)


def person(left: float, top: float, width: float, height: float, size: tuple[int, int]) -> PoseSequence:
    """Somebody whose joints fill a box, with the head in its upper sixth."""
    points = np.random.default_rng(0).uniform((0, 0.2), (1, 1), (133, 2))
    points[HEAD] = np.random.default_rng(1).uniform((0.4, 0), (0.6, 1 / 6), (len(HEAD), 2))
    points[[15, 16]] = [[0, 1], [1, 1]]
    points[0] = (0.5, 0)
    points = points * (width, height) + (left, top)
    return PoseSequence(points[None], np.ones((1, 133)), size, Fraction(1))


@given(SIZES, SIZES, st.tuples(*[st.floats(0, 1)] * 4))
@settings(max_examples=150, deadline=None)
def test_a_pose_that_has_room_is_whole_and_else_its_head_is(
    source: tuple[int, int], size: tuple[int, int], box: tuple[float, float, float, float]
):
    width, height = 8 + box[2] * (source[0] - 10), 8 + box[3] * (source[1] - 10)
    left, top = box[0] * (source[0] - 1 - width), box[1] * (source[1] - 1 - height)
    pose = person(left, top, width, height, source)
    placed = place_around_pose(pose, size)
    assert not placed.padded and placed.scaled == centre_crop(source, size).scaled
    moved = placed_alignment(placed).apply(pose).keypoints[0]
    for axis in (0, 1):
        span = np.ptp(moved[:, axis])
        if span <= size[axis] - 2:
            assert moved[:, axis].min() >= -1 and moved[:, axis].max() <= size[axis] + 1
        if np.ptp(moved[HEAD, axis]) <= size[axis] - 2:
            assert moved[HEAD, axis].min() >= -1 and moved[HEAD, axis].max() <= size[axis] + 1


@given(SIZES, SIZES)
@settings(max_examples=60)
def test_what_the_middle_shows_moves_no_crop(source: tuple[int, int], size: tuple[int, int]):
    middle = centre_crop(source, size)
    zoom = np.divide(middle.scaled, source)
    low, high = -np.array(middle.corner) / zoom, (np.array(size) - middle.corner) / zoom
    sides = (high - low) / (2 + 4 * MARGIN)
    assume(sides.min() > 2)
    side = sides.min()
    left, top = (low + high - side) / 2
    assert place_around_pose(person(left, top, side, side, source), size) == middle


def test_a_character_at_the_left_of_a_wide_photo_is_kept():
    pose = person(90, 150, 300, 700, (1600, 900))
    assert share_inside(placed_alignment(centre_crop((1600, 900), (576, 1024))).apply(pose)) == 0
    placed = place_around_pose(pose, (576, 1024))
    moved = placed_alignment(placed).apply(pose)
    assert share_inside(moved) == 1
    room = moved.keypoints[0].min(0)[0], 576 - moved.keypoints[0].max(0)[0]
    assert min(room) > 0.05 * 576


def test_nobody_in_the_picture_leaves_the_middle():
    nobody = PoseSequence(np.zeros((1, 133, 2)), np.zeros((1, 133)), (1600, 900), Fraction(1))
    assert place_around_pose(nobody, (576, 1024)) == centre_crop((1600, 900), (576, 1024))
    assert share_inside(nobody) == 0


def test_guesses_outside_the_picture_move_no_crop():
    pose = person(700, 100, 200, 700, (1600, 900))
    points = pose.keypoints.copy()
    points[0, 17:23] += (-2000, 0)
    away = PoseSequence(points, pose.scores, pose.size, pose.fps)
    assert place_around_pose(away, (576, 1024)) == centre_crop((1600, 900), (576, 1024))


PLACEMENTS = {
    "crop": lambda pose, size: place_around_pose(pose, size),
    "pad": lambda pose, size: letterbox(pose.size, size),
    "centre": lambda pose, size: centre_crop(pose.size, size),
}


@pytest.mark.parametrize("name", list(PLACEMENTS))
@pytest.mark.parametrize(
    ("source", "size"), [((400, 150), (64, 128)), ((100, 300), (160, 96)), ((90, 90), (192, 128))]
)
def test_picture_and_keypoints_move_alike(name: str, source: tuple[int, int], size: tuple[int, int]):
    x, y = 0.3 * source[0], 0.4 * source[1]
    picture = np.zeros((source[1], source[0], 3), np.uint8)
    side = source[0] // 10
    picture[round(y) - side : round(y) + side, round(x) - side : round(x) + side] = 255
    pose = person(x - side, y - side, 2 * side, 2 * side, source)
    pose.keypoints[0, 9] = (round(x), round(y))
    placed = PLACEMENTS[name](pose, size)
    frame = place(picture, placed)
    assert frame.shape == (size[1], size[0], 3)
    moved = placed_alignment(placed).apply(pose).keypoints[0, 9]
    rows, columns = np.nonzero(frame[..., 0] > 127)
    if name != "centre":
        np.testing.assert_allclose(moved, (columns.mean() + 0.5, rows.mean() + 0.5), atol=1)


@given(SIZES, SIZES)
@settings(max_examples=100)
def test_a_letterbox_holds_the_whole_picture_in_even_numbers(source: tuple[int, int], size: tuple[int, int]):
    size = (size[0] // 2 * 2, size[1] // 2 * 2)
    placed = letterbox(source, size)
    left, top, right, bottom = placed.inside
    assert (right - left, bottom - top) == placed.scaled and min(left, top) >= 0
    assert not any(number % 2 for number in placed.inside)
    zoom = placed.scaled[0] / source[0], placed.scaled[1] / source[1]
    assert abs(zoom[0] * source[1] - placed.scaled[1]) <= 2 + source[1] / source[0]
    assert placed.scaled[0] >= size[0] - 1 or placed.scaled[1] >= size[1] - 1


def test_bars_are_black():
    frame = place(np.full((30, 60, 3), 200, np.uint8), Placement((64, 64), (64, 32), (0, 16)))
    assert (frame[:16] == 0).all() and (frame[48:] == 0).all() and (frame[16:48] == 200).all()
