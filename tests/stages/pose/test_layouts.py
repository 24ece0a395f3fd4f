"""Other tools' pose files: the same dance from each, sizes are asked for, odd files end in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posedance.stages.errors import PoseError
from posedance.stages.pose import layouts, skeleton
from posedance.stages.pose.files import load_poses

SIZE = (640, 480)
FRAMES = 12
RNG = np.random.default_rng(0)
POINTS = RNG.uniform(20, 200, (1, 133, 2)) + np.arange(FRAMES)[:, None, None]
SCORES = RNG.uniform(0.4, 1, (FRAMES, 133))
"""One person who moves by a pixel a frame."""


def flat(points: np.ndarray, scores: np.ndarray) -> list[float]:
    return np.concatenate([points, scores[:, None]], 1).ravel().tolist()


def as_openpose(folder: Path, i: int) -> Any:
    """OpenPose's own file of a frame: BODY_25, and no canvas."""
    points, scores = skeleton.to_openpose(POINTS[i], SCORES[i])
    body = np.zeros((25, 3))
    body[layouts.BODY_25_TO_18] = np.concatenate([points, scores[:, None]], 1)[:18]
    body[19:] = np.concatenate([points, scores[:, None]], 1)[18:24]
    parts = {"face": slice(24, 92), "hand_left": slice(92, 113), "hand_right": slice(113, 134)}
    person: dict[str, Any] = {"person_id": [-1], "pose_keypoints_2d": body.ravel().tolist()}
    for name, part in parts.items():
        person[f"{name}_keypoints_2d"] = flat(points[part], scores[part])
    person |= {"pose_keypoints_3d": [], "face_keypoints_3d": []}
    return {"version": 1.3, "people": [person]}


def halpe(i: int) -> tuple[np.ndarray, np.ndarray]:
    """The 136 points of AlphaPose."""
    points, scores = np.zeros((136, 2)), np.zeros(136)
    left_big, right_big, left_small, right_small, left_heel, right_heel = range(20, 26)
    feet = [left_big, left_small, left_heel, right_big, right_small, right_heel]
    theirs = [*range(17), *feet, *range(26, 136)]
    points[theirs], scores[theirs] = POINTS[i], SCORES[i]
    return points, scores


def result(i: int, number: int) -> dict[str, Any]:
    """One entry of a result list of 17, 26, 133 or 136 points."""
    points, scores = (POINTS[i], SCORES[i]) if number in (17, 133) else halpe(i)
    return {"category_id": 1, "keypoints": flat(points[:number], scores[:number]), "score": 2.5}


def wholebody(i: int) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "image_id": i,
        "category_id": 1,
        "keypoints": flat(POINTS[i, :17], SCORES[i, :17]),
    }
    for name, part in layouts.WHOLEBODY_PARTS.items():
        entry[name] = flat(POINTS[i, part], SCORES[i, part])
    return entry


def instance(i: int, number: int = 133) -> dict[str, Any]:
    return {
        "keypoints": POINTS[i, :number].tolist(),
        "keypoint_scores": SCORES[i, :number].tolist(),
        "bbox": [[0, 0, 640, 480]],
        "bbox_score": 0.9,
    }


def editor(i: int) -> dict[str, Any]:
    points, _ = skeleton.to_openpose(POINTS[i], SCORES[i])
    return {"width": 640, "height": 480, "keypoints": points[:18].tolist()}


