"""Opening the model that a config names: the whole generator, or its decoder alone."""

from typing import TYPE_CHECKING, Any

from ..stages.models import load_decoder, load_generator
from .config import AnimateConfig
from .job.storage import localize

if TYPE_CHECKING:
    from ..stages.svd.decoder import Decoder
    from ..stages.svd.generator import SvdGenerator


def open_generator(config: AnimateConfig, gpu_part: float = 1.0) -> "SvdGenerator":
    """The generator that a config asks for, on its device, with its LoRA weights.

    `gpu_part` is the part of a GPU, and so of its memory, that it may take.
    """
    weights = config.weights.model_dump()
    generator = load_generator(config.model, **weights, **device_options(config, gpu_part))
    put_lora(generator, config)
    return generator


def put_lora(generator: "SvdGenerator", config: AnimateConfig) -> None:
    """Put the LoRA weights that a config asks for on a generator, in place of those that are there."""
    from ..stages.svd.files.lora import load_lora, unload_lora
    from ..stages.svd.files.lora_alpha import CONFIG_NAME

    unload_lora(generator.unet)
    if config.lora is not None:
        load_lora(generator.unet, localize(config.lora, CONFIG_NAME), config.lora_scale)


def open_decoder(config: AnimateConfig, gpu_part: float = 1.0) -> "Decoder":
    """The decoder of the generator that a config asks for, alone."""
    return load_decoder(config.model, **config.weights.model_dump(), **device_options(config, gpu_part))


def device_options(config: AnimateConfig, gpu_part: float) -> dict[str, Any]:
    """Where a model is loaded, in which precision, within how many bytes, and whether it is compiled."""
    import torch

    from ..stages.controlnext.convert import DTYPES
    from ..stages.svd.memory.plan import part_of

    best = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(best if config.device == "auto" else config.device)
    on_gpu = device.type == "cuda"
    limits = [] if config.memory_limit is None else [int(config.memory_limit * 2**30)]
    if on_gpu and gpu_part < 1:
        limits.append(part_of(device, gpu_part))
    return {
        "device": device,
        "dtype": None if config.precision is None else DTYPES[config.precision],
        "memory_limit": min(limits, default=None),
        "compile": on_gpu if config.compile is None else config.compile,
    }
