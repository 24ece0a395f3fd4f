"""Pose files: exact round trips, what other tools write, and one clear error for everything else."""

import io
import json
import pickle
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from posedance.stages.errors import PoseError
from posedance.stages.pose import skeleton
from posedance.stages.pose.files import load_poses, save_poses
from posedance.stages.types import PoseSequence

NTSC = Fraction(30000, 1001)


def some_poses(frames: int = 3, people_seed: int = 0) -> PoseSequence:
    rng = np.random.default_rng(people_seed)
    points = rng.uniform(0, [640, 480], (frames, 133, 2))
    return PoseSequence(points, rng.uniform(0.1, 1, (frames, 133)), (640, 480), NTSC)


def assert_equal(a: PoseSequence, b: PoseSequence) -> None:
    assert a.size == b.size and a.fps == b.fps
    assert np.array_equal(a.keypoints, b.keypoints)
    assert np.array_equal(a.scores, b.scores)


def openpose_frame(body: list[float], **more: Any) -> dict[str, Any]:
    person = {"pose_keypoints_2d": body, "hand_left_keypoints_2d": None, "face_keypoints_2d": [], **more}
    return {"people": [person], "canvas_width": 640, "canvas_height": 480}


@given(
    hnp.arrays(np.float32, (2, 133, 2), elements=st.floats(-1e6, 1e6, width=32)),
    hnp.arrays(np.float32, (2, 133), elements=st.floats(0.0078125, 1, width=32)),
    st.fractions(min_value=Fraction(1, 100), max_value=1000, max_denominator=10**9),
)
@settings(max_examples=25, deadline=None)
def test_npz_round_trip_is_exact(
    tmp_path_factory: Any, points: np.ndarray, scores: np.ndarray, fps: Fraction
):
    path = tmp_path_factory.mktemp("poses") / "poses.npz"
    poses = PoseSequence(points, scores, (640, 480), fps)
    save_poses(path, poses)
    assert_equal(load_poses(path), poses)


def test_json_round_trip_is_exact(tmp_path: Path):
    poses = some_poses()
    points, scores = poses.keypoints.copy(), poses.scores.copy()
    points[1], scores[1] = 0, 0
    points[2, skeleton.LEFT_HAND], scores[2, skeleton.LEFT_HAND] = 0, 0
    poses = PoseSequence(points, scores, poses.size, poses.fps)
    save_poses(tmp_path / "poses.json", poses)
    assert_equal(load_poses(tmp_path / "poses.json"), poses)


def test_writing_is_repeatable_and_leaves_nothing_else(tmp_path: Path):
    for name in ("poses.npz", "poses.json"):
        save_poses(tmp_path / name, some_poses())
        first = (tmp_path / name).read_bytes()
        save_poses(tmp_path / name, some_poses())
        assert (tmp_path / name).read_bytes() == first
    assert sorted(file.name for file in tmp_path.iterdir()) == ["poses.json", "poses.npz"]


def test_openpose_body_25_and_its_70_face_points(tmp_path: Path):
    body = [float(v) for i in range(25) for v in (10 * i, 10 * i + 1, 0.5 + i / 100)]
    face = [float(v) for i in range(70) for v in (i, 2 * i, 0.9)]
    (tmp_path / "a.json").write_text(json.dumps([openpose_frame(body, face_keypoints_2d=face)]))
    poses = load_poses(tmp_path / "a.json")
    assert poses.fps == 30 and poses.size == (640, 480)
    joints = {
        "nose": 0,
        "right shoulder": 6,
        "left wrist": 9,
        "right hip": 12,
        "left ankle": 15,
        "left ear": 3,
    }
    joints |= {"left big toe": 17, "right heel": 22}
    found = {name: poses.keypoints[0, joint, 0] for name, joint in joints.items()}
    assert found == {
        "nose": 0, "right shoulder": 20, "left wrist": 70, "right hip": 90, "left ankle": 140,
        "left ear": 180, "left big toe": 190, "right heel": 240,
    }  # fmt: skip
    assert poses.keypoints[0, skeleton.FACE][67].tolist() == [67, 134]
    assert not poses.scores[0, skeleton.LEFT_HAND].any()


def test_fractions_of_the_canvas_become_pixels(tmp_path: Path):
    body = [value for _ in range(18) for value in (0.5, 0.25, 1.0)]
    (tmp_path / "a.json").write_text(json.dumps(openpose_frame(body)))
    assert load_poses(tmp_path / "a.json").keypoints[0, 0].tolist() == [320, 120]


