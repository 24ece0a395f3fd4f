"""Burnt-in text, by RapidOCR (the extra `rapidocr`): captions, lyrics, logos with letters."""

from functools import cache
from typing import Any

import numpy as np

from .clip import Frames

PICTURES = 3
"""Samples that are read: burnt-in text stays, and a picture takes about a second."""


@cache
def reader() -> Any:
    """RapidOCR's detector, loaded once in a process; its models are in its wheel."""
    from rapidocr import RapidOCR  # pyright: ignore[reportMissingImports]

    return RapidOCR(params={"Global.log_level": "error"})


def text(frames: Frames) -> float:
    """The share of the picture that text takes, 0 to 1: the middle of some samples."""
    chosen = np.linspace(0, len(frames.samples) - 1, min(PICTURES, len(frames.samples))).round().astype(int)
    return float(np.median([text_share(frames.samples[i]) for i in chosen]))


def text_share(picture: np.ndarray) -> float:
    """The share of a picture (uint8 RGB) that the boxes of text take."""
    found = reader()(picture[..., ::-1], use_det=True, use_cls=False, use_rec=False).boxes
    if found is None:
        return 0.0
    corners = np.asarray(found, np.float64)
    areas = np.prod(np.ptp(corners, axis=1), axis=1)
    return float(areas.sum() / (picture.shape[0] * picture.shape[1]))
