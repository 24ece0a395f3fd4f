"""The table of pose estimators.

To add one: a file with a class that keeps the protocol `base.PoseEstimator`, and a row in ESTIMATORS. The
contract test runs over the table.
"""

from collections.abc import Callable
from pathlib import Path

from ..errors import PoseError
from .base import PoseEstimator

Factory = Callable[[Path | None, Path | None, str], PoseEstimator]
"""Makes an estimator of its model file, its person detector's file, and the device."""


def _mediapipe(model: Path | None, detector: Path | None, device: str) -> PoseEstimator:
    from .estimate.mediapipe import MediaPipeEstimator

    return MediaPipeEstimator(model, device)


def _dwpose(model: Path | None, detector: Path | None, device: str) -> PoseEstimator:
    from .estimate.rtm import DWPOSE, RTMEstimator

    return RTMEstimator(DWPOSE, model, detector, device)


def _rtmw(model: Path | None, detector: Path | None, device: str) -> PoseEstimator:
    from .estimate.rtm import RTMW, RTMEstimator

    return RTMEstimator(RTMW, model, detector, device)


ESTIMATORS: dict[str, Factory] = {"mediapipe": _mediapipe, "dwpose": _dwpose, "rtmw": _rtmw}


def make_estimator(
    name: str, *, model: Path | None = None, detector: Path | None = None, device: str = "auto"
) -> PoseEstimator:
    """The estimator of that name, not yet set up.

    `model` and `detector` are local files, or None for what comes with the package; `device` is auto, cpu,
    cuda or cuda:N.
    Raises PoseError for a name that is not in ESTIMATORS.
    """
    if name not in ESTIMATORS:
        raise PoseError(f"unknown pose estimator {name}: choose one of {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name](model, detector, device)


def why_unusable(
    name: str, *, model: Path | None = None, detector: Path | None = None, device: str = "auto"
) -> str | None:
    """Why the estimator of that name cannot run here, and what to do about it; None when it can."""
    return make_estimator(name, model=model, detector=detector, device=device).missing()
