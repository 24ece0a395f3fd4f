"""Who is who: the people of a video's frames, each linked to one track through them.

A detection continues the track whose person it is nearest to, where that person would be by now at constant
velocity (as in SORT, Bewley et al., 2016), by the joints and by the size of the body. `everyone` then puts
those tracks together that are one person's: before and after a gap, a leap, or a cut of the video.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..base import Detections
from ..skeleton import BODY, VISIBLE

BEST_JOINTS = 7
"""A person's score is the mean of this many best body joints: head and shoulders are enough."""

DOUBLE = 0.1
"""Two finds of a frame are one person where half of their shared body joints lie nearer than this part of the
size. MediaPipe's second follower of a dancer, begun 0.12 to 0.3 of its region aside, was within 0.03 from
the second frame on."""

MAX_STEP = 0.5
"""A person's joints lie by less than this part of the person's size from where they are expected."""

SIZE_WEIGHT = 0.25
"""How much a change of size counts: e times as large is as far as this part of the size. Assumed."""

GATE_GROWTH, WIDEST_GATE = 0.025, 1.5
"""By how much MAX_STEP grows with each frame unseen, and how many times it may be at most. Assumed."""

SEEN_LATELY = 30
"""Frames that a person may be unseen and still be linked to; later ones may continue the track."""

FORESEEN = 10
"""Frames for which a person who is unseen goes on at constant velocity."""

NEW_SPEED = 0.4
"""The share of the newest step in a person's velocity; the rest is what it was."""

RETURN = 300
"""Frames after which a person may be found again near the place and of the size of the last sight."""

STEADY = 15
"""Frames over which the speed is taken of somebody who was long unseen: dancers stay, walkers go."""

LEAP, LEAP_FRAMES = 2.0, 2
"""How far a person may leap, in sizes, from one sight to the next where these are so many frames apart."""

CLOSE = 0.2
"""Somebody who was seen beside a person is still the same one (found twice) where they step in so closely."""

GAP_COST = 0.02
"""What a frame unseen counts against a continuation, in sizes; a cut counts as CUT_COST."""
CUT_COST = 3.0
CUT_FRAMES = 5
"""Frames that somebody must be seen to be taken for the person before a cut, who was seen as long."""
CUT_SIZES = 2.0
"""How many times as large somebody may be who is found again elsewhere, after frames without anybody."""

Track = dict[int, int]
"""One person through a video: frame -> which of that frame's people, in the order of the frames."""


def person_score(scores: np.ndarray) -> float:
    """How surely this is a person, 0 to 1: the mean of the seven best body joints of `scores` [133]."""
    return float(np.sort(scores[BODY])[-BEST_JOINTS:].mean())


def person_size(keypoints: np.ndarray, scores: np.ndarray) -> float:
    """Geometric mean of the sides of the box around the seen body joints, in pixels; 0 for fewer than two."""
    joints = keypoints[BODY][scores[BODY] > VISIBLE]
    return float(np.sqrt(np.prod(np.ptp(joints, axis=0)))) if len(joints) > 1 else 0.0


def without_doubles(people: Detections) -> Detections:
    """The people of a frame, each once: of two finds of one person the one with the larger sum of scores."""
    if len(people) < 2:
        return people
    points, shown, sizes = people.keypoints[:, BODY], people.scores[:, BODY] > VISIBLE, body_sizes(people)
    both = shown[:, None] & shown[None]
    near = np.linalg.norm(points[:, None] - points[None], axis=-1) < _larger(sizes, sizes)[..., None] * DOUBLE
    count = both.sum(-1)
    same = (count > 1) & (2 * (near & both).sum(-1) > count)
    kept: list[int] = []
    for i in np.argsort(-people.scores.sum(1), kind="stable").tolist():
        if not same[i, kept].any():
            kept.append(i)
    keep = sorted(kept)
    return Detections(people.keypoints[keep], people.scores[keep])


def everyone(people: Sequence[Detections]) -> list[Track]:
    """Everybody in a video, whoever has the largest sum of sizes over the frames first.

    `people` has each frame's, everybody once (`without_doubles`). Time is linear in the number of frames.
    """
    sights = _Sights(people, link(people))
    order = sorted(range(len(sights.tracks)), key=lambda track: -sights.weights[track])
    free = set(order)
    found = [sights.person(track, free) for track in order if track in free]
    return sorted(found, key=lambda track: -sights.weight(track))


