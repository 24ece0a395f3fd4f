"""Copies among clips: mirrored, cropped, slowed, re-encoded, with a logo. By an index, not all pairs.

A moment of a dance is three poses, REACH seconds apart. All clips' moments go into one index of nearest
neighbours; each clip then asks it for its own moments, as they are and mirrored, at several speeds. Clips
of which several answer are compared in full, along all lines of time: the same dance by the same dancer in
the same place is a copy. Equal parts of picture hashes are asked for too, and the clips whose dancers look
most alike: they need no pose, and no motion.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .fingerprint import RATE, Fingerprint, mirrored
from .frames import SAMPLES_A_SECOND

REACH = 0.4
"""Seconds between the poses of a moment."""
SPEEDS = (0.5, 0.7, 1.0, 1.4, 2.0)
"""At which a copy is looked for; between two of them the poses of a moment still agree."""
ASKED = slice(0, 7)
"""Joints of a moment, of Fingerprint's: a crop leaves head, shoulders and arms."""
NEIGHBOURS = 16
"""Of a moment: its own clip has some of them."""
NEAR = 0.25
"""Mean distance of joints in lengths of the trunk up to which two moments may be the same."""
LEAST_MOTION = 0.08
"""Mean spread of a joint within a moment, in lengths of the trunk: a pose held tells nothing."""
VOTES = 3
"""Moments of a clip that answer to another from which the two are compared."""
SAME_DANCE = 0.8
"""Agreement of the joints' ways from which two dances are one."""
NEAR_POSES = 0.06
"""Mean distance of coordinates, in lengths of the trunk, up to which they may be."""
SAME_LOOKS = 0.87
"""Correlation of the dancer's looks from which it is the same dancer in the same place."""
SURE = 1.78
"""Sum of both agreements from which it is a copy: looks of a dancer who hardly moves, or the dance of one who
is poorly coded, make up for the other. Copies within the other bounds have 1.85 and more, of 44,000 pairs of
strangers one had 1.71."""
PERHAPS = 0.5
"""The same of the means of their looks, from which two clips are compared at all."""
LINE_SPEEDS = np.geomspace(0.45, 2.2, 41)
CHECKS = 32
"""Leaves of the index's trees that are visited for one moment."""
ALIKE = 8
"""Clips with the most similar looks that each is compared with, as it is and mirrored."""
NEAR_LOOKS = 0.9
"""Correlation of the means of their looks from which they are."""
IN_STEP = 0.6
"""Agreement without any change of speed from which those are compared in full."""
OVERLAP = 0.6
"""Share of the shorter clip that must be in the other."""
COMMON = 64
"""A part of a hash that more clips share tells nothing."""


