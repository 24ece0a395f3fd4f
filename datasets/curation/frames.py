"""One pass over a clip: every frame small, some of them larger."""

from collections.abc import Iterator

import cv2
import numpy as np

from ...stages.media import video
from ...stages.media.one_size import scaled_down
from ...stages.types import LARGEST_FRAME, VideoInfo
from .clip import Box, Clip, Frames

SMALL = 128
"""Pixels of the longer side of every frame: enough for changes and camera motion, 28 kB a frame."""
SAMPLE = 640
"""Pixels of the longer side of samples at most: people, text and blur are found there."""
SAMPLES_A_SECOND = 2
"""NeMo Curator's 2 frames a second for motion, captions and text."""


def frames_of(clip: Clip, info: VideoInfo, max_pixels: int = LARGEST_FRAME) -> Frames:
    """Decode the clip once. Raises VideoError where it cannot be read."""
    every = max(1, round(clip.fps / SAMPLES_A_SECOND))
    first = min(every, clip.end_frame - clip.start_frame) // 2
    small, samples, index = [], [], []
    part = scaled(clip.picture(info), info, min(1.0, SAMPLE / max(info.width, info.height)))
    longest = min(SAMPLE, max(info.width, info.height))
    for number, frame in enumerate(read_clip(clip, longest, max_pixels)):
        picture = part.of(frame)
        if number % every == first:
            samples.append(picture.copy())
            index.append(number)
        small.append(shrink(picture, SMALL))
    return Frames(info, clip, np.stack(small), np.stack(samples), np.array(index, np.int64))


def read_clip(
    clip: Clip,
    longest_side: int | None = None,
    max_pixels: int = LARGEST_FRAME,
    stride: int = 1,
) -> Iterator[np.ndarray]:
    """The clip's frames, every `stride`-th, as `stages.media.video.read_frames` gives them."""
    part = video.Clip(clip.start, clip.duration, stride, max_pixels=max_pixels)
    return video.read_frames(clip.source, part, None, longest_side)


def shrink(picture: np.ndarray, longest_side: int) -> np.ndarray:
    """A picture [H, W, 3] with the longer side at most so long, by the mean of the pixels under each."""
    height, width = picture.shape[:2]
    width, height = scaled_down((width, height), longest_side)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def scaled(box: Box, info: VideoInfo, scale: float) -> Box:
    """The box in a picture of the source scaled by `scale`: no pixel of what lies outside."""
    full = scaled_down((info.width, info.height), round(max(info.width, info.height) * scale))
    across, down = full[0] / info.width, full[1] / info.height
    low = int(np.ceil(box.x0 * across - 1e-6)), int(np.ceil(box.y0 * down - 1e-6))
    high = int(box.x1 * across + 1e-6), int(box.y1 * down + 1e-6)
    return Box(low[0], low[1], max(high[0], low[0] + 1), max(high[1], low[1] + 1))
