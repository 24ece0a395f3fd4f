"""Copies among clips: mirrored, cropped, slowed, re-encoded, with a logo. By an index, not all pairs.

A moment of a dance is three poses, REACH seconds apart. All clips' moments go into one index of nearest
neighbours; each clip then asks it for its own moments, as they are and mirrored, at several speeds. Clips
that answer along one line of time are compared in full: the same dance by the same dancer in the same place
is a copy. Equal parts of picture hashes are asked for too: they need no pose at the same moments.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .fingerprint import RATE, Fingerprint, mirrored
from .look import SAMPLES_A_SECOND

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
"""Answers along one line of time from which two clips are compared."""
SAME_DANCE = 0.15
"""Median distance of joints, in lengths of the trunk, up to which two dances are one."""
SAME_LOOKS = 0.8
"""Correlation of the dancer's looks from which it is the same dancer in the same place."""
LINE_SPEEDS = np.geomspace(0.45, 2.2, 41)
ON_LINE = 0.12
"""Seconds by which an answer may miss its line."""
CHECKS = 32
"""Leaves of the index's trees that are visited for one moment."""
OVERLAP = 0.6
"""Share of the shorter clip that must be in the other."""
COMMON = 64
"""A part of a hash that more clips share tells nothing."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """`copy` shows what `original` does; both are places in the list of fingerprints."""

    copy: int
    original: int


@dataclass(frozen=True, slots=True)
class Line:
    """A guess: second t of one clip is second `speed` * t + `shift` of another, perhaps mirrored."""

    first: int
    second: int
    mirror: bool
    speed: float
    shift: float


def duplicates(prints: Sequence[Fingerprint]) -> list[Duplicate]:
    """Each copy with the original that is kept: of clips that show the same, that with the most pixels.

    Of equal ones the first is kept. The answer depends on the order of `prints` alone.
    """
    parents = list(range(len(prints)))

    def root(place: int) -> int:
        while parents[place] != place:
            place = parents[place]
        return place

    for line in sorted(guesses(prints), key=lambda line: (line.first, line.second, line.mirror)):
        first, second = root(line.first), root(line.second)
        if first != second and is_copy(prints[line.first], prints[line.second], line):
            keep = min(first, second, key=lambda place: (-prints[place].pixels, place))
            parents[first + second - keep] = keep
    return [Duplicate(place, root(place)) for place in range(len(prints)) if root(place) != place]


def guesses(prints: Sequence[Fingerprint]) -> list[Line]:
    """For each pair of clips of which enough moments answer to each other the line that most lie on."""
    votes: dict[tuple[int, int, bool], list[tuple[float, float]]] = defaultdict(list)
    for pair, early, late in [*dance_answers(prints), *hash_answers(prints)]:
        votes[pair].append((early, late))
    lines = []
    for pair, answers in votes.items():
        if len(answers) >= VOTES:
            votes_near, speed, shift = line_through(np.array(answers))
            if votes_near >= VOTES:
                lines.append(Line(*pair, speed, shift))
    return lines


def line_through(answers: np.ndarray) -> tuple[int, float, float]:
    """The line that most answers [K, 2] (seconds in the first clip, in the second) lie on.

    How many different moments of the second lie on it, its speed and its shift. An answer counts the more,
    the nearer it is: by a Gaussian of ON_LINE.
    """
    shifts = answers[:, 1] - LINE_SPEEDS[:, None] * answers[:, 0]
    off = np.abs(shifts[:, :, None] - shifts[:, None, :])  # [speeds, K, K]
    support = np.exp(-((off / ON_LINE) ** 2)).sum(-1)
    row, place = np.unravel_index(int(support.argmax()), support.shape)
    on = off[row, place] <= 2 * ON_LINE
    return len(np.unique(answers[on, 1])), float(LINE_SPEEDS[row]), float(np.median(shifts[row][on]))


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
    return found[moving].reshape(-1, 3 * 2 * (ASKED.stop - ASKED.start)), times[moving]


def at(poses: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Poses [K, 13, 2] at times in seconds, between the moments [M, 13, 2]; NaN outside and if not seen."""
    place = times * RATE
    low = np.clip(np.floor(place).astype(int), 0, len(poses) - 1)
    high = np.minimum(low + 1, len(poses) - 1)
    share = (place - low)[:, None, None].astype(np.float32)
    found = (1 - share) * poses[low] + share * poses[high]
    found[(place < -1e-6) | (place > len(poses) - 1 + 1e-6)] = np.nan
    return found


Answer = tuple[tuple[int, int, bool], float, float]
"""First and second clip and whether mirrored; seconds in the first, and in the second."""


def dance_answers(prints: Sequence[Fingerprint]) -> Iterator[Answer]:
    """Moments of clips that are near those of clips before them."""
    known = [moments(each.poses, 1.0) for each in prints]
    owner = np.repeat(np.arange(len(known)), [len(times) for _, times in known])
    if len(owner) < 2:
        return
    table = np.concatenate([found for found, _ in known])
    when = np.concatenate([times for _, times in known])
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
            for first, early, late in zip(owner[places], when[places], times[rows], strict=True):
                yield (int(first), second, mirror), float(early), float(late)


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
            for first, early in shelf[:n]:
                if first != second:
                    yield (first, second, False), early, late


def is_copy(first: Fingerprint, second: Fingerprint, line: Line) -> bool:
    """Whether the second clip shows the first's dance, dancer and place along a line of time near `line`."""
    overlap, distance, shown, aligned = best_line(first, second, line)
    return (
        overlap >= OVERLAP
        and distance <= SAME_DANCE
        and looks_alike(first.looks[shown], second.looks[aligned], line.mirror) >= SAME_LOOKS
    )


def best_line(
    first: Fingerprint, second: Fingerprint, line: Line
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """The line near `line` on which the dances agree best.

    The share of the shorter clip that it covers, the median distance of joints, and the moments of the first
    with those of the second that they are: int64 [K] each.
    """
    theirs = mirrored(second.poses) if line.mirror else second.poses
    times = np.arange(len(first.poses)) / RATE
    middle = float(times.mean())
    best = (0.0, np.inf, np.zeros(0, np.int64), np.zeros(0, np.int64))
    for speed in line.speed * np.linspace(0.94, 1.06, 7):
        for nudge in np.linspace(-0.3, 0.3, 13):
            mapped = speed * times + (line.speed - speed) * middle + line.shift + nudge
            ways = np.linalg.norm(at(theirs, mapped) - first.poses, axis=-1)
            known = np.isfinite(ways).sum(1) >= 4
            if not known.any():
                continue
            distance = float(np.nanmedian(np.nanmean(ways[known], axis=1)))
            lasts = known.sum() / RATE
            shorter = min(len(first.poses), len(second.poses) / float(speed)) / RATE
            if distance < best[1] and lasts / shorter >= OVERLAP:
                shown = np.flatnonzero(known)
                aligned = np.clip(np.round(mapped[shown] * RATE).astype(np.int64), 0, len(theirs) - 1)
                best = float(lasts / shorter), distance, shown, aligned
    return best


def looks_alike(first: np.ndarray, second: np.ndarray, mirror: bool) -> float:
    """Correlation of looks uint8 [K, 16, 16, 3] of the same moments, each colour by itself: -1 to 1.

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
