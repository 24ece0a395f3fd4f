"""What options cannot ask for together: told before anything is made."""

from collections.abc import Collection

from ...stages.errors import ConfigError
from ..character.options import CharacterOptions
from ..config import AnimateConfig, ClipConfig
from ..upscale.options import UpscaleOptions
from .settings import is_cutout

OF_A_NETWORK = (
    "preset", "seed", "steps", "guidance_scale", "lora", "lora_scale", "preview_every", "window",
    "approximate", "weights", "memory_limit", "compile",
)  # fmt: skip
"""Options that mean nothing to a figure of paper. `device` and `precision` may be of what paints pictures."""

OF_A_VIDEO = ("start", "duration", "stride", "fps")
"""Options that mean nothing to a pose file."""


def refuse_idle(config: AnimateConfig, options: Collection[str]) -> None:
    """ConfigError where one of `options` is set in `config` and changes nothing: the user expects it to."""
    for name in OF_A_VIDEO:
        default = ClipConfig.model_fields[name].default
        if config.pose is not None and name in options and getattr(config, name) != default:
            raise ConfigError(
                f"--{name} is of a driving video: leave it out with --pose, which is taken whole"
            )
    if config.pose is None and "pose_size" in options and config.pose_size is not None:
        raise ConfigError(f"--pose-size {config.pose_size} without --pose: a video tells its own size")
    if is_cutout(config):
        for name in OF_A_NETWORK:
            if name in options and getattr(config, name) != AnimateConfig.model_fields[name].default:
                option = name.replace("_", "-") + (
                    ".*" if name in ("window", "approximate", "weights") else ""
                )
                raise ConfigError(f"--{option} is of a network: leave it out with --model {config.model}")
    if config.lora is None and "lora_scale" in options and config.lora_scale != 1:
        raise ConfigError(f"--lora-scale {config.lora_scale:g} without weights: name them with --lora")
    if config.character_prompt is None and "character" in options and config.character != CharacterOptions():
        raise ConfigError("--character.* without --character-prompt: say who is to be painted")
    if config.upscale is None and "upscaler" in options and config.upscaler != UpscaleOptions():
        raise ConfigError("--upscaler.* without --upscale: say by how much the result is enlarged")


def refuse_contradictions(config: AnimateConfig) -> None:
    """ConfigError for what contradicts itself, or cannot be painted."""
    if config.driving and config.pose:
        raise ConfigError("--driving and --pose are both given: the dance comes from one of them")
    if config.reference and config.character_prompt is not None:
        raise ConfigError(
            "--reference and --character-prompt are both given: the character comes from one of them"
        )
    if config.character_prompt is not None and not (config.character_prompt or config.character.picture):
        raise ConfigError("--character-prompt is empty: say who is to dance, or give --character.picture")
    if config.upscale is not None and config.encode.bit_depth != 8:
        raise ConfigError(
            f"--upscale paints 8 bits: leave out --encode.bit-depth {config.encode.bit_depth}, or --upscale"
        )