COMPARISON = 2
"""Raised when two clips are compared otherwise: what was found of them before is then found anew."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """`copy` shows what `original` does; both are places in the list of fingerprints."""

    copy: int
    original: int


def duplicates(prints: Sequence[Fingerprint], fine: Sequence[bool] | None = None) -> list[Duplicate]:
    """Each copy among clips with the original that is kept: see `kept_of_each`."""
    return kept_of_each(
        prints, fine, sorted(guesses(prints)), lambda a, b, mirror: is_copy(prints[a], prints[b], mirror)
    )


def kept_of_each(
    prints: Sequence[Fingerprint],
    fine: Sequence[bool] | None,
    pairs: Iterable["Pair"],
    is_same: Callable[[int, int, bool], bool],
) -> list[Duplicate]:
    """Each copy with the original that is kept: of clips that show the same, that with the most pixels.

    Of equal ones the first is kept. Only clips that are `fine` are kept (None: all are): of others that show
    the same it is told that they are copies, but where none of them is fine nothing is told. `is_same` is
    asked of each of the pairs whose clips are not of one group yet. The answer depends on the order of
    `prints` and of `pairs` alone.
    """
    parents = list(range(len(prints)))
    good = [True] * len(prints) if fine is None else fine

    def root(place: int) -> int:
        while parents[place] != place:
            place = parents[place]
        return place

    for one, other, mirror in pairs:
        first, second = root(one), root(other)
        if first != second and is_same(one, other, mirror):
            keep = min(first, second, key=lambda place: (not good[place], -prints[place].pixels, place))
            parents[first + second - keep] = keep
    roots = [root(place) for place in range(len(prints))]
    return [Duplicate(place, kept) for place, kept in enumerate(roots) if kept != place and good[kept]]


Pair = tuple[int, int, bool]
"""First and second clip, and whether the second is mirrored."""


def guesses(prints: Sequence[Fingerprint]) -> list[Pair]:
    """Pairs of clips, the first before the second, of which enough moments answer to each other."""
    votes: dict[Pair, set[float]] = defaultdict(set)
    for pair, when in [*dance_answers(prints), *hash_answers(prints)]:
        votes[pair].add(when)
    answered = {pair for pair, moments_of_second in votes.items() if len(moments_of_second) >= VOTES}
    return list(answered | look_answers(prints))


def moments(poses: np.ndarray, speed: float) -> tuple[np.ndarray, np.ndarray]:
    """Moments float32 [K, 42] of poses [M, 13, 2] and their times in seconds [K]: those that move.

    The poses of a moment are REACH * `speed` seconds apart.
    """
    times = np.arange(len(poses)) / RATE
    around = [at(poses, times + offset * REACH * speed)[:, ASKED] for offset in (-1, 0, 1)]
    found = np.stack(around, 1)
    whole = np.isfinite(found).all((1, 2, 3))
    found, times = found[whole], times[whole]
    moving = np.linalg.norm(np.ptp(found, axis=1), axis=-1).mean(1) >= LEAST_MOTION
    flat = found[moving].reshape(-1, 3 * 2 * (ASKED.stop - ASKED.start))
    return flat.astype(np.float32), times[moving]


def at(poses: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Poses [K, 13, 2] at times in seconds, between the moments [M, 13, 2]; NaN outside and if not seen."""
    place = times * RATE
    low = np.clip(np.floor(place).astype(int), 0, len(poses) - 1)
    high = np.minimum(low + 1, len(poses) - 1)
    share = (place - low)[:, None, None].astype(np.float32)
    found = (1 - share) * poses[low] + share * poses[high]
    found[(place < -1e-6) | (place > len(poses) - 1 + 1e-6)] = np.nan
    return found


Answer = tuple[Pair, float]
"""A pair of clips and the seconds in the second at which it answers to the first."""


def dance_answers(prints: Sequence[Fingerprint]) -> Iterator[Answer]:
    """Moments of clips that are near those of clips before them."""
    known = [moments(each.poses, 1.0) for each in prints]
    owner = np.repeat(np.arange(len(known)), [len(times) for _, times in known])
    if len(owner) < 2:
        return
    table = np.concatenate([found for found, _ in known])
    cv2.setRNGSeed(0)
    index = cv2.flann.Index(table, {"algorithm": 1, "trees": 4})
    farthest = table.shape[1] / 2 * NEAR**2
    for second, each in enumerate(prints):
        for mirror in (False, True):
            poses = mirrored(each.poses) if mirror else each.poses
            found = [moments(poses, speed) for speed in SPEEDS]
            asked, times = (
                np.concatenate([part[::2] for part in parts]) for parts in zip(*found, strict=True)
            )
            if not len(asked):
                continue
            count = min(NEIGHBOURS, len(table))
            found_places, distances = index.knnSearch(asked, count, params={"checks": CHECKS})
            places = np.asarray(found_places, np.int64)
            rows, columns = np.nonzero((distances <= farthest) & (owner[places] < second))
            places = places[rows, columns]
            for first, late in zip(owner[places], times[rows], strict=True):
                yield (int(first), second, mirror), float(late)


def hash_answers(prints: Sequence[Fingerprint]) -> Iterator[Answer]:
    """Samples of clips of which a quarter of the hash equals that of a clip before."""
    shelves: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
    for i, each in enumerate(prints):
        for place, bits in enumerate(each.hashes.tolist()):
            for quarter in range(4):
                part = (bits >> (16 * quarter)) & 0xFFFF
                shelves[quarter, part].append((i, place / SAMPLES_A_SECOND))
    for shelf in shelves.values():
        if len({i for i, _ in shelf}) > COMMON:
            continue
        for n, (second, late) in enumerate(shelf):
            for first, _ in shelf[:n]:
                if first != second:
                    yield (first, second, False), late


