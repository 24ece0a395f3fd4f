"""One step of a training on a GPU that is not there: the bytes that live on it, and those that were planned.

    python tests/pretended_training.py LIBRARY CONFIG...    # a line of JSON for each config

LIBRARY is `pretended_gpu.GUARD` and `HOOKS`, compiled, which torch must find when it loads: so this is a
process of its own. The networks have the sizes that the config names, or those of SVD-XT 1.1.
"""

import ctypes
import json
import sys
from typing import Any

ctypes.CDLL(sys.argv[1])

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from pretended_gpu import DEVICE, pretended_gpu, really  # noqa: E402
from torch import nn  # noqa: E402

from posedance.datasets.clips import Clip  # noqa: E402
from posedance.pipeline.train.activations import meta_parts  # noqa: E402
from posedance.pipeline.train.checkpoints import Averaged  # noqa: E402
from posedance.pipeline.train.config import TrainConfig  # noqa: E402
from posedance.pipeline.train.optimizer import AUTOCAST, make_optimizer  # noqa: E402
from posedance.pipeline.train.plan import memory_plan  # noqa: E402
from posedance.pipeline.train.task import VideoTask  # noqa: E402


def black(config: TrainConfig) -> Clip:
    """A clip of the config's size."""
    data = config.data
    size = data.frames + 1, data.height, data.width
    frames = np.zeros((*size, 3), np.uint8)
    return Clip(0, frames, frames, np.zeros(size, np.uint8), np.zeros((1, 4), np.float32))


def with_storage(network: nn.Module) -> None:
    """A network of the meta device to the CPU."""
    table: Any
    for module in network.modules():
        for table in (module._parameters, module._buffers):
            for name, value in table.items():
                if value is not None:
                    made = torch.empty(value.shape, dtype=value.dtype, device="cpu")
                    table[name] = nn.Parameter(made) if table is module._parameters else made


def step(config: TrainConfig) -> dict[str, int]:
    """A step of `run_loop` after the first, from the loss to the averaged weights."""
    counted = config.model_copy(update={"gradient_checkpointing": False})
    plan = memory_plan(VideoTask(counted, meta_parts(config.model)))
    parts, precision = meta_parts(config.model), AUTOCAST[config.loop.precision]
    with pretended_gpu(200 << 30, pytest.MonkeyPatch()) as gpu:
        for network in parts.networks().values():
            with_storage(network)
        task = VideoTask(config, parts)
        task.to(DEVICE)
        parameters = [parameter for _, parameter in task.trainable()]
        optimizer, averaged = make_optimizer(config.loop, parameters), Averaged(parameters)
        for group in optimizer.param_groups:
            group["foreach"] = True  # as torch chooses on a GPU
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()  # now there are moments
        optimizer.zero_grad()
        clip = black(config)

        def run() -> None:
            generator = torch.Generator()
            with torch.autocast("cuda", precision, enabled=precision != torch.float32):
                loss = task.denoise_loss([clip], [really(task.draw)(clip, generator)], generator)
            loss.value.backward()
            assert all(parameter.grad.device == DEVICE for parameter in parameters)
            nn.utils.clip_grad_norm_(parameters, config.loop.clip)
            optimizer.step()
            optimizer.zero_grad()
            averaged.update(0.9)

        return {"planned": plan.total(config.gradient_checkpointing), "lived": gpu.peak_of(run)}


if __name__ == "__main__":
    torch.cuda.is_available = lambda: True  # autocast asks
    library = torch.library.Library("aten", "IMPL")  # a GPU has a kernel for this
    library.impl("silu_backward", lambda gradient, x: torch.empty_like(x), "CUDA")
    for text in sys.argv[2:]:
        print(json.dumps(step(TrainConfig.model_validate_json(text))), flush=True)  # noqa: T201
