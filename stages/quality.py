"""How good a result is: against the true frames where they are known, and by itself.

Frames are uint8 [T, H, W, 3] RGB. Positions come from colours: every pixel of a picture is given to the part
whose colour it is nearest to, so a result needs no detector to be judged.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

SHARE = 0.7
"""A pixel belongs to a part when its colour is this much nearer to it than to the next."""
FARTHEST_COLOUR = 40.0
"""And at most this far from it, in CIELAB."""
MISSING = 0.2
"""Position error of a part that is not found at all, in picture heights."""
LEAST_ERROR = 1e-12
"""Mean squared error that equal pictures count with, in squared ranges: 120 dB."""
FEWEST = 3
"""Pixels that make a part."""


def psnr(frames: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, mean over the frames."""
    squared = ((frames.astype(np.float64) - truth) ** 2).mean((1, 2, 3))
    return float(np.mean([decibels(value, 255) for value in squared]))


def decibels(squared: float, span: float) -> float:
    """Peak signal-to-noise ratio in dB, at most 120, of a mean squared error of values that span `span`."""
    return float(10 * np.log10(span**2 / max(squared, LEAST_ERROR * span**2)))


def ssim(frames: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004), mean over the frames, by torchmetrics."""
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    first, second = (
        torch.from_numpy(np.moveaxis(video, -1, 1).astype(np.float32)) for video in (frames, truth)
    )
    return float(structural_similarity_index_measure(first, second, data_range=255.0))  # pyright: ignore[reportArgumentType]


def lab(frames: np.ndarray) -> np.ndarray:
    """CIELAB float32 [..., 3] of uint8 RGB [..., 3]: L 0..100."""
    flat = frames.reshape(-1, 1, 3).astype(np.float32) / 255
    return cv2.cvtColor(flat, cv2.COLOR_RGB2LAB).reshape(frames.shape)


def part_colours(truth: np.ndarray, masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Mean CIELAB [3] of each part in the true frames; `masks` bool [T, H, W]. Unseen parts are left out."""
    colours = lab(truth)
    return {name: colours[mask].mean(0) for name, mask in masks.items() if mask.sum() >= FEWEST}


