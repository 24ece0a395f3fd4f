"""Model folders: what training and conversion write, and what a published model consists of.

A folder has diffusers' layout, one subfolder for each network, and `posedance.json`, which holds what no
config of these classes records: how many groups their norms have, and how the model is best used. For
diffusers, `model_index.json` holds the same record, and `pipeline.py` names the class that reads it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ..controlnext.inject import POSE_STRENGTH
from ..controlnext.model import ControlNeXt
from ..errors import WeightsError
from ..generate import Defaults
from ..mimicmotion.pose_net import PoseNet
from .conditioning import MicroConditioning
from .generator import SvdGenerator
from .names import is_original, to_diffusers
from .norms import norm_groups, set_norm_groups
from .weights import find_weights, load_strict, read_weights

FORMAT = 1
"""Of `posedance.json`."""
RECORD = "posedance.json"
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
"""Subfolders of a model folder."""

VERSION_1_CHANNELS = 1280
"""Outputs of the first published control module; the second has 320."""

SVD_DEFAULTS = Defaults(576, 1024, window_size=24, window_overlap=6, steps=25, guidance_scale=3.0)
"""Of the published ControlNeXt-SVD-v2 script."""


def save_folder(generator: SvdGenerator, folder: Path) -> None:
    """Write all networks as safetensors with their configs, the scheduler, and `posedance.json`.

    WeightsError where the norms of a network do not share one number of groups: it could not be recorded.
    """
    groups = {}
    for name in NETWORKS:
        module = getattr(generator, name)
        if name in ("unet", "vae"):
            groups[name] = norm_groups(module)
            if groups[name] is None:
                raise WeightsError(f"the norms of {name} have different numbers of groups: set one for all")
        module.save_pretrained(folder / name)
        _forget_origin(folder / name / "config.json")
    scheduler = cast(EulerDiscreteScheduler, EulerDiscreteScheduler.from_config(dict(generator.scheduler)))
    scheduler.save_pretrained(folder / "scheduler")
    record = {
        "format": FORMAT,
        "norm_groups": groups,
        "defaults": asdict(generator.defaults),
        "numbers": asdict(generator.numbers),
        "control_strength": generator.control_strength,
    }
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
    record = _read_json(folder / RECORD)
    modules: dict[str, Any] = {key: _load_network(key, folder / key) for key in NETWORKS}
    scheduler = _read_json(folder / "scheduler" / "scheduler_config.json")
    return generator_of(record, name, scheduler, modules, str(folder / RECORD))


def generator_of(
    record: Mapping[str, Any],
    name: str,
    scheduler: Mapping[str, Any],
    modules: Mapping[str, Any],
    source: str,
) -> SvdGenerator:
    """A generator of loaded networks by their `NETWORKS` names and the folder's record, read from `source`.

    Sets the group counts of the norms. Raises WeightsError for a record of another format.
    """
    if record.get("format") != FORMAT:
        raise WeightsError(f"{source} has format {record.get('format')}: this version reads {FORMAT}")
    for key, groups in record["norm_groups"].items():
        set_norm_groups(modules[key], groups)
    return SvdGenerator(
        name,
        **modules,
        defaults=Defaults(**record["defaults"]),
        scheduler=scheduler,
        numbers=MicroConditioning(**record["numbers"]),
        control_strength=record["control_strength"],
    )


def load_published(base: str, controlnext: Path, unet: Path) -> SvdGenerator:
    """Stable Video Diffusion from `base` with the published ControlNeXt and UNet weights, as svd-xt-1.1.

    Either may also be a folder with config.json, or a model folder, of our own training: its config and its
    record then count, those of the UNet's folder for the window too.
    """
    folder = find_base(base)
    if controlnext.is_dir():
        control, strength = _load_own("controlnext", controlnext)
    else:
        control, strength = ControlNeXt(), {}
        state = read_weights(controlnext)
        refuse_version_1(state, controlnext)
        load_strict(control, state, str(controlnext))
    record: dict[str, Any] = {}
    if unet.is_dir():
        network, record = _load_own("unet", unet)
    else:
        network = load_unet(folder / "unet" / "config.json", read_weights(unet), str(unet))
    return on_base(
        "svd-xt-1.1",
        folder,
        network,
        cast(ControlNeXt, control),
        Defaults(**record["defaults"]) if record else SVD_DEFAULTS,
        MicroConditioning(**record["numbers"]) if record else MicroConditioning(),
        strength.get("control_strength", POSE_STRENGTH),
    )


def on_base(
    name: str,
    base: Path,
    unet: nn.Module,
    control: ControlNeXt | PoseNet,
    defaults: Defaults,
    numbers: MicroConditioning,
    strength: float = POSE_STRENGTH,
) -> SvdGenerator:
    """The UNet and the control module with the VAE, image encoder and scheduler of the folder `base`."""
    return SvdGenerator(
        name,
        cast(UNetSpatioTemporalConditionModel, unet),
        control,
        cast(AutoencoderKLTemporalDecoder, _load_network("vae", base / "vae")),
        _load_network("image_encoder", base / "image_encoder"),
        defaults,
        _read_json(base / "scheduler" / "scheduler_config.json"),
        numbers,
        strength,
    )


def load_unet(config_file: Path, state: Mapping[str, Tensor], source: str) -> nn.Module:
    """The UNet of a config with the weights read from `source`, under diffusers' or the original names."""
    config = _read_json(config_file)
    with init_empty_weights():
        unet = _build("unet", config)
    if is_original(state):
        state = to_diffusers(state, list(unet.state_dict()), config["layers_per_block"])
    load_strict(unet, state, source)
    return unet


