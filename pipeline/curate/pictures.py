"""What people look at: a strip of moments of each clip, with those who were found drawn in."""

from pathlib import Path

import cv2
import numpy as np

from ...datasets.curation.clip import DensePoses, Frames, SparsePoses
from ...datasets.curation.scores import Level
from ...stages.atomic import atomic_path
from ...stages.pose.render import draw_overlay

MOMENTS = 6
"""Moments of a strip, evenly spread over the clip."""
MOMENT_HEIGHT = 180
"""Pixels of a moment from top to bottom."""
WIDEST = 320
"""Pixels of a moment from left to right at most."""
QUALITY = 85


def strip_of(level: Level) -> str:
    """The name of the strip that a level leaves."""
    return f"strip-{level}.jpg"


def frames_strip(path: Path, frames: Frames) -> None:
    """Moments of a clip in which nobody was looked for."""
    _write(path, [frames.samples[i] for i in moments(len(frames.samples))])


def sparse_strip(path: Path, frames: Frames, found: SparsePoses) -> None:
    """Moments with everybody who was found."""
    tiles = []
    for i in moments(len(found.people)):
        tile = frames.samples[found.looked_at[i]]
        for points, scores in zip(found.people[i].keypoints, found.people[i].scores, strict=True):
            tile = draw_overlay(tile, points, scores)
        tiles.append(tile)
    _write(path, tiles)


def dense_strip(path: Path, frames: Frames, found: DensePoses) -> None:
    """Moments with the dancer."""
    tiles, box = [], found.picture
    height, width = frames.samples.shape[1:3]
    scale = np.array([width / box.width, height / box.height], np.float32)
    for i in moments(len(frames.samples)):
        number = frames.clip.start_frame + int(frames.sample_index[i])
        frame = int(np.abs(found.source_frames - number).argmin())
        points = (found.poses.keypoints[frame] - np.array([box.x0, box.y0], np.float32)) * scale
        tiles.append(draw_overlay(frames.samples[i], points, found.poses.scores[frame]))
    _write(path, tiles)


def moments(count: int) -> list[int]:
    """Which of so many samples a strip shows."""
    return np.unique(np.linspace(0, count - 1, min(MOMENTS, count)).round().astype(int)).tolist()


def _write(path: Path, tiles: list[np.ndarray]) -> None:
    height, width = tiles[0].shape[:2]
    scale = min(MOMENT_HEIGHT / height, WIDEST / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    row = [cv2.resize(tile, size, interpolation=cv2.INTER_AREA) for tile in tiles]
    write_jpeg(path, np.concatenate(row, axis=1))


def write_jpeg(path: Path, picture: np.ndarray) -> None:
    """Write uint8 [H, W, 3] RGB, whole or not at all."""
    bgr = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())