def background_colours(truth: np.ndarray, background: np.ndarray, count: int = 6) -> np.ndarray:
    """CIELAB [count, 3]: what the background (bool [T, H, W]) consists of, by k-means."""
    pixels = lab(truth)[background]
    pixels = pixels[:: max(1, len(pixels) // 20000)]
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, 20, 0.0)
    _, _, centres = cv2.kmeans(pixels, count, np.empty(0, np.int32), criteria, 2, cv2.KMEANS_PP_CENTERS)
    return np.asarray(centres)


def find_parts(
    frames: np.ndarray, colours: Mapping[str, np.ndarray], background: np.ndarray
) -> dict[str, np.ndarray]:
    """Where each part's colour is, bool [T, H, W]: clearly nearer to it than to any other."""
    pixels = lab(frames)
    names = list(colours)
    others = np.concatenate([np.stack([colours[name] for name in names]), background])
    distances = np.linalg.norm(pixels[..., None, :] - others, axis=-1)
    nearest_two = np.partition(distances, 1, axis=-1)
    clear = (nearest_two[..., 0] < SHARE * nearest_two[..., 1]) & (nearest_two[..., 0] < FARTHEST_COLOUR)
    winner = distances.argmin(-1)
    return {name: clear & (winner == i) for i, name in enumerate(names)}


def masked_psnr(frames: np.ndarray, truth: np.ndarray, masks: np.ndarray) -> float:
    """As `psnr`, over the box around each frame's mask, bool [T, H, W]; frames without any are left out.

    NaN where no frame has one.
    """
    found = []
    for frame, true, mask in zip(frames, truth, masks, strict=True):
        if mask.any():
            rows, columns = np.nonzero(mask)
            box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
            found.append(psnr(frame[box][None], true[box][None]))
    return float(np.mean(found)) if found else float("nan")


def ghost(frames: np.ndarray, truth: np.ndarray, figure: np.ndarray, reference: np.ndarray) -> float:
    """What stays of the reference's dancer: how much larger the background's error is where they stood.

    `figure` bool [T, H, W]: where the true frames show the dancer; `reference` bool [H, W]: where the
    reference does. The mean absolute error of the background inside that silhouette minus elsewhere, in
    levels of 255; NaN where either is empty.
    """
    error = np.abs(frames.astype(np.float32) - truth).mean(-1)
    inside, outside = error[~figure & reference], error[~figure & ~reference]
    return float(inside.mean() - outside.mean()) if len(inside) and len(outside) else float("nan")


def centroids(mask: np.ndarray) -> np.ndarray | None:
    """(x, y) of a mask [H, W], or None where it is nearly empty."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()]) if len(rows) >= FEWEST else None


def position_errors(found: np.ndarray, truths: Sequence[np.ndarray]) -> list[float]:
    """How far a part is from where it belongs, in picture heights, in one frame.

    `found` bool [H, W]: pixels of its colour. `truths`: masks of the true part, one for each side; a found
    pixel counts for the side whose true centroid is nearer. Sides that the truth hides are left out.
    """
    height = found.shape[0]
    goals = [goal for mask in truths if (goal := centroids(mask)) is not None]
    rows, columns = np.nonzero(found)
    if not goals:
        return []
    if len(rows) < FEWEST:
        return [MISSING] * len(goals)
    points = np.stack([columns, rows], axis=1)
    sides = np.stack([np.linalg.norm(points - goal, axis=1) for goal in goals]).argmin(0)
    errors = []
    for i, goal in enumerate(goals):
        mine = points[sides == i]
        error = np.linalg.norm(mine.mean(0) - goal) / height if len(mine) >= FEWEST else MISSING
        errors.append(min(float(error), MISSING))
    return errors


def hit(frame: np.ndarray, truth: np.ndarray, point: np.ndarray, tolerance: float = 25.0) -> bool:
    """Whether a picture has the true colour at a point (x, y): 3 x 3 pixels, within CIELAB `tolerance`."""
    x, y = (round(float(v)) for v in point)
    height, width = truth.shape[:2]
    x, y = min(max(x, 1), width - 2), min(max(y, 1), height - 2)
    box = slice(y - 1, y + 2), slice(x - 1, x + 2)
    return bool(np.linalg.norm(lab(frame[box]).mean((0, 1)) - lab(truth[box]).mean((0, 1))) < tolerance)


def flicker(frames: np.ndarray, truth: np.ndarray) -> float:
    """Mean size of the second temporal difference over the truth's: 1 is as smooth as the truth."""
    if len(frames) < 3:
        return 1.0
    mine, true = (np.abs(np.diff(video.astype(np.float32), 2, axis=0)).mean() for video in (frames, truth))
    return float(mine / max(true, 1e-6))


def seam_score(frames: np.ndarray, joints: Sequence[int], truth: np.ndarray | None = None) -> float:
    """Change into the frames `joints` over the median change elsewhere; 1 means that no joint is seen.

    With the true frames, each change is first divided by the true one. 1 where there is no joint.
    """
    changes = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean((1, 2, 3))
    if truth is not None:
        changes = changes / np.maximum(
            np.abs(np.diff(truth.astype(np.float32), axis=0)).mean((1, 2, 3)), 1e-6
        )
    return seam_of_changes(changes, joints)


def seam_of_changes(changes: np.ndarray, joints: Sequence[int]) -> float:
    """`seam_score` from the change into each frame but the first, [T - 1]."""
    at = sorted({joint - 1 for joint in joints if 0 < joint <= len(changes)})
    elsewhere = np.delete(changes, at)
    if not at or not len(elsewhere):
        return 1.0
    return float(changes[at].mean() / max(float(np.median(elsewhere)), 1e-6))
