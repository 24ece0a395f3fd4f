"""MimicMotion's published weights: one `.pth` that holds the UNet and PoseNet."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..errors import WeightsError
from ..generate import Defaults
from ..svd.conditioning import MicroConditioning
from ..svd.files.base import find_base
from ..svd.files.published import load_unet, on_base
from ..svd.files.weights import listed, load_strict, read_weights
from ..svd.generator import SvdGenerator
from .pose_net import PoseNet

NUMBERS = MicroConditioning(fps=6, motion_bucket=127, noise_aug=0.0)
"""The published script asks for 7 frames per second, and its pipeline tells the network one less."""
WINDOWS = {"MimicMotion": 16, "MimicMotion_1": 16, "MimicMotion_1-1": 72}
"""Frames in a window by the name of the published file, without ending: the first two are version 1.0, first
and later. Nothing in the files tells them apart: they have the same shapes."""


def load_mimicmotion(base: str, weights: Path) -> SvdGenerator:
    """Stable Video Diffusion from `base` with the UNet and PoseNet of `weights`, every key accounted for.

    Args:
        base: diffusers layout, a folder or a hub id; its UNet gives only the configuration.
        weights: `MimicMotion_1-1.pth`, trained with windows of 72 frames, or `MimicMotion_1.pth` with 16. A
            file of another name does not tell: the generator then asks for the window.

    Raises WeightsError for keys that are missing, unexpected or of another shape.
    """
    unet_state, pose_state = split_state(read_weights(weights), weights)
    control = PoseNet(control_channels=len(pose_state.get("final_proj.bias", ())) or 320)
    load_strict(control, pose_state, str(weights))
    folder = find_base(base)
    unet = load_unet(folder / "unet" / "config.json", unet_state, str(weights))
    size = WINDOWS.get(weights.stem)
    defaults = Defaults(576, 1024, size, 6, steps=25, guidance_scale=2.0, window_plan="mimicmotion")
    return on_base("mimicmotion", folder, unet, control, defaults, NUMBERS)


def split_state(state: Mapping[str, Tensor], source: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parts `unet.*` and `pose_net.*` without their prefixes; WeightsError for any other key."""
    parts: dict[str, dict[str, Tensor]] = {"unet": {}, "pose_net": {}}
    others = []
    for key, value in state.items():
        prefix, _, rest = key.partition(".")
        if prefix in parts:
            parts[prefix][rest] = value
        else:
            others.append(key)
    if others or not all(parts.values()):
        what = f"{len(others)} unexpected keys: {listed(others)}" if others else "a part is missing"
        raise WeightsError(f"{source} is not MimicMotion's unet.* and pose_net.*: {what}")
    return parts["unet"], parts["pose_net"]
