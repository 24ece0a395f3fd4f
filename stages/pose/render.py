"""Poses to control frames, pixel for pixel what the published weights were trained on.

The published way (DWPose's drawing as ControlNeXt-SVD-v2 ships it) draws on a black canvas whose short side
is 2160 pixels, multiplies that canvas by 0.6 between limbs and joints, and reduces it bilinearly. The same
pixels come sooner here: the factor goes into the limbs' colours, one canvas serves all frames, and only the
box that was drawn on is reduced and wiped.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from ..types import PoseSequence
from . import skeleton
from .skeleton import BODY_LIMBS, FOOT_EDGES, HAND_EDGES, PALETTE, VISIBLE

CANVAS_SHORT_SIDE = 2160
LIMB_HALF_WIDTH = 4
LIMB_DIMMING = 0.6
JOINT_RADIUS = 4
FACE_RADIUS = 3
HAND_LINE = 2
MARGIN = JOINT_RADIUS + 2
"""No stroke reaches further than this from its keypoints, in canvas pixels."""
FARTHEST = 1 << 20
"""Keypoints farther out than this many canvas pixels are moved there: OpenCV's integers end."""

HAND_COLOURS = np.array([colorsys.hsv_to_rgb(i / len(HAND_EDGES), 1.0, 1.0) for i in range(len(HAND_EDGES))])
"""One hue for each bone of a hand, 0 to 1."""

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class OpenPosePeople:
    """All people of one frame in OpenPose order, float64; x and y are fractions of width and height.

    `body` [n, 18, 2], `body_scores` [n, 18]; `hands` [2n, 21, 2] (all left hands, then all right ones),
    `hands_scores` [2n, 21]; `faces` [n, 68, 2], `faces_scores` [n, 68]. Scores are 0 to 1 where a detector is
    well behaved; others are drawn too.
    """

    body: np.ndarray
    body_scores: np.ndarray
    hands: np.ndarray
    hands_scores: np.ndarray
    faces: np.ndarray
    faces_scores: np.ndarray


def openpose_people(keypoints: np.ndarray, scores: np.ndarray, size: tuple[int, int]) -> OpenPosePeople:
    """One frame's people: `keypoints` [n, 133, 2] in pixels of `size` (width, height), `scores` [n, 133]."""
    points, values = skeleton.to_openpose(keypoints, scores)
    points = points / np.asarray(size, np.float64)
    left, right = skeleton.OPENPOSE_LEFT_HAND, skeleton.OPENPOSE_RIGHT_HAND
    return OpenPosePeople(
        body=points[:, skeleton.OPENPOSE_BODY],
        body_scores=values[:, skeleton.OPENPOSE_BODY],
        hands=np.concatenate([points[:, left], points[:, right]]),
        hands_scores=np.concatenate([values[:, left], values[:, right]]),
        faces=points[:, skeleton.OPENPOSE_FACE],
        faces_scores=values[:, skeleton.OPENPOSE_FACE],
    )


