"""MediaPipe: its layout, its errors, and two people in one frame."""

import os
from collections.abc import Iterator
from fractions import Fraction
from importlib.machinery import ModuleSpec
from pathlib import Path

import cv2
import numpy as np
import pytest

from posedance.stages.errors import PoseError
from posedance.stages.media.picture import fit_cover, read_picture
from posedance.stages.pose import mediapipe as backend
from posedance.stages.pose.estimators import why_unusable
from posedance.stages.pose.mediapipe import MediaPipeEstimator
from posedance.stages.pose.mediapipe_layout import BODY_FROM_POSE, FACE_FROM_MESH, whole_body
from posedance.stages.pose.mediapipe_people import without_noise
from posedance.stages.pose.skeleton import FACE, LEFT_HAND, RIGHT_HAND
from posedance.stages.pose.track import estimate_poses


@pytest.fixture(scope="module")
def estimator() -> Iterator[MediaPipeEstimator]:
    reason = why_unusable("mediapipe")
    if reason:
        pytest.skip(reason)
    made = MediaPipeEstimator()
    made.setup()
    yield made
    made.close()


def test_layout_puts_each_part_in_its_place():
    pose = np.column_stack([np.arange(33) / 100, np.arange(33) / 50, np.linspace(0, 1, 33)])
    hand = np.linspace(0, 0.2, 42).reshape(21, 2)
    mesh = np.random.default_rng(0).uniform(0, 1, (478, 2))
    points, scores = whole_body(pose, hand, None, mesh, (200, 100))
    np.testing.assert_allclose(points[:17, 0], 2 * np.array(BODY_FROM_POSE), rtol=1e-6)
    np.testing.assert_allclose(points[17:23, 1], 2 * np.array([31, 31, 29, 32, 32, 30]), rtol=1e-6)
    np.testing.assert_allclose(points[LEFT_HAND], hand * (200, 100), rtol=1e-6)
    np.testing.assert_allclose(points[FACE][30], mesh[4] * (200, 100), rtol=1e-6)
    assert not scores[RIGHT_HAND].any() and not points[RIGHT_HAND].any()
    np.testing.assert_allclose(scores[LEFT_HAND], (1 + pose[15, 2]) / 2, rtol=1e-6)
    np.testing.assert_allclose(scores[:17], pose[list(BODY_FROM_POSE), 2], rtol=1e-6)


def test_face_map_has_68_different_vertices():
    assert len(FACE_FROM_MESH) == len(set(FACE_FROM_MESH)) == 68


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_larger_of_two_people_is_followed(estimator: MediaPipeEstimator, samples: Path, mirrored: bool):
    large = fit_cover(read_picture(samples / "ref_01.jpeg"), 288, 512)
    small = cv2.resize(large, (172, 306), interpolation=cv2.INTER_AREA)
    both = np.full((512, 460, 3), 200, np.uint8)
    both[:, :288] = large
    both[206:, 288:] = small
    if mirrored:
        both = np.ascontiguousarray(both[:, ::-1])
    frames = [np.roll(both, shift, axis=0) for shift in (0, 2, 4, 6, 8, 6, 4, 2)]
    poses, report = estimate_poses(
        frames, estimator, fps=Fraction(30), min_score=0.3, max_gap=2, name="two people"
    )
    assert report.people == 2 and report.missing == 0
    x = 0.54 * 288
    np.testing.assert_allclose(poses.keypoints[:, 0, 0], 460 - x if mirrored else x, atol=15)


def test_package_without_models_asks_for_a_task_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    spec = ModuleSpec("mediapipe", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(backend, "find_spec", lambda name: spec)
    assert "holistic_landmarker.task" in (why_unusable("mediapipe") or "")
    (tmp_path / "a.task").write_bytes(b"model")
    assert why_unusable("mediapipe", model=tmp_path / "a.task") is None
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    assert "not installed" in (why_unusable("mediapipe") or "")


def test_the_gpu_is_for_task_files_alone(tmp_path: Path):
    if why_unusable("mediapipe"):
        pytest.skip("mediapipe is not installed")
    (tmp_path / "a.task").write_bytes(b"not a model")
    for model, device in ((None, "cuda"), (tmp_path / "a.task", "cuda:1")):
        with pytest.raises(PoseError, match=f"it does not work on estimator.device {device}: use cpu"):
            MediaPipeEstimator(model, device).setup()
    estimator = MediaPipeEstimator(tmp_path / "a.task", "cuda")
    estimator.setup()
    with pytest.raises(PoseError, match=r"on the GPU: use estimator\.device cpu"):
        estimator.start()


def test_file_that_is_no_task_is_refused(tmp_path: Path):
    if why_unusable("mediapipe"):
        pytest.skip("mediapipe is not installed")
    (tmp_path / "a.task").write_bytes(b"not a model")
    estimator = MediaPipeEstimator(tmp_path / "a.task")
    estimator.setup()
    with pytest.raises(PoseError, match=r"a\.task cannot be used as a holistic landmarker"):
        estimator.start()


def test_start_up_noise_is_dropped_and_other_lines_are_kept(capfd: pytest.CaptureFixture[str]):
    with without_noise():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nthe disk is full\n")
    assert capfd.readouterr().err == "the disk is full\n"
