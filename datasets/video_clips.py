"""Training clips from videos: the layout that the published ControlNeXt-SVD training reads, and folders.

The published `meta_info.json` is a list of `{"video_path", "guide_path", "meta_info"}`: a video, a video of
its drawn poses, and a JSON file with one object for each frame, in which `hands_boxes` [2, 2, 2] (corners x,
y from 0 to 1) and `hands_score` [2, 21] say where hands are. Its guide videos hold red and blue exchanged;
the published training exchanges them again, and so is done here.

In a folder, each video has a pose file beside it with its own name: `dance.mp4` and `dance.npz` (or `.json`).
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..stages.errors import ConfigError, PosedanceError
from ..stages.media import video
from ..stages.media.picture import fit_cover
from ..stages.pose.files import load_poses
from ..stages.pose.render import draw_control_frames
from ..stages.pose.skeleton import FACE, LEFT_HAND, RIGHT_HAND, VISIBLE
from ..stages.types import PoseSequence
from .clips import BadRecord, Clip, ClipSpec
from .puppets.render import PARTS

VIDEO_ENDS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}
HAND_SCORE = 0.5
"""Hands of a lower mean score get no weight of their own, as published."""
BOX_MARGIN = 8
"""Pixels around a box; `loss_weights` adds two more, which makes the published ten."""
DRAWN = 32
"""A guide's frame whose brightest value is at most this shows nobody: compression leaves black below it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A video of `frames` frames with poses: a guide video and the file of its detections, or a pose file.

    Poses may have been found on every `stride`-th frame of the video only; `frames` counts those. Frame k of
    the guide belongs to frame k of the video, whatever its own rate `guide_fps` is.
    """

    video: Path
    fps: Fraction
    frames: int
    stride: int = 1
    guide: Path | None = None
    guide_fps: Fraction | None = None
    detections: Path | None = None
    poses: Path | None = None

    @property
    def name(self) -> str:
        return self.video.name

    def files(self) -> list[Path]:
        """All files that decide its clips."""
        named = (self.video, self.guide, self.detections, self.poses)
        return [path for path in named if path is not None]

    def unpacked(self) -> AbstractContextManager["Source"]:
        """The source as files of this machine: what it is already."""
        return nullcontext(self)

    def __str__(self) -> str:
        return str(self.video)


class PackedSource(Protocol):
    """A source of `frames` frames that becomes files when it is read: a video with its poses in a tar."""

    @property
    def name(self) -> str: ...

    @property
    def frames(self) -> int: ...

    def files(self) -> list[Path]: ...

    def unpacked(self) -> AbstractContextManager[Source]: ...


def published_sources(meta_info: Path) -> tuple[list[Source], list[BadRecord]]:
    """The records of a `meta_info.json`. Relative paths are relative to it. ConfigError where it is none."""
    try:
        records = json.loads(meta_info.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{meta_info} cannot be read: {error}") from error
    if not isinstance(records, list):
        raise ConfigError(f"{meta_info} holds a {type(records).__name__}: expected a list of records")
    sources, bad = [], []
    for i, record in enumerate(records):
        try:
            sources.append(_published_source(record, meta_info.parent))
        except PosedanceError as error:
            bad.append(BadRecord(f"{meta_info} record {i}", str(error)))
    return sources, bad


def _published_source(record: Any, folder: Path) -> Source:
    keys = ("video_path", "guide_path", "meta_info")
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in keys):
        raise ConfigError(f"it has no {', no '.join(keys)}: expected the three paths")
    path, guide, detections = (folder / record[key] for key in keys)
    if not detections.is_file():
        raise ConfigError(f"{detections} does not exist: check the record's meta_info")
    info, drawn = video.probe(path), video.probe(guide)
    frames = min(info.num_frames, drawn.num_frames)
    return Source(path, info.fps, frames, guide=guide, guide_fps=drawn.fps, detections=detections)


def folder_sources(folder: Path) -> tuple[list[Source], list[BadRecord]]:
    """The videos of a folder that have a pose file beside them. ConfigError where there is no video."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_ENDS)
    if not files:
        raise ConfigError(f"there are no videos in {folder}: check the path")
    sources, bad = [], []
    for path in files:
        try:
            sources.append(_folder_source(path))
        except PosedanceError as error:
            bad.append(BadRecord(str(path), str(error)))
    return sources, bad


