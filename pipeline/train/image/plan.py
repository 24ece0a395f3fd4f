"""What a training for pictures will do and need, before its first step and without any weights."""

from pathlib import Path

import torch

from ....stages.image.bases import ORIGINALS, TINY
from ....stages.image.families import family_of, new_module
from ....stages.image.sizes import meta_network
from ....stages.image.weights import load_control
from .config import ImageTrainConfig, PictureDataConfig, held_out_of
from .task import learning_names, sizes_of


def plan_pictures(config: ImageTrainConfig) -> str:
    """Lines for the user: what learns, from what, for how long, and the memory that its numbers take."""
    data, loop = config.data, config.loop
    lines = [
        *_learning(config),
        f"data: {name_pictures(data)}, {data.condition} at {data.width}x{data.height}",
        f"{loop.steps:,} steps of {loop.accumulation} x {config.batch} pictures, shared by all processes",
    ]
    return "\n".join(lines)


def _learning(config: ImageTrainConfig) -> list[str]:
    """What learns and its memory, where the sizes of the base are known without its weights."""
    here = (Path(config.base) / "model_index.json").is_file()
    if config.base not in ORIGINALS and config.base not in TINY and not here:
        return [f"{config.base} is not here in diffusers layout: what learns is counted when it is loaded"]
    network = meta_network(config.base)
    if config.controlnext is not None:
        module = load_control(config.controlnext)
    else:
        with torch.device("meta"):
            module = new_module(network, **({} if config.new is None else sizes_of(config.new)))
    names = learning_names(network, config.learn, family_of(network, module))
    control = sum(p.numel() for p in module.parameters())
    learned = sum(network.get_parameter(name).numel() for name in names)
    whole = sum(p.numel() for p in network.parameters())
    numbers = 4 * (whole + control) + 4 * 4 * (control + learned)
    return [
        f"learning ControlNeXt {control:,}, {type(network).__name__} {learned:,} of {whole:,} parameters",
        f"memory of each process, GB: {numbers / 1e9:.2f} for these networks, gradients, AdamW and averaged "
        "weights; VAE, text encoders and activations come on top",
    ]


def name_pictures(data: PictureDataConfig) -> str:
    """What the data are, by no path of this machine."""
    if data.drawn():
        return f"{data.pictures:,} dancers drawn by `datasets/puppets/render.py`, no picture of any person"
    source = data.folder or data.dataset
    assert source is not None
    count = len(data.files())
    return f"{count - held_out_of(count):,} pictures of `{source.name}`"
