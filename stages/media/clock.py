"""The clock of a file where it jumps: joined recordings start anew, and encoders lose hours.

What follows a jump is moved to where the last picture before it ends. Pure arithmetic on the times of packets
in the order in which they lie in the file; `container.py` reads them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

FORWARD = 10.0
"""Seconds without a packet that count as a jump: FFmpeg's own `dts_delta_threshold`. Less is a pause."""
STEPS_FORWARD = 100
"""So many usual distances, too: pictures of a slide show are far apart."""
BACK, BACK_UNSORTED = 0.05, 1.0
"""Seconds back that count as a jump, of decode times, and of times of show, which B-frames shuffle."""
SOUND_OVERLAP = 0.5
"""Seconds back of sound alone that count as no jump: the ends of joined files overlap."""
FILLED = 0.5
"""A gap of which the other stream fills so much is a pause: a still picture, or silence."""
SAME_JUMP = 2.0
"""Sound that starts anew within so many seconds of where pictures do follows them."""


NAMED = 3
"""Jumps that are named one by one."""


@dataclass(frozen=True, slots=True)
class Jump:
    """From the packet of this number in its stream on, `by` seconds are added to the times that it tells."""

    packet: int
    by: Fraction


@dataclass(frozen=True, slots=True)
class Packets:
    """The packets of a stream in the order of the file: when each is shown and decoded, and for how long.

    Times are whole ticks of `tick` seconds; None where the file tells none.
    """

    shown: Sequence[int | None]
    decoded: Sequence[int | None]
    lengths: Sequence[int]
    tick: Fraction


@dataclass(frozen=True, slots=True)
class Pieces:
    """What lies between the jumps: the number of its piece for each packet, int [n], and for each piece its
    first and last time of show in ticks. `step` is the usual distance of two pictures or packets of sound."""

    of: np.ndarray
    spans: list[tuple[int, int]]
    step: int


def jumps_of_video(video: Packets, sound: Packets | None) -> tuple[Jump, ...]:
    """Where the clock of the pictures jumps. A pause that sound fills is none."""
    pieces = _pieces_of_video(video, sound)
    return _changes(pieces, [Fraction(ticks) * video.tick for ticks in _in_a_row(pieces)])


def _pieces_of_video(video: Packets, sound: Packets | None) -> Pieces:
    decoded = sum(time is not None for time in video.decoded)
    if 2 * decoded > len(video.decoded):
        return _pieces(_filled(video.decoded), video, BACK, sound)
    return _pieces(_filled(video.shown), video, BACK_UNSORTED, sound)


def _in_a_row(pieces: Pieces) -> list[int]:
    """What to add to the times of each piece, ticks, so that it begins where the one before it ends."""
    added_to = [0]
    for (_, last), (first, _) in zip(pieces.spans, pieces.spans[1:], strict=False):
        added_to.append(last + added_to[-1] + pieces.step - first)
    return added_to


def jumps_of_sound(sound: Packets, video: Packets) -> tuple[Jump, ...]:
    """Where the clock of the sound jumps: with the pictures', or by itself, and then it goes on as it was."""
    pictures, pieces = _pieces_of_video(video, sound), _pieces(_filled(sound.shown), sound, BACK, video)
    moved = _in_a_row(pictures)
    anew = [
        (first * video.tick, ticks * video.tick)
        for (first, _), ticks in zip(pictures.spans[1:], moved[1:], strict=True)
    ]
    by, used = [Fraction(0)], 0
    for (_, last), (first, _) in zip(pieces.spans, pieces.spans[1:], strict=False):
        begin = first * sound.tick
        same = next((k for k in range(used, len(anew)) if abs(anew[k][0] - begin) < SAME_JUMP), None)
        if same is None:
            gap = begin - (last + pieces.step) * sound.tick
            by.append(by[-1] if -SOUND_OVERLAP < gap < 0 else by[-1] - gap)
        else:
            by.append(anew[same][1])
            used = same + 1
    return _changes(pieces, by)


def _pieces(order: np.ndarray, stream: Packets, back: float, other: Packets | None) -> Pieces:
    """A stream's packets between the jumps; `order` are times that do not decrease within a piece."""
    shown, tick = _filled(stream.shown), stream.tick
    distances = np.diff(np.unique(shown))
    step = max(1, int(np.median(distances))) if len(distances) else 1
    ahead = max(FORWARD / float(tick), STEPS_FORWARD * step)
    returns = np.diff(order, prepend=order[:1]) < -max(back / float(tick), 2 * step)
    epochs = np.cumsum(returns)
    of, spans = np.zeros(len(shown), np.int64), []
    for epoch in range(int(epochs[-1]) + 1 if len(epochs) else 0):
        own = epochs == epoch
        times = np.unique(shown[own])
        gaps = [
            index + 1
            for index in np.flatnonzero(np.diff(times) > ahead)
            if not _fills(other, int(times[index]) * tick, int(times[index + 1]) * tick)
        ]
        of[own] = len(spans) + np.searchsorted(times[gaps], shown[own], "right")
        spans += [(int(part[0]), int(part[-1])) for part in np.split(times, gaps)]
    return Pieces(of, spans, step)


def _changes(pieces: Pieces, by: Sequence[Fraction]) -> tuple[Jump, ...]:
    """From which packets on which of `by`, one for each piece, is added: B-frames go back and forth."""
    if not any(by):
        return ()
    added_to = [by[piece] for piece in pieces.of]
    starts = [n for n, (a, b) in enumerate(pairwise([Fraction(0), *added_to])) if a != b]
    return tuple(Jump(start, added_to[start]) for start in starts)


def added(jumps: Sequence[Jump], count: int) -> list[Fraction]:
    """For each of `count` packets what is added to its times, seconds."""
    edges = [*(jump.packet for jump in jumps), count]
    by = [Fraction(0)] * edges[0]
    for jump, stop in zip(jumps, edges[1:], strict=True):
        by += [jump.by] * (stop - jump.packet)
    return by


def told_jumps(pictures: Sequence[Jump], sound: Sequence[Jump]) -> list[str]:
    """One line for the user, where there are jumps."""
    if not pictures and not sound:
        return []
    what = "its clock jumps" if pictures else "the clock of its sound jumps"
    moved = list(dict.fromkeys([Fraction(0), *(jump.by for jump in pictures or sound)]))
    changes = [before - after for before, after in pairwise(moved)]
    named = ", ".join(f"{float(change):+.6g} s" for change in changes[:NAMED])
    more = f" and {len(changes) - NAMED} times more" if len(changes) > NAMED else ""
    return [f"{what} ({named}{more}): taken as going on without a break"]


def _filled(times: Sequence[int | None]) -> np.ndarray:
    """int64 [n]: the times, each that is missing like the one before it; of the first ones, like the next."""
    known = np.array([index for index, time in enumerate(times) if time is not None], np.int64)
    if not len(known):
        return np.zeros(len(times), np.int64)
    values = np.array([times[index] for index in known], np.int64)
    return values[np.maximum(np.searchsorted(known, np.arange(len(times)), "right") - 1, 0)]


def _fills(other: Packets | None, start: Fraction, stop: Fraction) -> bool:
    """Whether a stream goes on in most of the time between two moments, seconds."""
    if other is None or not other.shown:
        return False
    times = _filled(other.shown) * float(other.tick)
    inside = np.sort(times[(times > float(start)) & (times < float(stop))])
    if len(inside) < 2:
        return False
    steps = np.diff(inside)
    return float(steps[steps < FORWARD].sum()) >= FILLED * float(stop - start)