def test_folder_of_frames_is_read_in_order(tmp_path: Path):
    for i in (2, 0, 1):
        body = [value for _ in range(18) for value in (100.0 + i, 50.0, 1.0)]
        (tmp_path / f"clip_{i:012d}_keypoints.json").write_text(json.dumps(openpose_frame(body)))
    assert load_poses(tmp_path).keypoints[:, 0, 0].tolist() == [100, 101, 102]


def test_frames_are_in_order_also_without_zeros_before_their_numbers(tmp_path: Path):
    for i in range(12):
        body = [value for _ in range(18) for value in (100.0 + i, 50.0, 1.0)]
        (tmp_path / f"{i}.json").write_text(json.dumps(openpose_frame(body)))
    assert load_poses(tmp_path).keypoints[:, 0, 0].tolist() == [100 + i for i in range(12)]


@pytest.mark.parametrize(
    ("fps", "expected"),
    [(29.97, Fraction(2997, 100)), (30000 / 1001, NTSC), ("30000/7007", NTSC / 7), (25, Fraction(25))],
)
def test_a_frame_rate_in_json_is_one_that_a_video_can_have(tmp_path: Path, fps: Any, expected: Fraction):
    (tmp_path / "a.json").write_text(json.dumps(openpose_frame(POINTS) | {"fps": fps}))
    assert load_poses(tmp_path / "a.json").fps == expected


@pytest.mark.parametrize("name", ["poses.npz", "poses.json"])
def test_another_size_than_the_file_tells_is_refused(tmp_path: Path, name: str):
    save_poses(tmp_path / name, some_poses())
    assert load_poses(tmp_path / name, (640, 480)).size == (640, 480)
    with pytest.raises(PoseError, match=r"its own size, 640x480, and not 480x640: leave out --pose-size"):
        load_poses(tmp_path / name, (480, 640))


def test_larger_of_two_people_is_taken(tmp_path: Path):
    small = [value for i in range(18) for value in (10.0 + i, 10.0 + i, 1.0)]
    large = [value for i in range(18) for value in (100.0 + 10 * i, 100.0 + 10 * i, 1.0)]
    frame = openpose_frame(small)
    frame["people"].append({"pose_keypoints_2d": large})
    (tmp_path / "a.json").write_text(json.dumps([frame, frame]))
    assert load_poses(tmp_path / "a.json").keypoints[:, 0, 0].tolist() == [100, 100]
    for named in (1, (15.0, 15.0)):
        assert load_poses(tmp_path / "a.json", person=named).keypoints[:, 0, 0].tolist() == [10, 10]
    save_poses(tmp_path / "one.npz", some_poses())
    with pytest.raises(PoseError, match=r"one\.npz cannot be used: it holds one person: leave out --person"):
        load_poses(tmp_path / "one.npz", person=1)


def write_npz(path: Path, **changes: Any) -> None:
    poses = some_poses()
    arrays: dict[str, Any] = {"keypoints": poses.keypoints, "scores": poses.scores}
    arrays |= {"size": np.array([640, 480]), "fps": np.array([30, 1])} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


NAN = some_poses().keypoints.copy()
NAN[1, 5] = np.nan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": NAN}, "frame 1 holds NaN"),
        ({"keypoints": NAN[:, :17]}, r"shape \[3, 17, 2\]"),
        ({"scores": NAN[:2, :, 0]}, r"scores have shape \[2, 133\]"),
        ({"scores": None}, "scores missing"),
        ({"keypoints": np.array([{}])}, "Python objects"),
        ({"keypoints": NAN.astype(str)}, "expected numbers"),
        ({"keypoints": NAN[:0], "scores": NAN[:0, :, 0]}, "no frames"),
        ({"fps": np.array(29.97)}, "fps is 29.97"),
        ({"size": np.array([640, 0])}, r"size is \[640, 0\]"),
    ],
)
def test_bad_npz_is_refused_with_its_name(tmp_path: Path, changes: dict[str, Any], message: str):
    write_npz(tmp_path / "poses.npz", **changes)
    with pytest.raises(PoseError, match=message) as raised:
        load_poses(tmp_path / "poses.npz")
    assert str(tmp_path / "poses.npz") in str(raised.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"no archive", "damaged"),
        (pickle.dumps({"keypoints": 1}), "damaged or holds Python objects"),
        (b"PK\x03\x04 broken", "damaged"),
    ],
)
def test_files_that_are_no_npz_are_refused(tmp_path: Path, data: bytes, message: str):
    (tmp_path / "poses.npz").write_bytes(data)
    with pytest.raises(PoseError, match=message):
        load_poses(tmp_path / "poses.npz")


