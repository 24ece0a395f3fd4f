"""Whole clips in tar files, laid out as webdataset reads them: a video, its poses, and what is known of it.

    KEY.json        {"frames": 150, "fps": "30", ...}: what training needs, and whatever else the writer knows
    KEY.mp4         the clip at a constant rate
    KEY.poses.npz   its poses as `save_poses` writes them, with boxes of hands and face (`boxes_of`)

`curate` writes them. Unlike the clips of `shards`, these have no size, length or spacing yet: training cuts
and draws them as its own config says, as it does with videos in a folder.
"""

import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..stages.atomic import atomic_path
from ..stages.errors import ConfigError
from ..stages.pose.skeleton import FACE, LEFT_HAND, RIGHT_HAND, VISIBLE
from ..stages.types import PoseSequence
from .clips import BadRecord
from .shards import Places, index_shard, read_place, shards_in
from .video_clips import Source

VIDEO, POSES, ABOUT = "mp4", "poses.npz", "json"
"""The ends of the names of a clip's files."""


@dataclass(frozen=True, slots=True)
class PackedClip:
    """A clip to be put into a shard: its files, and its JSON with at least `frames` and `fps`."""

    key: str
    video: Path
    poses: Path
    about: Mapping[str, Any]


def write_clip_shard(path: Path, clips: Iterable[PackedClip]) -> None:
    """Write clips as one tar, whole or not at all; the same clips give the same bytes."""
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT) as tar:
        for clip in clips:
            about = json.dumps(clip.about, indent=1, ensure_ascii=False).encode()
            _add(tar, f"{clip.key}.{ABOUT}", len(about), io.BytesIO(about))
            for end, source in ((VIDEO, clip.video), (POSES, clip.poses)):
                with source.open("rb") as file:
                    _add(tar, f"{clip.key}.{end}", source.stat().st_size, file)


def _add(tar: tarfile.TarFile, name: str, size: int, file: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, file)


def boxes_of(poses: PoseSequence) -> dict[str, np.ndarray]:
    """Boxes around hands and face in each frame, as fractions of the picture, for who reads the shards.

    `hands_boxes` float32 [T, 2, 2, 2]: left and right hand, corners, x and y; `hands_score` float32 [T, 2],
    the mean of the hand's keypoints; `face_boxes` [T, 2, 2] and `face_score` [T] alike. A box without a
    visible keypoint is all 0.
    """
    hands = [_boxes(poses, part) for part in (LEFT_HAND, RIGHT_HAND)]
    face = _boxes(poses, FACE)
    return {
        "hands_boxes": np.stack([boxes for boxes, _ in hands], axis=1),
        "hands_score": np.stack([score for _, score in hands], axis=1),
        "face_boxes": face[0],
        "face_score": face[1],
    }


def _boxes(poses: PoseSequence, part: slice) -> tuple[np.ndarray, np.ndarray]:
    points = poses.keypoints[:, part] / np.array(poses.size, np.float32)
    seen = (poses.scores[:, part] > VISIBLE)[..., None]
    low = np.where(seen, points, np.inf).min(1)
    high = np.where(seen, points, -np.inf).max(1)
    boxes = np.where(seen.any(1)[..., None], np.stack([low, high], axis=1), 0)
    return boxes.astype(np.float32), poses.scores[:, part].mean(1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ShardSource:
    """A clip in a tar, whose files lie in a temporary folder while they are read."""

    shard: Path
    key: str
    places: Places
    fps: Fraction
    frames: int

    @property
    def name(self) -> str:
        return self.key

    def files(self) -> list[Path]:
        return [self.shard]

    @contextmanager
    def unpacked(self) -> Iterator[Source]:
        """Raises ConfigError where the tar breaks off in this clip."""
        with tempfile.TemporaryDirectory(prefix="posedance-") as folder:
            video, poses = Path(folder, f"clip.{VIDEO}"), Path(folder, f"clip.{POSES}")
            try:
                with self.shard.open("rb") as file:
                    for path, end in ((video, VIDEO), (poses, POSES)):
                        path.write_bytes(read_place(file, *self.places[end]))
            except (OSError, ValueError) as error:
                raise ConfigError(str(error)) from error
            yield Source(video, self.fps, self.frames, poses=poses)

    def __str__(self) -> str:
        return f"{self.shard}:{self.key}"


def holds_clips(folder: Path) -> bool:
    """Whether the shards of a folder are of this kind. ConfigError where there are none."""
    found, _ = index_shard(shards_in(folder)[0])
    return any(VIDEO in places for places in found.values())


def shard_sources(folder: Path) -> tuple[list[ShardSource], list[BadRecord]]:
    """The clips of all shards of a folder, in the order of their names. ConfigError where there are none."""
    sources, bad = [], []
    for shard in shards_in(folder):
        found, fault = index_shard(shard)
        if fault is not None:
            bad.append(BadRecord(str(shard), f"{fault} after {len(found)} clips"))
        with shard.open("rb") as file:
            for key, places in found.items():
                try:
                    sources.append(_shard_source(shard, file, key, places))
                except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
                    bad.append(BadRecord(f"{shard}:{key}", f"it is no clip ({error!r})"))
    return sources, bad


def _shard_source(shard: Path, file: io.BufferedReader, key: str, places: Places) -> ShardSource:
    about = json.loads(read_place(file, *places[ABOUT]))
    for end in (VIDEO, POSES):
        if end not in places:
            raise ValueError(f"its {end} is missing")
    return ShardSource(shard, key, places, Fraction(about["fps"]), int(about["frames"]))
