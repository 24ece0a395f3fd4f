"""How near found poses are to true ones: shares, errors, trembling, lag."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...stages.pose.skeleton import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND
from ...stages.types import PoseSequence

Figures = dict[str, float | None]

GROUPS = {"body": (BODY,), "feet": (FEET,), "hands": (LEFT_HAND, RIGHT_HAND), "face": (FACE,)}
"""Places among the 133 keypoints; each hand counts by itself."""
WRISTS = [BODY.start + 9, BODY.start + 10, LEFT_HAND.start, RIGHT_HAND.start]
"""Those of the body and those of the hands."""
SEEN = 1.0
"""Score of a true keypoint that nothing covers."""
HALF = 0.5
BODY_PCK = {"body_pck_05": 0.05, "body_pck_10": 0.1}
"""Parts of the person's height within which a body joint is right."""
HAND_PCK = 0.2
"""Part of the longer side of a true hand's box within which its points are right."""
FASTEST = 0.1
"""Share of a clip's frames in which a wrist is fastest."""
SHIFTS = np.arange(-2, 2.01, 0.05)
"""Frames by which the truth is moved to find the lag."""
STILLS = ("found_percent", "error_percent", "pck")
"""What the names of the figures hold that single pictures tell too."""


@dataclass(frozen=True, slots=True)
class Case:
    """A clip, or a picture as a clip of one frame, in which somebody was looked for.

    `truth` scores 1 where a keypoint shows, less where it is covered, 0 where it is unknown or outside.
    `height` is the person's in pixels. `compared` bool [T, 133]: the keypoints whose trembling, lag and error
    at speed are told, so that what is filled in does not count against what is left out.
    """

    found: PoseSequence
    truth: PoseSequence
    height: float
    compared: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """Which true keypoints show, bool [T, 133]."""
        return self.truth.scores >= SEEN

    @property
    def off(self) -> np.ndarray:
        """From the truth to what was found, in heights of the person, [T, 133, 2]."""
        return (self.found.keypoints - self.truth.keypoints).astype(np.float64) / self.height


def figures_of(cases: Sequence[Case]) -> Figures:
    """The figures of all cases together; None where nothing tells one.

    `body_pck_05`, `body_pck_10`, `hands_pck`: shares of the true keypoints that show and are found within
    0.05 or 0.1 of the person's height, or 0.2 of the hand's size; what is not found is wrong. For each group:
    `found_percent`, of the frames that show it (half of its points), those in which half of these have a
    score; `error_percent`, the median distance of what is seen and found, and `jitter_percent`, the mean
    second difference of the error from frame to frame over the square root of 6 (of independent noise its
    standard deviation), both of the height; `lag_frames`, the shift of the truth that fits best.
    `wrist_at_speed_percent`: the mean error of wrists in the tenth of the frames where each is fastest.
    """
    figures: Figures = {name: _body_pck(cases, part) for name, part in BODY_PCK.items()}
    figures["hands_pck"] = _hands_pck(cases)
    for name, members in GROUPS.items():
        places = [(case, part) for case in cases for part in members]
        figures[f"{name}_found_percent"] = _percent([_shown(*place) for place in places])
        off = np.concatenate([_distances(case)[:, part][_both(case)[:, part]] for case, part in places])
        figures[f"{name}_error_percent"] = 100 * float(np.median(off)) if len(off) else None
        figures[f"{name}_jitter_percent"] = _percent([_jitter(*place) for place in places])
        figures[f"{name}_lag_frames"] = _lag(cases, members)
    figures["wrist_at_speed_percent"] = _percent([_at_speed(case) for case in cases])
    return figures


def of_stills(figures: Figures) -> Figures:
    """Those of the figures that single pictures tell."""
    return {name: value for name, value in figures.items() if any(end in name for end in STILLS)}


def _both(case: Case) -> np.ndarray:
    return case.seen & (case.found.scores > 0)


def _distances(case: Case) -> np.ndarray:
    return np.linalg.norm(case.off, axis=-1)


def _mean(values: Sequence[np.ndarray]) -> float | None:
    every = np.concatenate(values) if values else np.zeros(0)
    return float(every.mean()) if len(every) else None


def _percent(values: Sequence[np.ndarray]) -> float | None:
    mean = _mean(values)
    return None if mean is None else 100 * mean


def _body_pck(cases: Sequence[Case], part: float) -> float | None:
    right = [(_distances(case) < part) & (case.found.scores > 0) for case in cases]
    return _mean([one[:, BODY][case.seen[:, BODY]] for one, case in zip(right, cases, strict=True)])


def _hands_pck(cases: Sequence[Case]) -> float | None:
    right = []
    for case in cases:
        for hand in GROUPS["hands"]:
            shown = case.seen[:, hand].mean(1) >= HALF
            points, seen = case.truth.keypoints[shown, hand], case.seen[shown, hand]
            low = np.where(seen[..., None], points, np.inf).min(1)
            high = np.where(seen[..., None], points, -np.inf).max(1)
            size = (high - low).max(1, keepdims=True) / case.height
            near = _distances(case)[shown, hand] < HAND_PCK * size
            right.append((near & (case.found.scores[shown, hand] > 0))[seen])
    return _mean(right)


def _shown(case: Case, part: slice) -> np.ndarray:
    """For each frame that shows a group, whether it is found there."""
    seen, both = case.seen[:, part], _both(case)[:, part]
    frames = seen.mean(1) >= HALF
    return (both.sum(1) >= HALF * seen.sum(1))[frames]


def _jitter(case: Case, part: slice) -> np.ndarray:
    """The second differences of the error, wherever three frames in a row are compared."""
    known = (_both(case) & case.compared)[:, part]
    shaken = np.linalg.norm(np.diff(case.off[:, part], 2, axis=0), axis=-1) / np.sqrt(6)
    return shaken[known[:-2] & known[1:-1] & known[2:]] if len(known) > 2 else np.zeros(0)


def _lag(cases: Sequence[Case], members: Sequence[slice]) -> float | None:
    """Frames by which what was found comes late: the shift of the truth with the least squares of errors."""
    margin = int(np.ceil(SHIFTS[-1]))
    totals = np.zeros(len(SHIFTS))
    count = 0
    for case in cases:
        frames = np.arange(margin, len(case.truth.keypoints) - margin)
        for part in members if len(frames) else ():
            known = (_both(case) & case.compared)[frames, part]
            count += int(known.sum())
            for i, shift in enumerate(SHIFTS):
                then = _at(case.truth.keypoints[:, part], frames - shift)
                off = (case.found.keypoints[frames, part] - then) / case.height
                totals[i] += (off[known].astype(np.float64) ** 2).sum()
    return float(SHIFTS[int(np.argmin(totals))]) if count else None


def _at(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """`values` [T, ...] at times between frames, on straight lines."""
    before = np.clip(np.floor(times).astype(int), 0, len(values) - 2)
    part = (times - before).reshape(-1, *[1] * (values.ndim - 1))
    return (1 - part) * values[before] + part * values[before + 1]


def _at_speed(case: Case) -> np.ndarray:
    """Errors of each wrist in the frames where it is fastest."""
    if len(case.truth.keypoints) < 2:
        return np.zeros(0)
    speed = np.linalg.norm(np.gradient(case.truth.keypoints[:, WRISTS], axis=0), axis=-1)
    fast = speed >= np.quantile(speed, 1 - FASTEST, axis=0)
    known = (_both(case) & case.compared)[:, WRISTS]
    return _distances(case)[:, WRISTS][fast & known]