def person_at(people: Sequence[Detections], frame: int, i: int) -> Track:
    """The track of a frame's person number `i`; else as in `everyone`."""
    sights = _Sights(people, link(people))
    seed = next(n for n, track in enumerate(sights.tracks) if track.get(frame) == i)
    return sights.person(seed, set(range(len(sights.tracks))))


@dataclass(slots=True)
class _Live:
    """A track that may go on: its last sight, and its velocity in pixels a frame [2]."""

    track: int
    frame: int
    points: np.ndarray
    shown: np.ndarray
    size: float
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))

    def see(self, frame: int, points: np.ndarray, shown: np.ndarray, size: float) -> None:
        shared = shown & self.shown
        if shared.any():
            step = (points - self.points)[shared].mean(0) / (frame - self.frame)
            self.velocity = (1 - NEW_SPEED) * self.velocity + NEW_SPEED * step
        self.frame, self.points, self.shown, self.size = frame, points, shown, size


def link(people: Sequence[Detections]) -> list[Track]:
    """Tracks without a doubt: nearest to the expected place first, within MAX_STEP and SEEN_LATELY."""
    tracks: list[Track] = []
    live: list[_Live] = []
    for frame, here in enumerate(people):
        live = [each for each in live if frame - each.frame <= SEEN_LATELY]
        points, shown, sizes = here.keypoints[:, BODY], here.scores[:, BODY] > VISIBLE, body_sizes(here)
        owners = _owners(live, points, shown, sizes, frame)
        for i in range(len(here)):
            if i in owners:
                owners[i].see(frame, points[i], shown[i], sizes[i])
            else:
                owners[i] = _Live(len(tracks), frame, points[i], shown[i], sizes[i])
                tracks.append({})
                live.append(owners[i])
            tracks[owners[i].track][frame] = i
    return tracks


def _owners(
    live: list[_Live], points: np.ndarray, shown: np.ndarray, sizes: np.ndarray, frame: int
) -> dict[int, _Live]:
    """Which of a frame's people, points [m, 17, 2], belongs to which of the live tracks."""
    owners: dict[int, _Live] = {}
    if not live or not len(points):
        return owners
    last = np.stack([each.points for each in live])
    last_shown, size = np.stack([each.shown for each in live]), np.array([each.size for each in live])
    unseen = np.array([frame - each.frame for each in live])
    moved = np.stack([each.velocity for each in live]) * np.minimum(unseen, FORESEEN)[:, None]
    grown = _growth(last, last_shown, points, shown)
    expected = _ways(last + moved[:, None], last_shown, size, points, shown, sizes) + grown
    steps = np.minimum(expected, _ways(last, last_shown, size, points, shown, sizes) + grown)
    gates = MAX_STEP * np.minimum(1 + GATE_GROWTH * (unseen - 1), WIDEST_GATE)
    costs = np.where(steps < gates[:, None], expected, np.inf)
    taken: set[int] = set()
    for place in np.argsort(costs, axis=None, kind="stable"):
        row, i = divmod(int(place), len(points))
        if not np.isfinite(costs[row, i]):
            break
        if row not in taken and i not in owners:
            taken.add(row)
            owners[i] = live[row]
    return owners


def body_steps(
    from_points: np.ndarray,
    from_shown: np.ndarray,
    from_sizes: np.ndarray,
    points: np.ndarray,
    shown: np.ndarray,
    sizes: np.ndarray,
) -> np.ndarray:
    """How far each of n bodies is from each of m [n, m], in sizes of the larger; else infinite.

    Joints [n, 17, 2] and [m, 17, 2] in pixels, whether each is seen, and sizes in pixels. Counted are the
    mean way of the joints that both show, and SIZE_WEIGHT times the logarithm of how much larger one is.
    """
    grown = _growth(from_points, from_shown, points, shown)
    return _ways(from_points, from_shown, from_sizes, points, shown, sizes) + grown


