"""MediaPipe Holistic: 133 keypoints, hands included, on a CPU.

mediapipe 0.10 carries its models in the wheel, so it works with no download and follows several people; the
network of the body can be another one of Google's there. From mediapipe 1 on, a `holistic_landmarker.task`
file must be given; that landmarker sees one person.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import PoseError
from ..base import Detections, detections
from .body_model import BUNDLED, is_body_model, read_body_model
from .mediapipe_layout import whole_body

BUNDLED_MODEL = Path("modules", "holistic_landmark", "hand_recrop.tflite")
"""A file in the wheel of mediapipe 0.10 that later wheels lack."""

FRAME_MS = 33
"""Time between frames that video mode is told. It only steers smoothing; solutions assume the same 30 fps."""


class MediaPipeEstimator:
    """Holistic pose estimation: see PoseEstimator. `model` is a file, None for the wheel's models.

    A holistic landmarker's .task file does all of the work; a pose landmarker's .task file, or its network in
    a .tflite file, takes the place of the wheel's network of bodies. `device` cuda lets a holistic landmarker
    work on the GPU by MediaPipe's delegate, which takes the first one; auto is the CPU, where MediaPipe was
    measured.
    """

    def __init__(self, model: Path | None = None, device: str = "auto") -> None:
        self._model, self._device = model, device
        self._followed: Any = None

    def missing(self) -> str | None:
        package = find_spec("mediapipe")
        if package is None or not package.submodule_search_locations:
            return "the package mediapipe is not installed: pip install mediapipe"
        gpus = ("cuda", "cuda:0") if self._is_holistic() else ()
        if self._device not in ("auto", "cpu", *gpus):
            return (
                f"it does not work on estimator.device {self._device}: use cpu, a holistic .task file by "
                "estimator.model on cuda, or dwpose"
            )
        if self._model is not None and not self._model.is_file():
            return f"there is no model file {self._model}: check the path"
        if not self._is_holistic() and not bundled(BUNDLED_MODEL).is_file():
            return (
                "this mediapipe carries no models: set estimator.model to a holistic_landmarker.task file, "
                "or install mediapipe==0.10.21 (Python 3.12 or earlier)"
            )
        return None

    def setup(self) -> None:
        reason = self.missing()
        if reason:
            raise PoseError(f"the pose estimator mediapipe cannot be used: {reason}")
        if self._model is not None and self._is_holistic():
            self._followed = TaskPerson(self._model, self._device.startswith("cuda"))
        else:
            from .mediapipe_people import Everybody

            self._followed = Everybody(read_body_model(self._model or bundled(BUNDLED)))

    def start(self, *, static: bool = False) -> None:
        self._followed.start(static)

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        return self._followed.look([read_only(frame) for frame in frames])

    def close(self) -> None:
        if self._followed is not None:
            self._followed.close()
            self._followed = None

    def _is_holistic(self) -> bool:
        """Whether the model does all of the work; a file that is not there counts as such."""
        return self._model is not None and not (self._model.is_file() and is_body_model(self._model))


def bundled(model: Path) -> Path:
    """Where a model is in the package mediapipe, which is not imported."""
    package = find_spec("mediapipe")
    assert package is not None and package.submodule_search_locations
    return Path(package.submodule_search_locations[0], model)


def read_only(frame: np.ndarray) -> np.ndarray:
    """A view of a frame that nobody may write to: MediaPipe's graphs then take it without a copy each."""
    view = np.ascontiguousarray(frame).view()
    view.flags.writeable = False
    return view


class TaskPerson:
    """One person by the Tasks API, which mediapipe 1 has and 0.10 has too.

    Written to the API's documentation: no .task file was at hand to run it with.
    """

    def __init__(self, model: Path, on_gpu: bool = False) -> None:
        self._model, self._on_gpu = model, on_gpu
        self._landmarker: Any = None
        self._static = False
        self._time = 0

    def start(self, static: bool) -> None:
        from mediapipe.tasks.python import BaseOptions
        from mediapipe.tasks.python.vision import HolisticLandmarker, HolisticLandmarkerOptions, RunningMode

        self.close()
        options = HolisticLandmarkerOptions(
            base_options=BaseOptions(
                model_asset_path=str(self._model),
                delegate=BaseOptions.Delegate.GPU if self._on_gpu else BaseOptions.Delegate.CPU,
            ),
            running_mode=RunningMode.IMAGE if static else RunningMode.VIDEO,
        )
        try:
            self._landmarker = HolisticLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError, NotImplementedError) as error:
            gpu = " on the GPU: use estimator.device cpu, or" if self._on_gpu else ":"
            raise PoseError(
                f"{self._model} cannot be used as a holistic landmarker ({error}){gpu} download the file "
                "holistic_landmarker.task again"
            ) from error
        self._static = static
        self._time = 0

    def look(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        return [self._look(frame) for frame in frames]

    def _look(self, frame: np.ndarray) -> Detections:
        import mediapipe

        height, width = frame.shape[:2]
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame)
        if self._static:
            result = self._landmarker.detect(image)
        else:
            result = self._landmarker.detect_for_video(image, self._time)
            self._time += FRAME_MS
        if not result.pose_landmarks:
            return detections([], width, height)
        pose = np.array([(p.x, p.y, p.visibility or 0) for p in result.pose_landmarks], np.float32)
        left, right, face = (
            np.array([(p.x, p.y) for p in part], np.float32) if part else None
            for part in (result.left_hand_landmarks, result.right_hand_landmarks, result.face_landmarks)
        )
        return detections([whole_body(pose, left, right, face, (width, height))], width, height)

    def close(self) -> None:
        if self._landmarker is not None:
            self._landmarker.close()
            self._landmarker = None
