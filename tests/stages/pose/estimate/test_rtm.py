"""rtmlib's models, stood in for by two tiny ONNX files with the same inputs and outputs.

The detector gives one box for each bright half of the picture; the pose model puts all keypoints on the
brightest row and column of its crop; or, of a person of three coloured spots, on the spots.
"""

import struct
from pathlib import Path

import numpy as np
import pytest
from onnx_models import colour_detector, colour_pose, coloured, constant, node, port, write_model

from posedance.stages import threads
from posedance.stages.errors import PoseError
from posedance.stages.pose.estimate import rtm_poses
from posedance.stages.pose.estimate.rtm import DWPOSE, RTMEstimator
from posedance.stages.pose.estimate.rtm_boxes import person_boxes
from posedance.stages.pose.estimate.rtm_poses import MAX_CROPS
from posedance.stages.pose.estimators import why_unusable

SIZE = 64


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """[1, 3, 64, 64] -> [1, 2, 5]: left and right half, each scored by its brightest value over 255."""
    boxes = np.array([[[0, 0, 31, 63, 0], [32, 0, 63, 63, 0]]], np.float32)
    score = np.array([[[0, 0, 0, 0, 1 / 255]]], np.float32)
    graph = constant("boxes", boxes) + constant("score", score) + constant("shape", np.array([1, 2, 1]))
    graph += constant("halves", np.array([1, 3, SIZE, 2, SIZE // 2]))
    graph += node("Reshape", ["input", "halves"], "split") + node(
        "ReduceMax", ["split"], "bright", axes=[1, 2, 4], keepdims=0
    )
    graph += node("Reshape", ["bright", "shape"], "column") + node("Mul", ["column", "score"], "scores")
    graph += node("Add", ["boxes", "scores"], "dets")
    graph += port(11, "input", [1, 3, SIZE, SIZE]) + port(12, "dets", [1, 2, 5])
    return write_model(tmp_path / "detector.onnx", graph)


def write_pose_model(path: Path, keypoints: int = 133, batch: int | str = "n") -> Path:
    """[n, 3, 64, 48] -> SimCC [n, keypoints, 96] and [n, keypoints, 128]: brightness by column and row."""
    graph = b""
    for name, length, axes in (("simcc_x", 48, [1, 2]), ("simcc_y", 64, [1, 3])):
        graph += constant(f"{name}_one", np.array([-1, 1, length, 1]))
        graph += constant(f"{name}_all", np.array([1, keypoints, length, 2]))
        graph += constant(f"{name}_out", np.array([-1, keypoints, 2 * length]))
        graph += node("ReduceMax", ["input"], f"{name}_max", axes=axes, keepdims=0)
        graph += node("Reshape", [f"{name}_max", f"{name}_one"], f"{name}_a")
        graph += node("Expand", [f"{name}_a", f"{name}_all"], f"{name}_b")
        graph += node("Reshape", [f"{name}_b", f"{name}_out"], name)
    graph += port(11, "input", [batch, 3, 64, 48])
    graph += port(12, "simcc_x", [batch, keypoints, 96]) + port(12, "simcc_y", [batch, keypoints, 128])
    return write_model(path, graph)


def dots(*where: tuple[int, int]) -> np.ndarray:
    """A black 64 x 64 picture with a white spot of three pixels at each x, y."""
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    for x, y in where:
        picture[y - 1 : y + 2, x - 1 : x + 2] = 255
    return picture


FRAMES = [dots((10, 20)), dots(), dots((12, 40), (50, 10)), dots((45, 30))]


@pytest.mark.parametrize("batch", ["n", 1])
def test_people_of_several_frames_land_where_they_are(tmp_path: Path, detector: Path, batch: int | str):
    model = write_pose_model(tmp_path / "pose.onnx", batch=batch)
    estimator = RTMEstimator(DWPOSE, model, detector)
    assert estimator.missing() is None
    estimator.setup()
    estimator.start()
    found = estimator(FRAMES)
    assert [len(people) for people in found] == [1, 0, 2, 1]
    for people, expected in zip(found, ([(10, 20)], [], [(12, 40), (50, 10)], [(45, 30)]), strict=True):
        assert people.keypoints.shape == (len(expected), 133, 2)
        for points, scores, place in zip(people.keypoints, people.scores, expected, strict=True):
            np.testing.assert_allclose(points, np.tile(place, (133, 1)), atol=2.5)
            assert (scores > 0).all() and (scores <= 1).all()
    estimator.close()


def test_sessions_take_the_threads_of_the_stage(
    tmp_path: Path, detector: Path, monkeypatch: pytest.MonkeyPatch
):
    model = write_pose_model(tmp_path / "pose.onnx")
    found = []
    for limit in (None, 3):
        monkeypatch.setattr(threads, "_limit", limit)
        estimator = RTMEstimator(DWPOSE, model, detector)
        estimator.setup()
        for tool in (estimator._boxes, estimator._pose):
            assert tool.session.get_session_options().intra_op_num_threads == (limit or 0)
            assert tool.session.get_providers() == ["CPUExecutionProvider"]
        found.append(estimator(FRAMES))
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one.keypoints, other.keypoints) and np.array_equal(one.scores, other.scores)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted on Linux")
def test_onnxruntime_starts_the_threads_of_the_stage(
    tmp_path: Path, detector: Path, monkeypatch: pytest.MonkeyPatch
):
    model = write_pose_model(tmp_path / "pose.onnx")

    def taken(limit: int) -> int:
        monkeypatch.setattr(threads, "_limit", limit)
        before = len(list(Path("/proc/self/task").iterdir()))
        estimator = RTMEstimator(DWPOSE, model, detector)
        estimator.setup()
        estimator(FRAMES)
        return len(list(Path("/proc/self/task").iterdir())) - before

    assert taken(1) == 0, "the caller's own thread works too"
    assert taken(5) == 2 * 4, "of the detector and the pose model"


def test_crops_in_one_batch_or_in_many_are_the_same(tmp_path: Path, detector: Path):
    estimator = RTMEstimator(DWPOSE, write_pose_model(tmp_path / "pose.onnx"), detector)
    estimator.setup()
    frames = FRAMES * (MAX_CROPS // 2)
    together = estimator(frames)
    for frame, people in zip(frames, together, strict=True):
        alone = estimator([frame])[0]
        assert np.array_equal(alone.keypoints, people.keypoints)
        assert np.array_equal(alone.scores, people.scores)


def test_a_model_of_another_skeleton_is_refused(tmp_path: Path, detector: Path):
    estimator = RTMEstimator(DWPOSE, write_pose_model(tmp_path / "body.onnx", keypoints=17), detector)
    estimator.setup()
    with pytest.raises(PoseError, match="gives 17 keypoints, expected 133"):
        estimator(FRAMES[:1])


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, detector: Path):
    (tmp_path / "bad.onnx").write_bytes(struct.pack("<8I", *range(8)))
    with pytest.raises(PoseError, match=r"bad\.onnx is not a usable ONNX model"):
        RTMEstimator(DWPOSE, tmp_path / "bad.onnx", detector).setup()


def test_models_that_are_not_here_are_said_to_be_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    reason = why_unusable("rtmw")
    assert reason is not None and "estimator.model and estimator.detector" in reason


def test_a_gpu_that_onnxruntime_cannot_use_is_said(tmp_path: Path, detector: Path):
    model = write_pose_model(tmp_path / "pose.onnx")
    for device in ("cuda", "cuda:1"):
        with pytest.raises(PoseError, match=f"no CUDA for estimator.device {device}: use cpu, or install"):
            RTMEstimator(DWPOSE, model, detector, device).setup()
    estimator = RTMEstimator(DWPOSE, model, detector, "auto")
    estimator.setup()
    estimator._device = "cuda"  # as where CUDA was asked for, and onnxruntime went on without
    with pytest.raises(PoseError, match=r"cannot start CUDA on estimator\.device cuda"):
        estimator._refuse_fallback(estimator._pose.session)


def test_a_failing_download_says_where_to_get_the_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PoseError, match=r"cannot download https://.*set estimator\.model"):
        RTMEstimator(DWPOSE).setup()


def rtmlib_boxes(outputs: np.ndarray, ratio: float, size: tuple[int, int]) -> np.ndarray:
    """What rtmlib makes of a YOLOX file's first output; of class 0, where the file has classes."""
    from rtmlib import YOLOX

    tool = object.__new__(YOLOX)
    several = outputs.shape[-1] > 5
    tool.model_input_size, tool.nms_thr, tool.score_thr = size, 0.45, 0.3
    tool.det_mode = "multiclass" if several else "human"
    found = tool.postprocess(outputs.copy(), ratio)
    return found[0][found[1] == 0] if several else found


def raw_cells(classes: int) -> np.ndarray:
    """YOLOX's raw output [1, 84, 5 + classes] over an input of 64x64, some cells of which are sure."""
    rng = np.random.default_rng(3)
    cells = np.concatenate([rng.normal(size=(84, 2)), rng.uniform(0, 1.5, (84, 2))], 1)
    scores = rng.uniform(0, 1, (84, 1 + classes)) ** 2
    return np.concatenate([cells, scores], 1).astype(np.float32)[None]


@pytest.mark.parametrize("columns", [5, 6, 85])
def test_boxes_are_those_of_rtmlib(columns: int):
    rng = np.random.default_rng(4)
    if columns == 5:
        corner = rng.uniform(0, 30, (20, 2))
        boxes = np.concatenate([corner, corner + 20, rng.uniform(0, 1, (20, 1))], 1)
        outputs = boxes[np.argsort(-boxes[:, 4])][None].astype(np.float32)
    else:
        outputs = raw_cells(columns - 5)
    found = person_boxes([outputs], (64, 64), 0.5)
    assert len(found) > 3
    np.testing.assert_allclose(found, rtmlib_boxes(outputs, 0.5, (64, 64)), rtol=1e-5, atol=1e-4)


def test_a_couch_is_no_person():
    raw = np.zeros((1, 84, 85), np.float32)
    raw[0, :2, 4] = 0.9
    raw[0, 0, 5 + 57], raw[0, 1, 5] = 0.9, 0.9  # a couch in the first cell, a person in the second
    (person,) = person_boxes([raw], (64, 64), 1.0)
    np.testing.assert_allclose(person, [4, -4, 12, 4])
    boxes = np.array([[[0, 0, 9, 9, 0.9], [5, 5, 9, 9, 0.8], [1, 1, 9, 9, 0.2]]], np.float32)
    assert person_boxes([boxes, np.array([[57, 0, 0]])], (64, 64), 1.0).tolist() == [[5, 5, 9, 9]]
    with pytest.raises(PoseError, match="gives 4 columns"):
        person_boxes([boxes[..., :4]], (64, 64), 1.0)


WIDE = 320
"""Side of the pictures in which people of three spots walk."""


@pytest.fixture
def walkers(tmp_path: Path) -> RTMEstimator:
    """An estimator of such people, set up."""
    detector = colour_detector(tmp_path / "colours.onnx", WIDE)
    estimator = RTMEstimator(DWPOSE, colour_pose(tmp_path / "pose.onnx", 96, 128), detector)
    estimator.setup()
    return estimator


def runs_of_detector(estimator: RTMEstimator, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with a 1 for each run of the detector."""
    runs: list[int] = []
    whole = estimator._boxes.inference
    monkeypatch.setattr(estimator._boxes, "inference", lambda image: runs.append(1) or whole(image))
    return runs


def test_people_are_followed_between_detections_as_rtmlib_finds_them(
    walkers: RTMEstimator, monkeypatch: pytest.MonkeyPatch
):
    from rtmlib import Wholebody

    runs = runs_of_detector(walkers, monkeypatch)
    frames = [coloured(WIDE, WIDE, (45 + i / 2, 80 + 2 * i, 100), (285 - i / 2, 90, 110)) for i in range(17)]
    walkers.start()
    found = [people for start in (0, 8, 16) for people in walkers(frames[start : start + 8])]
    assert len(runs) == 4  # of frames 0, 5, 10 and 15
    theirs = Wholebody(str(walkers._detector), (WIDE, WIDE), str(walkers._model), (96, 128))
    for frame, people in zip(frames, found, strict=True):
        points, scores = theirs(frame)
        assert len(people) == len(points) == 2
        np.testing.assert_allclose(people.keypoints, points, atol=3.5)
        np.testing.assert_allclose(people.scores, np.minimum(scores, 1), atol=1e-3)


def test_a_fast_person_is_followed_and_a_lost_one_detected_anew(
    walkers: RTMEstimator, monkeypatch: pytest.MonkeyPatch
):
    runs = runs_of_detector(walkers, monkeypatch)
    where: list[tuple[float, float, float] | None] = [(60 + 24 * i, 80, 150) for i in range(4)]
    where += [None, None, (250, 80, 150), (250, 80, 150)]
    frames = [coloured(WIDE, WIDE, *([] if at is None else [at])) for at in where]
    walkers.start()
    found = walkers(frames)
    assert [len(people) for people in found] == [int(at is not None) for at in where]
    for at, people in zip(where, found, strict=True):
        if at is not None:
            head, left, right = people.keypoints[0, :3, 0] + 6
            assert (head, left, right) == pytest.approx((at[0], at[0] - 30, at[0] + 30), abs=4)
    assert len(runs) == 4  # of the first frame, both without anybody, and the next
    walkers.start(static=True)
    walkers(frames[:3])
    assert len(runs) == 7


def test_badly_seen_hands_are_looked_at_again(monkeypatch: pytest.MonkeyPatch):
    """By a crop around wrist and forearm; taken where the root is at the wrist, and better seen."""
    points, scores = np.zeros((133, 2)), np.zeros(133)
    points[[5, 7, 9]], points[[6, 8, 10]] = [(100, 0), (100, 50), (100, 100)], [(20, 0), (20, 50), (20, 100)]
    scores[5:11] = 0.9
    scores[91:133] = 0.1
    asked: list[np.ndarray] = []

    def again(tool: object, wanted: list[tuple[np.ndarray, np.ndarray]]) -> list[rtm_poses.Looked]:
        asked.extend(box for _, box in wanted)
        hand = np.random.default_rng(0).uniform(0, 20, (21, 2))
        found = np.zeros((133, 2))
        found[91:112], found[112:133] = hand - hand[0] + (100, 103), hand + np.array([150, 100])
        return [(found, np.full(133, 0.8))] * len(wanted)

    monkeypatch.setattr(rtm_poses, "poses_in", again)
    taken = rtm_poses.look_at_hands(None, [np.zeros((200, 200, 3), np.uint8)], [[(points, scores)]])
    assert taken == 1 and len(asked) == 2
    np.testing.assert_allclose(asked[0], [100 - 36, 115 - 36, 100 + 36, 115 + 36])
    assert (scores[91:112] == 0.8).all() and points[91].tolist() == [100, 103]
    assert (scores[112:133] == 0.1).all(), "that of the other arm is not at its wrist"
    rtm_poses.look_at_hands(None, [np.zeros((200, 200, 3), np.uint8)], [[(points, scores)]])
    assert len(asked) == 3, "the hand that is well seen now is left alone"
