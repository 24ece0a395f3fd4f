"""Published weights for pictures: a control module told by its shapes, and UNet weights of three kinds.

A file of UNet weights holds all of them, a subset, or increments on those of the base (published as
`unet_weight_increasements`). Every key of it is used, or WeightsError lists it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from ..controlnext.model import ControlNeXt
from ..errors import ConfigError, WeightsError
from ..svd.files.base import hub_errors
from ..svd.files.lora import has_lora
from ..svd.files.names import is_original, to_diffusers
from ..svd.files.record import read_json
from ..svd.files.weights import check_fit, find_weights, load_strict, read_weights
from .families import PUBLISHED_SD15, STEMMED

CONTROL_NAMES = ("controlnet", "controlnext")
"""Of files with a control module, before their endings."""
ENDINGS = (".safetensors", ".bin")
INCREMENTS_NAME = re.compile(r"incr|delta", re.IGNORECASE)
"""What the names of files with increments contain: increasement, increment, ..."""
SMALL, LARGE = 0.2, 0.5
"""Size of a file's tensors over the base's, root mean square: below SMALL they are increments, above LARGE
weights. Published increments are 10 to 1000 times smaller than the weights."""
SVD_V1_CHANNELS = 1280
"""Outputs of the first control module for Stable Video Diffusion, which has a stem."""

Kind = Literal["weights", "increments"]


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """What was found in a file of network weights."""

    path: Path
    tensors: int
    parameters: int
    kind: Kind
    whole: bool
    """Whether it has every weight of the network."""
    renamed: bool
    """Whether its keys were the original ones."""

    def __str__(self) -> str:
        what = self.kind if not self.whole or self.kind == "increments" else "all weights"
        names = ", renamed from the original names" if self.renamed else ""
        return f"{self.path}: {what}, {self.tensors} tensors, {self.parameters:,} parameters{names}"


def find_control(source: str | Path) -> Path:
    """A file or folder with a control module, as it is; or what a hub id names, fetched from the hub.

    OWNER/NAME is a repository that has it under a published name, OWNER/NAME/FOLDER/FILE the file itself.
    WeightsError for what is neither here nor there.
    """
    path = Path(source)
    owner, *rest = str(source).split("/")
    if path.exists() or not rest or owner in ("", ".", "..", "~") or Path(owner).is_dir():
        return path
    from huggingface_hub import hf_hub_download, snapshot_download

    repository, inner = f"{owner}/{rest[0]}", "/".join(rest[1:])
    with hub_errors(str(source)):
        if inner:
            return Path(hf_hub_download(repository, inner))
        names = [f"{name}{ending}" for name in CONTROL_NAMES for ending in ENDINGS]
        return Path(snapshot_download(repository, allow_patterns=[*names, "controlnext/*"]))


def load_control(source: Path) -> ControlNeXt:
    """The control module of a file, or of a folder that holds one with its config.json or one as published.

    A file's shapes tell all widths, and the published ones of SD1.5 by their learned scale; SDXL's, the newer
    SD1.5's and our own SD3's have one layout. WeightsError for a file that is none of these.
    """
    if source.is_dir():
        own = source / "controlnext" if (source / "controlnext").is_dir() else source
        if (own / "config.json").is_file():
            with init_empty_weights():
                module = cast(ControlNeXt, ControlNeXt.from_config(read_json(own / "config.json")))
            path = find_weights(own)
            load_strict(module, read_weights(path), str(path))
            return module.eval()
        return load_control(named_file(source, CONTROL_NAMES))
    state = read_weights(source)
    with init_empty_weights():
        module = ControlNeXt(**config_of(state, source))
    load_strict(module, state, str(source))
    return module.eval()


def named_file(folder: Path, names: tuple[str, ...]) -> Path:
    """The file of one of the published names in a folder."""
    for name in names:
        for ending in ENDINGS:
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    raise WeightsError(f"{folder} holds no {' or '.join(names)} (.safetensors or .bin): name the file itself")


def config_of(state: Mapping[str, Tensor], source: Path) -> dict[str, Any]:
    """The config of a control module by the shapes of its weights."""

    def shape(key: str) -> tuple[int, ...]:
        if key not in state:
            raise WeightsError(
                f"{source} holds no ControlNeXt: it has no {key} among its {len(state)} keys; a file of "
                "July 2024 or later is needed"
            )
        return tuple(state[key].shape)

    out = shape("mid_convs.1.weight")
    levels = len({key.split(".")[1] for key in state if key.startswith("down_res.")})
    widths = [shape(f"down_res.{level}.conv1.weight") for level in range(levels)]
    config: dict[str, Any] = {
        "in_channels": tuple(width[1] for width in widths),
        "out_channels": tuple(width[0] for width in widths),
        "control_channels": out[0],
        "patch_size": out[-1],
        "time_proj_channels": shape("time_embedding.linear_1.weight")[1],
        "time_embed_dim": shape("time_embedding.linear_1.weight")[0],
    }
    if "scale" in state:
        return PUBLISHED_SD15 | config
    if out[0] == SVD_V1_CHANNELS and out[-1] == 1:
        raise WeightsError(
            f"{source} is ControlNeXt-SVD v1 ({SVD_V1_CHANNELS} channels and no learned scale): it is of no "
            "base for pictures"
        )
    return {**STEMMED, **config, "stem_channels": shape("embedding.0.weight")[0]}


def load_network_weights(network: nn.Module, path: Path, kind: Kind | None = None) -> LoadedWeights:
    """Put the weights of a file into a base's network: all, a subset, or increments that are added.

    Args:
        network: the unmodified UNet or transformer of a base, without LoRA weights.
        path: .safetensors or .bin, with diffusers' or the original names.
        kind: what the file holds; by default its name tells (`incr`, `delta`), or the size of its numbers.

    Increments are added in float32. WeightsError for keys that the network does not have, for other shapes,
    and where the kind cannot be told; ConfigError where LoRA weights are on the network: they come after.
    """
    if has_lora(network):
        raise ConfigError(f"LoRA weights are on the network already: load {path.name} before them")
    state = read_weights(path)
    own = network.state_dict()
    renamed = is_original(state)
    if renamed:
        layers = getattr(network, "config", {}).get("layers_per_block", 2)
        state = to_diffusers(state, list(own), layers)
    check_fit(network, state, str(path), subset=True)
    if not state:
        raise WeightsError(f"{path} is empty: download it again")
    kind = kind or kind_of(own, state, path)
    with torch.no_grad():
        for key, value in state.items():
            base = own[key]
            given = value.to(base.device, torch.float32)
            base.copy_(base.float() + given if kind == "increments" else given)
    parameters = sum(value.numel() for value in state.values())
    return LoadedWeights(path, len(state), parameters, kind, len(state) == len(own), renamed)


def kind_of(base: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> Kind:
    """Whether a file holds weights or increments, by its name or the size of its numbers."""
    if INCREMENTS_NAME.search(path.stem):
        return "increments"
    ratios = [
        float(value.float().square().mean().sqrt() / size)
        for key, value in state.items()
        if (size := base[key].float().square().mean().sqrt()) > 0
    ]
    ratio = float(torch.tensor(ratios).median()) if ratios else 1.0
    if ratio < SMALL:
        return "increments"
    if ratio > LARGE:
        return "weights"
    raise WeightsError(
        f"{path} may hold weights or increments: its numbers are {ratio:.2f} of the base's; say which, "
        "or name a file of increments so (unet_weight_increments.safetensors)"
    )
