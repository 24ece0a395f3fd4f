"""rtmlib's whole-body models: DWPose and RTMW, as ONNX files run by onnxruntime.

A YOLOX detector finds the people of every DETECT_EVERY-th frame; between, each is looked for where the pose
was last, and the crops of several frames go through the pose model together. Where somebody is lost, people
are detected anew. Unlike rtmlib's own call, a frame without people gives none, not a guess from the whole
frame.
"""

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import PoseError
from ...threads import thread_limit
from ..base import Detections, detections
from ..follow.people import person_score
from .rtm_boxes import person_boxes
from .rtm_poses import Looked, box_of, is_inside, look_at_hands, poses_in

logger = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
"""onnxruntime's name for work on NVIDIA's GPUs."""

DETECT_EVERY = 5
"""Frames between two looks for people; while nobody is known, every frame is looked at."""

KEPT = 0.3
"""Who scores less than this (`person_score`) is lost."""

ZOO = "https://download.openmmlab.com/mmpose/v1/projects/"
DETECTOR = ZOO + "rtmposev1/onnx_sdk/yolox_m_8xb8-300e_humanart-c2c7a14a.zip"
DETECTOR_INPUT = (640, 640)
POSE_INPUT = (288, 384)
"""Inputs as (width, height) where a model file does not fix its own."""


@dataclass(frozen=True, slots=True)
class WholeBodyModel:
    """A pose model that rtmlib can fetch: its name here and the address of its ONNX archive."""

    name: str
    url: str


DWPOSE = WholeBodyModel(
    "dwpose", ZOO + "rtmposev1/onnx_sdk/rtmpose-l_simcc-ucoco_dw-ucoco_270e-384x288-2438fd99_20230728.zip"
)
RTMW = WholeBodyModel("rtmw", ZOO + "rtmw/onnx_sdk/rtmw-dw-x-l_simcc-cocktail14_270e-384x288_20231122.zip")


