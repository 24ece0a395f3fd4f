"""How strongly LoRA weights act: the alpha of each layer, in whichever of four places a file has it.

`NAME.alpha` tensors                          older files of diffusers, for each layer
the header of safetensors, `lora_adapter_metadata`      what diffusers saves today
adapter_config.json beside the file           what peft saves
nowhere                                       alpha is the rank: B A is added as it is
"""

import json
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ...errors import WeightsError

logger = logging.getLogger(__name__)

HEADER_KEY = "lora_adapter_metadata"
"""Under this the header of a safetensors file has peft's LoraConfig as JSON, where diffusers wrote it."""
CONFIG_NAME = "adapter_config.json"
"""In this file beside the weights peft has the same."""
PEFT_PREFIX = "base_model.model."
"""Before the keys of the weights that peft saves itself."""
UNET_PREFIX = "unet."
"""Before the keys of a file, and of its header, that may hold weights of text encoders too."""
STRENGTH = ("lora_alpha", "alpha_pattern", "use_rslora")
"""What decides the strength in a LoraConfig. Ranks are those of the tensors."""


def told_alphas(path: Path, ranks: Mapping[str, int], of_peft: bool) -> dict[str, float]:
    """The alpha of each layer by the header of `path` or, where `of_peft`, by the file beside it.

    `ranks` has the layers by their names in the UNet. Nothing for a file without: its alphas are the ranks;
    of weights as peft saves them that is said, since their alpha was left behind. An alpha is that of the
    scale alpha / rank, also where the file goes by alpha / sqrt(rank). Raises WeightsError for what cannot
    be read.
    """
    from peft import LoraConfig
    from peft.utils.other import get_pattern_key

    told = _of_header(path)
    source = path if told is not None else path.parent / CONFIG_NAME
    if told is None and of_peft:
        if not source.is_file():
            logger.warning(
                f"{path} lies without the {CONFIG_NAME} that tells the alpha of peft's LoRA weights: "
                "taken as their rank"
            )
        else:
            told = _parsed(source.read_bytes(), source)
    if told is None:
        return {}
    try:
        config = LoraConfig(**{name: told[name] for name in STRENGTH if told.get(name) is not None})
        patterns = config.alpha_pattern or {}
        alphas = {
            name: float(patterns.get(get_pattern_key(list(patterns), name), config.lora_alpha))
            for name in ranks
        }
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise WeightsError(
            f"{source} tells the alpha of LoRA weights wrongly ({error}): save it again"
        ) from error
    if not all(map(math.isfinite, alphas.values())):
        raise WeightsError(f"{source} tells an alpha of LoRA weights that is no number: save it again")
    return {
        name: alpha * math.sqrt(ranks[name]) if config.use_rslora else alpha for name, alpha in alphas.items()
    }


def _of_header(path: Path) -> dict[str, Any] | None:
    """What the header of a file has of the UNet's LoraConfig; None where it has none."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(HEADER_KEY)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is no readable weight file: {error}") from error
    if text is None:
        return None
    told = _parsed(text, path)
    own = {key.removeprefix(UNET_PREFIX): value for key, value in told.items() if key.startswith(UNET_PREFIX)}
    return own or (told if "lora_alpha" in told else None)


def _parsed(text: str | bytes, source: Path) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{source} does not tell the alpha of LoRA weights in JSON: save it again"
        ) from error
    if not isinstance(told, dict):
        raise WeightsError(f"{source} does not tell the alpha of LoRA weights by name: save it again")
    return told
