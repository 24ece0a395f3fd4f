"""The base and the control module that a config names, opened when the first picture is painted."""

from typing import Any

import numpy as np

from .config import CharacterConfig, PaintingConfig


class Painter:
    """Paints pictures; nothing is loaded before the first."""

    def __init__(self, config: CharacterConfig) -> None:
        self._config = config
        self._opened: Any = None

    def paint(self, drawn: np.ndarray, seed: int, begun: np.ndarray | None) -> np.ndarray:
        """A picture uint8 [H, W, 3] that stands as `drawn`, uint8 of the same size; from `begun` if given."""
        from ...stages.image.conditions import to_tensor
        from ...stages.image.paint import PaintSettings, paint

        config = self._config
        if self._opened is None:
            self._opened = open_pictures(config)
        pipeline, module = self._opened
        settings = PaintSettings(
            config.prompt,
            config.negative_prompt,
            config.steps,
            config.guidance_scale,
            config.scale,
            config.strength,
        )
        return paint(pipeline, module, to_tensor(drawn), settings, seed, begun)


def open_pictures(config: PaintingConfig) -> tuple[Any, Any]:
    """The pipeline, on its device, and the module that a config names."""
    import torch

    from ...stages.controlnext.convert import DTYPES
    from ...stages.image.api import load_pictures

    best = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(best if config.device == "auto" else config.device)
    kind = config.precision or ("fp32" if device.type == "cpu" else "bf16")
    assert config.base is not None
    pipeline, module = load_pictures(
        config.base,
        config.controlnext,
        [] if config.unet is None else [config.unet],
        loras=[] if config.lora is None else [(config.lora, config.lora_scale)],
        vae=config.vae,
        config=config.base_config,
        dtype=DTYPES[kind],
    )
    return pipeline.to(device), module
