"""What a training learns from: clips by number, in an order that (seed, step) alone decides."""

import logging
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
from pydantic import Field, model_validator
from torch.utils.data import DataLoader, Dataset, Subset

from ...datasets.clip_shards import holds_clips, shard_sources
from ...datasets.clips import HELD_OUT, BadRecord, Clip, ClipSpec, PuppetClips
from ...datasets.shards import ShardClips, write_shards
from ...datasets.video_clips import VideoClips, folder_sources, published_sources
from ...stages.errors import ConfigError
from ..config_base import Config
from ..job.job import hold_beside
from ..progress import stage
from .loop_config import LoopConfig

logger = logging.getLogger(__name__)

HELD_OUT_CLIPS = 8
"""At most this many clips of files are held out."""
LISTED = 5
"""How many records that were left out a line names."""

Clips = PuppetClips | Subset[Clip | BadRecord]
"""Clips by number; one that cannot be read comes as a BadRecord."""


class DataConfig(Config):
    """Clips to learn from: puppets drawn on the fly, or files."""

    width: Annotated[int, Field(ge=8)] = 72
    """Width in pixels."""
    height: Annotated[int, Field(ge=8)] = 128
    """Height in pixels."""
    canvas: Annotated[int, Field(ge=8)] = 2160
    """Short side at which control frames are drawn; 2160 is the published drawing."""
    clips: Annotated[int, Field(ge=1)] = 1000
    """Characters, each with one motion."""
    frames: Annotated[int, Field(ge=1)] = 5
    """Frames in a clip beside the reference."""
    spacing: Annotated[int, Field(ge=0)] = 0
    """Motion frames (at 15 a second) between two frames of a clip; 0 draws random moments. Of videos, their
    own frames: 3 as published."""
    half_body: Annotated[float | None, Field(gt=0, le=1)] = None
    """Share of drawn clips whose dancer is cut at knees or waist, in driving video, reference or both
    [default: none]."""
    elsewhere: Annotated[float | None, Field(gt=0, le=1)] = None
    """Share of the other drawn clips whose reference stands elsewhere, in the middle of another dance
    [default: none]."""
    seed: int = 0
    """Decides characters and motions."""
    cache: Path | None = None
    """Folder that keeps drawn clips."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Processes that draw ahead."""

    shards: Path | None = None
    """Folder of shards (*.tar) that `curate` or `train shards` wrote, instead of puppets."""
    meta_info: Path | None = None
    """`meta_info.json` of the published layout, instead of puppets."""
    videos: Path | None = None
    """Folder of videos with a pose file beside each (dance.mp4, dance.npz), instead of puppets."""

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        given = [name for name in ("shards", "meta_info", "videos") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"data.{given[0]} and data.{given[1]} exclude each other: give one")
        for name in ("half_body", "elsewhere"):
            if given and getattr(self, name) is not None:
                raise ValueError(f"data.{name} is of drawn dancers: leave it out with data.{given[0]}")
        return self

    def drawn(self) -> bool:
        """Whether clips are puppets made on the fly."""
        return self.shards is None and self.meta_info is None and self.videos is None

    def spec(self) -> ClipSpec:
        return ClipSpec(
            self.width,
            self.height,
            self.canvas,
            self.frames,
            self.spacing,
            half_body=self.half_body or 0.0,
            elsewhere=self.elsewhere or 0.0,
        )

    def training(self) -> Clips:
        """The clips to learn from."""
        if self.drawn():
            return PuppetClips(self.spec(), self.clips, self.seed, self.cache)
        clips = open_clips(self)
        return part_of(clips, range(len(clips) - held_out_of(clips)))

    def held_out(self, count: int) -> Clips:
        """At most `count` clips that `training` does not have."""
        if self.drawn():
            return PuppetClips(self.spec(), count, self.seed, self.cache, first=HELD_OUT)
        clips = open_clips(self)
        first = len(clips) - held_out_of(clips)
        return part_of(clips, range(first, min(first + count, len(clips))))


def part_of(clips: ShardClips | VideoClips, numbers: range) -> Subset[Clip | BadRecord]:
    """The clips of these numbers. `datasets` is read by processes without torch, so theirs is no Dataset."""
    return Subset(cast("Dataset[Clip | BadRecord]", clips), numbers)


def open_clips(data: DataConfig) -> ShardClips | VideoClips:
    """The clips of files, all of them, looked at once. ConfigError where there are too few to learn from."""
    return _opened(data.model_dump_json())


@lru_cache(maxsize=4)
def _opened(described: str) -> ShardClips | VideoClips:
    data = DataConfig.model_validate_json(described)
    if data.shards is not None and holds_clips(data.shards):
        clips = VideoClips(data.spec(), *shard_sources(data.shards))
    elif data.shards is not None:
        clips = ShardClips(data.shards, data.width, data.height, 1 + data.frames)
    elif data.meta_info is not None:
        clips = VideoClips(data.spec(), *published_sources(data.meta_info))
    else:
        assert data.videos is not None
        clips = VideoClips(data.spec(), *folder_sources(data.videos))
    if len(clips) < 2:
        raise ConfigError(f"{len(clips)} clips are too few: one to learn from and one held out are the least")
    return clips


