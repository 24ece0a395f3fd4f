"""Crops of people through rtmlib's whole-body models, several at once, and a second look at their hands."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import PoseError
from ...types import NUM_KEYPOINTS
from ..skeleton import BODY, FEET, VISIBLE
from .second_look import LEFT, RIGHT, WRIST_SEEN, Hand, Side, crop_square, fits, forearm_length

MAX_CROPS = 16
"""Crops that go through the pose model at once."""

PADDING = 1.25
"""A crop over its box, as rtmlib cuts it."""

ROOM = 1.1
"""A box that is followed over the seen body joints' own. Assumed: heads and feet reach past their joints."""

LEAST = 2.0
"""Pixels of that room at least, so that a crop has an inside."""

EDGE = 0.02
"""Joints that lie in this part of a crop's side from its edge, or beyond, may be cut off."""

Looked = tuple[np.ndarray, np.ndarray]
"""Keypoints [133, 2] in pixels of the frame and scores [133]."""


def poses_in(tool: Any, wanted: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Looked]:
    """The pose in each box x0, y0, x1, y1 [4] of its frame (uint8 RGB [H, W, 3]); `tool` is an RTMPose.

    Raises PoseError for a model of another number of keypoints.
    """
    session = tool.session
    source = session.get_inputs()[0]
    batch = 1 if isinstance(source.shape[0], int) else MAX_CROPS
    found: list[Looked] = []
    for start in range(0, len(wanted), batch):
        crops = [tool.preprocess(frame, box) for frame, box in wanted[start : start + batch]]
        images = np.stack([np.asarray(image, np.float32).transpose(2, 0, 1) for image, _, _ in crops])
        x, y = session.run(None, {source.name: images})[:2]
        if x.shape[1] != NUM_KEYPOINTS:
            raise PoseError(
                f"the pose model gives {x.shape[1]} keypoints, expected {NUM_KEYPOINTS}: use a "
                "whole-body model"
            )
        centres, scales = (np.stack([crop[part] for crop in crops])[:, None] for part in (1, 2))
        points, scores = tool.postprocess([x, y], centres, scales)
        found.extend(zip(points, scores, strict=True))
    return found


def box_of(pose: Looked) -> np.ndarray:
    """The box [4] in which to look for a person in the next frame: around the seen body and feet."""
    points, scores = pose
    joints = points[: FEET.stop][scores[: FEET.stop] > VISIBLE]
    if not len(joints):
        joints = points[BODY]
    low, high = joints.min(0), joints.max(0)
    room = np.maximum((ROOM - 1) / 2 * (high - low), LEAST)
    return np.concatenate([low - room, high + room])


def is_inside(pose: Looked, expected: np.ndarray, box: np.ndarray, aspect: float) -> bool:
    """Whether the crop of `box` shows a person well who is `expected` in another box: [4] each.

    That one and the seen body joints lie inside; `aspect` is the crop's width / height.
    """
    points, scores = pose
    shown = np.concatenate([points[BODY][scores[BODY] > VISIBLE], expected.reshape(2, 2)])
    centre, sides = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) * PADDING
    sides = np.maximum(sides, [sides[1] * aspect, sides[0] / aspect])
    return bool((np.abs(shown - centre) <= sides * (0.5 - EDGE)).all())


def look_at_hands(tool: Any, frames: Sequence[np.ndarray], people: Sequence[list[Looked]]) -> int:
    """Look for badly seen hands of each frame's people again, in crops of their own; in place.

    A hand is taken where its root is at the body's wrist and it scores better. Returns how many were taken.
    """
    looks = [
        (frame, pose, side)
        for frame, here in zip(frames, people, strict=True)
        for pose in here
        for side in (LEFT, RIGHT)
        if _is_badly_seen(pose, side)
    ]
    found = poses_in(tool, [(frame, _hand_box(pose, side)) for frame, pose, side in looks])
    return sum(_take(pose, again, side) for (_, pose, side), again in zip(looks, found, strict=True))


def _is_badly_seen(pose: Looked, side: Side) -> bool:
    """Whether the wrist is seen and the hand is not."""
    points, scores = pose
    arm = scores[side.wrist] >= WRIST_SEEN and scores[side.elbow] > VISIBLE
    return bool(arm and scores[side.hand].mean() <= VISIBLE and forearm_length(points, scores) > 0)


def _hand_box(pose: Looked, side: Side) -> np.ndarray:
    """The box [4] around wrist and forearm; rtmlib's padding comes on top, so it is left out here."""
    square = crop_square(*pose, side)
    half, centre = square.side / 2 / PADDING, np.array([square.x, square.y])
    return np.concatenate([centre - half, centre + half])


def _take(pose: Looked, again: Looked, side: Side) -> bool:
    """Put the hand of a second look into a pose, in place, where it is this arm's and better seen."""
    points, scores = pose
    hand = Hand(again[0][side.hand], float(again[1][side.hand].mean()), 1.0)
    better = hand.score > VISIBLE and fits(hand, points, scores, side)
    if better:
        points[side.hand], scores[side.hand] = hand.points, again[1][side.hand]
    return better
