"""How near the poses that are found in a result are to those that were drawn for it."""

import numpy as np

from ..types import PoseSequence
from .crop import in_frame
from .follow.steady import body_height
from .skeleton import BODY, LEFT_HAND, RIGHT_HAND, VISIBLE

HALF = 0.5
"""Share of a hand's points that lie in the picture where the hand is shown (assumed)."""


def compare_poses(found: PoseSequence, drawn: PoseSequence) -> dict[str, float | None]:
    """Figures of the poses `found` in a video against the `drawn` ones, both in its pixels, frame by frame.

    `pose_found`: share of the frames with a drawn dancer in which anybody is found. `error_percent`: mean
    distance of the body joints that are drawn inside the picture and found, in per cent of the body's height.
    `pck_10` and `pck_05`: share of the drawn ones that are found within 10 and 5 % of that height (PCK: Yang
    and Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts", 2013). `left_hand` and
    `right_hand`: share of the frames that draw this hand in which it is found. None where nothing is drawn.
    """
    inside = in_frame(drawn)
    asked = (drawn.scores[:, BODY] > VISIBLE) & inside[:, BODY]
    there = asked & (found.scores[:, BODY] > VISIBLE)
    apart = np.linalg.norm(found.keypoints[:, BODY] - drawn.keypoints[:, BODY], axis=-1) / body_height(drawn)
    shown = asked.any(1)
    figures = {
        "pose_found": _mean(found.scores[shown].any(1)),
        "error_percent": _mean(100 * apart[there]),
        "pck_10": _mean((there & (apart < 0.10))[asked]),
        "pck_05": _mean((there & (apart < 0.05))[asked]),
    }
    for name, hand in (("left_hand", LEFT_HAND), ("right_hand", RIGHT_HAND)):
        seen = ((drawn.scores[:, hand] > VISIBLE) & inside[:, hand]).mean(1) >= HALF
        figures[name] = _mean(found.scores[seen, hand].any(1))
    return figures


def _mean(values: np.ndarray) -> float | None:
    """The mean; None of nothing."""
    return float(values.mean()) if len(values) else None
