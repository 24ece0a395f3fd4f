"""What is seen in the frames of a result that pass by: seams, flicker, and colours that drift."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ...stages.pose.skeleton import BODY, VISIBLE
from ...stages.quality import lab, seam_of_changes
from ...stages.types import PoseSequence

MARGIN = 0.15
"""Room around the body joints that is the dancer too (hair, hands), in the longer sides of their box."""
TORSO = [5, 6, 12, 11]
"""The corners of the torso, in turn."""
LEAST = 0.02
"""Part of the picture that has to be left to speak of its background."""
MOMENTS = 10
"""Moments of the video of which colours are told."""


class Watch:
    """Sees each frame of a result once, uint8 RGB [H, W, 3], in order; holds three of them.

    `drawn`: the dancer's pose in these frames; `still`: the reference image as it lies in them, uint8
    [H, W, 3], and `own` the character's pose there.
    """

    def __init__(self, drawn: PoseSequence, still: np.ndarray, own: PoseSequence) -> None:
        self._drawn = drawn
        self._still = lab(still)
        self._behind = ~dancer_mask(own, 0)
        self._torso = mean_colour(self._still, torso_mask(own, 0))
        self._last: list[tuple[np.ndarray, np.ndarray]] = []
        self._changes: list[float] = []
        self._flicker: list[float] = []
        self._colours: dict[str, list[float]] = {"background": [], "torso": []}

    @property
    def seen(self) -> int:
        """How many frames were seen."""
        return len(self._colours["background"])

    def see(self, frame: np.ndarray) -> None:
        """Take the next frame."""
        index = self.seen
        here, away = frame.astype(np.float32), ~dancer_mask(self._drawn, index)
        self._last = [*self._last[-2:], (here, away)]
        if len(self._last) > 1:
            self._changes.append(float(np.abs(here - self._last[-2][0]).mean()))
        if len(self._last) == 3:
            (a, _), (b, _), (c, _) = self._last
            still = np.logical_and.reduce([mask for _, mask in self._last])
            if still.mean() >= LEAST:
                self._flicker.append(float(np.abs(a - 2 * b + c)[still].mean()))
        colours = lab(frame)
        self._colours["background"].append(drift(colours, self._still, away & self._behind))
        torso = mean_colour(colours, torso_mask(self._drawn, index))
        off = float("nan")
        if self._torso is not None and torso is not None:
            off = float(np.linalg.norm(torso - self._torso))
        self._colours["torso"].append(off)

    def figures(self, joints: Sequence[int]) -> dict[str, Any]:
        """What was seen. `joints`: the frames at which windows begin, but the first.

        `seam_score`: see `seam_score`. `flicker`: mean size of the second difference from frame to frame
        where no dancer is drawn, in levels of 255. `background_first` and `_last`, `torso_first` and `_last`:
        CIELAB distance (CIE 1976) from the reference image over the first and the last tenth of the frames,
        of the pixels where neither dancer nor character stands, and of the mean colour of the torso;
        `..._over_time` the same over ten parts of the video. None of what is not seen.
        """
        told: dict[str, Any] = {
            "seam_score": seam_of_changes(np.array(self._changes), joints),
            "flicker": float(np.mean(self._flicker)) if self._flicker else None,
        }
        for name, values in self._colours.items():
            parts = [mean_known(part) for part in np.array_split(values, min(MOMENTS, len(values)))]
            known = [part for part in parts if part is not None]
            told[f"{name}_first"], told[f"{name}_last"] = (known[0], known[-1]) if known else (None, None)
            told[f"{name}_over_time"] = parts
        return told


def dancer_mask(poses: PoseSequence, frame: int) -> np.ndarray:
    """Where the dancer is in a frame, with some room: bool [H, W]; nowhere without a pose."""
    mask = np.zeros(poses.size[::-1], bool)
    joints = poses.keypoints[frame, BODY][poses.scores[frame, BODY] > VISIBLE]
    if len(joints):
        room = MARGIN * np.ptp(joints, axis=0).max()
        left, top = np.maximum(joints.min(0) - room, 0).astype(int)
        right, bottom = np.maximum(np.ceil(joints.max(0) + room), 0).astype(int)
        mask[top:bottom, left:right] = True
    return mask


def torso_mask(poses: PoseSequence, frame: int) -> np.ndarray:
    """Where the torso is in a frame, bool [H, W]; nowhere where a corner of it is not seen."""
    mask = np.zeros(poses.size[::-1], np.uint8)
    if (poses.scores[frame, TORSO] > VISIBLE).all():
        cv2.fillConvexPoly(mask, poses.keypoints[frame, TORSO].round().astype(np.int32), (1,))
    return mask.astype(bool)


def mean_colour(colours: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """Mean CIELAB [3] of `colours` [H, W, 3] under a mask [H, W]; None where that is empty."""
    return colours[mask].mean(0) if mask.any() else None


def drift(colours: np.ndarray, still: np.ndarray, mask: np.ndarray) -> float:
    """Distance of the mean CIELAB of two pictures under a mask; of the whole where hardly any is left."""
    if mask.mean() < LEAST:
        mask = np.ones_like(mask)
    return float(np.linalg.norm(colours[mask].mean(0) - still[mask].mean(0)))


def mean_known(values: np.ndarray) -> float | None:
    """The mean of what is a number; None without any."""
    known = values[np.isfinite(values)]
    return round(float(known.mean()), 3) if len(known) else None
