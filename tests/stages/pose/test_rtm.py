"""rtmlib's models, stood in for by two tiny ONNX files with the same inputs and outputs.

The detector gives one box for each bright half of the picture; the pose model puts all keypoints on the
brightest row and column of its crop. The files are written here field by field (onnx.proto), because the
onnx package is not a dependency.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from posedance.stages import threads
from posedance.stages.errors import PoseError
from posedance.stages.pose.estimators import why_unusable
from posedance.stages.pose.rtm import DWPOSE, MAX_CROPS, RTMEstimator

FLOAT, INT64 = 1, 7
SIZE = 64


def field(number: int, value: bytes | str | int) -> bytes:
    """One protobuf field: a length-delimited value, or a whole number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def node(kind: str, inputs: Sequence[str], output: str, **attributes: int | list[int]) -> bytes:
    data = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)
    for name, value in attributes.items():
        if isinstance(value, int):
            data += field(5, field(1, name) + field(3, value) + field(20, 2))
        else:
            data += field(5, field(1, name) + b"".join(field(8, v) for v in value) + field(20, 7))
    return field(1, data)


def constant(name: str, values: np.ndarray) -> bytes:
    kind = INT64 if values.dtype == np.int64 else FLOAT
    data = b"".join(field(1, side) for side in values.shape) + field(2, kind) + field(8, name)
    return field(5, data + field(9, values.tobytes()))


def port(number: int, name: str, shape: Sequence[int | str]) -> bytes:
    sides = b"".join(field(1, field(1 if isinstance(side, int) else 2, side)) for side in shape)
    return field(number, field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, sides))))


def write_model(path: Path, graph: bytes) -> Path:
    path.write_bytes(field(1, 8) + field(7, graph + field(2, "g")) + field(8, field(2, 13)))
    return path


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