def look_answers(prints: Sequence[Fingerprint]) -> set[Pair]:
    """Pairs of clips whose dancers look alike in the mean, and move about alike."""
    means = [mean_look(each.looks)[0] for each in prints]
    if len(means) < 2:
        return set()
    table = np.stack([look_vector(look) for look in means])
    cv2.setRNGSeed(0)
    index = cv2.flann.Index(table, {"algorithm": 1, "trees": 4})
    found: set[Pair] = set()
    for mirror in (False, True):
        asked = np.stack([look_vector(look[:, ::-1]) for look in means]) if mirror else table
        count = min(ALIKE + 1, len(table))
        places, distances = index.knnSearch(asked, count, params={"checks": CHECKS})
        rows, columns = np.nonzero(distances <= 2 * (1 - NEAR_LOOKS))
        for one, other in zip(rows.tolist(), np.asarray(places)[rows, columns].tolist(), strict=True):
            if one != other:
                found.add((min(one, other), max(one, other), mirror))
    return {pair for pair in found if in_step(prints[pair[0]], prints[pair[1]], pair[2]) >= IN_STEP}


def in_step(first: Fingerprint, second: Fingerprint, mirror: bool) -> float:
    """The best agreement of two dances at the same speed, whole moments apart; 0 where none covers enough."""
    theirs = mirrored(second.poses) if mirror else second.poses
    lasts = (len(first.poses) - 1) / RATE, (len(theirs) - 1) / RATE
    shifts = np.arange(1 - len(first.poses), len(theirs)) / RATE
    lines = np.stack([np.ones(len(shifts)), shifts], 1)
    lines = lines[covered(lines, *lasts) >= OVERLAP]
    return float(agreements(first.poses, theirs, lines, 1)[0].max()) if len(lines) else 0.0


