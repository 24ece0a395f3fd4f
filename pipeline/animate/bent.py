"""The file between the steps `paper` and `result` of the model `cutout`: who is bent, and how, in each
frame."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from ...stages.atomic import atomic_path
from ...stages.pose.animatic.cut import cut_out
from ...stages.pose.animatic.figure import PaperFigure
from ...stages.types import PoseSequence


def save_bent(path: Path, picture: np.ndarray, own: PoseSequence, aligned: PoseSequence) -> None:
    """Cut the character of a picture, uint8 [H, W, 3], out, and keep it with its pose and those it is to
    take."""
    mask = cut_out(picture, own.keypoints[0], own.scores[0])
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            picture=picture,
            mask=mask.astype(np.float16),
            own_keypoints=own.keypoints[:1],
            own_scores=own.scores[:1],
            keypoints=aligned.keypoints,
            scores=aligned.scores,
        )


def bent_frames(path: Path, bit_depth: int) -> tuple[int, Iterator[np.ndarray]]:
    """How many frames there are, and each, [H, W, 3], uint8, or uint16 of `bit_depth` above 8."""
    with np.load(path) as file:
        kept = {name: file[name] for name in file.files}
    picture = kept["picture"]
    size = (picture.shape[1], picture.shape[0])
    own = PoseSequence(kept["own_keypoints"], kept["own_scores"], size, Fraction(1))
    figure = PaperFigure(picture, own, kept["mask"].astype(np.float32))

    def drawn() -> Iterator[np.ndarray]:
        for points, scores in zip(kept["keypoints"], kept["scores"], strict=True):
            frame = figure.draw(points, scores)
            yield frame if bit_depth == 8 else frame.astype(np.uint16) * (2**bit_depth - 1) // 255

    return len(kept["scores"]), drawn()
