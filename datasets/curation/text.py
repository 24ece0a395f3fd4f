"""Burnt-in text, by RapidOCR (the extra `rapidocr`): captions, lyrics, signs with letters."""

from functools import cache
from typing import Any

import numpy as np

from ...stages.threads import thread_limit
from .clip import Frames

PICTURES = 3
"""Samples that are read: burnt-in text stays, and a picture takes 0.1 s."""
SURE = 0.7
"""Least confidence of words that count: patterns and furniture are read as letters with less."""
TALLEST = 0.2
"""Height of a line of text at most, in pictures: grain of a wall is read as huge letters."""
LETTERS = 2
"""A word has as many at least."""


@cache
def reader(threads: int) -> Any:
    """RapidOCR, loaded once in a process; its models are in its wheel. 0 threads are as many as it likes."""
    from rapidocr import RapidOCR  # pyright: ignore[reportMissingImports]

    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.use_cls": False,
            "Det.limit_type": "max",
            "Det.limit_side_len": 640,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads or -1,
        }
    )


def text(frames: Frames) -> float:
    """The share of the picture that text takes, 0 to 1: the middle of some samples."""
    count = min(PICTURES, len(frames.samples))
    chosen = np.linspace(0, len(frames.samples) - 1, count + 2).round().astype(int)[1:-1]
    return float(np.median([text_share(frames.samples[i]) for i in chosen]))


def text_share(picture: np.ndarray) -> float:
    """The share of a picture (uint8 RGB) that the boxes of words take."""
    found = reader(thread_limit() or 0)(np.ascontiguousarray(picture[..., ::-1]))
    if found.boxes is None or found.txts is None:
        return 0.0
    words = zip(np.asarray(found.boxes, np.float64), found.txts, found.scores, strict=True)
    areas = [
        float(np.prod(np.ptp(corners, axis=0)))
        for corners, letters, score in words
        if score >= SURE
        and sum(letter.isalnum() for letter in letters) >= LETTERS
        and np.ptp(corners[:, 1]) <= TALLEST * picture.shape[0]
    ]
    return min(1.0, sum(areas) / (picture.shape[0] * picture.shape[1]))
