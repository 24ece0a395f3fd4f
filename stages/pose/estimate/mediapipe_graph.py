"""MediaPipe's graphs with the models in the wheel of 0.10: the detector, a body in a region, a face.

Holistic's own graph, cut where the body's landmarks go on to the face and to the hands (mediapipe_hands.py):
so that the body of the next frame can be found beside them.
"""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

DETECTOR = """
input_stream: "image"
output_stream: "detections"
node {
  calculator: "PoseDetectionCpu"
  input_stream: "IMAGE:image"
  output_stream: "DETECTIONS:detections"
}
"""

_LANDMARKS = """
node {
  calculator: "PoseLandmarkByRoiCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:region"
  output_stream: "LANDMARKS:raw"
  output_stream: "AUXILIARY_LANDMARKS:raw_auxiliary"
  output_stream: "WORLD_LANDMARKS:raw_world"
}
"""

STILL_BODY = f"""
input_stream: "image"
input_stream: "region"
output_stream: "raw"
{_LANDMARKS}
"""
"""A body in a picture by itself: `raw` depends on no other picture."""

BODY = f"""
input_stream: "image"
input_stream: "region"
output_stream: "pose"
output_stream: "next_region"
{_LANDMARKS}
node {{
  calculator: "ImagePropertiesCalculator"
  input_stream: "IMAGE:image"
  output_stream: "SIZE:size"
}}
node {{
  calculator: "PoseLandmarkFiltering"
  input_stream: "IMAGE_SIZE:size"
  input_stream: "NORM_LANDMARKS:raw"
  input_stream: "AUX_NORM_LANDMARKS:raw_auxiliary"
  input_stream: "WORLD_LANDMARKS:raw_world"
  output_stream: "FILTERED_NORM_LANDMARKS:pose"
  output_stream: "FILTERED_AUX_NORM_LANDMARKS:auxiliary"
  output_stream: "FILTERED_WORLD_LANDMARKS:world"
}}
node {{
  calculator: "PoseLandmarksToRoi"
  input_stream: "LANDMARKS:auxiliary"
  input_stream: "IMAGE_SIZE:size"
  output_stream: "ROI:next_region"
}}
"""
"""A body that is followed: smoothed over time, with the region to look in next."""

FACE = """
input_stream: "image"
input_stream: "pose"
output_stream: "face"
node {
  calculator: "SplitNormalizedLandmarkListCalculator"
  input_stream: "pose"
  output_stream: "face_of_pose"
  options { [mediapipe.SplitVectorCalculatorOptions.ext] { ranges { begin: 0 end: 11 } } }
}
node {
  calculator: "FaceLandmarksFromPoseCpu"
  input_stream: "IMAGE:image"
  input_stream: "FACE_LANDMARKS_FROM_POSE:face_of_pose"
  output_stream: "FACE_LANDMARKS:face"
}
"""
"""The face mesh of a body, guided by where it was in the last picture."""

NOISE = (
    b"absl::InitializeLog",
    b"XNNPACK delegate",
    b"inference_feedback_manager",
    b"landmark_projection_calc",
)
"""What MediaPipe's C++ writes to stderr at each start whatever its log level."""


class Graph:
    """A MediaPipe graph, made at its first call; its start-up noise stays out of stderr.

    Its nodes wait for each other, so it works on one thread; by itself it would take one for each core.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._running: Any = None

    def __call__(self, **inputs: Any) -> Any:
        """The outputs by name, None for each that is empty."""
        if self._running is not None:
            return self._running.process(inputs)
        from mediapipe.framework import thread_pool_executor_pb2  # noqa: F401 (or num_threads is dropped)
        from mediapipe.python.solution_base import SolutionBase

        with without_noise():
            text = f"num_threads: 1\n{self._text}"
            self._running = SolutionBase(graph_config=text)  # type: ignore[arg-type] (text is taken too)
            return self._running.process(inputs)

    def close(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None


_lock = threading.Lock()
_users = 0
_give_back: Callable[[], None] | None = None


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Hold back what is written to stderr, by C++ too, and write it when done, all but the lines of NOISE.

    Threads may do so at one time: it is written when the last of them is done.
    """
    global _users, _give_back
    with _lock:
        _give_back = _give_back or hold_stderr()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _give_back()
                _give_back = None


def hold_stderr() -> Callable[[], None]:
    """Keep what the process writes to stderr; the result gives stderr back and writes all but NOISE to it."""
    sys.stderr.flush()
    kept, held = os.dup(2), tempfile.TemporaryFile()  # noqa: SIM115 (closed by the result)
    os.dup2(held.fileno(), 2)

    def give_back() -> None:
        os.dup2(kept, 2)
        os.close(kept)
        held.seek(0)
        for line in held:
            if not any(noise in line for noise in NOISE):
                os.write(2, line)
        held.close()

    return give_back
