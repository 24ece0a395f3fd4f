"""Train ControlNeXt on Stable Video Diffusion: `run.py train --config configs/train/demo_image.yaml`.

The small model and the full one differ only in their configs. ControlNeXt, its injection and the denoiser
whose loss is minimized are the very objects that `animate` samples with.
"""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ...stages.errors import ConfigError
from ...stages.svd.files.lora import merge_lora, save_lora
from . import sharded
from .card import training_notes
from .config import TrainConfig
from .data import name_data
from .identity import identity_of
from .loop import processes, run_loop, training_folder
from .model import check_replaceable, save_model
from .plan import plan
from .task import VideoTask
from .validation import validate

logger = logging.getLogger(__name__)


def train(config: TrainConfig) -> Path:
    """Train; returns the folder OUTPUT/model with the averaged weights, ready for `animate --model`.

    LoRA weights are in that model's UNet, and alone in OUTPUT/lora.safetensors.
    """
    folder = config.output / "model"
    if sharded.is_asked() and config.lora_rank is not None:
        raise ConfigError(
            "accelerate is configured for FSDP, and lora_rank learns too little to be cut: leave one out"
        )
    with training_folder(config.output) as main:
        if main:
            check_replaceable(folder)
            logger.info(plan(config, processes().num_processes if sharded.is_asked() else 1))
        task = VideoTask(config)
        unet = task.parts.unet
        averaged = run_loop(
            task, config.loop, config.output, identity_of(config), partial(validate, task), large=unet
        )
        averaged.swap()
        parts = task.parts
        if sharded.is_cut(unet):
            parts = replace(parts, unet=sharded.uncut(unet, parts.norm_groups["unet"], main))
        if not main:
            return folder
        task.injection.detach()
        task.to(torch.device("cpu"))
        if config.lora_rank is not None:
            save_lora(task.parts.unet, config.output / "lora.safetensors")
            merge_lora(task.parts.unet)
        notes, data = training_notes(config.output), name_data(config.data)
        settings = {"training": config.model_dump(mode="json")}
        return save_model(folder, parts, config.model, data, notes, settings)
