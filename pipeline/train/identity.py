"""What decides the numbers of a training: a stopped run goes on only where all of it is the same.

Weights and data count by their content, wherever they lie. What only says where or how fast the work is
done (output, workers, caches, gradient checkpointing) does not count, nor what is only written down in the
model folder.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from ..job.job import file_digest
from .config import TrainConfig
from .data import DataConfig, open_clips
from .model import ModelConfig, recorded

RECORDED = {
    "width",
    "height",
    "canvas",
    "window",
    "overlap",
    "steps",
    "guidance_scale",
    "sigma_min",
    "sigma_max",
}
"""What validation and the model folder take from a ModelConfig, and learning does not."""


def identity_of(config: TrainConfig) -> dict[str, Any]:
    """What decides a training of ControlNeXt and UNet, as plain data. Its weights must be there."""
    sources = {"base", "vae", "image_encoder"}
    settings = config.model_dump(
        mode="json",
        exclude={
            "output": True,
            "data": True,
            "cache_latents": True,
            "latents": True,
            "gradient_checkpointing": True,
            "model": RECORDED | sources,
        },
    )
    return settings | {"data": data_identity(config.data), "networks": starting_networks(config.model)}


def data_identity(data: DataConfig) -> dict[str, Any]:
    """What decides the clips: the settings, and of files their names and sizes in the order of the clips."""
    where = {"cache", "workers", "shards", "meta_info", "videos"}
    settings = data.model_dump(mode="json", exclude=where)
    if data.drawn():
        return settings
    listing = [(path.name, path.stat().st_size) for path in open_clips(data).files()]
    return settings | {"files": hashlib.sha256(json.dumps(listing).encode()).hexdigest()}


def starting_networks(config: ModelConfig) -> dict[str, str]:
    """Digests of the networks that a training starts from, by name; new ones follow from the config."""
    found: dict[str, str] = {}
    for name in ("unet", "controlnext", "vae", "image_encoder"):
        given = getattr(config, name)
        if isinstance(given, Path):
            found[name] = folder_digest(given)
        elif given is None and config.base is not None:
            found[name] = folder_digest(config.base / name)
    return found


def folder_digest(folder: Path) -> str:
    """SHA-256 of a network: of its config, its weights, and its norms' groups, recorded beside the folder."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin"))
    contents = [(path.name, file_digest(path)) for path in files]
    return hashlib.sha256(json.dumps([contents, recorded(folder.parent)]).encode()).hexdigest()