class RTMEstimator:
    """Whole-body pose by rtmlib: see PoseEstimator.

    `model` and `detector` are local ONNX files, None for what rtmlib downloads once and keeps. `device` is
    cpu, cuda, cuda:N, or auto for the GPU where onnxruntime has CUDA and there is one.
    """

    def __init__(
        self,
        kind: WholeBodyModel,
        model: Path | None = None,
        detector: Path | None = None,
        device: str = "auto",
    ) -> None:
        self._kind = kind
        self._model = model
        self._detector = detector
        self._device = device
        self._pose: Any = None
        self._boxes: Any = None
        self._followed: list[np.ndarray] = []
        self._wait = 0
        self._static = False

    def missing(self) -> str | None:
        unusable = self._unusable()
        if unusable:
            return unusable
        absent = [
            option
            for option, file, url in (
                ("estimator.model", self._model, self._kind.url),
                ("estimator.detector", self._detector, DETECTOR),
            )
            if file is None and not _cached(url).is_file()
        ]
        if absent:
            return (
                f"no model files yet: they are downloaded from {ZOO.split('/')[2]} at first use, or set "
                f"{' and '.join(absent)} to local ONNX files"
            )
        return None

    def _unusable(self) -> str | None:
        """What a download would not mend."""
        for package in ("rtmlib", "onnxruntime"):
            if find_spec(package) is None:
                return f"the package {package} is not installed: pip install {package}"
        for file in (self._model, self._detector):
            if file is not None and not file.is_file():
                return f"there is no model file {file}: check the path"
        if self._device.startswith("cuda") and not has_cuda():
            return (
                f"this onnxruntime has no CUDA for estimator.device {self._device}: use cpu, or install "
                "onnxruntime-gpu in its place"
            )
        return None

    def setup(self) -> None:
        reason = self._unusable()
        if reason:
            raise PoseError(f"the pose estimator {self._kind.name} cannot be used: {reason}")
        from rtmlib import YOLOX, RTMPose

        if self._device == "auto":
            self._device = "cuda" if has_cuda() and gpu_is_there() else "cpu"

        self._boxes = self._load(YOLOX, self._detector, DETECTOR, DETECTOR_INPUT)
        self._pose = self._load(RTMPose, self._model, self._kind.url, POSE_INPUT)
        for tool, in_order in ((self._boxes, slice(None)), (self._pose, slice(None, None, -1))):
            sides = tool.session.get_inputs()[0].shape[
                2:
            ]  # height, width: rtmlib's RTMPose wants them turned
            if all(isinstance(side, int) for side in sides):
                tool.model_input_size = tuple(sides[in_order])
        logger.info(f"{self._kind.name} runs by onnxruntime's {self._pose.session.get_providers()[0]}")

    def _load(self, tool: Any, file: Path | None, url: str, size: tuple[int, int]) -> Any:
        """An rtmlib tool with its model, from `file` or else from `url`."""
        from onnxruntime.capi.onnxruntime_pybind11_state import (  # pyright: ignore[reportAttributeAccessIssue]
            Fail,
            InvalidArgument,
            InvalidGraph,
            InvalidProtobuf,
        )

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                loaded = tool(str(file or url), model_input_size=size, device=self._device)
            loaded.session = with_thread_limit(loaded.session, loaded.onnx_model)
            self._refuse_fallback(loaded.session)
            return loaded
        except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
            raise PoseError(f"{file or url} is not a usable ONNX model: {error}") from error
        except (OSError, UnboundLocalError) as error:  # the latter: rtmlib finds no model in the archive
            raise PoseError(
                f"the pose estimator {self._kind.name} cannot download {url} ({error}): download it "
                "elsewhere, unpack it, and set estimator.model and estimator.detector to the ONNX files"
            ) from error

    def _refuse_fallback(self, session: Any) -> None:
        """Raise PoseError where onnxruntime went on with the CPU, since a library or the GPU is missing."""
        if self._device.startswith("cuda") and CUDA not in session.get_providers():
            raise PoseError(
                f"onnxruntime cannot start CUDA on estimator.device {self._device}: look at the GPU and its "
                "CUDA and cuDNN libraries, or use cpu"
            )

    def start(self, *, static: bool = False) -> None:
        """Begin a new video; with `static`, people are detected in every picture."""
        self._followed, self._wait, self._static = [], 0, static

    def __call__(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        people: list[list[Looked]] = []
        while len(people) < len(frames):
            ahead = frames[len(people) :]
            followed = [] if self._static or self._wait <= 0 else self._follow(ahead[: self._wait])
            people += followed or [self._meet(ahead[0])]
        look_at_hands(self._pose, frames, people)
        return [
            detections(here, frame.shape[1], frame.shape[0])
            for frame, here in zip(frames, people, strict=True)
        ]

    def _meet(self, frame: np.ndarray) -> list[Looked]:
        """The people of a frame in which they are detected, who are followed from here on."""
        image, ratio = self._boxes.preprocess(np.ascontiguousarray(frame[..., ::-1]))  # trained on BGR
        boxes = person_boxes(self._boxes.inference(image), self._boxes.model_input_size, ratio)
        people = poses_in(self._pose, [(frame, box) for box in boxes])  # trained on RGB
        self._followed = [box_of(pose) for pose in people if person_score(pose[1]) >= KEPT]
        self._wait = DETECT_EVERY - 1 if self._followed else 0
        return people

    def _follow(self, frames: Sequence[np.ndarray]) -> list[list[Looked]]:
        """The people of the next frames, looked for where they were; up to the frame in which one is lost."""
        width, height = self._pose.model_input_size
        found = poses_in(self._pose, [(frame, box) for frame in frames for box in self._followed])
        people: list[list[Looked]] = []
        for i, frame in enumerate(frames):
            here = found[i * len(self._followed) : (i + 1) * len(self._followed)]
            for n, (pose, box) in enumerate(zip(here, self._looked_in(people), strict=True)):
                if not is_inside(pose, box, self._followed[n], width / height):
                    (here[n],) = poses_in(self._pose, [(frame, box)])
            if any(person_score(scores) < KEPT for _, scores in here):
                self._wait = 0
                break
            people.append(here)
            self._wait -= 1
        self._followed = self._looked_in(people)
        return people

    def _looked_in(self, people: list[list[Looked]]) -> list[np.ndarray]:
        """The boxes of the people of the last of these frames, or else of the frame before them."""
        return [box_of(pose) for pose in people[-1]] if people else self._followed

    def close(self) -> None:
        self._boxes = self._pose = None


def has_cuda() -> bool:
    """Whether the installed onnxruntime was built with CUDA."""
    import onnxruntime

    return CUDA in onnxruntime.get_available_providers()


def gpu_is_there() -> bool:
    """Whether this process sees a GPU: a batch's workers may have none."""
    import torch

    return torch.cuda.is_available()


def with_thread_limit(session: Any, file: str) -> Any:
    """A session of onnxruntime like `session`, of the model in `file`, on `thread_limit()` threads.

    rtmlib opens its sessions itself and takes no number of threads, and a session keeps what it began with.
    """
    import onnxruntime

    threads = thread_limit()
    if threads is None:
        return session
    options = onnxruntime.SessionOptions()  # pyright: ignore[reportAttributeAccessIssue]
    options.intra_op_num_threads = threads
    chosen = list(session.get_provider_options().items())
    return onnxruntime.InferenceSession(file, options, providers=chosen)


def _cached(url: str) -> Path:
    """Where rtmlib keeps the model of an address."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "rtmlib")
    return Path(home, "hub", "checkpoints", f"{url.split('/')[-1].split('.')[0]}.onnx").expanduser()
