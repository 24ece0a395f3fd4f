"""What a training learns from: clips by number, in an order that (seed, step) alone decides."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch.utils.data import DataLoader

from ..datasets.samples import HELD_OUT, Clip, ClipSpec, PuppetClips
from .config import Config
from .train_loop import LoopConfig


class DataConfig(Config):
    """Puppet clips to learn from."""

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
    """Motion frames (at 15 a second) between two frames of a clip; 0 draws random moments."""
    seed: int = 0
    """Decides characters and motions."""
    cache: Path | None = None
    """Folder that keeps drawn clips."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Processes that draw ahead."""

    def spec(self) -> ClipSpec:
        return ClipSpec(self.width, self.height, self.canvas, self.frames, self.spacing)

    def training(self) -> PuppetClips:
        return PuppetClips(self.spec(), self.clips, self.seed, self.cache)

    def held_out(self, count: int) -> PuppetClips:
        return PuppetClips(self.spec(), count, self.seed, self.cache, first=HELD_OUT)


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
) -> Iterator[list[Clip]]:
    """The batches `micros` of each of the steps start..stop."""
    per_step = loop.accumulation * batch
    order = clip_order(data.clips, loop.seed, start * per_step, stop * per_step)
    chunks = [order[i : i + batch] for i in range(0, len(order), batch)]
    mine = [chunk for i, chunk in enumerate(chunks) if i % loop.accumulation in micros]
    loader = DataLoader(
        data.training(),
        batch_sampler=mine,
        num_workers=data.workers,
        collate_fn=list,
        prefetch_factor=4 if data.workers else None,
        multiprocessing_context="spawn" if data.workers else None,
    )
    return iter(loader)
