"""Checkpoints of a training under real faults: torn files, a full disk."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from posedance.pipeline.train.checkpoints import (
    Averaged,
    Position,
    checkpoints,
    prune,
    restore,
    save_checkpoint,
)
from posedance.stages.atomic import partial_folder
from posedance.stages.errors import OutputError, WeightsError


class Run:
    """One parameter that has learned for a step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        parameter = nn.Parameter(torch.randn(300, 100, generator=torch.Generator().manual_seed(0)))
        self.named = [("unet.weight", parameter)]
        optimizer = torch.optim.AdamW([parameter])
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.state: tuple[Any, ...] = (self.named, optimizer, Averaged([parameter]), scaler, folder)

    def save(self, step: int) -> Path:
        return save_checkpoint(*self.state, Position(step, 0.5), {"seed": 0})

    def restore(self) -> Position:
        return restore(*self.state, {"seed": 0})


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """A limit on the size of files stands for a full disk: the same calls fail, with EFBIG for ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "name", ["unet.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"]
)
@pytest.mark.parametrize("fault", ["torn", "gone"])
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_serves(
    tmp_path: Path, name: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(tmp_path)
    run.save(1)
    path = run.save(2) / name
    if fault == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:50])
    assert run.restore() == Position(1, 0.5)
    said = caplog.text
    assert "checkpoint-0000002 is damaged" in said and "going on from checkpoint-0000001" in said
    run.save(2)
    prune(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-0000002"]
    assert run.restore() == Position(2, 0.5)


def test_pruning_leaves_what_others_put_there(tmp_path: Path) -> None:
    """Other trainers use such names too."""
    others = (
        "checkpoint-500",
        "checkpoint-0000000",
        ".checkpoint-0000000.partial",
        ".checkpoint-a.posedance.partial",
    )
    for name in others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").touch()
    run = Run(tmp_path)
    partial_folder(run.save(1)).mkdir()
    run.save(2)
    prune(tmp_path, 1)
    assert {path.name for path in tmp_path.iterdir()} == {*others, "checkpoint-0000002"}


def test_where_every_checkpoint_is_damaged_nothing_is_begun_anew_in_silence(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (1, 2):
        (run.save(step) / "ema.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"checkpoint-0000001 is damaged .* every checkpoint here: remove"):
        run.restore()
    assert len(checkpoints(tmp_path)) == 2


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(1)
    with small_files(50_000), pytest.raises(OutputError, match=r"checkpoint-0000002: .*free some space"):
        run.save(2)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-0000001"]
    assert run.restore().step == 1
    run.save(2)
    prune(tmp_path, 1)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-0000002"]
