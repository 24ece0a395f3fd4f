"""Fractions and pixels are told apart part by part, and each frame has its own canvas."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posedance.stages.errors import PoseError
from posedance.stages.pose import skeleton
from posedance.stages.pose.files import load_poses
from posedance.stages.pose.layouts import PARTS, read_layout

SIZE = np.array([576, 1024])
FRAMES = 8
RNG = np.random.default_rng(3)
POINTS = RNG.uniform(0.1, 0.9, (FRAMES, skeleton.NUM_OPENPOSE, 2))
"""One person in fractions of the picture, in OpenPose's order."""
KEPT = [i for i in range(skeleton.NUM_OPENPOSE) if i != skeleton.NECK]
KEPT_OF_EACH = ("keypoints", "scores")
HANDS = ("hand_left_keypoints_2d", "hand_right_keypoints_2d")


def written(path: Path, units: dict[str, Any], points: np.ndarray = POINTS, scores: Any = 0.9) -> Path:
    """DWPose's JSON: each part times its unit (1 where it is in fractions)."""
    frames = []
    for frame in np.concatenate([points, np.broadcast_to(scores, points.shape[:2])[..., None]], -1):
        person = {}
        for name, part in PARTS.items():
            own = frame[part].copy()
            own[:, :2] *= units.get(name, SIZE)
            person[name] = own.ravel().tolist()
        frames.append({"people": [person], "canvas_width": 576, "canvas_height": 1024})
    path.write_text(json.dumps(frames))
    return path


def loaded(path: Path) -> np.ndarray:
    """The keypoints of a file, in fractions of its picture, in OpenPose's order without the neck."""
    read = read_layout(json.loads(path.read_text()))
    assert read.size == tuple(SIZE)
    keypoints, scores = (np.stack([getattr(each, name)[0] for each in read.people]) for name in KEPT_OF_EACH)
    return skeleton.to_openpose(keypoints, scores)[0][:, KEPT] / SIZE


@pytest.mark.parametrize(
    "units",
    [
        {},
        dict.fromkeys(PARTS, 1),
        dict.fromkeys(PARTS, 1) | dict.fromkeys(HANDS, SIZE),
        dict.fromkeys(HANDS, 1),
        {HANDS[0]: 1},
        {"face_keypoints_2d": 1},
    ],
    ids=["pixels", "fractions", "hands in pixels", "hands in fractions", "one hand", "face"],
)
def test_each_part_has_its_own_unit(tmp_path: Path, units: dict[str, Any]):
    np.testing.assert_allclose(loaded(written(tmp_path / "a.json", units)), POINTS[:, KEPT], rtol=1e-4)


def outside(points: np.ndarray) -> None:
    points[2, 4] = 1.013, 0.5


def far_outside(points: np.ndarray) -> None:
    points[3, 10:13] = 2.4, 3.1
    points[5, 100] = -0.3, 0.5


@pytest.mark.parametrize("change", [outside, far_outside])
def test_points_outside_the_picture_do_not_decide(tmp_path: Path, change: Callable[[np.ndarray], None]):
    points = POINTS.copy()
    change(points)
    path = written(tmp_path / "a.json", dict.fromkeys(PARTS, 1), points)
    np.testing.assert_allclose(loaded(path), points[:, KEPT], rtol=1e-4, atol=1e-5)


def test_points_that_were_not_found_do_not_decide(tmp_path: Path):
    points, scores = POINTS.copy(), np.full(POINTS.shape[:2], 0.9)
    points[1:, 4:] = -1 / SIZE  # as some tools write them, with a score or without
    scores[1:5, 4:] = 0
    path = written(tmp_path / "a.json", {}, points, scores)
    np.testing.assert_allclose(loaded(path)[0], POINTS[0, KEPT], rtol=1e-4)


def test_a_part_in_both_units_is_refused(tmp_path: Path):
    points = POINTS.copy()
    points[FRAMES // 2 :, skeleton.OPENPOSE_LEFT_HAND] *= SIZE
    path = written(tmp_path / "a.json", dict.fromkeys(PARTS, 1), points)
    with pytest.raises(PoseError, match=r"50% of the points of its left hand look like fractions.*one unit"):
        load_poses(path)


def test_results_in_fractions_are_fractions_in_every_layout(tmp_path: Path):
    body = np.concatenate([POINTS[0, :17], np.ones((17, 1))], 1).ravel().tolist()
    (tmp_path / "a.json").write_text(json.dumps([{"image_id": 0, "keypoints": body}]))
    poses = load_poses(tmp_path / "a.json", (576, 1024))
    np.testing.assert_allclose(poses.keypoints[0, :17], POINTS[0, :17] * SIZE, rtol=1e-4)


@pytest.mark.parametrize("unit", ["pixels", "fractions"])
def test_each_frame_has_its_own_canvas(tmp_path: Path, unit: str):
    frames = json.loads(written(tmp_path / "a.json", {}).read_text())
    canvases = [(576, 1024), (1152, 2048), (576, 1024), (288, 512), (1024, 1024), (576, 512)]
    for frame, canvas, points in zip(frames, canvases, POINTS, strict=False):
        own = points * (1 if unit == "fractions" else canvas)
        body = np.concatenate([own, np.ones((len(own), 1))], 1)[skeleton.OPENPOSE_BODY]
        frame["people"] = [{"pose_keypoints_2d": body.ravel().tolist()}]
        frame["canvas_width"], frame["canvas_height"] = canvas
    del frames[2]["canvas_width"], frames[2]["canvas_height"]  # as the first
    (tmp_path / "a.json").write_text(json.dumps(frames[:6]))
    found = loaded(tmp_path / "a.json")[:6, :17]
    body = POINTS[:6, KEPT][:, :17]
    np.testing.assert_allclose(found[:4], body[:4], rtol=1e-4)
    np.testing.assert_allclose(found[4], [0, 7 / 32] + body[4] * [1, 9 / 16], rtol=1e-4)  # between bars
    np.testing.assert_allclose(found[5], [0, 0.25] + body[5] * [1, 0.5], rtol=1e-4)
