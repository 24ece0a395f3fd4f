"""The base and the control module that options name, opened; and what they ask of it."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ...stages.errors import ConfigError
from ...stages.image.models import PAINTERS, Task, defaults_of, painter_of
from ..job.job import source_digest
from ..job.once import once
from ..job.storage import localize
from .options import PaintingConfig

logger = logging.getLogger(__name__)

OptionsT = TypeVar("OptionsT", bound=PaintingConfig)

SUBSET = "unet.safetensors"
"""File of the network's weights in a folder that `train image --save subset` wrote."""
PLACES = {"base", "controlnext", "unet", "lora", "vae", "base_config"}
"""Options that say where weights are: their content counts."""
UNTRAINED = "no model for {task} is shipped: {base} has random weights and paints noise; name one with --base"


@dataclass(frozen=True, slots=True)
class Painter:
    """A diffusers pipeline and the control module that joins it. `name` tells what it was opened with."""

    name: str
    pipeline: Any
    module: Any


def open_painter(
    name: str, options: PaintingConfig, task: Task, device: str, precision: str | None
) -> Painter:
    """Load what the options name, or the task's own model, onto its device.

    `device` may be auto; `precision` is by default fp32 on a CPU and bf16 on a GPU.
    """
    import torch

    from ...stages.controlnext.convert import DTYPES
    from ...stages.image.api import load_pictures

    best = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.device(best if device == "auto" else device)
    kind = precision or ("fp32" if where.type == "cpu" else "bf16")
    parts = parts_of(options, task)
    if options.base is None and not PAINTERS[task].trained:
        logger.warning(UNTRAINED.format(task=task, base=parts.base))
    scales = options.lora_scale or (1.0,) * len(options.lora)
    pipeline, module = load_pictures(
        parts.base,
        parts.controlnext,
        [] if parts.unet is None else [parts.unet],
        loras=[(localize(path), scale) for path, scale in zip(options.lora, scales, strict=True)],
        vae=options.vae,
        config=options.base_config,
        dtype=DTYPES[kind],
    )
    return Painter(name, pipeline.to(where), module)


@dataclass(frozen=True, slots=True)
class Parts:
    """The base, its control module where that lies elsewhere, and the network's weights that go with it."""

    base: str
    controlnext: str | None
    unet: Path | None


def parts_of(options: PaintingConfig, task: Task) -> Parts:
    """What the options name, or else the task's own model. ConfigError for parts without their base."""
    if options.base is not None:
        return Parts(options.base, options.controlnext, options.unet)
    for option in ("controlnext", "unet", "vae", "base_config"):
        if (given := getattr(options, option)) is not None:
            name = option.replace("_", "-")
            raise ConfigError(f"{name} {given} without a base: name the base that it belongs to")
    model = painter_of(task)
    if getattr(options, "condition", "pose") != "canny":
        return Parts(model.base, None, None)
    if not model.canny:
        raise ConfigError(f"the model for {task} follows no edges: name another with --base")
    return Parts(model.base, model.canny, Path(model.canny) / SUBSET)


def settled(options: OptionsT, task: Task) -> OptionsT:
    """The options with the model's own defaults in place of what the user left open."""
    open_ones = {
        name: value
        for name, value in defaults_of(task, options.base).items()
        if getattr(options, name, value) is None
    }
    return options.model_copy(update=open_ones)


@once
def weights_of(options: PaintingConfig, task: Task) -> dict[str, Any]:
    """Digests of the weight files by their names; what is not here, and a tiny base, by its name."""
    parts = asdict(parts_of(options, task))
    named = {name: parts.get(name, getattr(options, name)) for name in PLACES}
    found: dict[str, Any] = {}
    for option, given in named.items():
        each = given if isinstance(given, tuple) else () if given is None else (given,)
        if each:
            found[option] = [digests(Path(one)) or str(one) for one in each]
    return found


def digests(path: Path) -> Mapping[str, str]:
    """SHA-256 of a weight file, or of those in a folder, by the file's name."""
    if path.is_dir():
        return {
            str(file.relative_to(path)): source_digest(file) for file in sorted(path.rglob("*.safetensors"))
        }
    return {path.name: source_digest(path)} if path.is_file() else {}
