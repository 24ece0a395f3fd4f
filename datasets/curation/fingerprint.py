"""What tells copies of a clip from other clips: hashes of its pictures, its dance, the dancer's looks."""

from dataclasses import dataclass

import cv2
import numpy as np

from ...stages.pose.skeleton import VISIBLE
from .clip import DensePoses, Frames

RATE = 5
"""Moments a second: between two, a wrist moves by less than half the trunk."""
JOINTS = [0, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
"""Nose, shoulders, elbows, wrists, hips, knees, ankles of the 133."""
MIRRORED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11]
"""Places in JOINTS of the same joints in a mirrored picture."""
HASH_SIZE = 32
"""Pixels of a side of the picture whose lowest 8 x 8 frequencies are hashed."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What duplicates are found by. All arrays can be stored; N samples, M moments, RATE a second.

    `hashes` uint64 [N] of the samples; `poses` float32 [M, 13, 2], joints in lengths of the trunk from the
    middle of the shoulders, NaN where not seen; `looks` uint8 [M, 16, 16, 3], the dancer around the trunk;
    `pixels` of the picture inside the bars: of copies, the largest is kept.
    """

    hashes: np.ndarray
    poses: np.ndarray
    looks: np.ndarray
    pixels: int


def fingerprint(frames: Frames, dense: DensePoses) -> Fingerprint:
    """The fingerprint of a clip whose dancer is known."""
    poses = dense.poses
    count = max(1, int(len(poses) / poses.fps * RATE))
    moments = np.minimum([int(k * poses.fps / RATE) for k in range(count)], len(poses) - 1)
    return Fingerprint(
        np.array([perceptual_hash(picture) for picture in frames.samples], np.uint64),
        normalized(dense)[moments],
        dense.looks[moments],
        dense.picture.width * dense.picture.height,
    )


def perceptual_hash(picture: np.ndarray) -> int:
    """64 bits of a picture uint8 [H, W, 3]: which low frequencies lie above their median (pHash)."""
    luma = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(luma, (HASH_SIZE, HASH_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    return sum(1 << i for i, above in enumerate(low > np.median(low[1:])) if above)


def normalized(dense: DensePoses) -> np.ndarray:
    """Joints float32 [T, 13, 2] as Fingerprint has them: one scale for the clip, one origin a frame."""
    points, scores = dense.poses.keypoints[:, JOINTS], dense.poses.scores[:, JOINTS]
    box = dense.picture
    inside = ((points >= (box.x0, box.y0)) & (points < (box.x1, box.y1))).all(-1)
    points = np.where(((scores > VISIBLE) & inside)[..., None], points, np.nan)
    shoulders = points[:, 1:3].mean(1)
    trunks = np.linalg.norm(points[:, 7:9].mean(1) - shoulders, axis=-1)
    known = trunks[np.isfinite(trunks)]
    trunk = max(float(np.median(known)), 1.0) if len(known) else np.nan
    return ((points - shoulders[:, None]) / trunk).astype(np.float32)


def mirrored(poses: np.ndarray) -> np.ndarray:
    """Joints [..., 13, 2] of the same dance in a mirrored picture."""
    return poses[..., MIRRORED, :] * np.array([-1, 1], np.float32)