MOMENTS = range(FRAMES)
LISTS: dict[str, tuple[Callable[[], Any], int]] = {
    "openpose": (lambda: [as_openpose(Path(), i) for i in MOMENTS], 133),
    "alphapose 17": (lambda: [{"image_id": f"{i}.jpg", "idx": 1, **result(i, 17)} for i in MOMENTS], 17),
    "alphapose 26": (lambda: [{"image_id": f"{i}.jpg", **result(i, 26)} for i in MOMENTS], 23),
    "alphapose 136": (lambda: [{"image_id": f"frame_{i:06d}.png", **result(i, 136)} for i in MOMENTS], 133),
    "coco 17": (lambda: [{"image_id": i, **result(i, 17)} for i in MOMENTS], 17),
    "coco 133": (lambda: [{"image_id": i, **result(i, 133)} for i in MOMENTS], 133),
    "coco wholebody": (lambda: [wholebody(i) for i in MOMENTS], 133),
    "mmpose video": (lambda: [{"frame_id": i, "instances": [instance(i)]} for i in MOMENTS], 133),
    "mmpose with meta": (
        lambda: {
            "meta_info": {},
            "instance_info": [{"frame_id": i + 1, "instances": [instance(i)]} for i in MOMENTS],
        },
        133,
    ),
    "mmpose pictures of 17": (lambda: [[instance(i, 17)] for i in MOMENTS], 17),
    "editor": (lambda: [editor(i) for i in MOMENTS], 17),
    "coco annotations": (
        lambda: {
            "images": [{"id": i, "width": 640, "height": 480} for i in MOMENTS],
            "annotations": [wholebody(i) for i in MOMENTS],
        },
        133,
    ),
}
"""Each layout with the number of points that it keeps."""
TELL_THEIR_SIZE = ("editor", "coco annotations")


@pytest.mark.parametrize("name", list(LISTS))
def test_each_layout_holds_the_same_dance(tmp_path: Path, name: str):
    make, number = LISTS[name]
    (tmp_path / "a.json").write_text(json.dumps(make()))
    poses = load_poses(tmp_path / "a.json", None if name in TELL_THEIR_SIZE else SIZE)
    assert poses.size == SIZE and poses.fps == 30 and len(poses) == FRAMES
    np.testing.assert_allclose(poses.keypoints[:, :number], POINTS[:, :number], rtol=1e-5)
    if name != "editor":
        np.testing.assert_allclose(poses.scores[:, :number], SCORES[:, :number], rtol=1e-5)
    assert not poses.scores[:, number:].any()


