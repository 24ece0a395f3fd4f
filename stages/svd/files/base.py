"""The base of published models: Stable Video Diffusion in diffusers layout, a folder or a hub id."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import WeightsError

BASE_FILES = ("*/*.json", "vae/*.safetensors", "image_encoder/*.safetensors")
"""What is used of a base: all but the UNet's weights."""


def base_files(folder: Path) -> list[Path]:
    """What is used of a base in `folder`."""
    return [file for pattern in BASE_FILES for file in folder.glob(pattern)]


def find_base(base: str) -> Path:
    """A local folder, or the folder that a hub id is downloaded to (all but the UNet's weights)."""
    if Path(base).is_dir():
        return Path(base)
    from huggingface_hub import snapshot_download

    with hub_errors(base):
        return Path(snapshot_download(base, allow_patterns=list(BASE_FILES)))


@contextmanager
def hub_errors(source: str) -> Iterator[None]:
    """What cannot be had from the hub, in one line: WeightsError."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise WeightsError(
            f"{source} is given to those who accept its licence: accept it at "
            f"https://huggingface.co/{source}, "
            "log in with `hf auth login`, and try again"
        ) from error
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise WeightsError(
            f"{source} is no folder and cannot be had from the hub ({error.__class__.__name__}): "
            "give a folder in diffusers layout"
        ) from error
