"""Pictures for those who import posedance: what `posedance.stages` names, loaded when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ..controlnext.model import ControlNeXt
    from ..pose.base import PoseEstimator
    from .attach import PictureControl
    from .conditions import Kind as ConditionKind


def load_pictures(
    base: str | Path,
    controlnext: str | Path | None = None,
    unet: Sequence[str | Path] = (),
    *,
    loras: Sequence[tuple[str | Path, float]] = (),
    vae: str | None = None,
    config: str | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Any, ControlNeXt]:
    """A diffusers pipeline for pictures and the control module that joins it, on the CPU.

    Args:
        base: a folder that `convert` or `train image` wrote, or tiny-sd15, tiny-sdxl, tiny-sd3 with random
            weights; or, with `controlnext`, a base of SD1.5, SDXL or SD3: a folder in diffusers layout, a hub
            id, a single file, or a tiny one.
        controlnext: file of the control module, a folder that holds one, or a hub id, OWNER/NAME or
            OWNER/NAME/FILE.
        unet: files of network weights, whole, subsets or increments.
        loras: files of LoRA weights, of any kind that diffusers reads, each with its scale.
        vae, config: see `bases.load_base`.
        dtype: torch's, of all weights; float32 by default.

    Raises WeightsError for weights that are missing or unfit, ConfigError for parts of different bases.
    """
    from .bases import load_loras
    from .convert import load_folder, put_together
    from .weights import find_control

    if controlnext is None:
        if unet or vae or config:
            raise ConfigError("unet, vae and config go with controlnext: name the control module too")
        pipeline, module = load_folder(Path(base), dtype)
    else:
        files = [Path(path) for path in unet]
        named = {"vae": vae, "config": config, "dtype": dtype}
        pipeline, module = put_together(str(base), find_control(controlnext), files, **named)
    if loras:
        load_loras(pipeline, [(Path(path), scale) for path, scale in loras])
    return pipeline, module


def make_condition(
    kind: ConditionKind,
    picture: np.ndarray,
    width: int,
    height: int,
    *,
    estimator: PoseEstimator | None = None,
    depth_file: str | Path | None = None,
    depth_model: str | Path | None = None,
) -> torch.Tensor:
    """The condition that is found in a picture (uint8 RGB [H, W, 3]), for one of this size.

    Returns float32 [1, 3, height, width] in 0..1.

    Args:
        kind: canny, pose, mask, depth, or low-resolution (the picture enlarged).
        estimator: of a pose, set up: see `make_estimator`.
        depth_file: of depth, a picture of it: gray, in which bright is near, or coloured.
        depth_model: of depth, the folder of a `depth-estimation` model of transformers.
    """
    from .conditions import make

    file, model = (None if path is None else Path(path) for path in (depth_file, depth_model))
    return make(kind, picture, width, height, estimator=estimator, depth_file=file, depth_model=model)


def attach_control(
    pipeline: Any,
    module: ControlNeXt,
    condition: torch.Tensor,
    *,
    scale: float = 1.0,
    start: float = 0.0,
    end: float = 1.0,
    guess_mode: bool = False,
) -> PictureControl:
    """Let `condition` [K, 3, H, W], RGB in 0..1, control a pipeline: see `image.attach.attach`."""
    from .attach import attach

    return attach(pipeline, module, condition, scale=scale, start=start, end=end, guess_mode=guess_mode)
