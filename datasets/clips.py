"""Training samples: short clips of one character with control frames and loss weights.

Clip i of a set follows from (seed, i) alone. A folder may keep drawn clips, since a clip takes longer to draw
than to learn from.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ..stages.atomic import atomic_path
from ..stages.pose.render import draw_control_frames
from ..stages.pose.skeleton import LEFT_HAND, RIGHT_HAND
from ..stages.types import PoseSequence
from .puppets.half_body import HalfBody, draw_half_body, driving_scores, standing
from .puppets.render import (
    PARTS,
    Character,
    Motion,
    PuppetFrame,
    make_character,
    make_motion,
    reference_pose,
    render,
)

HELD_OUT = 1 << 30
"""Characters and motions from this seed on are for validation and evaluation only."""
SUPERSAMPLING = 2
"""Puppets are drawn this much larger and averaged down, as a picture of full size would be."""
HAND_DROPOUT = 0.12
"""Share of clips in which a hand's keypoints are missing, as detectors miss them."""
JITTER = 0.002
"""Deviation of the keypoints, in picture heights, as detectors have it."""
LEAST_SURE = 0.7
"""Scores of a pose found go down to this, as detectors are less sure of some frames."""
MOTION_FRAMES = 600
"""Of a motion, among which random moments are drawn: 40 s."""
ASIDE = 0.12
"""How far to the side a reference that stands elsewhere is, in picture widths at most."""
LEAST_SHOWN = 0.0002
"""Share of the picture from which on a part counts as shown: 4 of 108x192 pixels."""
FACE_PARTS = ("head", "hair")
SMALL_PARTS = ("left_hand", "right_hand", "left_shoe", "right_shoe")


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """How clips are drawn. `canvas` is the control frames' (see stages/pose/render.py)."""

    width: int
    height: int
    canvas: int
    frames: int
    spacing: int
    """Motion frames between two frames of a clip; 0 draws them at random moments of the motion."""
    fps: Fraction = Fraction(15)
    half_body: float = field(default=0.0, repr=False)
    """Share of clips whose dancer is cut at knees or waist, in driving video, reference, or both."""
    elsewhere: float = field(default=0.0, repr=False)
    """Share of the others whose reference stands elsewhere, in the middle of another dance."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One character. Frame 0 is the reference in a pose of its own, the rest belong to a motion.

    `number` is its place in the set. `frames` and `control` uint8 [1 + F, H, W, 3] RGB; `parts` uint8
    [1 + F, H, W], indices into PARTS; `palette` float32 [P, 4]: RGB 0..1 of each part and 1 where the
    reference shows it.
    """

    number: int
    frames: np.ndarray
    control: np.ndarray
    parts: np.ndarray
    palette: np.ndarray


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A sample that cannot be used: it is counted and reported, and never replaced.

    `name` says which sample, `reason` in one line why it cannot be used.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def draw_clip(
    spec: ClipSpec, character_seed: int, motion_seed: int, noise_seed: int | None, number: int = 0
) -> Clip:
    """Draw a clip; with a `noise_seed` its control frames have a detector's faults."""
    character = make_character(character_seed)
    motion, still = make_motion(motion_seed, spec.fps), reference_pose(character_seed ^ motion_seed)
    rng = np.random.default_rng([motion_seed, 12])
    half = draw_half_body(rng) if rng.uniform() < spec.half_body else None
    elsewhere = half is None and bool(spec.elsewhere) and rng.uniform() < spec.elsewhere
    if spec.spacing:
        moments = list(range(0, spec.frames * spec.spacing, spec.spacing))
    else:
        moments = sorted(
            np.random.default_rng([motion_seed, 8]).choice(MOTION_FRAMES, spec.frames, replace=False).tolist()
        )
    size = spec.width * SUPERSAMPLING, spec.height * SUPERSAMPLING
    drawn = draw_dance(character, still, motion, moments, size, half)
    if elsewhere:
        drawn[0] = draw_elsewhere(character, make_motion(character_seed ^ motion_seed, spec.fps), size, rng)
    poses = poses_of(drawn, size, spec.fps, noise_seed)
    return Clip(
        number=number,
        frames=np.stack([shrink(frame.image, spec) for frame in drawn]),
        control=np.stack(list(draw_control_frames(poses, spec.width, spec.height, spec.canvas))),
        parts=np.stack([frame.parts[::SUPERSAMPLING, ::SUPERSAMPLING] for frame in drawn]),
        palette=palette_of(character.colours, drawn[0].parts),
    )


def draw_dance(
    character: Character,
    still: Motion,
    motion: Motion,
    moments: Sequence[int],
    size: tuple[int, int],
    half: HalfBody | None = None,
) -> list[PuppetFrame]:
    """The reference in the pose `still`, then the dance at these moments. `size`: width, height in pixels.

    With `half`, the scores of the dance are those of its driving picture.
    """
    framing = character.framing
    if half is not None:
        framing = half.reference or replace(framing, zoom=min(framing.zoom, 1.0))
        motion = motion if half.driving is None else standing(motion, still)
    reference = render(character, still, 0, *size, framing)
    drawn = [render(character, motion, moment, *size, framing) for moment in moments]
    if half is not None:
        drawn = [
            replace(frame, scores=driving_scores(frame.scores, half, character, motion, moment, size))
            for frame, moment in zip(drawn, moments, strict=True)
        ]
    return [reference, *drawn]