def _folder_source(path: Path) -> Source:
    poses = next((p for end in (".npz", ".json") if (p := path.with_suffix(end)).exists()), None)
    if poses is None:
        raise ConfigError(f"no pose file {path.stem}.npz beside it: `run.py pose` finds poses")
    info, found = video.probe(path), load_poses(poses)
    stride = info.fps / found.fps
    if stride.denominator != 1:
        raise ConfigError(
            f"its poses have {found.fps} frames a second, which do not divide its {info.fps}: find them anew"
        )
    if found.size != (info.width, info.height):
        raise ConfigError(
            f"its poses belong to a picture of {found.size[0]}x{found.size[1]}, and its own is "
            f"{info.width}x{info.height}: find its poses anew"
        )
    frames = -(-info.num_frames // int(stride))
    if len(found) != frames:
        raise ConfigError(
            f"its poses are {len(found)} and its frames {info.num_frames}, {frames} at their rate: find the "
            "poses of the whole video"
        )
    return Source(path, info.fps, frames, int(stride), poses=poses)


class VideoClips:
    """Each video cut into as many clips as follow one another in it.

    A clip spans (1 + frames) * spacing frames: 63 for the published 21 at interval 3. Its frame 0, the
    reference, is any frame of the video, chosen by the clip's place alone, with its own pose. A clip whose
    reference, or most of whose frames, show nobody is bad when it is read. `bad` lists what was left out at
    once. Raises ConfigError for random moments (spacing 0) and where nothing is left.
    """

    def __init__(self, spec: ClipSpec, sources: Sequence[PackedSource], bad: list[BadRecord]) -> None:
        if spec.spacing < 1:
            raise ConfigError("data.spacing is 0: give the frames between two of a clip, 3 as published")
        self.spec, self.sources, self.bad = spec, sources, list(bad)
        self.places: list[tuple[int, int]] = []
        span = (1 + spec.frames) * spec.spacing
        for i, source in enumerate(sources):
            if source.frames < span:
                self.bad.append(BadRecord(str(source), f"{source.frames} frames: a clip needs {span}"))
            self.places += [(i, start) for start in range(0, source.frames - span + 1, span)]
        if not self.places:
            listed = "; ".join(map(str, self.bad[:3]))
            raise ConfigError(f"no clip can be made of {len(sources)} videos: {listed}")

    def __len__(self) -> int:
        return len(self.places)

    def files(self) -> list[Path]:
        """All files that decide the clips."""
        return list(dict.fromkeys(path for source in self.sources for path in source.files()))

    def __getitem__(self, index: int) -> Clip | BadRecord:
        which, start = self.places[index]
        source = self.sources[which]
        try:
            with source.unpacked() as unpacked:
                return self._read(index, unpacked, start, which_seed(source.name))
        except PosedanceError as error:
            return BadRecord(f"{source} from frame {start}", str(error))

    def _read(self, index: int, source: Source, start: int, seed: int) -> Clip:
        spec = self.spec
        reference = int(np.random.default_rng([seed, start]).integers(source.frames))
        moments = [reference, *(start + spec.spacing * k for k in range(1, spec.frames + 1))]
        frames = np.stack(list(self._frames(source.video, source.fps, source.stride, moments)))
        if source.poses is not None:
            poses = self._fitted(load_poses(source.poses), moments)
            control = np.stack(list(draw_control_frames(poses, spec.width, spec.height, spec.canvas)))
            empty = (poses.scores <= VISIBLE).all(1)
            boxes = [pose_boxes(*frame) for frame in zip(poses.keypoints, poses.scores, strict=True)]
        else:
            assert source.guide is not None and source.guide_fps is not None and source.detections is not None
            guide = self._frames(source.guide, source.guide_fps, 1, moments)
            control = np.stack(list(guide))[..., ::-1].copy()
            empty = control.reshape(len(control), -1).max(1) <= DRAWN
            info = video.probe(source.video)
            boxes = [
                [(part, self._into((info.width, info.height), corners)) for part, corners in found]
                for found in detected_hands(source.detections, moments)
            ]
        if empty[0] or empty.mean() > 0.5:
            raise ConfigError(f"nobody is in {empty.sum()} of its {len(empty)} frames, reference included")
        parts = np.zeros(frames.shape[:3], np.uint8)
        for picture, found in zip(parts[1:], boxes[1:], strict=True):
            for part, corners in found:
                fill(picture, corners, PARTS.index(part))
        return Clip(index, frames, control, parts, np.zeros((len(PARTS), 4), np.float32))

    def _frames(self, path: Path, fps: Fraction, stride: int, moments: list[int]) -> Iterator[np.ndarray]:
        """Every `stride`-th frame of a video, fitted, at moments of which all but the first follow."""
        spec = self.spec
        first, second, *_ = moments
        report = video.DecodeReport()
        rate = fps / stride
        alone = video.Clip(first / rate, 1 / fps)
        length = (spec.frames - 1) * spec.spacing * stride + 1
        rest = video.Clip(second / rate, length / fps, spec.spacing * stride)
        count = 0
        for part, wanted in ((alone, 1), (rest, spec.frames)):
            for frame in islice(video.read_frames(path, part, report), wanted):
                count += 1
                yield fit_cover(frame, spec.width, spec.height)
        if report.damaged or report.lost or count < len(moments):
            raise ConfigError(
                f"{path} is damaged here: {report.damaged} frames with errors, {report.lost} lost"
            )

    def _fitted(self, poses: PoseSequence, moments: list[int]) -> PoseSequence:
        """Poses at the moments, moved as `fit_cover` moves the picture."""
        points = self._into(poses.size, poses.keypoints[moments] / np.array(poses.size, np.float32))
        return PoseSequence(points, poses.scores[moments], (self.spec.width, self.spec.height), poses.fps)

    def _into(self, size: tuple[int, int], fractions: np.ndarray) -> np.ndarray:
        """Points [..., 2] in 0..1 of a picture of `size` (width, height), in pixels of the fitted picture."""
        width, height = self.spec.width, self.spec.height
        scale = max(width / size[0], height / size[1])
        scaled = np.array(size, np.float32) * scale
        return fractions * scaled - (scaled - np.array([width, height], np.float32)) / 2


def which_seed(name: str) -> int:
    """A number that a video's name decides, wherever it lies."""
    return int.from_bytes(name.encode()[-8:].rjust(8, b"\0"), "big")


Box = tuple[str, np.ndarray]
"""What is in it, a name of PARTS, and its corners [[x0, y0], [x1, y1]]."""


def pose_boxes(keypoints: np.ndarray, scores: np.ndarray) -> list[Box]:
    """Boxes of face and hands that are seen well, from one frame's pose [133, 2], [133], in pixels."""
    boxes = []
    for part, where in (("head", FACE), ("left_hand", LEFT_HAND), ("right_hand", RIGHT_HAND)):
        seen = keypoints[where][scores[where] > VISIBLE]
        if scores[where].mean() > HAND_SCORE:
            boxes.append((part, np.stack([seen.min(0), seen.max(0)])))
    return boxes


def detected_hands(path: Path, moments: list[int]) -> list[list[Box]]:
    """Boxes of hands that are seen well in each of the moments, in 0..1. ConfigError for a damaged file."""
    try:
        frames = json.loads(path.read_text())
        return [_hands(frames[moment]) for moment in moments]
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} holds no detections of these frames: {error}") from error


def _hands(frame: dict[str, Any]) -> list[Box]:
    if "hands_boxes" not in frame or "hands_score" not in frame:
        return []
    boxes = np.asarray(frame["hands_boxes"], np.float32).reshape(2, 2, 2)
    scores = np.asarray(frame["hands_score"], np.float32).reshape(2, -1).mean(1)
    found = zip(("left_hand", "right_hand"), boxes, scores, strict=True)
    return [(part, box) for part, box, score in found if score > HAND_SCORE]


def fill(picture: np.ndarray, corners: np.ndarray, value: int) -> None:
    """Set a box and its margin in a picture [H, W], in place; what lies outside is cut off."""
    (x0, y0), (x1, y1) = np.round(corners).astype(int).tolist()
    rows = slice(max(y0 - BOX_MARGIN, 0), max(y1 + BOX_MARGIN, 0))
    picture[rows, max(x0 - BOX_MARGIN, 0) : max(x1 + BOX_MARGIN, 0)] = value
