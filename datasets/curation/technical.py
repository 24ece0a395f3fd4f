"""Scores of the picture: length, size, rate, black, exposure, stills, sharpness, camera."""

from itertools import pairwise

import cv2
import numpy as np

from .camera import camera_step, shift_of
from .clip import Frames, Probe
from .sharpness import sharpness

BLACK = 20.0
"""Mean luma of a black frame at most, 0 to 255: limited-range black with the noise of a dark scene."""
STILL = 0.7
"""Mean change of an 8 x 8 block, in levels, that coding alone makes in a picture held still."""
BLOCK = 8
REPEATED = 0.1
"""A frame repeats the one before where it changes less than this part of the usual change around."""
RIM = 0.22
"""Part of a side in which the camera's motion is looked for."""
SOFT = 1.5
"""Blur of pictures that are compared, pixels: interpolation sharpens and softens what it moves."""
LEFT = 8.0
"""Levels that may be left of any change."""
EXPLAINED = 0.4
"""The part of a change that may be left when one motion of the picture explains it: interpolation, coding."""


def duration(probe: Probe) -> float:
    """Seconds."""
    return float(probe.clip.duration)


def size(probe: Probe) -> float:
    """Pixels of the shorter side, without bars."""
    picture = probe.clip.picture(probe.info)
    return float(min(picture.width, picture.height))


def fps(probe: Probe) -> float:
    """Frames a second."""
    return float(probe.clip.fps)


def luma(pictures: np.ndarray) -> np.ndarray:
    """Rec. 601 luma float32 [N, H, W] of uint8 RGB [N, H, W, 3]."""
    return pictures.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def damaged(probe: Probe) -> float:
    """The share of frames that did not decode, or only with errors: 0 to 1."""
    return probe.damaged / (probe.clip.end_frame - probe.clip.start_frame)


def black(frames: Frames) -> float:
    """The share of frames that are black: 0 to 1."""
    return float((luma(frames.small).mean((1, 2)) < BLACK).mean())


def exposure(frames: Frames) -> float:
    """Mean luma of the middle sample by brightness, 0 to 255."""
    return float(np.median(luma(frames.samples).mean((1, 2))))


def changes(frames: Frames) -> np.ndarray:
    """Change from each frame to the next float32 [T - 1]: of the 8 x 8 block that changes most, in levels."""
    gray = luma(frames.small)
    height, width = (side // BLOCK * BLOCK for side in gray.shape[1:])
    moved = np.abs(np.diff(gray[:, :height, :width], axis=0))
    blocks = moved.reshape(len(moved), height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean((2, 4))
    return blocks.max((1, 2)) if len(blocks) else np.zeros(0, np.float32)


def frozen(frames: Frames) -> float:
    """Seconds of the longest stretch in which nothing changes."""
    longest = run = 0
    for still in changes(frames) < STILL:
        run = run + 1 if still else 0
        longest = max(longest, run)
    return float(longest / frames.clip.fps)


def distinct_fps(frames: Frames) -> float:
    """Frames a second that differ from the one before, where there is motion at all.

    A frame repeats the one before where it changes less than REPEATED of the usual change around.
    """
    change = changes(frames)
    if not len(change):
        return float(frames.clip.fps)
    reach = max(2, round(frames.clip.fps / 2))
    around = np.array(
        [np.quantile(change[max(0, i - reach) : i + reach + 1], 0.8) for i in range(len(change))]
    )
    moving = around >= STILL
    if not moving.any():
        return float(frames.clip.fps)
    return float(frames.clip.fps) * float((change[moving] >= REPEATED * around[moving]).mean())


def slideshow(frames: Frames) -> float:
    """The share of time in which nothing moves, or the picture as a whole: 0 to 1.

    Pictures half a second apart are compared: a slow zoom changes less than coding does from frame to frame.
    """
    every = max(1, round(frames.clip.fps / 4))
    gray = luma(frames.small).astype(np.uint8)[::every]
    rigid = [explained(before, after) for before, after in zip(gray, gray[2:], strict=False)]
    return float(np.mean(rigid)) if rigid else 0.0


def explained(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether one motion of the whole picture takes `before` to `after`, uint8 luma [H, W]."""
    motion = camera_step(before, after)
    before, after = (cv2.GaussianBlur(picture, (0, 0), SOFT) for picture in (before, after))
    changed = most_changed(before, after)
    if changed < STILL:
        return True
    size = (before.shape[1], before.shape[0])
    moved = cv2.warpAffine(before, motion, size, borderMode=cv2.BORDER_REPLICATE)
    shown = cv2.warpAffine(np.full_like(before, 255), motion, size) == 255
    left = most_changed(np.where(shown, moved, after), after)
    return left < min(max(STILL, EXPLAINED * changed), LEFT)


def most_changed(before: np.ndarray, after: np.ndarray) -> float:
    """Mean change of the 8 x 8 block that changes most, in levels; both uint8 [H, W]."""
    difference = cv2.absdiff(before, after)
    height, width = (side // BLOCK * BLOCK for side in difference.shape)
    blocks = difference[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)
    return float(blocks.mean((1, 3)).max())


def sharp(frames: Frames) -> float:
    """Sharpness of the middle sample by sharpness, 0 to 1."""
    gray = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in frames.samples]
    return float(np.median([sharpness(picture) for picture in gray]))


def camera(frames: Frames) -> float:
    """Speed of the camera in longer sides of the picture a second, the mean over the clip.

    Points along the left, right and upper edge are followed: dancers are mostly in the middle.
    """
    every = max(1, round(frames.clip.fps / 10))
    gray = luma(frames.small).astype(np.uint8)[::every]
    height, width = gray.shape[1:]
    rim = np.full((height, width), 255, np.uint8)
    rim[round(RIM * height) :, round(RIM * width) : round((1 - RIM) * width)] = 0
    ways = [shift_of(camera_step(before, after, rim), width, height) for before, after in pairwise(gray)]
    seconds = max(1, len(gray) - 1) * every / float(frames.clip.fps)
    return float(sum(ways) / max(height, width) / seconds)
