"""Control frames: the recorded drawings pixel for pixel, and the same pixels as the plain way of drawing."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posedance.pipeline.evaluate.bench.drawing import draw_plainly, random_people
from posedance.stages.pose import skeleton
from posedance.stages.pose.render import (
    ControlCanvas,
    OpenPosePeople,
    draw_control_frames,
    draw_overlay,
    openpose_people,
)
from posedance.stages.types import PoseSequence

FIELDS = ("candidate", "score", "hands", "hands_score", "faces", "faces_score")


def load_people(arrays: np.lib.npyio.NpzFile, prefix: str) -> OpenPosePeople:
    candidate, score, *rest = (arrays[f"{prefix}_{field}"] for field in FIELDS)
    return OpenPosePeople(candidate.reshape(-1, 18, 2), score, *rest)


def read_rgb(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None, path
    return image[..., ::-1]


def some_poses(frames: int, seed: int = 0) -> PoseSequence:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, [60, 90], (frames, 133, 2))
    return PoseSequence(points, rng.uniform(0, 1, (frames, 133)), (60, 90), Fraction(25))


def test_golden_pose_drawing(golden: Path):
    folder = golden / "pose_drawing"
    pictures = sorted(folder.glob("pose*_*x*.png"))
    assert pictures
    with np.load(folder / "poses.npz") as arrays:
        for picture in pictures:
            prefix, size = picture.stem.split("_")
            height, width = (int(side) for side in size.split("x"))
            drawn = ControlCanvas(width, height).draw(load_people(arrays, prefix))
            assert np.array_equal(drawn, read_rgb(picture)), picture.name


def test_golden_pose_alignment_drawings_from_one_canvas(golden: Path):
    folder = golden / "pose_alignment"
    pictures = sorted(folder.glob("frame*.png"))
    assert pictures
    height, width = read_rgb(pictures[0]).shape[:2]
    canvas = ControlCanvas(width, height)
    with np.load(folder / "poses_before.npz") as before:
        people = load_people(before, "reference")
        assert np.array_equal(canvas.draw(people), read_rgb(folder / "reference_pose.png"))
    with np.load(folder / "poses_aligned.npz") as aligned:
        for picture in pictures:
            assert np.array_equal(canvas.draw(load_people(aligned, picture.stem)), read_rgb(picture)), (
                picture.name
            )


def test_golden_people_from_raw_detections(golden: Path):
    folder = golden / "pose_alignment"
    sampled = json.loads((folder / "meta.json").read_text())["sampled_frames"]
    with np.load(folder / "raw_detections.npz") as raw, np.load(folder / "poses_before.npz") as before:
        height, width = (int(side) for side in raw["video_size_hw"])
        for frame, number in enumerate(sampled):
            count = raw["video_people"][number]
            people = openpose_people(
                raw["video_keypoints133"][number, :count],
                raw["video_scores133"][number, :count],
                (width, height),
            )
            expected = load_people(before, f"frame{frame:02d}")
            for field in OpenPosePeople.__slots__:
                np.testing.assert_allclose(getattr(people, field), getattr(expected, field), atol=1e-9)


@pytest.mark.parametrize(
    ("width", "height"),
    [(64, 64), (576, 320), (448, 256), (100, 72), (1080, 1080), (77, 131)],
)
def test_any_size_has_the_pixels_of_the_plain_drawing(width: int, height: int):
    rng = np.random.default_rng(width)
    canvas = ControlCanvas(width, height)
    for count in (1, 2, 0):
        people = random_people(rng, count)
        assert np.array_equal(canvas.draw(people), draw_plainly(people, width, height))


def alone(points, scores, size, width, height):
    """The control frame of one pose by itself."""
    pose = PoseSequence(points[None].astype(np.float32), scores[None].astype(np.float32), size, Fraction(30))
    return next(draw_control_frames(pose, width, height))


def test_frames_of_a_sequence_do_not_depend_on_each_other():
    poses = some_poses(3)
    frames = list(draw_control_frames(poses, 64, 96))
    assert all(frame.any() for frame in frames)
    for frame, points, scores in zip(frames, poses.keypoints, poses.scores, strict=True):
        assert frame.shape == (96, 64, 3) and frame.dtype == np.uint8
        assert np.array_equal(frame, alone(points, scores, poses.size, 64, 96))


def test_frames_are_drawn_only_when_asked_for():
    poses = some_poses(2)
    frames = draw_control_frames(poses, 64, 96)
    first = next(frames)
    kept = first.copy()
    next(frames)
    assert np.array_equal(first, kept)


def test_an_unseen_person_leaves_the_frame_black():
    assert not alone(np.zeros((133, 2)), np.zeros(133), (10, 10), 64, 64).any()


def test_keypoints_far_outside_do_not_break_the_drawing():
    points = np.full((133, 2), 1e30)
    points[::2] *= -1
    assert alone(points, np.ones(133), (10, 10), 64, 64).shape == (64, 64, 3)


def drawn(
    where: dict[int, tuple[float, float]], scores: dict[int, float], published: bool = False
) -> np.ndarray:
    """What is not black in a control frame of 128x192, bool [192, 128]. Drawn at 2 to 1: no stroke thins."""
    points, values = np.zeros((133, 2)), np.zeros(133)
    for joint, place in where.items():
        points[joint] = place
    for joint, score in scores.items():
        values[joint] = score
    poses = PoseSequence(points[None], values[None], (128, 192), Fraction(25))
    return next(draw_control_frames(poses, 128, 192, 256, published=published)).any(-1)


@given(st.floats(0, 300))
@settings(max_examples=25, deadline=None)
def test_a_limb_that_leaves_the_frame_is_drawn_up_to_its_edge(by: float):
    rows = np.flatnonzero(drawn({7: (64, 147), 9: (64, -by)}, {7: 1, 9: 1}).any(1))
    assert rows.min() <= 2 and rows.max() >= 145 and len(rows) > 140


OUTSIDE = {"left": (-40, 96), "top": (64, -40), "right": (168, 96), "bottom": (64, 232)}


@pytest.mark.parametrize("side", list(OUTSIDE))
def test_the_visible_part_of_a_hand_is_drawn_at_all_four_edges(side: str):
    bone = skeleton.LEFT_HAND.start + 7, skeleton.LEFT_HAND.start + 8
    where = {bone[0]: (64, 96), bone[1]: OUTSIDE[side]}
    ours, published = (drawn(where, dict.fromkeys(bone, 1), way) for way in (False, True))
    edge = {"left": ours[:, 0], "top": ours[0], "right": ours[:, -1], "bottom": ours[-1]}[side]
    assert edge.any() and ours[96, 64]
    assert np.array_equal(ours, published) == (side in ("right", "bottom"))


def test_hand_and_face_points_without_a_score_leave_no_trace():
    forearm = {7: (20, 64), 9: (110, 64)}
    hidden = dict.fromkeys(range(23, 133), (64, 64))
    alone = drawn(forearm, {7: 1, 9: 1})
    assert alone.any() and np.array_equal(drawn(forearm | hidden, {7: 1, 9: 1}), alone)


def test_overlay_marks_what_is_seen_and_nothing_else():
    frame = np.full((200, 100, 3), 90, np.uint8)
    points = np.full((133, 2), 1000.0)
    scores = np.zeros(133)
    points[skeleton.LEFT_HAND] = np.linspace([20, 100], [40, 160], 21)
    scores[skeleton.LEFT_HAND] = 0.9
    drawn = draw_overlay(frame, points, scores)
    changed = np.argwhere((drawn != frame).any(-1))
    assert len(changed) > 50
    assert changed.min(0).tolist() >= [90, 10] and changed.max(0).tolist() <= [170, 50]
    assert (frame == 90).all()
    assert np.array_equal(draw_overlay(frame, points, np.zeros(133)), frame)
