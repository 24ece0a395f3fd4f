"""What was measured, on disk: found again by the content of the sources, whatever the thresholds are.

    OUT/.work/sources/ID.json            of each source: size, time and SHA-256 of its content
    OUT/.work/content/SHA/               a job folder for each content: its clips, or why it has none
    OUT/.work/content/SHA/START-END/     a job folder for each clip: what each level found, the clip encoded
    OUT/.work/compared.npz               which pairs of clips show the same (`copies.py`)
    OUT/.work/quarantine/NAME.json       what was given up: stage, error, attempts

A record of a level holds its scores. Equal sources share one folder.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...datasets.curation.clip import Box, Clip
from ...datasets.curation.scores import LEVELS, Level
from ...stages.types import VideoInfo
from ..animate.decided import estimator as decides_estimator
from ..batch.status import read_json
from ..job.job import Job, Key, file_digest, key_of, read_record, write_text
from .config import CurateConfig
from .decide import Scores, filters_of, names_at
from .plugins import identity_of
from .sources import Source

CLIPS, ENCODED, GUIDE, REFUSED = "clips", "encoded", "guide", "refused"
"""Steps beside those of the levels."""
VERSIONS = {"clips": 6, "frames": 1, "sparse": 3, "dense": 6, "encoded": 1, "guide": 1}
"""Raised when a step gives other results than before."""


DEATH = "the worker died"
"""How the error of a task begins whose worker died (`ray_pool.py`)."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What decides each step's result, of a config: apart from source and clip."""

    decided: Mapping[str, Mapping[str, Any]]

    def of(self, step: str, content: str, clip: Clip | None = None) -> Key:
        """The key of a step, of a source's content (SHA-256) and a clip of it."""
        bars = None if clip is None or clip.bars is None else [*_corners(clip.bars)]
        where = [] if clip is None else [clip.start_frame, clip.end_frame, str(clip.fps), bars]
        return key_of(step, VERSIONS[step], content=content, clip=where, **self.decided[step])

    def of_clip(self, content: str, clip: Clip) -> Key:
        """What decides all of a clip: it is tried again after it was given up when that changes."""
        return key_of("clip", 1, steps=[self.of(step, content, clip) for step in VERSIONS if step != CLIPS])


def keys_of(config: CurateConfig) -> Keys:
    """What a config decides of each step. Thresholds are not among it."""
    filters = filters_of(config)
    names: dict[str, Any] = {level: {"scores": names_at(filters, level)} for level in LEVELS}
    names["frames"]["aesthetics"] = identity_of("--aesthetics.function", config.aesthetics.function)
    finder = {"estimator": decides_estimator(config.estimator.whole())}
    dense = {**names["dense"], **finder, "fps": str(config.fps)}
    size = {"size": [config.width, config.height]}
    encoded = {**finder, "fps": str(config.fps), **size, "encode": config.encode.model_dump()}
    return Keys(
        {
            CLIPS: {
                **names["probe"],
                "shots": config.shots,
                "longest": str(config.longest),
                "max_pixels": config.max_pixels,
            },
            "frames": names["frames"],
            "sparse": {**names["sparse"], **finder},
            "dense": dense,
            ENCODED: {**encoded, "captions": identity_of("--captions", config.captions)},
            GUIDE: encoded,
        }
    )


@dataclass(frozen=True, slots=True)
class FoundClip:
    """A clip of a source, with the scores that need no decoding."""

    clip: Clip
    scores: Scores


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a source: its content, what it is, and its clips, or why it has none."""

    content: str
    info: VideoInfo | None
    clips: tuple[FoundClip, ...]
    refused: str | None


def read_content(root: Path, source: Source) -> str | None:
    """SHA-256 of a source as it was read before; None where it was not, or its size or time changed."""
    known = read_json(root / ".work" / "sources" / f"{source.identity}.json")
    try:
        about = source.path.stat()
    except OSError:
        return None
    if (
        isinstance(known, dict)
        and known.get("size") == about.st_size
        and known.get("time") == about.st_mtime_ns
    ):
        return known["sha256"]
    return None


def digest_content(root: Path, source: Source) -> str:
    """SHA-256 of a source, read now if need be, and written down."""
    if (known := read_content(root, source)) is not None:
        return known
    about = source.path.stat()
    digest = file_digest(source.path)
    record = {"source": source.name, "size": about.st_size, "time": about.st_mtime_ns, "sha256": digest}
    write_text(root / ".work" / "sources" / f"{source.identity}.json", json.dumps(record))
    return digest


def content_folder(root: Path, content: str) -> Path:
    """The job folder of a source's content."""
    return root / ".work" / "content" / content[:24]