def test_truncated_npz_is_refused(tmp_path: Path):
    save_poses(tmp_path / "poses.npz", some_poses())
    data = (tmp_path / "poses.npz").read_bytes()
    for kept in (len(data) // 2, len(data) - 10):
        (tmp_path / "poses.npz").write_bytes(data[:kept])
        with pytest.raises(PoseError, match="damaged"):
            load_poses(tmp_path / "poses.npz")


POINTS = [1.0, 2.0, 0.5] * 18


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no frames"),
        ("3", "expected a list of frames"),
        (json.dumps([{"people": []}]), "no canvas_width"),
        (json.dumps([{"canvas_width": 64, "canvas_height": 64}]), "no list of people"),
        (json.dumps([openpose_frame(POINTS[:-1])]), "no list of x, y, score"),
        (json.dumps([openpose_frame(POINTS[:-3])]), "17 points: expected 18"),
        (json.dumps([openpose_frame([*POINTS[:-1], float("nan")])]), "frame 0 holds NaN"),
        (json.dumps([openpose_frame(["left", *POINTS[1:]])]), "no list of x, y, score"),
        (json.dumps([openpose_frame(POINTS) | {"canvas_width": "wide"}]), "no number"),
        (json.dumps([openpose_frame(POINTS) | {"canvas_width": 0}]), "must be positive"),
        (json.dumps([openpose_frame(POINTS) | {"fps": "1/0"}]), "no number"),
        (json.dumps([openpose_frame(POINTS) | {"fps": float("inf")}]), "no number"),
        (json.dumps([openpose_frame(POINTS) | {"canvas_height": float("inf")}]), "no number"),
    ],
)
def test_bad_json_is_refused(tmp_path: Path, data: str, message: str):
    (tmp_path / "poses.json").write_text(data)
    with pytest.raises(PoseError, match=message):
        load_poses(tmp_path / "poses.json")


def test_missing_file_and_unknown_kind_are_refused(tmp_path: Path):
    with pytest.raises(PoseError, match="does not exist"):
        load_poses(tmp_path / "none.npz")
    (tmp_path / "poses.txt").write_text("hello")
    with pytest.raises(PoseError, match=r"must end in \.npz or \.json"):
        load_poses(tmp_path / "poses.txt")
    with pytest.raises(PoseError, match=r"must end in \.npz or \.json"):
        save_poses(tmp_path / "poses.txt", some_poses())
    (tmp_path / "folder").mkdir()
    with pytest.raises(PoseError, match="no frames"):
        load_poses(tmp_path / "folder")


def test_an_npz_of_gigabytes_is_refused_by_its_headers(tmp_path: Path):
    """Zeros of 4.5 GB fit a file of 5 MB; only the header is written here, with data that would be short."""
    poses = some_poses()
    write_npz(tmp_path / "poses.npz")
    with zipfile.ZipFile(tmp_path / "large.npz", "w", zipfile.ZIP_DEFLATED) as large:
        for name, array in (
            ("keypoints", poses.keypoints),
            ("scores", poses.scores),
            ("size", np.array([640, 480])),
            ("fps", np.array([30, 1])),
        ):
            header = io.BytesIO()
            shape = (2_000_000, 133, 2) if name == "keypoints" else array.shape
            about = {"descr": array.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(header, about)
            large.writestr(f"{name}.npy", header.getvalue() + array.tobytes())
    with pytest.raises(PoseError, match=r"keypoints have shape \[2000000, 133, 2\]: at most 200000 frames"):
        load_poses(tmp_path / "large.npz")


def test_more_json_than_anybody_reads_is_refused_unread(tmp_path: Path):
    with (tmp_path / "poses.json").open("wb") as file:
        file.truncate(2**30)  # a sparse file: nothing is on the disk
    with pytest.raises(PoseError, match="1024 MiB of JSON, at most 256"):
        load_poses(tmp_path / "poses.json")