@pytest.mark.parametrize("name", [name for name in LISTS if name not in TELL_THEIR_SIZE])
def test_a_layout_without_a_size_asks_for_it(tmp_path: Path, name: str):
    (tmp_path / "a.json").write_text(json.dumps(LISTS[name][0]()))
    whose = {"o": "frame 0", "a": "AlphaPose's or COCO's", "c": "AlphaPose's or COCO's", "m": "MMPose's"}[
        name[0]
    ]
    with pytest.raises(PoseError, match=rf"a\.json cannot be used: .*{whose}.*--pose-size WIDTHxHEIGHT"):
        load_poses(tmp_path / "a.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_fault(tmp_path: Path, encoding: str):
    (tmp_path / "a.json").write_text(json.dumps(LISTS["editor"][0]()), encoding=encoding)
    assert len(load_poses(tmp_path / "a.json")) == FRAMES


@pytest.mark.parametrize("name", ["openpose", "mmpose pictures of 17", "editor"])
def test_a_folder_has_a_file_for_each_frame(tmp_path: Path, name: str):
    for i, frame in enumerate(LISTS[name][0]()):
        (tmp_path / f"clip_{i}_keypoints.json").write_text(json.dumps(frame))
    poses = load_poses(tmp_path, SIZE)
    np.testing.assert_allclose(poses.keypoints[:, :17], POINTS[:, :17], rtol=1e-5)


def test_a_folder_of_one_file_for_all_frames(tmp_path: Path):
    (tmp_path / "alphapose-results.json").write_text(json.dumps(LISTS["alphapose 136"][0]()))
    assert len(load_poses(tmp_path, SIZE)) == FRAMES


def test_frames_that_results_leave_out_are_empty(tmp_path: Path):
    found = [{"image_id": f"{i}.jpg", **result(i, 17)} for i in MOMENTS if i not in (3, 4)]
    (tmp_path / "a.json").write_text(json.dumps(found[::-1]))
    poses = load_poses(tmp_path / "a.json", SIZE)
    assert len(poses) == FRAMES
    assert np.flatnonzero(~poses.scores.any(1)).tolist() == [3, 4]
    np.testing.assert_allclose(poses.keypoints[5, :17], POINTS[5, :17], rtol=1e-5)


def test_ids_that_count_nothing_tell_only_the_order(tmp_path: Path):
    found = [{"image_id": 397133 + 7919 * i, **result(i, 17)} for i in MOMENTS]
    (tmp_path / "a.json").write_text(json.dumps(found))
    assert len(load_poses(tmp_path / "a.json", SIZE)) == FRAMES


def test_the_larger_of_two_people_is_taken_in_every_layout(tmp_path: Path):
    half = {**result(0, 17), "keypoints": (np.array(result(0, 17)["keypoints"]) * 0.2).tolist()}
    found = [{"image_id": i, **one} for i in MOMENTS for one in (half, result(i, 17))]
    (tmp_path / "a.json").write_text(json.dumps(found))
    poses = load_poses(tmp_path / "a.json", SIZE)
    np.testing.assert_allclose(poses.keypoints[:, :17], POINTS[:, :17], rtol=1e-5)


def test_visibilities_of_coco_are_scores_of_one(tmp_path: Path):
    seen = np.tile([10.0, 20.0, 2.0], 17).tolist()
    (tmp_path / "a.json").write_text(json.dumps([{"image_id": 1, "keypoints": seen}]))
    assert load_poses(tmp_path / "a.json", SIZE).scores.max() == 1


ONE = {"image_id": 1, **result(0, 17)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"hello": 1}, "layout is not known.*OpenPose.*AlphaPose.*MMPose.*openpose-editor"),
        ([1, 2], "layout is not known"),
        ([[]], "layout is not known"),
        ("text", "layout is not known"),
        ({"images": [], "annotations": []}, "it is a COCO file, and its annotations have no"),
        ({"annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}, "it is a COCO file, and its annotations"),
        ({"meta_info": {}, "instance_info": []}, "it is MMPose's, and there are no frames"),
        ([ONE, {"image_id": 2}], "not all of its people"),
        ([{**ONE, "keypoints": ONE["keypoints"][:-3]}], "people of 16 points: expected 17, 26, 133, 136"),
        ([{**ONE, "keypoints": ONE["keypoints"][:-1]}], "no list of x, y, score"),
        ([{**ONE, "keypoints": {"a": 1}}], "no list of x, y, score"),
        ([{**ONE, "keypoints": [10**400, *ONE["keypoints"][1:]]}], "no list of x, y, score"),
        ([{**ONE, "keypoints": [1e300, *ONE["keypoints"][1:]]}], "1e.300 pixels away"),
        ([{**ONE, "image_id": "cover.jpg"}], "no number of a frame"),
        ([{**ONE, "image_id": [1]}], "no number of a frame"),
        ([{**ONE, "image_id": "a/1.jpg"}, {**ONE, "image_id": "b/1.jpg"}], "the same number"),
        ([{"instances": [{"keypoints": [[1, 2]], "keypoint_scores": [1, 1]}]}], "1 keypoints and 2 scores"),
        ([{"instances": 3}], "not all of its frames"),
        ([{"width": 64, "height": 64, "keypoints": [[1, 2]] * 17}], "17 points: expected 18 for each"),
        (
            {"images": [{"width": 1, "height": 2}, {"width": 2, "height": 1}], "annotations": [ONE]},
            "several sizes",
        ),
    ],
)
def test_odd_json_ends_in_one_line(tmp_path: Path, data: Any, message: str):
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(PoseError, match=message) as raised:
        load_poses(tmp_path / "a.json", SIZE)
    assert "\n" not in str(raised.value) and str(tmp_path / "a.json") in str(raised.value)
    assert len(str(raised.value)) < 600


def test_more_people_or_frames_than_anybody_reads_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(layouts, "MAX_PEOPLE", 5)
    (tmp_path / "a.json").write_text(json.dumps(LISTS["coco 17"][0]()))
    with pytest.raises(PoseError, match="12 people: at most 5"):
        load_poses(tmp_path / "a.json", SIZE)
    monkeypatch.setattr(layouts, "MAX_FRAMES", 5)
    (tmp_path / "a.json").write_text(json.dumps(LISTS["editor"][0]()))
    with pytest.raises(PoseError, match="12 frames: at most 5"):
        load_poses(tmp_path / "a.json", SIZE)