def clip_folder(root: Path, content: str, clip: Clip) -> Path:
    """The job folder of a clip."""
    return content_folder(root, content) / f"{clip.start_frame:07d}-{clip.end_frame:07d}"


def read_look(root: Path, source: Source, keys: Keys) -> Look | None:
    """What is known of a source, without reading it; None where it was not looked at."""
    content = read_content(root, source)
    if content is None:
        return None
    record = read_record(Job(content_folder(root, content)).record_path(CLIPS))
    if record is None or record["key"] != keys.of(CLIPS, content):
        return None
    return look_of(record["facts"], content, source.path)


def look_of(facts: Mapping[str, Any], content: str, path: Path) -> Look:
    """What the facts of the step `clips` say, of the source at `path`."""
    if facts["refused"] is not None:
        return Look(content, None, (), facts["refused"])
    about = facts["info"]
    info = VideoInfo(**about | {"fps": Fraction(about["fps"]), "duration": Fraction(about["duration"])})
    clips = (
        FoundClip(
            Clip(
                path,
                each["start_frame"],
                each["end_frame"],
                Fraction(each["fps"]),
                None if each["bars"] is None else Box(*each["bars"]),
            ),
            each["scores"],
        )
        for each in facts["clips"]
    )
    return Look(content, info, tuple(clips), None)


def facts_of(info: VideoInfo, clips: Sequence[FoundClip]) -> dict[str, Any]:
    """The facts from which `look_of` reads the same again."""
    return {
        "refused": None,
        "info": {
            "width": info.width,
            "height": info.height,
            "fps": str(info.fps),
            "num_frames": info.num_frames,
            "duration": str(info.duration),
            "has_audio": info.has_audio,
        },
        "clips": [
            {
                "start_frame": each.clip.start_frame,
                "end_frame": each.clip.end_frame,
                "fps": str(each.clip.fps),
                "bars": None if each.clip.bars is None else [*_corners(each.clip.bars)],
                "scores": dict(each.scores),
            }
            for each in clips
        ],
    }


def _corners(box: Box) -> tuple[int, int, int, int]:
    return box.x0, box.y0, box.x1, box.y1


def measured_of(root: Path, content: str, found: FoundClip, keys: Keys) -> dict[Level, Scores]:
    """The scores of each level that was measured of a clip."""
    job = Job(clip_folder(root, content, found.clip))
    measured: dict[Level, Scores] = {"probe": found.scores}
    for level in LEVELS[1:]:
        if not job.holds(level, keys.of(level, content, found.clip)):
            break
        measured[level] = job.facts(level)["scores"]
    return measured


def refused_reading(job: Job, key: Key) -> str | None:
    """Why a clip cannot be read, as it was found out when it was to be measured; None where it was not."""
    return job.facts(REFUSED)["why"] if job.holds(REFUSED, key) else None


def compared_of(root: Path) -> Path:
    """The file of the pairs of clips that were compared."""
    return root / ".work" / "compared.npz"


def quarantine_path(root: Path, task: str) -> Path:
    """Where it is kept why a task was given up."""
    return root / ".work" / "quarantine" / f"{task}.json"


def given_up(root: Path, task: str, key: Key) -> str | None:
    """Why a task was given up, if it was, with this key. Of a death only that: the rest always differs."""
    record = read_json(quarantine_path(root, task))
    if isinstance(record, dict) and record.get("key") == key:
        error = DEATH if record["error"].startswith(DEATH) else record["error"]
        return f"{error} (after {record['attempts']} attempts)"
    return None


def clip_task(content: str, clip: Clip) -> str:
    """The name of the task that measures and encodes a clip."""
    return f"{content[:16]}-{clip.start_frame:07d}-{clip.end_frame:07d}"


def source_key(source: Source, keys: Keys) -> Key:
    """What decides whether a source that was given up is tried again: the file, and how clips are found."""
    about = source.path.stat()
    return key_of("source", 1, size=about.st_size, time=about.st_mtime_ns, **keys.decided[CLIPS])
