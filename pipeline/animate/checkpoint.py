"""Where denoising keeps what it has come to, and goes on from."""

import logging
from pathlib import Path

from ...stages.generate import Checkpoint

logger = logging.getLogger(__name__)

CHECKPOINT = ".work/checkpoint.safetensors"
"""In the job folder: the latents after the last step."""


def load_checkpoint(path: Path, key: str) -> Checkpoint | None:
    """The checkpoint in `path` if it belongs to `key`; None where there is none to go on from."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata()
            if facts["key"] != key:
                return None
            return Checkpoint(int(facts["step"]), file.get_tensor("latents"))
    except SafetensorError as error:
        logger.warning(f"denoise: {path} is damaged ({error}): starting over")
        return None
