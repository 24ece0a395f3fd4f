"""The proof set: sources with known answers, made from drawn dancers.

Each source is several scenes joined by hard cuts and fades through black; of the scenes, many have one thing
wrong, some nothing, and some are copies of others. Sources of their own are joined by dissolves, have a low
rate, small pictures, pillar bars or damage. Everything follows from the number of clips and the seed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from ...stages.media.encode import VideoWriter
from ..puppets.motion import make_motion
from .clip import Box
from .proof_scenes import SCENES, Shot, Size, dancer, drawn, pictures, with_logo

SIZE: Size = (288, 512)
"""Width and height of most sources."""
SECONDS = Fraction(5, 2)
"""Length of a scene."""
RATES = (Fraction(24), Fraction(25), Fraction(30))
FADE = 10
"""Frames of a fade, to black or from it; DARK of black lie between."""
DARK = 3
DISSOLVE = 16
"""Frames of a dissolve."""
A_SOURCE = 6
"""Scenes of a source."""
BESIDE = 25
"""Scenes of a round beside those with one thing wrong: fine ones, copies, those of sources of their own."""
COPIES = ("mirrored", "cropped", "slowed", "encoded", "logo")
"""What is done to a scene for a copy of it."""
OTHERS = ("other_dance", "other_dancer")
"""What is like a scene and no copy of it: the dancer and the place, or the dance."""


@dataclass(frozen=True, slots=True)
class Part:
    """One scene of a source: frames `start` to `end` (exclusive), fades and dissolves taken off.

    `seed` decides the dancer and the dance; `copy` names what was done to the plain scene of that seed.
    `reasons` are the filters that may refuse it, the one that is meant first; without any it is kept, or a
    duplicate. `bars` is the picture inside the bars.
    """

    scene: str
    seed: int
    start: int
    end: int
    reasons: tuple[str, ...]
    copy: str | None = None
    bars: Box | None = None

    @property
    def shows(self) -> tuple[int, str | None]:
        """Equal for scenes that show the same: a scene and its copies."""
        return self.seed, self.copy if self.copy in OTHERS else None


Joining = Literal["cut", "fade", "dissolve"]
"""How one scene becomes the next."""


@dataclass(frozen=True, slots=True)
class Join:
    """Between two parts: frames `start` to `end` (exclusive) belong to neither; for a cut they are equal."""

    kind: Joining
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ProofSource:
    """One file of the proof set."""

    name: str
    fps: Fraction
    size: Size
    parts: tuple[Part, ...]
    joins: tuple[Join, ...]
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """A scene before its place in a source is known."""

    scene: str
    seed: int
    reasons: tuple[str, ...] = ()
    copy: str | None = None
    seconds: Fraction = SECONDS
    letterbox: bool = False


def make_plan(clips: int, seed: int = 0) -> list[ProofSource]:
    """The sources of a proof set of at least `clips` scenes."""
    rng = np.random.default_rng([seed, 41])
    wrong = [name for name, scene in SCENES.items() if scene.reasons]
    rounds = max(1, ceil(clips / (len(wrong) + BESIDE)))
    numbers = iter(range(seed * 100_000, (seed + 1) * 100_000))
    scenes: list[Planned] = []
    originals: list[int] = []
    for turn in range(rounds):
        scenes += [Planned(name, next(numbers), SCENES[name].reasons) for name in wrong]
        scenes.append(Planned("plain", next(numbers), ("duration",), seconds=Fraction(6, 5)))
        for name in ("plain", "plain", "plain", "closer", "panned", "logo"):
            number = next(numbers)
            scenes.append(Planned(name, number, letterbox=name == "closer"))
            originals += [number] if name == "plain" else []
        for k, copy in enumerate(COPIES):
            scenes.append(Planned("plain", originals[turn * 3 + k % 3], copy=copy))
    scenes = [scenes[i] for i in rng.permutation(len(scenes))]
    sources = []
    for number, start in enumerate(range(0, len(scenes), A_SOURCE)):
        part = scenes[start : start + A_SOURCE]
        kinds: list[Joining] = ["fade" if rng.uniform() < 0.25 else "cut" for _ in part[1:]]
        for i, pair in enumerate(pairwise(part)):
            if any(scene.scene == "black" for scene in pair):
                kinds[i] = "cut"  # black that fades from black begins at no frame
        sources.append(joined(f"scenes_{number:03d}", RATES[number % 3], SIZE, part, kinds))
    for turn in range(rounds):
        clean = [Planned("plain", next(numbers)) for _ in range(4)]
        sources.append(joined(f"dissolves_{turn:03d}", RATES[turn % 3], SIZE, clean, ("dissolve",) * 3))
        slow = [Planned("plain", next(numbers), ("fps",)) for _ in range(2)]
        sources.append(joined(f"slow_{turn:03d}", Fraction(10), SIZE, slow, ["cut"]))
        small = [Planned("plain", next(numbers), ("size",)) for _ in range(2)]
        sources.append(joined(f"small_{turn:03d}", Fraction(30), (144, 256), small, ["cut"]))
        wide = [Planned("plain", next(numbers)) for _ in range(2)]
        sources.append(joined(f"pillars_{turn:03d}", Fraction(30), (912, 512), wide, ["cut"]))
        seed_of_original = originals[turn % len(originals)]
        alike = [Planned("plain", seed_of_original, copy=other) for other in OTHERS]
        sources.append(joined(f"alike_{turn:03d}", RATES[turn % 3], SIZE, alike, ["cut"]))
        broken = [Planned("plain", next(numbers), ("damaged",))]
        sources.append(joined(f"damaged_{turn:03d}", Fraction(25), SIZE, broken, [], damaged=True))
    return sources


def joined(
    name: str,
    fps: Fraction,
    size: Size,
    scenes: list[Planned],
    kinds: Sequence[Joining],
    *,
    damaged: bool = False,
) -> ProofSource:
    """Scenes one after the other, each pair joined as `kinds` says."""
    parts, joins, place = [], [], 0
    for i, scene in enumerate(scenes):
        if i > 0:
            length = {"cut": 0, "fade": 2 * FADE + DARK, "dissolve": DISSOLVE}[kinds[i - 1]]
            joins.append(Join(kinds[i - 1], place, place + length))
            place += length
        count = int(scene.seconds * fps)
        bars = bars_of(scene, size)
        reasons = scene.reasons
        parts.append(Part(scene.scene, scene.seed, place, place + count, reasons, scene.copy, bars))
        place += count
    return ProofSource(name, fps, size, tuple(parts), tuple(joins), damaged)


def bars_of(scene: Planned, size: Size) -> Box | None:
    """Where the picture of a scene is: between pillars in a wide frame, letterboxed if asked."""
    width, height = size
    if width > height:
        return Box((width - SIZE[0]) // 2, 0, (width + SIZE[0]) // 2, height)
    if scene.letterbox:
        return Box(0, height // 8, width, height - height // 8)
    return None


def source_frames(source: ProofSource) -> Iterator[np.ndarray]:
    """The frames of a source, uint8 [H, W, 3]."""
    tail = np.zeros((0, *source.size[::-1], 3), np.uint8)
    for i, part in enumerate(source.parts):
        after = source.joins[i] if i < len(source.joins) else None
        lead = lead_of(source.joins[i - 1] if i > 0 else None)
        frames = part_frames(source, part, lead, lead_of(after))
        if i > 0:
            yield from transition(source.joins[i - 1], tail, frames[:lead])
        count = part.end - part.start
        yield from frames[lead : lead + count]
        tail = frames[lead + count :]


def lead_of(join: Join | None) -> int:
    """Frames of a scene that a join takes up on one side of it."""
    return {None: 0, "cut": 0, "fade": FADE, "dissolve": DISSOLVE}[join.kind if join else None]


def transition(join: Join, before: np.ndarray, after: np.ndarray) -> Iterator[np.ndarray]:
    """The frames of a join, from the end of one scene and the beginning of the next."""
    if join.kind == "fade":
        for k, frame in enumerate(before):
            yield (frame * (1 - (k + 1) / FADE)).astype(np.uint8)
        for _ in range(DARK):
            yield np.zeros_like(before[0])
        for k, frame in enumerate(after):
            yield (frame * ((k + 1) / FADE)).astype(np.uint8)
    elif join.kind == "dissolve":
        for k, (old, new) in enumerate(zip(before, after, strict=True)):
            share = (k + 1) / (DISSOLVE + 1)
            yield cv2.addWeighted(old, 1 - share, new, share, 0)


def part_frames(source: ProofSource, part: Part, lead: int, after: int) -> np.ndarray:
    """The frames of a scene, with those before and after it that joins take up: uint8 [T, H, W, 3]."""
    count = part.end - part.start + lead + after
    box = part.bars or Box(0, 0, *source.size)
    size = (box.width, box.height)
    if part.copy is None:
        frames = SCENES[part.scene].draw(Shot(size, source.fps, count, part.seed))
    else:
        frames = copied(part, Shot(size, source.fps, count, part.seed))
    if part.bars is None:
        return frames
    framed = np.zeros((count, source.size[1], source.size[0], 3), np.uint8)
    framed[:, box.y0 : box.y1, box.x0 : box.x1] = frames
    return framed


def copied(part: Part, shot: Shot) -> np.ndarray:
    """A copy of a plain scene, or what is like it and none."""
    draw = SCENES[part.scene].draw
    if part.copy in OTHERS:
        other = part.seed + 50_000
        who, what = (part.seed, other) if part.copy == "other_dance" else (other, part.seed)
        return pictures(drawn(shot, character=dancer(who), motion=make_motion(20_000 + what, shot.fps)))
    if part.copy == "slowed":
        order = (np.arange(shot.frames) * 4 // 5).astype(int)
        return draw(shot)[order]
    frames = draw(shot)
    if part.copy == "mirrored":
        return frames[:, :, ::-1]
    if part.copy == "cropped":
        width, height = shot.size
        inner = frames[:, height // 8 : height - height // 16, width // 10 : width - width // 12]
        return np.stack([cv2.resize(frame, shot.size, interpolation=cv2.INTER_CUBIC) for frame in inner])
    if part.copy == "encoded":
        return np.stack([encoded_again(frame) for frame in frames])
    return with_logo(frames)


def encoded_again(frame: np.ndarray) -> np.ndarray:
    """A frame scaled to two thirds, saved as a poor JPEG, and enlarged again."""
    small = cv2.resize(frame, None, fx=0.67, fy=0.67, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 40])
    return cv2.resize(cv2.imdecode(data, cv2.IMREAD_COLOR), frame.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def write_source(source: ProofSource, folder: Path) -> Path:
    """Draw and encode a source into a folder, where it is not there yet; returns its path."""
    path = folder / f"{source.name}.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        whole = path.with_name(f".{path.name}") if source.damaged else path
        with VideoWriter(whole, *source.size, source.fps, crf=20, preset="veryfast") as writer:
            for frame in source_frames(source):
                writer.write(frame)
        if source.damaged:
            path.write_bytes(damage(whole.read_bytes(), len(source.name)))
            whole.unlink()
    return path


def damage(data: bytes, seed: int) -> bytes:
    """A file with errors in the pictures, its index whole."""
    start = data.index(b"mdat") + 2000
    rng = np.random.default_rng(seed)
    damaged = bytearray(data)
    for place in rng.integers(start, len(data) - 100, 60).tolist():
        damaged[place] ^= 0xFF
    return bytes(damaged)