def refuse_version_1(state: Mapping[str, Tensor], path: Path) -> None:
    """WeightsError for ControlNeXt-SVD v1, whose files have the names of v2's and fit no other way."""
    output = state.get("mid_convs.1.weight")
    if output is not None and len(output) == VERSION_1_CHANNELS:
        raise WeightsError(
            f"{path} is ControlNeXt-SVD v1 ({VERSION_1_CHANNELS} output channels, added before the middle "
            "block): use the files of v2, in ControlNeXt-SVD/v2 of Pbihao/ControlNeXt"
        )


def find_base(base: str) -> Path:
    """A local folder, or the folder that a hub id is downloaded to (all but the UNet's weights)."""
    if Path(base).is_dir():
        return Path(base)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["*/*.json", "vae/*.safetensors", "image_encoder/*.safetensors"]
    try:
        return Path(snapshot_download(base, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise WeightsError(
            f"{base} is no folder and cannot be had from the hub ({error.__class__.__name__}): "
            "give a folder in diffusers layout"
        ) from error


def _load_own(name: str, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A network from its own folder or from the model folder around it, and that one's record, if there."""
    own = folder / name if (folder / name).is_dir() else folder
    module = _load_network(name, own)
    record = _read_json(own.parent / RECORD) if (own.parent / RECORD).is_file() else {}
    if groups := record.get("norm_groups", {}).get(name):
        set_norm_groups(module, groups)
    return module, record


def _load_network(name: str, folder: Path) -> nn.Module:
    config = _read_json(folder / "config.json")
    with init_empty_weights():
        module = _build(name, config)
    path = find_weights(folder)
    load_strict(module, read_weights(path), str(path))
    return module


def _build(name: str, config: dict[str, Any]) -> nn.Module:
    if name == "image_encoder":
        return CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    network = PoseNet if config.get("_class_name") == PoseNet.__name__ else NETWORKS[name]
    return cast(nn.Module, cast(Any, network).from_config(config))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing: is {path.parent} a complete model folder?") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _forget_origin(config: Path) -> None:
    """Leave out of a config where its network had been loaded from: a path of somebody's machine."""
    content = _read_json(config)
    if content.pop("_name_or_path", None) is not None:
        _write_json(config, content)
