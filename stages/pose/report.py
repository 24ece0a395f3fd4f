"""What was found of a dancer, in figures."""

from dataclasses import dataclass

import numpy as np

from .skeleton import BODY, FACE, LEFT_HAND, RIGHT_HAND


@dataclass(frozen=True, slots=True)
class PoseReport:
    """What was found. Frames: `frames` in all, of which `filled` were interpolated and `missing` stay empty.

    `people`: the most that were seen in one frame; `body`, `hands`, `face`: mean scores over the frames that
    show the person, 0 to 1.
    """

    frames: int
    missing: int
    filled: int
    people: int
    body: float
    hands: float
    face: float


def report(scores: np.ndarray, filled: int, people: int) -> PoseReport:
    """The figures of the dancer's scores [T, 133], of which `filled` frames are interpolated."""
    seen = scores[scores.any(1)]
    hands = slice(LEFT_HAND.start, RIGHT_HAND.stop)
    body, hand, face = (float(seen[:, part].mean()) for part in (BODY, hands, FACE))
    return PoseReport(len(scores), len(scores) - len(seen), filled, people, body, hand, face)
