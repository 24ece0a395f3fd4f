"""MediaPipe's hands: found as Holistic finds them, and looked for again where that finds none.

Where a hand was a frame ago, moved with the wrist, comes first, and mostly suffices: that saves Holistic's
own look for where a hand is (by the body's wrist, index and little finger), which comes next. The second look
is along the forearm, wherever the palm detector sees a hand in a crop around the wrist, to either side of the
forearm, and in a wider crop.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from .mediapipe_graph import Graph
from .second_look import (
    LEFT,
    OWN_APART,
    RIGHT,
    SURE,
    TURNED_AFTER,
    WIDER,
    Hand,
    Side,
    Square,
    arm_square,
    at_wrist,
    bent_squares,
    crop_square,
    facing,
    fits,
    hand_square,
    is_mirrored,
    is_missing,
    refuse_twins,
)

PRESENT = 0.5
"""A hand is there where the model is so sure (MediaPipe's own threshold in its graphs of hands)."""

HOPEFUL = (0.1, 0.8)
"""Where the model is so sure in a first square, it looks once more, in the square around what it found. On
two real clips hardly a hand was found so below, and above none that did not fit at once."""

NOTHING = 0.02
"""Where the model is less sure in Holistic's square, it does not look along the forearm, which is much the
same place, nor to its sides: it found no hand so on two real clips, and a few of 576 in the wider crop."""

CROP_PIXELS = 320
"""Side of the crop in which palms are detected."""

PALM_SIDE, PALM_SHIFT = 2.6, 0.5
"""The square of a hand over the box of its palm: how many times as large, and how many boxes towards the
fingers (MediaPipe's PalmDetectionDetectionToRoi)."""

WRIST_VISIBLE = 0.1
"""A hand is looked for where its wrist is so visible (Holistic's own threshold)."""

PLACE_GRAPH = """
input_stream: "image"
input_stream: "hand"
output_stream: "region"
node {
  calculator: "ImagePropertiesCalculator"
  input_stream: "IMAGE:image"
  output_stream: "SIZE:size"
}
node {
  calculator: "HandLandmarksFromPoseToRecropRoi"
  input_stream: "HAND_LANDMARKS_FROM_POSE:hand"
  input_stream: "IMAGE_SIZE:size"
  output_stream: "ROI:around"
}
node {
  calculator: "HandRecropByRoiCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:around"
  output_stream: "HAND_ROI_FROM_RECROP:region"
}
"""
"""Where a hand is, by the body's wrist, little finger and index finger: Holistic's own way."""

HAND_OF_POSE = {LEFT.wrist: (15, 17, 19), RIGHT.wrist: (16, 18, 20)}
"""BlazePose's landmarks of wrist, little finger and index finger, by the wrist's keypoint."""

PALM_GRAPH = """
input_stream: "image"
output_stream: "detections"
node {
  calculator: "PalmDetectionCpu"
  input_stream: "IMAGE:image"
  output_stream: "DETECTIONS:detections"
}
"""

HAND_GRAPH = """
input_stream: "image"
input_stream: "region"
output_stream: "points"
output_stream: "presence"
output_stream: "right"
node {
  calculator: "ImageToTensorCalculator"
  input_stream: "IMAGE:image"
  input_stream: "NORM_RECT:region"
  output_stream: "TENSORS:picture"
  output_stream: "LETTERBOX_PADDING:padding"
  options {
    [mediapipe.ImageToTensorCalculatorOptions.ext] {
      output_tensor_width: 224
      output_tensor_height: 224
      keep_aspect_ratio: true
      output_tensor_float_range { min: 0.0 max: 1.0 }
    }
  }
}
node {
  calculator: "InferenceCalculator"
  input_stream: "TENSORS:picture"
  output_stream: "TENSORS:found"
  options {
    [mediapipe.InferenceCalculatorOptions.ext] {
      model_path: "mediapipe/modules/hand_landmark/hand_landmark_full.tflite"
      delegate { xnnpack {} }
    }
  }
}
node {
  calculator: "SplitTensorVectorCalculator"
  input_stream: "found"
  output_stream: "found_points"
  output_stream: "found_presence"
  output_stream: "found_right"
  options {
    [mediapipe.SplitVectorCalculatorOptions.ext] {
      ranges { begin: 0 end: 1 }
      ranges { begin: 1 end: 2 }
      ranges { begin: 2 end: 3 }
    }
  }
}
node {
  calculator: "TensorsToFloatsCalculator"
  input_stream: "TENSORS:found_presence"
  output_stream: "FLOAT:presence"
}
node {
  calculator: "TensorsToFloatsCalculator"
  input_stream: "TENSORS:found_right"
  output_stream: "FLOAT:right"
}
node {
  calculator: "TensorsToLandmarksCalculator"
  input_stream: "TENSORS:found_points"
  output_stream: "NORM_LANDMARKS:in_tensor"
  options {
    [mediapipe.TensorsToLandmarksCalculatorOptions.ext] {
      num_landmarks: 21
      input_image_width: 224
      input_image_height: 224
      normalize_z: 0.4
    }
  }
}
node {
  calculator: "LandmarkLetterboxRemovalCalculator"
  input_stream: "LANDMARKS:in_tensor"
  input_stream: "LETTERBOX_PADDING:padding"
  output_stream: "LANDMARKS:in_region"
}
node {
  calculator: "LandmarkProjectionCalculator"
  input_stream: "NORM_LANDMARKS:in_region"
  input_stream: "NORM_RECT:region"
  output_stream: "NORM_LANDMARKS:points"
}
"""
"""MediaPipe's HandLandmarkCpu, but that it tells how sure it is instead of giving nothing below PRESENT."""


class KnownHands:
    """The hands of one person, by the wrist's keypoint.

    `last` has points and wrist of the last frame, in pixels; `facing` which way a hand faced when it was last
    seen surely, and how many frames ago.
    """

    def __init__(self) -> None:
        self.last: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.facing: dict[int, tuple[float, int]] = {}

    def may_be(self, hand: Hand, side: Side) -> bool:
        """Whether the hand faces a way that it can, so shortly after it was seen surely."""
        before, frames = self.facing.get(side.wrist, (0.0, 0))
        return frames > TURNED_AFTER or not is_mirrored(hand, before)


class Hands:
    """Finds the hands of bodies. Holds nothing of one frame: what was known is the caller's."""

    def __init__(self) -> None:
        self._place, self._palms = Graph(PLACE_GRAPH), Graph(PALM_GRAPH)
        self._hand = {side.wrist: Graph(HAND_GRAPH) for side in (LEFT, RIGHT)}

    def of_sides(self) -> Iterable[Graph]:
        """The graphs that look at left and at right hands."""
        return self._hand.values()

    def __call__(
        self, frame: np.ndarray, pose: Any, keypoints: np.ndarray, scores: np.ndarray, known: KnownHands
    ) -> None:
        """Find the hands in a frame, uint8 RGB [H, W, 3], of a body: into keypoints [133, 2], scores [133].

        `pose` is the body's 33 landmarks. A hand scores the mean of its model's and its wrist's.
        """
        for side in (LEFT, RIGHT):
            self.find(frame, pose, keypoints, scores, known, side)
        agree(keypoints, scores, known)

    def find(
        self,
        frame: np.ndarray,
        pose: Any,
        keypoints: np.ndarray,
        scores: np.ndarray,
        known: KnownHands,
        side: Side,
    ) -> None:
        """Find the hand of one arm, beside the other if need be; then `agree` has to be asked."""
        last = known.last.pop(side.wrist, None)
        faced, frames = known.facing.get(side.wrist, (0.0, 0))
        known.facing[side.wrist] = faced, frames + 1
        if scores[side.wrist] < WRIST_VISIBLE:
            return
        moved = None if last is None else last[0] + keypoints[side.wrist] - last[1]
        for hand in self._candidates(frame, pose, keypoints, scores, side, moved):
            if known.may_be(hand, side):
                keypoints[side.hand] = hand.points
                scores[side.hand] = (hand.score + scores[side.wrist]) / 2
                if hand.own >= SURE:
                    known.facing[side.wrist] = facing(hand.points), 0
                break

    def close(self) -> None:
        for graph in (self._place, self._palms, *self._hand.values()):
            graph.close()

    def _candidates(
        self,
        frame: np.ndarray,
        pose: Any,
        keypoints: np.ndarray,
        scores: np.ndarray,
        side: Side,
        moved: np.ndarray | None,
    ) -> Iterator[Hand]:
        """The hands that fit this arm, in the order in which they are looked for."""

        others: list[Hand] = []  # hands of the other arm that are at this wrist

        def fitting(squares: Iterable[Square]) -> Iterator[Hand]:
            for square in squares:
                for hand in self._twice(frame, square, side):
                    if hand.score >= PRESENT and fits(hand, keypoints, scores, side, moved):
                        yield hand
                    elif (
                        hand.score >= PRESENT
                        and hand.own < OWN_APART
                        and at_wrist(hand.points, keypoints, scores, side)
                    ):
                        others.append(hand)

        if moved is not None:
            yield from fitting([hand_square(moved)])
        first = self._look_in(frame, self._region_of_pose(frame, pose, side), side)
        if first.score >= PRESENT and at_wrist(first.points, keypoints, scores, side):
            yield first
        if is_missing(keypoints, scores, side):
            along, around = arm_square(keypoints, scores, side), crop_square(keypoints, scores, side)
            if first.score >= NOTHING:
                yield from fitting([along])
            yield from fitting(self._palm_squares(frame, around))
            if not others and first.score >= NOTHING:
                yield from fitting(bent_squares(along))
                wider = replace(around, side=WIDER * around.side)
                yield from fitting(self._palm_squares(frame, wider))

    def _twice(self, frame: np.ndarray, square: Square, side: Side) -> Iterator[Hand]:
        """The hand in a square, and where there may be one, that in the square around it."""
        hand = self._look(frame, square, side)
        yield hand
        if HOPEFUL[0] <= hand.score < HOPEFUL[1]:
            yield self._look(frame, hand_square(hand.points), side)

    def _region_of_pose(self, frame: np.ndarray, pose: Any, side: Side) -> Any:
        """Holistic's square for a hand, as a NormalizedRect."""
        from mediapipe.framework.formats import landmark_pb2

        hand = landmark_pb2.NormalizedLandmarkList(  # pyright: ignore[reportAttributeAccessIssue]
            landmark=[pose.landmark[i] for i in HAND_OF_POSE[side.wrist]]
        )
        return self._place(image=frame, hand=hand).region

    def _look(self, frame: np.ndarray, square: Square, side: Side) -> Hand:
        """The hand that the model sees in a square."""
        from mediapipe.framework.formats import rect_pb2

        height, width = frame.shape[:2]
        region = rect_pb2.NormalizedRect(  # pyright: ignore[reportAttributeAccessIssue]
            x_center=square.x / width,
            y_center=square.y / height,
            width=square.side / width,
            height=square.side / height,
            rotation=square.rotation,
        )
        return self._look_in(frame, region, side)

    def _look_in(self, frame: np.ndarray, region: Any, side: Side) -> Hand:
        height, width = frame.shape[:2]
        found = self._hand[side.wrist](image=frame, region=region)
        points = np.array([(p.x * width, p.y * height) for p in found.points.landmark], np.float32)
        return Hand(points, found.presence, found.right if side is RIGHT else 1 - found.right)

    def _palm_squares(self, frame: np.ndarray, crop: Square) -> list[Square]:
        """The squares of the hands whose palms are detected in a crop."""
        zoom = CROP_PIXELS / crop.side
        left, top = crop.x - crop.side / 2, crop.y - crop.side / 2
        matrix = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]])
        picture = cv2.warpAffine(frame, matrix, (CROP_PIXELS, CROP_PIXELS))
        return [
            _palm_square(palm, left, top, crop.side) for palm in self._palms(image=picture).detections or ()
        ]


def agree(keypoints: np.ndarray, scores: np.ndarray, known: KnownHands) -> None:
    """Give a hand that was found for both arms to one of them, and remember where the hands are."""
    refuse_twins(keypoints, scores)
    for side in (LEFT, RIGHT):
        if scores[side.hand].any():
            known.last[side.wrist] = keypoints[side.hand].copy(), keypoints[side.wrist].copy()


def _palm_square(palm: Any, left: float, top: float, side: float) -> Square:
    """The square of a hand whose palm was detected in a crop of the frame, in the frame's pixels."""
    box, points = palm.location_data.relative_bounding_box, palm.location_data.relative_keypoints
    dx, dy = points[2].x - points[0].x, points[2].y - points[0].y
    rotation = math.pi / 2 - math.atan2(-dy, dx)
    size = max(box.width, box.height)
    x = box.xmin + box.width / 2 + PALM_SHIFT * box.height * math.sin(rotation)
    y = box.ymin + box.height / 2 - PALM_SHIFT * box.height * math.cos(rotation)
    return Square(left + x * side, top + y * side, PALM_SIDE * size * side, rotation)