def held_out_of(clips: ShardClips | VideoClips) -> int:
    """How many of the last clips are kept for validation: a tenth, at least one."""
    return min(HELD_OUT_CLIPS, max(1, len(clips) // 10))


def held_out_clips(data: DataConfig, count: int) -> list[Clip]:
    """At most `count` held-out clips, without those that cannot be read. ConfigError where none can."""
    clips = readable(data.held_out(count), count)
    if not clips:
        raise ConfigError("none of the clips that are held out can be read: mend the data")
    return clips


def readable(clips: Clips, count: int) -> list[Clip]:
    """Those of the first `count` clips that can be read."""
    found = (clips[i] for i in range(min(count, len(clips))))
    return [clip for clip in found if isinstance(clip, Clip)]


def describe_data(data: DataConfig) -> str:
    """One line: how many clips there are, and what was left out and why."""
    if data.drawn():
        shares = "" if data.half_body is None else f", {data.half_body:.0%} of them half bodies"
        shares += (
            "" if data.elsewhere is None else f", {data.elsewhere:.0%} of the others seen elsewhere before"
        )
        return f"data: {data.clips:,} drawn dancers of {data.frames} frames and a reference{shares}"
    clips = open_clips(data)
    line = f"data: {len(clips) - held_out_of(clips):,} clips and {held_out_of(clips)} held out"
    if clips.bad:
        listed = "; ".join(str(bad) for bad in clips.bad[:LISTED])
        more = f"; and {len(clips.bad) - LISTED} more" if len(clips.bad) > LISTED else ""
        line += f"; {len(clips.bad)} records are left out: {listed}{more}"
    return line


def name_data(data: DataConfig) -> str:
    """What a model card says of the data: where they come from, by no path of this machine."""
    if data.drawn():
        return f"{data.clips:,} dancers drawn by `datasets/puppets/render.py`, no picture of any person"
    count = len(open_clips(data)) - held_out_of(open_clips(data))
    (source,) = (path for path in (data.shards, data.meta_info, data.videos) if path is not None)
    return f"{count:,} clips of `{source.name}`"


def seeded(seed: int, *keys: int) -> torch.Generator:
    """A CPU generator that depends on all of its keys."""
    state = np.random.SeedSequence([seed, *keys]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def clip_order(clips: int, seed: int, start: int, stop: int) -> list[int]:
    """Clip numbers of positions start..stop in an endless sequence of shuffled epochs."""
    order: list[int] = []
    for epoch in range(start // clips, -(-stop // clips)):
        shuffled = np.random.default_rng([seed, epoch, 7]).permutation(clips).tolist()
        order += shuffled[max(start - epoch * clips, 0) : stop - epoch * clips]
    return order


def clip_batches(
    data: DataConfig, loop: LoopConfig, batch: int, start: int, stop: int, micros: range
) -> Iterator[list[Clip | BadRecord]]:
    """The batches `micros` of each of the steps start..stop."""
    return batches_of(data.training(), loop, batch, start, stop, micros, data.workers)


def batches_of(
    samples: Any, loop: LoopConfig, batch: int, start: int, stop: int, micros: range, workers: int
) -> Iterator[list[Any]]:
    """Lists of samples, in an order that (seed, step) alone decides; `workers` processes read ahead."""
    per_step = loop.accumulation * batch
    order = clip_order(len(samples), loop.seed, start * per_step, stop * per_step)
    chunks = [order[i : i + batch] for i in range(0, len(order), batch)]
    mine = [chunk for i, chunk in enumerate(chunks) if i % loop.accumulation in micros]
    loader = DataLoader(
        samples,
        batch_sampler=mine,
        num_workers=workers,
        collate_fn=list,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)


def make_shards(data: DataConfig, folder: Path, per_shard: int) -> int:
    """Write all clips of `data` as shards. Returns 0, or 3 when some could not be read."""
    with hold_beside(folder):
        return _make_shards(data, folder, per_shard)


def _make_shards(data: DataConfig, folder: Path, per_shard: int) -> int:
    if any(folder.glob("*.tar")):
        raise ConfigError(f"{folder} holds shards already: choose another folder")
    clips = PuppetClips(data.spec(), data.clips, data.seed, data.cache) if data.drawn() else open_clips(data)
    left_out = [] if isinstance(clips, PuppetClips) else clips.bad
    with stage("shards", len(clips), "clip") as advance:

        def each() -> Iterator[Clip | BadRecord]:
            for i in range(len(clips)):
                yield clips[i]
                advance(1)

        written, unread = write_shards(each(), folder, per_shard, lossless=data.drawn())
    for bad in (*left_out, *unread):
        logger.warning(f"left out: {bad}")
    logger.info(f"{written} clips in {folder}, {len(left_out) + len(unread)} records left out")
    return 3 if left_out or unread else 0
