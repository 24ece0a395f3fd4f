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

ON_CALLER = 'executor { type: "ApplicationThreadExecutor" }'
"""Of a graph whose nodes work on the thread that calls it."""

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
    """A MediaPipe graph, made at its first call or by `make`; its start-up noise stays out of stderr.

    Its nodes wait for each other, so they work on the thread that calls; by itself it would take a thread for
    each core. Calls from several threads wait for each other too. `body` is the network of graphs that look
    for a body: see `body_model`.
    """

    def __init__(self, text: str, body: bytes | None = None) -> None:
        self._text, self._body = text, body
        self._lock = threading.Lock()
        self._running: Any = None
        self._has_begun = False

    def __call__(self, **inputs: Any) -> Any:
        """The outputs by name, None for each that is empty."""
        with self._lock:
            if self._has_begun:
                return self._running.process(inputs)
            with without_noise():
                self._load()
                self._has_begun = True
                return self._running.process(inputs)

    def make(self) -> None:
        """Load the networks, where they are not loaded yet."""
        with self._lock, without_noise():
            self._load()

    def close(self) -> None:
        with self._lock:
            if self._running is not None:
                self._running.close()
                self._running, self._has_begun = None, False

    def _load(self) -> None:
        if self._running is not None:
            return
        from mediapipe.python.solution_base import SolutionBase

        text = f"{ON_CALLER}\n{self._text}"
        if self._body is None:
            self._running = SolutionBase(graph_config=text)  # type: ignore[arg-type] (text is taken too)
        else:
            given = {"body": self._body}
            self._running = SolutionBase(graph_config=with_network_given(text), side_inputs=given)
        self._running._graph.wait_until_idle()  # its nodes begin on this thread, and only now


def with_network_given(text: str) -> Any:
    """A graph of a body, as a CalculatorGraphConfig, that takes its network from the side packet `body`.

    MediaPipe's own loader, one of the subgraphs, reads a file in its wheel whose path is fixed there.
    """
    from mediapipe.framework import calculator_pb2
    from mediapipe.python._framework_bindings.validated_graph_config import ValidatedGraphConfig

    graph = ValidatedGraphConfig()
    graph.initialize(graph_config=text)
    config = calculator_pb2.CalculatorGraphConfig()  # pyright: ignore[reportAttributeAccessIssue]
    config.ParseFromString(graph.binary_config)  # of nodes alone
    nodes = [
        node
        for node in config.node
        if "modelloader" not in node.name or node.calculator == "TfLiteModelCalculator"
    ]
    for node in nodes:
        if node.calculator == "TfLiteModelCalculator":
            node.input_side_packet[:] = ["MODEL_BLOB:body"]
    del config.node[:]
    config.node.extend(nodes)
    config.input_side_packet.append("body")
    return config


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