def look_vector(look: np.ndarray) -> np.ndarray:
    """A look [16, 16, 3] as float32 [192] of length 1, in half its size, each colour around its mean.

    The distance of two, squared, is 2 less twice their correlation. What is black takes the mean.
    """
    seen = look.max(-1) > 0
    if not seen.any():
        return np.zeros(look.shape[0] * look.shape[1] * 3 // 4, np.float32)
    around = np.where(seen[..., None], look - look[seen].mean(0), 0)
    halves = around.reshape(look.shape[0] // 2, 2, look.shape[1] // 2, 2, 3).mean((1, 3)).ravel()
    return (halves / max(float(np.linalg.norm(halves)), 1e-6)).astype(np.float32)


def is_copy(first: Fingerprint, second: Fingerprint, mirror: bool) -> bool:
    """Whether the second clip shows the first's dance, dancer and place along some line of time."""
    if looks_alike(mean_look(first.looks), mean_look(second.looks), mirror) < PERHAPS:
        return False
    theirs = mirrored(second.poses) if mirror else second.poses
    agreement, distance, shown, aligned = best_line(first.poses, theirs)
    if agreement < SAME_DANCE or distance > NEAR_POSES:
        return False
    looks = looks_alike(first.looks[shown], second.looks[aligned], mirror)
    return looks >= SAME_LOOKS and agreement + looks >= SURE


NO_LINE = 0.0, np.inf, np.zeros(0, np.int64), np.zeros(0, np.int64)
"""What `best_line` returns where there is none."""


def best_line(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
    """The line of time along which two dances [M, 13, 2] and [N, 13, 2] agree best.

    Their agreement (see `agreements`), the median distance of joints, and the moments of the first with those
    of the second that they are: int64 [K] each. Agreement 0 where no line covers OVERLAP of the shorter one.
    """
    lasts, theirs_last = (len(ours) - 1) / RATE, (len(theirs) - 1) / RATE
    speeds, shifts = np.meshgrid(LINE_SPEEDS, np.arange(-2.2 * lasts, theirs_last, 1 / RATE), indexing="ij")
    lines = np.stack([speeds.ravel(), shifts.ravel()], 1)
    lines = lines[covered(lines, lasts, theirs_last) >= OVERLAP]
    if not len(lines):
        return NO_LINE
    coarse = lines[int(agreements(ours, theirs, lines, 2)[0].argmax())]
    near = np.stack(np.meshgrid(np.linspace(-0.04, 0.04, 9), np.linspace(-0.2, 0.2, 9)), -1)
    lines = near.reshape(-1, 2) * (coarse[0], 1) + coarse
    lines[:, 1] -= (lines[:, 0] - coarse[0]) * lasts / 2  # turned around the middle
    lines = lines[covered(lines, lasts, theirs_last) >= OVERLAP - 0.05]
    if not len(lines):
        return NO_LINE
    found, distances = agreements(ours, theirs, lines, 1)
    best = int(found.argmax())
    times = np.arange(len(ours)) / RATE * lines[best, 0] + lines[best, 1]
    shown = np.flatnonzero((times >= 0) & (times <= theirs_last))
    aligned = np.round(times[shown] * RATE).astype(np.int64)
    return float(found[best]), float(distances[best]), shown, aligned


def covered(lines: np.ndarray, ours: float, theirs: float) -> np.ndarray:
    """The share of the shorter of two clips, `ours` and `theirs` seconds long, that lines [L, 2] cover."""
    speeds, shifts = lines.T
    first, last = np.maximum(-shifts / speeds, 0), np.minimum((theirs - shifts) / speeds, ours)
    return np.maximum(last - first, 0) / np.maximum(np.minimum(ours, theirs / speeds), 1e-6)


def agreements(
    ours: np.ndarray, theirs: np.ndarray, lines: np.ndarray, every: int
) -> tuple[np.ndarray, np.ndarray]:
    """How well two dances agree along lines of time [L, 2] (speed, shift): agreement and distance [L] each.

    The agreement is the correlation of the joints' ways from their means, -1 to 1; poses held, and a
    dancer's build, have no part in it. The distance is that of coordinates, in lengths of the trunk. Every
    `every`-th moment counts.
    """
    times = np.arange(0, len(ours), every) / RATE
    mapped = lines[:, :1] * times + lines[:, 1:]
    other = at(theirs, mapped.ravel()).reshape(len(lines), len(times), -1)
    mine = np.broadcast_to(ours[::every].reshape(1, len(times), -1), other.shape)
    known = np.isfinite(mine) & np.isfinite(other)
    count = np.maximum(known.sum(1, keepdims=True), 1)
    mine, other = np.where(known, mine, 0), np.where(known, other, 0)
    apart = np.abs(mine - other).sum((1, 2)) / np.maximum(known.sum((1, 2)), 1)
    mine = np.where(known, mine - mine.sum(1, keepdims=True) / count, 0)
    other = np.where(known, other - other.sum(1, keepdims=True) / count, 0)
    spread = np.sqrt((mine**2).sum((1, 2)) * (other**2).sum((1, 2)))
    return (mine * other).sum((1, 2)) / np.maximum(spread, 1e-9), apart


def mean_look(looks: np.ndarray) -> np.ndarray:
    """The mean of looks uint8 [M, 16, 16, 3] over time [1, 16, 16, 3]; black where a pixel mostly is."""
    seen = (looks.max(-1) > 0).mean(0) >= 0.5
    return (looks.mean(0) * seen[..., None])[None]


def looks_alike(first: np.ndarray, second: np.ndarray, mirror: bool) -> float:
    """Correlation of looks [K, 16, 16, 3], 0 to 255, of the same moments, each colour by itself: -1 to 1.

    Black pixels lie outside the picture and do not count. 0 where nothing is seen in both.
    """
    if mirror:
        second = second[:, :, ::-1]
    both = (first.max(-1) > 0) & (second.max(-1) > 0)
    if both.sum() < 16:
        return 0.0
    ours, theirs = (looks[both].astype(np.float64) for looks in (first, second))
    ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
    spread = np.sqrt((ours**2).sum() * (theirs**2).sum())
    return float((ours * theirs).sum() / spread) if spread else 0.0
