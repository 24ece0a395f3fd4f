"""Procedural dancers with exact ground truth: the demo's input, training data, and a yardstick for quality.

    character, motion = make_character(7), make_motion(3, Fraction(15))
    drawn = render(character, motion, frame=12, width=576, height=1024)

A motion knows no bone's length, so rendering character B with A's motion gives the true answer of "B dances
what A dances". Everything follows from the seeds, bit for bit.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from ...stages.media.encode import VideoWriter
from ...stages.media.picture import write_png
from ...stages.pose.skeleton import LEFT_HAND, RIGHT_HAND
from .camera import Camera, camera
from .character import PARTS, Character, Framing, Room, make_character, make_framing
from .drawing import Canvas
from .figure import draw_figure
from .motion import Motion, make_motion, reference_pose
from .skeleton import joints_133, skeleton

__all__ = [
    "PARTS",
    "Character",
    "Framing",
    "Motion",
    "PuppetFrame",
    "make_character",
    "make_framing",
    "make_motion",
    "reference_pose",
    "render",
    "write_demo",
]

OCCLUDED_SCORE = 0.4
"""Score of a keypoint inside the frame that something else covers; seen ones have 1, others outside 0."""

NOBODY = -1e9
"""Depth of a pixel that no figure covers."""
DEPTH_TOLERANCE = np.concatenate(
    [
        np.full(1, 0.05),
        np.full(4, 0.055),
        [0.09, 0.09, 0.05, 0.05, 0.045, 0.045, 0.11, 0.11, 0.065, 0.065, 0.055, 0.055],
        np.full(6, 0.06),
        np.full(68, 0.05),
        np.full(42, 0.036),
    ]
)
"""How far under the visible surface a keypoint may lie and still count as seen, in character heights."""

NOISE_SIZE = 256


@dataclass(frozen=True, slots=True)
class PuppetFrame:
    """One drawn frame and the truth about it.

    `image` uint8 [H, W, 3] RGB; `keypoints` float32 [133, 2], COCO-WholeBody order, pixels (also outside the
    frame); `scores` float32 [133]: 1 seen, OCCLUDED_SCORE covered, 0 outside the frame; `parts` uint8 [H, W],
    indices into PARTS; `depth` float32 [H, W], pixels towards the viewer, NOBODY where no figure is;
    `hand_boxes` int32 [2, 4], left and right, as x0, y0, x1, y1, clipped to the frame, zeros when no
    keypoint of theirs is inside it.
    """

    image: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    parts: np.ndarray
    depth: np.ndarray
    hand_boxes: np.ndarray


@lru_cache(maxsize=32)
def _background(room: Room, framing: Framing, width: int, height: int, floor: int) -> np.ndarray:
    """Wall, floor, skirting board and blurred furniture, uint8 [H, W, 3], not writable."""
    rng = np.random.default_rng(room.seed)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    lamp = 1.06 - 0.16 * (x + np.sign(room.light[0]) * -0.6) ** 2 - 0.10 * (y + 0.4) ** 2
    image = np.clip(np.array(room.wall, np.float32) * lamp, 0, 255).astype(np.uint8)
    for _ in range(room.clutter):
        left, top = rng.uniform(-0.1, 0.95) * width, rng.uniform(0.02, 0.6) * floor
        wide, tall = rng.uniform(0.08, 0.3) * width, rng.uniform(0.08, 0.3) * height
        shade = np.array(room.wall) * rng.uniform(0.55, 1.05) * rng.uniform(0.88, 1.08, 3)
        colour = tuple(int(v) for v in np.clip(shade, 0, 255))
        if rng.uniform() < 0.3:
            top = floor - tall
        corners = (int(left), int(top)), (int(left + wide), int(top + tall))
        cv2.rectangle(image, *corners, colour, -1)
        frame = tuple(int(v * 0.8) for v in colour)
        cv2.rectangle(image, *corners, frame, max(1, height // 150))
    if floor < height:
        depth = np.linspace(0.86, 1.08, height - floor, dtype=np.float32)[:, None, None]
        ground = np.array(room.floor, np.float32) * depth * (1.04 - 0.10 * x**2)
        image[floor:] = np.clip(ground, 0, 255).astype(np.uint8)
        board = max(1, height // 90)
        image[max(0, floor - board) : floor] = (image[max(0, floor - board) : floor] * 0.86).astype(np.uint8)
    soft = max(0.3, height / 420) * (1.6 if room.clutter else 1.0)
    image = cv2.GaussianBlur(image, (0, 0), soft)
    image.setflags(write=False)
    return image


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """A tile of unit Gaussian noise [NOISE_SIZE, NOISE_SIZE]."""
    return np.random.default_rng(0).standard_normal((NOISE_SIZE, NOISE_SIZE), np.float32)


def _shadow(canvas: Canvas, lens: Camera, pelvis: np.ndarray, feet: np.ndarray) -> None:
    """Darken the floor below the hips and below each foot."""
    spots = np.concatenate([pelvis[None], feet.mean(1)]) * [1.0, 0.0, 1.0]
    for (x, y, _), wide, dark in zip(lens(spots), (0.20, 0.085, 0.085), (0.30, 0.35, 0.35), strict=True):
        a, b = wide * lens.scale, max(0.032, 0.25 * wide) * lens.scale
        box = canvas.box(x - 2.2 * a, y - 2.2 * b, x + 2.2 * a, y + 2.2 * b)
        if box is None:
            continue
        x0, y0, x1, y1 = box
        across = np.exp(-(((np.arange(x0, x1, dtype=np.float32) - np.float32(x)) / np.float32(a)) ** 2))
        down = np.exp(-(((np.arange(y0, y1, dtype=np.float32) - np.float32(y)) / np.float32(b)) ** 2))
        region = canvas.image[y0:y1, x0:x1]
        region[...] = region * (1 - np.float32(dark) * (down[:, None] * across)[..., None])


def _finish(image: np.ndarray, character: Character, frame: int) -> np.ndarray:
    """Lens blur and sensor noise."""
    height, width = image.shape[:2]
    blur = character.blur * height / 1000
    if blur > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    shift = np.random.default_rng([character.seed, max(frame, 0), 6]).integers(NOISE_SIZE, size=2)
    rows, columns = (np.arange(shift[0], shift[0] + height), np.arange(shift[1], shift[1] + width))
    tile = np.round(_noise() * character.noise).astype(np.int16)
    grain = tile.take(rows % NOISE_SIZE, 0).take(columns % NOISE_SIZE, 1)
    return cv2.add(image, cv2.merge([grain] * 3), dtype=cv2.CV_8U)


def _scores(points: np.ndarray, canvas: Canvas, scale: float) -> np.ndarray:
    """1 seen, OCCLUDED_SCORE covered, 0 outside; `points` [133, 3] projected."""
    height, width = canvas.depth.shape
    column, row = np.floor(points[:, 0] + 0.5).astype(int), np.floor(points[:, 1] + 0.5).astype(int)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    above = canvas.depth[row.clip(0, height - 1), column.clip(0, width - 1)] - points[:, 2]
    seen = np.where(above > DEPTH_TOLERANCE * scale, OCCLUDED_SCORE, 1.0)
    return np.where(inside, seen, 0.0).astype(np.float32)


def _box(points: np.ndarray, scores: np.ndarray, margin: float, width: int, height: int) -> np.ndarray:
    """Box [4] around points [n, 2], clipped to the frame; zeros when none has a score."""
    if not scores.any():
        return np.zeros(4, np.int32)
    low, high = np.floor(points.min(0) - margin), np.ceil(points.max(0) + margin) + 1
    edges = np.array([width, height])
    return np.concatenate([np.clip(low, 0, edges), np.clip(high, 0, edges)]).astype(np.int32)


def render(
    character: Character, motion: Motion, frame: int, width: int, height: int, framing: Framing | None = None
) -> PuppetFrame:
    """Draw this character in this frame of this motion, by default in the character's own framing."""
    framing = framing or character.framing
    body = character.proportions
    bones = skeleton(body, motion.pose(frame))
    lens = camera(body, framing, width, height)
    horizon = lens(np.array([0.0, 0.0, -1.2]))[1]
    floor = int(np.clip(horizon, 0, height))
    image = _background(character.room, framing, width, height, floor).copy()
    canvas = Canvas(
        image,
        np.full((height, width), NOBODY, np.float32),
        np.zeros((height, width), np.uint8),
        character.room.light,
    )
    _shadow(canvas, lens, bones.pelvis, bones.feet)
    draw_figure(canvas, character, bones, lens)
    points = lens(joints_133(bones, body.head))
    scores = _scores(points, canvas, lens.scale)
    keypoints = points[:, :2].astype(np.float32)
    margin = 0.02 * lens.scale
    hands = [_box(keypoints[hand], scores[hand], margin, width, height) for hand in (LEFT_HAND, RIGHT_HAND)]
    return PuppetFrame(
        image=_finish(canvas.image, character, frame),
        keypoints=keypoints,
        scores=scores,
        parts=canvas.parts,
        depth=canvas.depth,
        hand_boxes=np.stack(hands),
    )


DEMO_FPS = Fraction(15)
DEMO_FRAMES = 60
DEMO_SIZE = (576, 1024)
DEMO_DRIVER, DEMO_MOTION, DEMO_REFERENCE = 37, 16, 21
"""Seeds of the built-in demo: who drives, what they dance, and who is animated."""


def write_demo(folder: str | Path) -> tuple[Path, Path]:
    """Draw the demo's input into `folder`: returns the paths of driving.mp4 (4 s) and reference.png.

    Raises OutputError when the folder cannot be written.
    """
    driving, reference = Path(folder) / "driving.mp4", Path(folder) / "reference.png"
    width, height = DEMO_SIZE
    character, motion = make_character(DEMO_DRIVER), make_motion(DEMO_MOTION, DEMO_FPS)
    with VideoWriter(driving, width, height, DEMO_FPS) as video:
        for frame in range(DEMO_FRAMES):
            video.write(render(character, motion, frame, width, height).image)
    still = reference_pose(DEMO_REFERENCE)
    write_png(reference, render(make_character(DEMO_REFERENCE), still, 0, width, height).image)
    return driving, reference
