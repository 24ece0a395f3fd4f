"""Published files to one folder that loads by itself: safetensors, configs, a model card."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError
from ..svd.folder import load_published, save_folder
from ..svd.names import is_original
from ..svd.weights import read_weights

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}

CARD = """---
license: other
license_name: stable-video-diffusion-community-license
base_model: stabilityai/stable-video-diffusion-img2vid-xt-1-1
---

# ControlNeXt-SVD-v2, converted by posedance

Animates a picture of a character by a sequence of poses: `run.py animate --model FOLDER`.

| part | source | licence |
|---|---|---|
| vae, image_encoder, scheduler | {base} | Stability AI Community License |
| unet | {unet}, fine-tuned from Stable Video Diffusion | Stability AI Community License |
| controlnext | {controlnext} | Apache-2.0 |

The weights are stored as {dtype}. Who passes this folder on has to keep these licences.
"""


@dataclass(frozen=True, slots=True)
class Source:
    """What was found in one weight file."""

    path: Path
    tensors: int
    parameters: int
    renamed: bool
    """Whether its keys were the original UNet's and had to be renamed."""

    def __str__(self) -> str:
        names = "renamed from the original names" if self.renamed else "all names as expected"
        return f"{self.path}: {self.tensors} tensors, {self.parameters:,} parameters, {names}"


def convert(base: str, controlnext: Path, unet: Path, folder: Path, dtype: str = "fp16") -> list[Source]:
    """Write `folder` from the published files; every key of every file is used, or WeightsError lists it.

    Args:
        base: Stable Video Diffusion in diffusers layout, a folder or a hub id.
        controlnext, unet: .bin or .safetensors, with diffusers' or the original names.
        dtype: fp16, bf16 or fp32.

    Returns what was found in the two files. Raises ConfigError for another dtype, or a folder in use.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: name a new folder for the converted model")
    generator = load_published(base, controlnext, unet).to("cpu", DTYPES[dtype])
    save_folder(generator, folder)
    card = CARD.format(base=base, unet=unet.name, controlnext=controlnext.name, dtype=dtype)
    (folder / "README.md").write_text(card)
    return [_source(path, read_weights(path)) for path in (controlnext, unet)]


def _source(path: Path, state: Mapping[str, Tensor]) -> Source:
    return Source(path, len(state), sum(value.numel() for value in state.values()), is_original(state))
