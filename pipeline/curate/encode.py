"""A clip as training gets it: cropped around the dancer, at its exact constant rate, with its poses."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...datasets.clip_shards import boxes_of
from ...datasets.curation.clip import Box, Clip
from ...datasets.curation.crop import crop_box
from ...datasets.curation.people import wanted_frames
from ...stages.atomic import atomic_path
from ...stages.media.encode import VideoWriter
from ...stages.pose.files import load_poses
from ...stages.pose.render import draw_control_frames
from ...stages.types import PoseSequence, VideoInfo
from ..progress import stage
from .config import ClipEncodeConfig, CurateConfig

CLIP, POSES, GUIDE = "clip.mp4", "clip.npz", "guide.mp4"
"""The files of an encoded clip."""
CAPTIONED = 8
"""Pictures of a clip that a caption is made of, evenly spread."""


def encode_clip(
    clip: Clip,
    info: VideoInfo,
    poses: PoseSequence,
    wanted: np.ndarray,
    config: CurateConfig,
    folder: Path,
    caption: Callable[[np.ndarray], str] | None,
) -> Mapping[str, Any]:
    """Write the source's frames `wanted`, cropped, and their poses cropped alike; returns the facts."""
    box = crop_box(poses, clip.picture(info), Fraction(config.width, config.height))
    size = encoded_size(box, (config.width, config.height))
    shown = set(np.linspace(0, len(wanted) - 1, min(CAPTIONED, len(wanted))).round().astype(int).tolist())
    pictures = []
    writer = VideoWriter(folder / CLIP, *size, poses.fps, crf=config.encode.crf, preset=config.encode.preset)
    with stage("encode", len(wanted)) as advance, writer:
        for number, frame in enumerate(wanted_frames(clip, wanted, config.max_pixels)):
            picture = np.ascontiguousarray(box.of(frame))
            if picture.shape[1::-1] != size:
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            writer.write(picture)
            if caption is not None and number in shown:
                pictures.append(picture)
            advance(1)
    cut = cropped(poses, box, size)
    with atomic_path(folder / POSES) as temporary, temporary.open("wb") as file:
        arrays = {"keypoints": cut.keypoints, "scores": cut.scores, "size": np.array(size, np.int64)}
        rate = np.array([cut.fps.numerator, cut.fps.denominator], np.int64)
        np.savez_compressed(file, **arrays, fps=rate, **boxes_of(cut))
    return {
        "frames": writer.num_frames,
        "fps": str(poses.fps),
        "width": size[0],
        "height": size[1],
        "crop": [box.x0, box.y0, box.x1, box.y1],
        "caption": None if caption is None else str(caption(np.stack(pictures))),
    }


def encoded_size(box: Box, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of what is written of a crop: no larger than `size`, nor than the crop, and even."""
    scale = min(1.0, size[0] / box.width, size[1] / box.height)
    width, height = (max(2, round(side * scale / 2) * 2) for side in (box.width, box.height))
    return width, height


def cropped(poses: PoseSequence, box: Box, size: tuple[int, int]) -> PoseSequence:
    """Poses in pixels of a crop that was scaled to `size`."""
    scale = np.array([size[0] / box.width, size[1] / box.height], np.float32)
    points = (poses.keypoints - np.array([box.x0, box.y0], np.float32)) * scale
    points = np.where(poses.scores[..., None] > 0, points, 0)
    return PoseSequence(points, poses.scores, size, poses.fps)


def write_guide(folder: Path, encode: ClipEncodeConfig) -> None:
    """The control frames of an encoded clip as a video, red and blue exchanged as published."""
    poses = load_poses(folder / POSES)
    with (
        stage("guide", len(poses)) as advance,
        VideoWriter(folder / GUIDE, *poses.size, poses.fps, crf=encode.crf, preset=encode.preset) as writer,
    ):
        for frame in draw_control_frames(poses, *poses.size):
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
            advance(1)
