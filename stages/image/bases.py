"""Bases for pictures: diffusers' pipelines from a folder, the hub or a single file, and LoRA on them."""

import json
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError, WeightsError
from ..svd.files.base import hub_errors
from ..svd.files.record import read_json
from ..svd.files.weights import read_weights
from .tiny import BASES, tiny_pipeline

logger = logging.getLogger(__name__)

TINY = {f"tiny-{base}": base for base in BASES}
"""Bases with random weights that need no files, by name."""
BORROWED = "pictures.json"
"""File of a folder whose VAE is that of a shipped model for videos: {"vae": NAME}."""
DOWN = re.compile(r"lora_A\.|lora\w*\.down\.")
"""In a LoRA file's keys, as diffusers reads them: the first of the two matrices of a layer."""
ORIGINALS = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sd3": "stabilityai/stable-diffusion-3.5-medium",
}
"""The original bases on the hub, by name."""
SD3_ENCODERS = {
    "text_encoder": "text_encoders.clip_l.",
    "text_encoder_2": "text_encoders.clip_g.",
    "text_encoder_3": "text_encoders.t5xxl.",
}
"""What the keys of SD3's text encoders begin with in a single file, which may hold all, two or none."""
PIPELINES = {
    "sd3": "StableDiffusion3Pipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sd15": "StableDiffusionPipeline",
}
"""diffusers' pipelines by the family of a single file."""


def is_for_pictures(base: str) -> bool:
    """Whether a base is one for pictures, and not for videos, by its name, file or model_index.json."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    if base in TINY or base in ORIGINALS or Path(base).is_file():
        return True
    if Path(base).is_dir() and not (Path(base) / "model_index.json").is_file():
        return False
    try:
        index: Any = DiffusionPipeline.load_config(base)
    except OSError:  # whoever loads it says why
        return False
    return index.get("_class_name") in PIPELINES.values()


def load_base(base: str, *, config: str | None = None, vae: str | None = None, dtype: Any = None) -> Any:
    """A diffusers pipeline of SD1.5, SDXL or SD3, in eval mode, on the CPU.

    Args:
        base: a folder in diffusers layout, a hub id, a single file (.safetensors, .ckpt); `sd15`, `sdxl` or
            `sd3` for the original on the hub; or `tiny-sd15`, `tiny-sdxl`, `tiny-sd3` with random weights.
        config: of a single file, a folder or hub id in diffusers layout whose configs it takes; by default
            diffusers fetches those of the original base.
        vae: a VAE in diffusers layout in place of the base's: SDXL in 16 bits needs
            madebyollin/sdxl-vae-fp16-fix.
        dtype: torch's, of all weights; float32 by default.

    Raises WeightsError where the base cannot be had.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    dtype = dtype or torch.float32
    base = ORIGINALS.get(base, base)
    if base in TINY:
        return cast_all(tiny_pipeline(TINY[base]), dtype)
    if config is not None and not Path(base).is_file():
        raise ConfigError(f"config is for single files, and {base} is none: leave it out")
    try:
        with hub_errors(base):
            parts: dict[str, Any] = {}
            if vae is not None:
                parts["vae"] = AutoencoderKL.from_pretrained(vae, **_variant(vae, ""))
            if Path(base).is_file():
                return cast_all(_single_file(Path(base), config, parts), dtype)
            parts = _left_out(base) | _borrowed(base) | parts
            whole = DiffusionPipeline.from_pretrained(base, **_variant(base, "vae"), **parts)
            return cast_all(whole, dtype)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [repr(error)]
        raise WeightsError(f"{base} cannot be loaded as a base: {reason[0]}") from error


def _variant(source: str, part: str) -> dict[str, str]:
    """Which files of a local folder to take, where it has only the half-precision ones."""
    folder = Path(source) / part
    names = {path.name for path in folder.glob("*.safetensors")} if folder.is_dir() else set()
    half = bool(names) and all(".fp16." in name for name in names)
    return {"variant": "fp16"} if half else {}


def cast_all(pipeline: Any, dtype: torch.dtype) -> Any:
    """The pipeline, every network of it in `dtype` and in eval mode."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            nn.Module.to(part.eval(), dtype=dtype)
    return pipeline


def _left_out(base: str) -> dict[str, None]:
    """Parts that a base is without, such as SD3's third text encoder: diffusers wants them named."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    parts: Any = DiffusionPipeline.load_config(base)
    return {name: None for name, kind in parts.items() if kind == [None, None]}


def _borrowed(base: str) -> dict[str, Any]:
    """What a folder takes from the shipped demo model in place of files of its own."""
    path = Path(base) / BORROWED
    if not path.is_file():
        return {}
    from ..models import load_decoder
    from .still import still_vae

    return {"vae": still_vae(load_decoder(read_json(path)["vae"], dtype=torch.float32).vae)}


def borrow_vae(folder: Path, model: str) -> None:
    """Take the VAE out of a folder in diffusers layout; `load_base` makes it of a shipped model's again."""
    shutil.rmtree(folder / "vae", ignore_errors=True)
    (folder / BORROWED).write_text(json.dumps({"vae": model}) + "\n")