class ControlCanvas:
    """Draws frames of one size (pixels), one after another, on one reused canvas of about 25 MB.

    With `published`, bones and points of hands and face that lie left of the frame or above it are left out,
    those right of it or below it are cut off at its edge. Without, all four edges cut, and what scores 0 is
    left out. Not to be shared between threads.
    """

    def __init__(
        self, width: int, height: int, canvas: int = CANVAS_SHORT_SIDE, *, published: bool = True
    ) -> None:
        zoom = canvas / min(width, height)
        self.width, self.height = width, height
        self._published = published
        self._interpolation = cv2.INTER_LINEAR if canvas == CANVAS_SHORT_SIDE else cv2.INTER_AREA
        self._canvas = np.zeros((int(height * zoom), int(width * zoom), 3), np.uint8)

    def draw(self, people: OpenPosePeople) -> np.ndarray:
        """The control frame of these people: uint8 RGB [height, width, 3]."""
        height, width = self._canvas.shape[:2]
        touched = _draw_bodies(self._canvas, _to_pixels(people.body, width, height), people.body_scores)
        hands = _to_pixels(people.hands, width, height).astype(np.int64)
        for points, scores in zip(hands, people.hands_scores, strict=True):
            touched.extend(_draw_hand(self._canvas, points, scores, self._drawn(points, scores)))
        faces = _to_pixels(people.faces, width, height).astype(np.int64)
        for points, scores in zip(faces, people.faces_scores, strict=True):
            touched.extend(_draw_face(self._canvas, points, scores, self._drawn(points, scores)))
        return self._reduce_and_wipe(np.array(touched, np.int64).reshape(-1, 2))

    def _drawn(self, points: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Which points of a hand or face are drawn, bool [n]; `points` int [n, 2] canvas pixels."""
        return (points > 0).all(-1) if self._published else scores > 0

    def _reduce_and_wipe(self, touched: np.ndarray) -> np.ndarray:
        """Reduce the canvas to the frame and leave it black. `touched`: what was drawn, int [n, 2]."""
        frame = np.zeros((self.height, self.width, 3), np.uint8)
        height, width = self._canvas.shape[:2]
        x_from, x_to = _reach(touched[:, 0], width)
        y_from, y_to = _reach(touched[:, 1], height)
        if x_from >= x_to or y_from >= y_to:
            return frame
        left, right, columns = _blocks(x_from, x_to, width, self.width)
        top, bottom, rows = _blocks(y_from, y_to, height, self.height)
        box = self._canvas[top:bottom, left:right]
        inside = frame[rows, columns]
        inside[:] = cv2.resize(box, (inside.shape[1], inside.shape[0]), interpolation=self._interpolation)
        box[:] = 0
        return frame


def _to_pixels(fractions: np.ndarray, width: int, height: int) -> np.ndarray:
    """Fractions [..., 2] to canvas pixels."""
    return np.clip(fractions * (float(width), float(height)), -FARTHEST, FARTHEST)


def _reach(values: np.ndarray, length: int) -> tuple[int, int]:
    """From where to where the strokes around these keypoints can touch a canvas of this length."""
    if not values.size:
        return 0, 0
    return max(int(values.min()) - MARGIN, 0), min(int(values.max()) + MARGIN + 1, length)


def _blocks(start: int, stop: int, source: int, target: int) -> tuple[int, int, slice]:
    """The source range around [start, stop) that reduces by itself to the same target pixels as in the whole.

    That takes whole target pixels on whole source pixels, and coordinates that OpenCV's float32 holds exactly
    wherever they are counted from: source / target = p / 2^k, as for 512, 576, 768 or 1024 by any of them.
    For other sides, and where nothing is reduced or OpenCV averages areas (exactly 2), it is the whole side.
    """
    ratio = Fraction(source, target)
    p, q = ratio.numerator, ratio.denominator
    if ratio <= 1 or ratio == 2 or q & (q - 1) or q > 64:
        return 0, source, slice(0, target)
    first, last = start // p, -(-stop // p)
    return first * p, last * p, slice(first * q, last * q)


def _draw_bodies(canvas: np.ndarray, points: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Limbs, then joints. `points` [n, 18, 2] canvas pixels, `scores` [n, 18]; returns what was touched."""
    joints = points.reshape(-1, 2)
    # Limbs are drawn from 0.3 on, joints are known above 0.3. As published, an unknown joint in a limb
    # (one of exactly 0.3) is number -1: the last joint of the last person.
    number = np.where(scores > VISIBLE, np.arange(len(joints)).reshape(scores.shape), -1)
    touched = []
    for (a, b), colour in zip(BODY_LIMBS, PALETTE, strict=False):
        for person, score in enumerate(scores):
            if score[a] < VISIBLE or score[b] < VISIBLE:
                continue
            polygon = _limb(joints[number[person, a]], joints[number[person, b]])
            cv2.fillConvexPoly(canvas, polygon, _dimmed(colour, score[a] * score[b]))
            touched += [polygon.min(0), polygon.max(0)]
    pixels = points.astype(np.int64)
    for joint, colour in enumerate(PALETTE):
        for person in range(len(points)):
            if number[person, joint] >= 0:
                x, y = pixels[person, joint].tolist()
                cv2.circle(canvas, (x, y), JOINT_RADIUS, _scaled(colour, scores[person, joint]), -1)
                touched.append(pixels[person, joint])
    return touched


def _limb(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A limb's outline, int [n, 2]: an ellipse along start-end, with whole pixels and degrees."""
    centre = (start + end) / 2
    dx, dy = start - end
    axes = (int(math.hypot(dx, dy) / 2), LIMB_HALF_WIDTH)
    angle = int(math.degrees(math.atan2(dy, dx)))
    return np.asarray(cv2.ellipse2Poly((int(centre[0]), int(centre[1])), axes, angle, 0, 360, 1))


def _draw_hand(canvas: np.ndarray, points: np.ndarray, scores: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Bones, then joints; the score is the brightness. `points` int [21, 2]; returns those `drawn`."""
    where = points.tolist()
    for (a, b), hue in zip(HAND_EDGES, HAND_COLOURS, strict=True):
        if drawn[a] and drawn[b]:
            red, green, blue = (hue * int(scores[a] * scores[b] * 255)).tolist()
            cv2.line(canvas, where[a], where[b], (blue, green, red), HAND_LINE)
    for i in np.flatnonzero(drawn):
        cv2.circle(canvas, where[i], JOINT_RADIUS, (int(scores[i] * 255), 0, 0), -1)
    return points[drawn]


def _draw_face(canvas: np.ndarray, points: np.ndarray, scores: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Grey dots; the score is the brightness. `points` int [68, 2]; returns those that are `drawn`."""
    where = points.tolist()
    for i in np.flatnonzero(drawn):
        grey = int(scores[i] * 255)
        cv2.circle(canvas, where[i], FACE_RADIUS, (grey, grey, grey), -1)
    return points[drawn]


def _scaled(colour: tuple[int, int, int], factor: float) -> Colour:
    """A palette colour times a score, cut to whole levels. Reversed, as the published frames are."""
    red, green, blue = (int(channel * factor) for channel in colour)
    return blue, green, red


def _dimmed(colour: tuple[int, int, int], factor: float) -> Colour:
    """The levels that a limb has after the whole canvas was multiplied by 0.6."""
    b, g, r = (int(min(max(level, 0), 255) * LIMB_DIMMING) for level in _scaled(colour, factor))
    return b, g, r


def draw_control_frames(
    poses: PoseSequence, width: int, height: int, canvas: int = CANVAS_SHORT_SIDE, *, published: bool = False
) -> Iterator[np.ndarray]:
    """The control frames of a sequence, uint8 RGB [height, width, 3] each, drawn as they are asked for.

    The pose is stretched to the frame, as published; give `poses.size` the frame's aspect to avoid it.
    `canvas` is the short side that is drawn at. On 2160, as published, the strokes are too thin for a small
    model's frames: such a model names a smaller one, which is reduced by averaging areas. `published`: see
    `ControlCanvas`.
    """
    paper = ControlCanvas(width, height, canvas, published=published)
    for points, scores in zip(poses.keypoints, poses.scores, strict=True):
        yield paper.draw(openpose_people(points[None], scores[None], poses.size))


def draw_overlay(frame: np.ndarray, keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """A copy of `frame` (uint8 RGB [H, W, 3]) with one person's skeleton on it, for people to look at.

    `keypoints` [133, 2] in pixels of the frame, `scores` [133]; keypoints up to 0.3 are left out. Lines grow
    with the picture; those of the hands are thin and coloured by bone.
    """
    picture = np.ascontiguousarray(frame).copy()
    points, values = skeleton.to_openpose(keypoints, scores)
    where = np.clip(np.rint(points), -FARTHEST, FARTHEST).astype(np.int64).tolist()
    thick = max(round(min(frame.shape[:2]) / 150), 1)
    thin = max(thick // 2, 1)
    seen = values > VISIBLE
    body = [(a, b, colour) for (a, b), colour in zip(BODY_LIMBS, PALETTE, strict=False)]
    feet = [(a, b, PALETTE[9]) for a, b in FOOT_EDGES]
    hues = (255 * HAND_COLOURS).tolist()
    hands = [
        (hand.start + a, hand.start + b, colour)
        for hand in (skeleton.OPENPOSE_LEFT_HAND, skeleton.OPENPOSE_RIGHT_HAND)
        for (a, b), colour in zip(HAND_EDGES, hues, strict=True)
    ]
    for edges, width in ((body + feet, thick), (hands, thin)):
        for a, b, colour in edges:
            if seen[a] and seen[b]:
                cv2.line(picture, where[a], where[b], colour, width, cv2.LINE_AA)
    for i in np.flatnonzero(seen):
        small = i >= skeleton.OPENPOSE_FACE.start
        cv2.circle(picture, where[i], thin if small else thick, (255, 255, 255), -1, cv2.LINE_AA)
    return picture


def draw_number(picture: np.ndarray, keypoints: np.ndarray, scores: np.ndarray, number: int) -> None:
    """Write a person's number above the visible body joints, in place: uint8 RGB [H, W, 3].

    `keypoints` [133, 2] in pixels of the picture, `scores` [133]; nothing where no joint is visible.
    """
    joints = keypoints[skeleton.BODY][scores[skeleton.BODY] > VISIBLE]
    if not len(joints):
        return
    height, width = picture.shape[:2]
    size = min(height, width) / 400
    (wide, high), _ = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    x = np.clip(joints[:, 0].mean() - wide / 2, 0, max(width - wide, 0))
    y = np.clip(joints[:, 1].min() - high, high, height)
    for colour, thick in (((0, 0, 0), 6 * size), ((255, 255, 255), 2 * size)):
        place, width_px = (round(float(x)), round(float(y))), max(round(thick), 1)
        cv2.putText(
            picture, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width_px, cv2.LINE_AA
        )
