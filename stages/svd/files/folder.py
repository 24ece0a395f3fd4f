"""Model folders: what training and conversion write and `load_generator` reads.

A folder has diffusers' layout, one subfolder for each network, and `posedance.json`, which holds what no
config of these classes records: how many groups their norms have, and how the model is best used. For
diffusers, `model_index.json` holds the same record, and `pipeline.py` names the class that reads it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ...controlnext.model import ControlNeXt
from ...errors import WeightsError
from ...generate import Defaults
from ...mimicmotion.pose_net import PoseNet
from ..generator import SvdGenerator
from .norms import norm_groups, set_norm_groups
from .record import NORMED, RECORD, Record, read_json, read_record
from .weights import find_weights, load_strict, read_weights

PIPELINE = """# diffusers runs this: DiffusionPipeline.from_pretrained(..., custom_pipeline=FOLDER, ...)
from posedance.stages.svd.pipeline import PosedancePipeline

__all__ = ["PosedancePipeline"]
"""
"""The file by which diffusers finds our pipeline; the class stays where it is installed."""

NETWORKS: dict[str, type[nn.Module]] = {
    "unet": UNetSpatioTemporalConditionModel,
    "controlnext": ControlNeXt,
    "vae": AutoencoderKLTemporalDecoder,
    "image_encoder": CLIPVisionModelWithProjection,
}
"""Subfolders of a model folder, and of which class their network is where its config does not say."""
CONTROL_MODULES = {network.__name__: network for network in (ControlNeXt, PoseNet)}
"""The control modules that a folder may hold, by the class that their configs name."""

SVD_DEFAULTS = Defaults(576, 1024, window_size=24, window_overlap=6, steps=25, guidance_scale=3.0)
"""Of the published ControlNeXt-SVD-v2 script."""


def save_folder(generator: SvdGenerator, folder: Path) -> None:
    """Write all networks as safetensors with their configs, the scheduler, and `posedance.json`.

    WeightsError where the norms of a network do not share one number of groups: it could not be recorded.
    """
    groups: dict[str, int] = {}
    for name in NETWORKS:
        module = getattr(generator, name)
        if name in NORMED:
            count = norm_groups(module)
            if count is None:
                raise WeightsError(f"the norms of {name} have different numbers of groups: set one for all")
            groups[name] = count
        module.save_pretrained(folder / name)
        _forget_origin(folder / name / "config.json")
    scheduler = cast(EulerDiscreteScheduler, EulerDiscreteScheduler.from_config(dict(generator.scheduler)))
    scheduler.save_pretrained(folder / "scheduler")
    own = Record(groups, generator.defaults, generator.numbers, generator.control_strength)
    record = own.content()
    _write_json(folder / RECORD, record)
    control = type(generator.controlnext)
    index = {
        "_class_name": ["pipeline", "PosedancePipeline"],
        "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
        "controlnext": [control.__module__, control.__name__],
        "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "record": record,
    }
    _write_json(folder / "model_index.json", index)
    (folder / "pipeline.py").write_text(PIPELINE)


def load_folder(folder: Path, name: str) -> SvdGenerator:
    """Read what `save_folder` wrote, strictly; on the CPU, in the dtype that was saved."""
    record = read_record(folder)
    modules: dict[str, Any] = {key: load_network(key, folder / key) for key in NETWORKS}
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    return generator_of(record, name, scheduler, modules)


def generator_of(
    record: Record, name: str, scheduler: Mapping[str, Any], modules: Mapping[str, Any]
) -> SvdGenerator:
    """A generator of loaded networks by their `NETWORKS` names and the folder's record.

    Sets the group counts of the norms.
    """
    for key, groups in record.norm_groups.items():
        set_norm_groups(modules[key], groups)
    return SvdGenerator(
        name,
        **modules,
        defaults=record.defaults,
        scheduler=scheduler,
        numbers=record.numbers,
        control_strength=record.control_strength,
    )


def load_network(name: str, folder: Path) -> nn.Module:
    """One of `NETWORKS` from its own folder, strictly."""
    config = read_json(folder / "config.json")
    with init_empty_weights():
        module = build_network(name, config)
    path = find_weights(folder)
    load_strict(module, read_weights(path), str(path))
    return module


def load_vae(folder: Path) -> AutoencoderKLTemporalDecoder:
    """The VAE of a model folder, or of a base without a record, alone."""
    vae = cast(AutoencoderKLTemporalDecoder, load_network("vae", folder / "vae"))
    if (folder / RECORD).is_file():
        set_norm_groups(vae, read_record(folder).norm_groups["vae"])
    return vae


def build_network(name: str, config: dict[str, Any]) -> nn.Module:
    """One of `NETWORKS` from its config, with random weights; on the meta device without any."""
    if name == "image_encoder":
        return CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    network = CONTROL_MODULES.get(config.get("_class_name", ""), NETWORKS[name])
    return cast(nn.Module, cast(Any, network).from_config(config))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _forget_origin(config: Path) -> None:
    """Leave out of a config where its network had been loaded from: a path of somebody's machine."""
    content = read_json(config)
    if content.pop("_name_or_path", None) is not None:
        _write_json(config, content)