def draw_elsewhere(
    character: Character, motion: Motion, size: tuple[int, int], rng: np.random.Generator
) -> PuppetFrame:
    """A reference at a moment of a dance, up to ASIDE from the character's place."""
    framing = character.framing
    aside = replace(framing, centre=framing.centre + rng.uniform(-ASIDE, ASIDE), zoom=min(framing.zoom, 1.0))
    return render(character, motion, int(rng.integers(MOTION_FRAMES)), *size, aside)


def shrink(image: np.ndarray, spec: ClipSpec) -> np.ndarray:
    """A drawn picture uint8 [H, W, 3] brought to the size of the clip."""
    return cv2.resize(image, (spec.width, spec.height), interpolation=cv2.INTER_AREA)


def poses_of(
    drawn: list[PuppetFrame], size: tuple[int, int], fps: Fraction, noise_seed: int | None = None
) -> PoseSequence:
    """The true poses, or what a detector might have made of them."""
    keypoints = np.stack([frame.keypoints for frame in drawn])
    scores = np.stack([frame.scores for frame in drawn])
    if noise_seed is not None:
        rng = np.random.default_rng([noise_seed, 9])
        keypoints = keypoints + rng.normal(0, JITTER * size[1], keypoints.shape).astype(np.float32)
        scores = scores * rng.uniform(LEAST_SURE, 1.0, (*scores.shape[:1], 1)).astype(np.float32)
        for hand in (LEFT_HAND, RIGHT_HAND):
            if rng.uniform() < HAND_DROPOUT:
                scores[:, hand] = 0
    return PoseSequence(keypoints, scores.astype(np.float32), size, fps)


def palette_of(colours: dict[str, tuple[int, int, int]], parts: np.ndarray) -> np.ndarray:
    """float32 [P, 4]: RGB 0..1 of each part and whether LEAST_SHOWN of `parts` [H, W] shows it."""
    palette = np.zeros((len(PARTS), 4), np.float32)
    shares = np.bincount(parts.ravel(), minlength=len(PARTS)) / parts.size
    for i, name in enumerate(PARTS):
        palette[i, :3] = np.array(colours[name], np.float32) / 255
        palette[i, 3] = shares[i] > LEAST_SHOWN
    return palette


def loss_weights(parts: np.ndarray, body: float, face: float, small: float, reach: int = 2) -> np.ndarray:
    """How much each pixel counts, float32 [F, H, W]: 1, `body` on the figure, `face`, and `small` on hands
    and shoes; regions grow by `reach` pixels."""
    face_ids = [PARTS.index(name) for name in FACE_PARTS]
    small_ids = [PARTS.index(name) for name in SMALL_PARTS]
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    weights = np.ones(parts.shape, np.float32)
    for mask, value in (
        (parts > 0, body),
        (np.isin(parts, face_ids), face),
        (np.isin(parts, small_ids), small),
    ):
        for i, frame in enumerate(mask):
            grown = cv2.dilate(frame.astype(np.uint8), kernel) > 0
            weights[i][grown] = np.maximum(weights[i][grown], value)
    return weights


def has_gloves(character_seed: int) -> bool:
    """Whether a character's hands have a colour of their own."""
    outfit = make_character(character_seed).outfit
    return outfit.hands != outfit.skin


class PuppetClips:
    """`count` clips of different characters; item i is drawn on first use and kept in `cache` if given."""

    def __init__(
        self, spec: ClipSpec, count: int, seed: int, cache: Path | None = None, first: int = 0
    ) -> None:
        self.spec, self.count, self.seed, self.first = spec, count, seed, first
        decided = (spec, seed, first, spec.half_body) if spec.half_body else (spec, seed, first)
        decided += ("elsewhere", spec.elsewhere) if spec.elsewhere else ()
        self.folder = None if cache is None else cache / f"{zlib.crc32(repr(decided).encode()):08x}"
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clip:
        path = None if self.folder is None else self.folder / f"{index:06d}.npz"
        if path is not None and (kept := read_cached(path, index)) is not None:
            return kept
        rng = np.random.default_rng([self.seed, self.first, index])
        motion, noise, *candidates = (self.first + int(n) for n in rng.integers(0, HELD_OUT, 4))
        # Of two characters the one with gloves: hands are small, and their own colour is hard to learn.
        character = next((seed for seed in candidates if has_gloves(seed)), candidates[0])
        clip = draw_clip(self.spec, character, motion, None if self.first >= HELD_OUT else noise, index)
        if path is not None:
            # not compressed: unpacking would take a third as long as learning from it
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez(
                    file, frames=clip.frames, control=clip.control, parts=clip.parts, palette=clip.palette
                )
        return clip


def read_cached(path: Path, number: int) -> Clip | None:
    """A clip that was kept; None where there is none, or where it is torn: it is then drawn again."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return Clip(number, kept["frames"], kept["control"], kept["parts"], kept["palette"])
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