def _ways(
    from_points: np.ndarray,
    from_shown: np.ndarray,
    from_sizes: np.ndarray,
    points: np.ndarray,
    shown: np.ndarray,
    sizes: np.ndarray,
) -> np.ndarray:
    """The part of `body_steps` that is of places."""
    both = from_shown[:, None] & shown[None]
    count, size = both.sum(-1), _larger(from_sizes, sizes)
    apart = np.linalg.norm(from_points[:, None] - points[None], axis=-1)
    way = (apart * both).sum(-1) / np.maximum(count, 1) / np.where(size > 0, size, 1)
    return np.where((count > 0) & (size > 0), way, np.inf)


def _growth(
    from_points: np.ndarray, from_shown: np.ndarray, points: np.ndarray, shown: np.ndarray
) -> np.ndarray:
    """The part of `body_steps` that is of sizes."""
    both = from_shown[:, None] & shown[None]
    ratios = _spread(from_points[:, None], both) / _spread(points[None], both)
    return SIZE_WEIGHT * np.abs(np.log(ratios))


def _larger(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The larger of the sizes [n] and [m] of each two: [n, m]."""
    return np.maximum(sizes[:, None], others[None])


def _spread(points: np.ndarray, both: np.ndarray) -> np.ndarray:
    """The diagonal of the box around those joints [n, m, 17, 2] that are in `both` [n, m, 17]; 1 for few."""
    low, high = (np.where(both[..., None], points, end) for end in (np.inf, -np.inf))
    few = both.sum(-1) < 3
    box = np.where(few[..., None], 0, high.max(2) - low.min(2))
    return np.where(few, 1, np.maximum(np.linalg.norm(box, axis=-1), 1))


def body_sizes(people: Detections) -> np.ndarray:
    """`person_size` of each of a frame's people [n], in pixels."""
    shown = (people.scores[:, BODY] > VISIBLE)[..., None]
    low, high = (np.where(shown, people.keypoints[:, BODY], end) for end in (np.inf, -np.inf))
    sides = np.where(shown.sum(1) > 1, high.max(1, initial=-np.inf) - low.min(1, initial=np.inf), 0)
    return np.sqrt(sides.prod(1))


class _Sights:
    """The tracks of a video, and what of them tells which are one person's."""

    def __init__(self, people: Sequence[Detections], tracks: list[Track]) -> None:
        self.people = people
        self.tracks = tracks
        self.frames = [list(track) for track in tracks]
        self.sizes = [body_sizes(here) for here in people]
        self.weights = [self.weight(track) for track in tracks]
        self.filled = [frame for frame, here in enumerate(people) if len(here)]
        self.starts = Counter(frames[0] for frames in self.frames)
        self.stops = Counter(frames[-1] for frames in self.frames)
        self.active: dict[int, list[int]] = {}
        for n, frames in enumerate(self.frames):
            for block in range(frames[0] // RETURN, frames[-1] // RETURN + 1):
                self.active.setdefault(block, []).append(n)

    def weight(self, track: Track) -> float:
        """The sum of a person's sizes over the frames, so that both size and constancy count."""
        return float(sum(self.sizes[frame][i] for frame, i in track.items()))

    def person(self, seed: int, free: set[int]) -> Track:
        """The whole track of the person of track `seed`, of those that are `free`; they no longer are."""
        whole = dict(self.tracks[seed])
        free.discard(seed)
        for step in (1, -1):
            now = seed
            edge = self.frames[seed][-1 if step > 0 else 0]
            while (found := self._next(now, edge, step, free)) is not None:
                now = found
                free.discard(now)
                part = {frame: i for frame, i in self.tracks[now].items() if (frame - edge) * step > 0}
                whole |= part
                edge = max(part) if step > 0 else min(part)
        return dict(sorted(whole.items()))

    def _next(self, now: int, edge: int, step: int, free: set[int]) -> int | None:
        """The track that goes on with a person whose track `now` was last seen at frame `edge`.

        `step` is 1 forwards and -1 backwards in time. None where nobody plausibly is that person.
        """
        entries = self._entries(edge, step, free)
        if not entries:
            return None
        frames = np.array([frame for _, frame in entries])
        gaps = np.abs(frames - edge)
        points, shown, sizes = self._bodies([(frame, self.tracks[n][frame]) for n, frame in entries])
        last, last_shown, size = self._bodies([(edge, self.tracks[now][edge])])
        moved = self._velocity(now, edge, step) * np.minimum(gaps, SEEN_LATELY)[:, None, None]
        expected = body_steps(last, last_shown, size, points - moved, shown, sizes)[0]
        steps = np.minimum(expected, body_steps(last, last_shown, size, points, shown, sizes)[0])
        steps = np.where(gaps > SEEN_LATELY, expected, steps)
        costs = np.full(len(entries), np.inf)
        lone = self._after_nobody(edge, step)
        for row, (n, frame) in enumerate(entries):
            beside = self._beside(now, n)
            gate = CLOSE if beside else MAX_STEP * min(1 + GATE_GROWTH * (gaps[row] - 1), WIDEST_GATE)
            leaps = gaps[row] <= LEAP_FRAMES and not beside and steps[row] < LEAP
            if steps[row] < gate or leaps:
                costs[row] = steps[row] + GAP_COST * gaps[row]
            elif frame == lone and not beside and self._like(now, n, size[0], sizes[row], int(gaps[row])):
                costs[row] = CUT_COST - self.weights[n] / (1 + max(self.weights))
        best = int(np.argmin(costs))
        return entries[best][0] if np.isfinite(costs[best]) else None

    def _entries(self, edge: int, step: int, free: set[int]) -> list[tuple[int, int]]:
        """The free tracks that are seen within RETURN frames of `edge`, and the first frame of each there."""
        entries: list[tuple[int, int]] = []
        blocks = {edge // RETURN, (edge + step * RETURN) // RETURN}
        for n in sorted({n for block in blocks for n in self.active.get(block, ()) if n in free}):
            frames = self.frames[n]
            at = bisect_right(frames, edge) if step > 0 else bisect_left(frames, edge) - 1
            if 0 <= at < len(frames) and abs(frames[at] - edge) <= RETURN:
                entries.append((n, frames[at]))
        return entries

    def _after_nobody(self, edge: int, step: int) -> int | None:
        """The first frame with somebody after `edge`, where all who are in it are new."""
        at = bisect_right(self.filled, edge) if step > 0 else bisect_left(self.filled, edge) - 1
        if not 0 <= at < len(self.filled):
            return None
        frame = self.filled[at]
        starts = self.starts if step > 0 else self.stops
        return frame if starts.get(frame, 0) == len(self.people[frame]) else None

    def _like(self, now: int, n: int, size: float, other: float, gap: int) -> bool:
        """Whether track `n` may be of who was elsewhere in track `now`, of `size`, `gap` frames ago.

        Yes where too little is seen of either to have a size; no for a few frames after many.
        """
        if size == 0 or other == 0:
            return True
        if len(self.frames[n]) < min(CUT_FRAMES, len(self.frames[now])):
            return False
        ratio = max(size, other) / max(min(size, other), 1)
        return gap == 1 or ratio < CUT_SIZES

    def _beside(self, a: int, b: int) -> bool:
        """Whether both tracks are seen in one frame."""
        few, many = sorted((self.tracks[a], self.tracks[b]), key=len)
        return any(frame in many for frame in few)

    def _velocity(self, n: int, edge: int, step: int) -> np.ndarray:
        """Pixels [2] that the person of a track moves in a frame, over STEADY frames before `edge`."""
        frames = self.frames[n]
        at = bisect_left(frames, edge)
        other = frames[max(at - STEADY, 0)] if step > 0 else frames[min(at + STEADY, len(frames) - 1)]
        points, shown, _ = self._bodies([(frame, self.tracks[n][frame]) for frame in (edge, other)])
        both = shown.all(0)
        if other == edge or not both.any():
            return np.zeros(2)
        return (points[0] - points[1])[both].mean(0) / abs(edge - other)

    def _bodies(self, where: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Body joints [n, 17, 2], whether each is seen [n, 17], and sizes [n], by frame and number."""
        points = np.stack([self.people[frame].keypoints[i, BODY] for frame, i in where])
        shown = np.stack([self.people[frame].scores[i, BODY] for frame, i in where]) > VISIBLE
        return points, shown, np.array([self.sizes[frame][i] for frame, i in where])
