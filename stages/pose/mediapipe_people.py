"""Everybody in a video, with the models in mediapipe 0.10's wheel.

MediaPipe's Holistic follows one person, whichever its detector scores best. So its graph is taken apart here:
the detector, which does see several people, runs now and then, and each person has a copy of the rest
(BlazePose in a region, then both hands and the face mesh), fed with the region that its last result gave.
For one person the results are Holistic's.
"""

import contextlib
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..threads import thread_limit
from .base import Detections, detections
from .mediapipe_layout import whole_body

DETECT_EVERY = 5
"""Frames between two looks for people; while nobody is known, every frame is looked at."""

MAX_PEOPLE = 2
"""People who are followed at once, the largest ones: each costs as much as one Holistic."""

SAME_PERSON = 0.1
"""Regions whose centres (the hips) are nearer than this part of their size belong to one person."""

REGION_SCALE = 1.25
"""Region over the circle that the detector draws around a person (MediaPipe's PoseDetectionToRoi)."""

DETECTOR_GRAPH = """
input_stream: "image"
output_stream: "detections"
node {
  calculator: "PoseDetectionCpu"
  input_stream: "IMAGE:image"
  output_stream: "DETECTIONS:detections"
}
"""

PERSON_GRAPH = """
input_stream: "image"
input_stream: "region"
output_stream: "pose"
output_stream: "left_hand"
output_stream: "right_hand"
output_stream: "face"
output_stream: "next_region"
node {
  calculator: "ImagePropertiesCalculator"
  input_stream: "IMAGE:image"
  output_stream: "SIZE:size"
}
node {
  calculator: "PoseLandmarkByRoiCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:region"
  output_stream: "LANDMARKS:raw"
  output_stream: "AUXILIARY_LANDMARKS:raw_auxiliary"
  output_stream: "WORLD_LANDMARKS:raw_world"
}
node {
  calculator: "PoseLandmarkFiltering"
  input_stream: "IMAGE_SIZE:size"
  input_stream: "NORM_LANDMARKS:raw"
  input_stream: "AUX_NORM_LANDMARKS:raw_auxiliary"
  input_stream: "WORLD_LANDMARKS:raw_world"
  output_stream: "FILTERED_NORM_LANDMARKS:pose"
  output_stream: "FILTERED_AUX_NORM_LANDMARKS:auxiliary"
  output_stream: "FILTERED_WORLD_LANDMARKS:world"
}
node {
  calculator: "PoseLandmarksToRoi"
  input_stream: "LANDMARKS:auxiliary"
  input_stream: "IMAGE_SIZE:size"
  output_stream: "ROI:next_region"
}
node {
  calculator: "HandLandmarksLeftAndRightCpu"
  input_stream: "IMAGE:image"
  input_stream: "POSE_LANDMARKS:pose"
  output_stream: "LEFT_HAND_LANDMARKS:left_hand"
  output_stream: "RIGHT_HAND_LANDMARKS:right_hand"
}
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

NOISE = (
    b"absl::InitializeLog",
    b"XNNPACK delegate",
    b"inference_feedback_manager",
    b"landmark_projection_calc",
)
"""What MediaPipe's C++ writes to stderr at each start whatever its log level."""


class Graph:
    """A MediaPipe graph, made at its first call; its start-up noise stays out of stderr.

    Its nodes run on `thread_limit()` threads; by itself it takes one for each core.
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

        threads = thread_limit()
        text = self._text if threads is None else f"num_threads: {threads}\n{self._text}"
        with without_noise():
            self._running = SolutionBase(graph_config=text)  # type: ignore[arg-type] (text is taken too)
            return self._running.process(inputs)

    def close(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None


class Person:
    """One followed person: a graph and the region (NormalizedRect) to look in next."""

    def __init__(self, region: Any) -> None:
        self.graph = Graph(PERSON_GRAPH)
        self.region = region

    def look(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Keypoints [133, 2] in pixels and scores [133]; None when the person is gone."""
        result = self.graph(image=frame, region=self.region)
        self.region = result.next_region
        if result.pose is None or self.region is None:
            return None
        pose = np.array([(point.x, point.y, point.visibility) for point in result.pose.landmark], np.float32)
        left, right, face = _points(result.left_hand), _points(result.right_hand), _points(result.face)
        return whole_body(pose, left, right, face, (frame.shape[1], frame.shape[0]))


class People:
    """Follows the largest people through the frames of a video; `static` treats each frame by itself."""

    def __init__(self) -> None:
        self._detector = Graph(DETECTOR_GRAPH)
        self._people: list[Person] = []
        self._wait = 0
        self._static = False

    def start(self, static: bool) -> None:
        self._forget(self._people)
        self._wait = 0
        self._static = static

    def look(self, frame: np.ndarray) -> Detections:
        """The people of the next frame, uint8 RGB [H, W, 3]."""
        if self._static:
            self._forget(self._people)
        if not self._people or self._wait <= 0:
            self._meet(frame)
            self._wait = DETECT_EVERY
        self._wait -= 1
        found, gone = [], []
        for person in self._people:
            seen = person.look(frame)
            if seen is None:
                gone.append(person)
            else:
                found.append(seen)
        if gone:
            self._forget(gone)
            self._wait = 0
        return detections(found, frame.shape[1], frame.shape[0])

    def close(self) -> None:
        self._forget(self._people)
        self._detector.close()

    def _meet(self, frame: np.ndarray) -> None:
        """Find new people, keep the largest, drop who turned out to be one with somebody larger."""
        regions = [_region(found, frame) for found in self._detector(image=frame).detections or ()]
        candidates = [
            (person.region, person)
            for person in sorted(self._people, key=lambda person: -person.region.height)
        ]
        candidates += [(region, None) for region in regions]
        kept: list[tuple[Any, Person | None]] = []
        for region, person in candidates:
            if not any(_same_person(region, other, frame) for other, _ in kept):
                kept.append((region, person))
        kept = sorted(kept, key=lambda candidate: -candidate[0].height)[:MAX_PEOPLE]
        people = [person or Person(region) for region, person in kept]
        self._forget([person for person in self._people if person not in people])
        self._people = people

    def _forget(self, people: list[Person]) -> None:
        for person in list(people):
            person.graph.close()
            self._people.remove(person)


def _points(landmarks: Any) -> np.ndarray | None:
    """A landmark list as fractions [n, 2]."""
    return None if landmarks is None else np.array([(p.x, p.y) for p in landmarks.landmark], np.float32)


def _region(detection: Any, frame: np.ndarray) -> Any:
    """The square to look for a person in: centred on the hips, upright along the body."""
    from mediapipe.framework.formats import rect_pb2

    height, width = frame.shape[:2]
    hips, rim = detection.location_data.relative_keypoints[:2]
    dx, dy = (rim.x - hips.x) * width, (rim.y - hips.y) * height
    side = 2 * math.hypot(dx, dy) * REGION_SCALE
    return rect_pb2.NormalizedRect(  # pyright: ignore[reportAttributeAccessIssue]
        x_center=hips.x,
        y_center=hips.y,
        width=side / width,
        height=side / height,
        rotation=math.pi / 2 - math.atan2(-dy, dx),
    )


def _same_person(a: Any, b: Any, frame: np.ndarray) -> bool:
    height, width = frame.shape[:2]
    apart = math.hypot((a.x_center - b.x_center) * width, (a.y_center - b.y_center) * height)
    return apart < SAME_PERSON * max(a.height, b.height) * height


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Hold back what is written to stderr, by C++ too, and write it when done, all but the lines of NOISE."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not any(noise in line for noise in NOISE):
                    os.write(2, line)
