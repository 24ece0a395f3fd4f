"""FSDP: a UNet that is cut over processes learns what a whole one does, and keeps the same checkpoints."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import posedance.configs
from posedance.datasets.clips import BadRecord
from posedance.pipeline.train.checkpoints import checkpoints
from posedance.pipeline.train.loop_config import LoopConfig
from posedance.pipeline.train.sharded import blocks_of, cut
from posedance.pipeline.train.task import VideoTask
from posedance.pipeline.train.train import train
from posedance.stages.errors import ConfigError

CONFIG = Path(posedance.configs.__file__).parent / "accelerate" / "fsdp.yaml"

PROCESS = """
import sys, torch
torch.set_num_threads(1)
from accelerate import PartialState
from torch.distributed.tensor import DTensor
from posedance.datasets.clips import BadRecord
from posedance.pipeline.train import loop, train
from posedance.pipeline.train.config import TrainConfig
from posedance.pipeline.train.task import VideoTask

make_optimizer, batches = loop.make_optimizer, VideoTask.batches

def spoiled(task, start, stop, micros):
    for number, batch in enumerate(batches(task, start, stop, micros)):
        last = PartialState().process_index == 1 and number == 3
        yield [BadRecord("a clip", "spoiled")] if last else batch

def looked(config, parameters, rates):
    cut = [p for p in parameters if isinstance(p, DTensor)]
    here, all = sum(p.to_local().numel() for p in cut), sum(p.numel() for p in cut)
    assert cut and here <= 0.6 * all, (here, all)
    print("about half is here")
    return make_optimizer(config, parameters, rates)

loop.make_optimizer, VideoTask.batches = looked, spoiled
train.train(TrainConfig.model_validate_json(open(sys.argv[1]).read()))
"""


@pytest.mark.slow
def test_a_cut_unet_learns_what_a_whole_one_does(base, config, tmp_path, losses, monkeypatch):
    """It goes on from a checkpoint of the whole one, and its own is one of the whole one's kind.

    A clip of the last step cannot be read: what another process has to learn beside it is left out too.
    """
    loop = {"accumulation": 4, "log_every": 1, "validate_every": 3, "keep": 9}
    settings = config(base, tmp_path / "whole", batch=1, learn="all", loop=loop)

    def spoiled(task: VideoTask, *span: Any) -> Iterator[list[Any]]:
        for number, batch in enumerate(batches(task, *span)):
            yield batch if number < 14 else [BadRecord("a clip", "spoiled")]

    batches = VideoTask.batches
    monkeypatch.setattr(VideoTask, "batches", spoiled)
    train(settings)
    shared = settings.model_copy(update={"output": tmp_path / "cut"})
    first = checkpoints(settings.output)[0]
    shutil.copytree(first, shared.output / first.name)
    (tmp_path / "config.json").write_text(shared.model_dump_json())
    (tmp_path / "run.py").write_text(PROCESS)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]
    launch += ["--num_processes", "2"]
    launch += [str(tmp_path / "run.py"), str(tmp_path / "config.json")]
    cpus = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, cwd=tmp_path, env=cpus, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("about half is here") == 2
    assert losses(shared.output) == pytest.approx(losses(settings.output)[-2:], abs=1e-5)
    for name in ("unet", "ema", "optimizer"):
        one, other = (
            load_file(folder / "checkpoint-0000004" / f"{name}.safetensors")
            for folder in (settings.output, shared.output)
        )
        assert one.keys() == other.keys()
        for kind in ("exp_avg", "exp_avg_sq") if name == "optimizer" else ("",):
            wanted, found = (
                torch.cat([tensors[key].flatten() for key in sorted(tensors) if key.endswith(kind)])
                for tensors in (one, other)
            )
            assert float((found - wanted).norm() / wanted.norm()) < 1e-3, (name, kind)
    one, other = (folder / "model" / "unet" for folder in (settings.output, shared.output))
    assert (one / "config.json").read_text() == (other / "config.json").read_text()


def test_what_does_not_go_with_a_cut_unet_is_refused(monkeypatch):
    for name, value in (("VERSION", "1"), ("ACTIVATION_CHECKPOINTING", "true")):
        monkeypatch.setenv("FSDP_VERSION", "2")
        monkeypatch.setenv(f"FSDP_{name}", value)
        with pytest.raises(ConfigError, match=f"fsdp_{name.lower()}.* does not go with a UNet that is cut"):
            cut(nn.Linear(2, 2), LoopConfig(steps=1, learning_rate=1), 2)
        monkeypatch.delenv(f"FSDP_{name}")
    with pytest.raises(ConfigError, match="Linear has no module of class Conv2d: leave fsdp_transformer"):
        blocks_of(nn.Linear(2, 2), ["Conv2d"])
