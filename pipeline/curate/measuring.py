"""One clip measured level by level, each committed in the clip's job folder with what is worth keeping.

A killed run loses the level that it was at.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.curation import people
from ...datasets.curation.clip import DensePoses, Frames, SparsePoses, frames_at
from ...datasets.curation.fingerprint import fingerprint
from ...datasets.curation.frames import frames_of
from ...datasets.curation.scores import Level, Score
from ...stages.errors import VideoError
from ...stages.pose.files import load_poses, save_poses
from ...stages.types import VideoInfo
from ..animate.tools import Tools
from ..job.job import Job, open_job
from ..progress import stage
from ..workers.executor import verdict_of
from .config import CurateConfig
from .copies import FINGERPRINT, save_fingerprint
from .decide import Scores, filters_of, next_level, passes
from .encode import CLIP, POSES, encode_clip, write_guide
from .pictures import dense_strip, frames_strip, sparse_strip, strip_of
from .plugins import find_function
from .store import ENCODED, GUIDE, REFUSED, FoundClip, clip_folder, keys_of, measured_of

PATIENCE_S = float("inf")
"""Equal sources share a folder: whoever comes second waits, and finds the work done."""
RATE_TOLERANCE = Fraction(21, 20)
"""A source this much faster than asked for is taken as it is: every second frame would be far too few."""


def clip_rate(fps: Fraction, most: Fraction) -> Fraction:
    """The exact rate of what is made of a source of `fps`: all its frames, every second, every third, ..."""
    return fps / max(1, ceil(fps / (most * RATE_TOLERANCE)))


def scores_at(filters: tuple[Score, ...], level: Level, evidence: Any) -> dict[str, float | bool]:
    """What the filters of a level say of their evidence."""
    found: dict[str, float | bool] = {}
    for score in filters:
        if score.level == level:
            value = score.measure(evidence)
            found[score.name] = bool(value) if isinstance(value, bool | np.bool_) else float(value)
    return found


@contextmanager
def open_clip(
    root: Path, content: str, info: VideoInfo, found: FoundClip, config: CurateConfig, tools: Tools
) -> "Iterator[Measuring]":
    """A clip to be measured; its job folder is held meanwhile."""
    with open_job(clip_folder(root, content, found.clip), PATIENCE_S) as job:
        yield Measuring(root, job, content, info, found, config, tools)


class Measuring:
    """A clip in its open job folder. Evidence is made when a level needs it, and kept for the next level."""

    def __init__(
        self,
        root: Path,
        job: Job,
        content: str,
        info: VideoInfo,
        found: FoundClip,
        config: CurateConfig,
        tools: Tools,
    ) -> None:
        self.job, self.content, self.info, self.clip = job, content, info, found.clip
        self.config, self.tools = config, tools
        self.filters, self.keys = filters_of(config), keys_of(config)
        self.measured: dict[Level, Scores] = measured_of(root, content, found, self.keys)

    def finish(self, forced: bool) -> bool:
        """Measure until a level refuses, and encode a clip that passes; with `forced`, whatever it scores.

        Of one that cannot be read it is written down why. Returns whether there was anything to do.
        """
        try:
            return self._finish(forced)
        except VideoError as error:
            if verdict_of(error) != "final" or not self.clip.source.exists():
                raise
            why = str(error).replace(str(self.clip.source), "the source")
            self.job.commit(REFUSED, self.keys.of_clip(self.content, self.clip), [], {"why": why})
            return True

    def _finish(self, forced: bool) -> bool:
        made = False
        while level := next_level(self.filters, self.measured, forced):
            made |= self._run(level)
            self.measured[level] = self.job.facts(level)["scores"]
        if passes(self.filters, self.measured, forced):
            made |= self.job.run(ENCODED, self._key(ENCODED), self._files(CLIP, POSES), self._encode)
            if self.config.published:
                made |= self.job.run(GUIDE, self._key(GUIDE), self._files("guide.mp4"), self._guide)
        return made

    def _key(self, step: str) -> str:
        return self.keys.of(step, self.content, self.clip)

    def _files(self, *names: str) -> list[Path]:
        return [self.job.folder / name for name in names]

    def _run(self, level: Level) -> bool:
        makers = {
            "frames": (self._measure_frames, ()),
            "sparse": (self._measure_sparse, ()),
            "dense": (self._measure_dense, ("poses.npz", FINGERPRINT)),
        }
        make, names = makers[level]
        with stage(level, None):
            return self.job.run(level, self._key(level), self._files(strip_of(level), *names), make)

    @cached_property
    def frames(self) -> Frames:
        return frames_of(self.clip, self.info, self.config.max_pixels)

    @property
    def rate(self) -> Fraction:
        return clip_rate(self.clip.fps, self.config.fps)

    def _measure_frames(self) -> Mapping[str, Any]:
        frames_strip(self.job.folder / strip_of("frames"), self.frames)
        return {"scores": scores_at(self.filters, "frames", self.frames)}

    def _measure_sparse(self) -> Mapping[str, Any]:
        with self.tools.estimator(self.config.estimator.whole()) as estimator:
            found: SparsePoses = people.sparse(self.frames, estimator)
        sparse_strip(self.job.folder / strip_of("sparse"), self.frames, found)
        return {"scores": scores_at(self.filters, "sparse", found)}

    def _measure_dense(self) -> Mapping[str, Any]:
        with self.tools.estimator(self.config.estimator.whole()) as estimator:
            found: DensePoses = people.dense(
                self.clip, self.info, estimator, self.rate, self.config.max_pixels
            )
        dense_strip(self.job.folder / strip_of("dense"), self.frames, found)
        save_poses(self.job.folder / "poses.npz", found.poses)
        save_fingerprint(self.job.folder / FINGERPRINT, fingerprint(self.frames, found))
        return {"scores": scores_at(self.filters, "dense", found)}

    def _encode(self) -> Mapping[str, Any]:
        caption = self.config.captions and find_function("--captions", self.config.captions)
        poses = load_poses(self.job.folder / "poses.npz")
        wanted = frames_at(self.clip, self.rate)[: len(poses)]
        return encode_clip(self.clip, self.info, poses, wanted, self.config, self.job.folder, caption or None)

    def _guide(self) -> Mapping[str, Any]:
        write_guide(self.job.folder, self.config.encode)
        return {}