def _single_file(path: Path, config: str | None, parts: dict[str, Any]) -> Any:
    """A pipeline of a single file, and of the folder `config` what the file lacks and that has.

    SD3 is published with all of its text encoders, with two, and with none.
    """
    import diffusers
    from diffusers.loaders.single_file_utils import SingleFileComponentError
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    keys = keys_of_file(path)
    family = family_of_keys(keys, path)
    if config is not None:
        parts = _left_out(config) | parts
    if family == "sd3":
        parts = _sd3_encoders(keys, path, config) | parts
    named = {} if config is None else {"config": config}
    try:
        return getattr(diffusers, PIPELINES[family]).from_single_file(str(path), **named, **parts)
    except SingleFileComponentError as error:
        raise WeightsError(
            f"{path} lacks a part of its base, such as a text encoder: name a folder in diffusers layout "
            f"that has it as its config ({str(error).splitlines()[0]})"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise WeightsError(
            f"{path} holds weights alone, and its configs cannot be had from the hub "
            f"({type(error).__name__}): name a folder in diffusers layout as its config"
        ) from error


def _sd3_encoders(keys: Sequence[str], path: Path, config: str | None) -> dict[str, Any]:
    """Text encoders that a single file of SD3 lacks: those of the folder `config`; T5 may be nowhere."""
    import transformers

    found: dict[str, Any] = {}
    for name, prefix in SD3_ENCODERS.items():
        if any(key.startswith(prefix) for key in keys):
            continue
        folder = None if config is None else Path(config) / name
        if folder is not None and any(file.suffix in (".safetensors", ".bin") for file in folder.glob("*")):
            kind = read_json(folder / "config.json")["architectures"][0]
            found[name] = getattr(transformers, kind).from_pretrained(folder)
        elif name == "text_encoder_3":
            logger.info(f"{path.name} has no T5: its two other text encoders read the prompts")
            found |= {"text_encoder_3": None, "tokenizer_3": None}
    return found


def keys_of_file(path: Path) -> list[str]:
    """The keys of a weight file. WeightsError for one that cannot be read."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                return list(file.keys())
        except SafetensorError as error:
            raise WeightsError(f"{path} is no readable weight file: {error}") from error
    return list(read_weights(path))


def family_of_keys(keys: Sequence[str], path: Path) -> str:
    """Whether a single file is sd15, sdxl or sd3, by its keys. WeightsError where it is none."""
    if any("joint_blocks." in key for key in keys):
        return "sd3"
    if any("label_emb." in key for key in keys):
        return "sdxl"
    if any("input_blocks." in key for key in keys):
        return "sd15"
    raise WeightsError(f"{path} is no single file of SD1.5, SDXL or SD3: it has none of their keys")


def load_loras(pipeline: Any, loras: Sequence[tuple[Path, float]]) -> list[str]:
    """Put LoRA weights of any kind that diffusers reads on a pipeline, each with its scale.

    They come after ControlNeXt's own weights, all at once. `pipeline.unload_lora_weights()` takes them off
    again. Returns their names. WeightsError for a file that holds none for this pipeline, ConfigError where
    some are on it already.
    """
    if any(pipeline.get_list_adapters().values()):
        raise ConfigError("LoRA weights are on this pipeline already: give all of them at once")
    names: list[str] = []
    for given, _ in loras:
        path = lora_file(given)
        name = _free_name(path, names)
        try:
            wanted = _down_layers(pipeline, path)
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=name)
        except (OSError, ValueError, KeyError, RuntimeError, IndexError) as error:
            reason = str(error).strip().splitlines() or [repr(error)]
            raise WeightsError(f"{path} holds no LoRA weights for this base: {reason[0]}") from error
        names.append(name)
        loaded = sum(
            key.endswith(f"lora_A.{name}.weight")
            for part in pipeline.components.values()
            if isinstance(part, nn.Module)
            for key, _ in part.named_parameters()
        )
        if loaded != wanted:
            pipeline.unload_lora_weights()
            raise WeightsError(
                f"{path} holds LoRA weights of another base: of its {wanted} layers {wanted - loaded} are "
                "not in this one"
            )
    pipeline.set_adapters(names, [scale for _, scale in loras])
    return names


def lora_file(given: Path) -> Path:
    """The file of LoRA weights, or that of a folder which diffusers' training scripts wrote."""
    inside = [given / f"pytorch_lora_weights{ending}" for ending in (".safetensors", ".bin")]
    found = next((path for path in (given, *inside) if path.is_file()), None)
    if found is None:
        raise WeightsError(f"LoRA weights {given} do not exist, or hold no {inside[0].name}: check the path")
    return found


def _down_layers(pipeline: Any, path: Path) -> int:
    """How many layers a LoRA file changes, as diffusers reads it."""
    unet = getattr(pipeline, "unet", None)
    named = {} if unet is None else {"unet_config": unet.config}
    read = pipeline.lora_state_dict(str(path.parent), weight_name=path.name, **named)
    state = read[0] if isinstance(read, tuple) else read
    return sum(DOWN.search(key) is not None for key in state)


def _free_name(path: Path, taken: Sequence[str]) -> str:
    """A name for an adapter: peft allows no dots in it."""
    stem = path.stem.replace(".", "_")
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    return name
