"""What the drawing of control frames gains: the published way, step by step, against ours."""

import colorsys
import math

import cv2
import numpy as np

from ....stages.pose.render import ControlCanvas, OpenPosePeople
from ....stages.pose.skeleton import BODY_LIMBS, HAND_EDGES, PALETTE
from .compare import Comparison, in_turns


def draw_plainly(people: OpenPosePeople, width: int, height: int) -> np.ndarray:
    """The published drawing, step by step: whole canvas, whole multiplication, whole reduction."""
    zoom = 2160 / min(height, width)
    high, wide = int(height * zoom), int(width * zoom)
    canvas = np.zeros((high, wide, 3), np.uint8)
    joints = people.body.reshape(-1, 2)
    for limb, (a, b) in enumerate(BODY_LIMBS):
        for person, score in enumerate(people.body_scores):
            if score[a] < 0.3 or score[b] < 0.3:
                continue
            (xa, ya), (xb, yb) = (joints[18 * person + end] * (wide, high) for end in (a, b))
            axes = (int(math.sqrt((xa - xb) ** 2 + (ya - yb) ** 2) / 2), 4)
            angle = int(math.degrees(math.atan2(ya - yb, xa - xb)))
            centre = (int((xa + xb) / 2), int((ya + yb) / 2))
            colour = [int(level * score[a] * score[b]) for level in PALETTE[limb]]
            outline = cv2.ellipse2Poly(centre, axes, angle, 0, 360, 1)
            cv2.fillConvexPoly(canvas, np.array(outline), colour)
    canvas = (canvas * 0.6).astype(np.uint8)
    for joint in range(18):
        for person, score in enumerate(people.body_scores):
            if score[joint] > 0.3:
                x, y = joints[18 * person + joint]
                colour = [int(level * score[joint]) for level in PALETTE[joint]]
                cv2.circle(canvas, (int(x * wide), int(y * high)), 4, colour, -1)
    for points, scores in zip(people.hands, people.hands_scores, strict=True):
        pixels = [(int(x * wide), int(y * high)) for x, y in points]
        for edge, (a, b) in enumerate(HAND_EDGES):
            if min(*pixels[a], *pixels[b]) > 0:
                brightness = int(scores[a] * scores[b] * 255)
                hue = [level * brightness for level in colorsys.hsv_to_rgb(edge / 20, 1, 1)]
                cv2.line(canvas, pixels[a], pixels[b], hue, 2)
        for pixel, score in zip(pixels, scores, strict=True):
            if min(pixel) > 0:
                cv2.circle(canvas, pixel, 4, (0, 0, int(score * 255)), -1)
    for points, scores in zip(people.faces, people.faces_scores, strict=True):
        for (x, y), score in zip(points, scores, strict=True):
            pixel = (int(x * wide), int(y * high))
            if min(pixel) > 0:
                cv2.circle(canvas, pixel, 3, [int(score * 255)] * 3, -1)
    return cv2.resize(canvas, (width, height))[..., ::-1]


def random_people(rng: np.random.Generator, count: int = 1) -> OpenPosePeople:
    """People somewhere in the frame, partly outside it, with hands and faces of a plausible size."""
    body = rng.uniform(0.2, 0.8, (count, 1, 2)) + rng.normal(0, 0.2, (count, 18, 2))
    hands = np.repeat(np.concatenate([body[:, 4], body[:, 7]])[:, None], 21, 1)
    return OpenPosePeople(
        body=body,
        body_scores=rng.uniform(0.1, 1, (count, 18)),
        hands=hands + rng.normal(0, 0.03, hands.shape),
        hands_scores=rng.uniform(0, 1, (2 * count, 21)),
        faces=body[:, :1] + rng.normal(0, 0.04, (count, 68, 2)),
        faces_scores=rng.uniform(0, 1, (count, 68)),
    )


def compare_drawing(width: int = 576, height: int = 1024, repeats: int = 15) -> Comparison:
    """One control frame of one person, drawn both ways."""
    rng = np.random.default_rng(0)
    canvas = ControlCanvas(width, height)
    people = random_people(rng)

    def difference(published: np.ndarray, ours: np.ndarray) -> float:
        nonlocal people
        people = random_people(rng)  # both have drawn these
        return float(cv2.absdiff(ours, np.ascontiguousarray(published)).max()) / 255

    return in_turns(
        lambda: draw_plainly(people, width, height), lambda: canvas.draw(people), difference, repeats
    )
