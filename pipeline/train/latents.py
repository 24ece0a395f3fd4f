"""Latents and tokens of training frames, made once: kept in memory, in a folder, or not at all."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file
from torch import Tensor, nn

from ...stages.errors import ConfigError
from ...stages.svd.files.weights import save_tensors
from .data import open_clips

if TYPE_CHECKING:
    from .config import TrainConfig
    from .model import Parts


class LatentCache:
    """What was made of frames, by kind, clip and frame; `folder` may be shared by processes."""

    def __init__(self, memory: bool = True, folder: Path | None = None) -> None:
        self.memory, self.folder = memory, folder
        self._made: dict[tuple[str, int, int], Tensor] = {}

    def once(self, what: str, clip: int, frame: int, make: Callable[[], Tensor]) -> Tensor:
        """What `make` returns, on the CPU; made only where it is not kept yet."""
        key = what, clip, frame
        if key in self._made:
            return self._made[key]
        made = make().cpu() if self.folder is None else self._stored(self.folder, key, make)
        if self.memory:
            self._made[key] = made
        return made

    def _stored(self, folder: Path, key: tuple[str, int, int], make: Callable[[], Tensor]) -> Tensor:
        what, clip, frame = key
        path = folder / f"{clip:07d}" / f"{what}-{frame:03d}.safetensors"
        if path.exists():
            return load_file(path)[what]
        made = make().cpu().contiguous()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, {what: made})
        return made


def latents_folder(config: "TrainConfig", parts: "Parts") -> Path | None:
    """A folder in `config.latents` for these clips, VAE and image encoder; None where none is wanted.

    Files that were replaced since are other clips.
    """
    if config.latents is None:
        return None
    if config.palette > 0:
        raise ConfigError("latents keeps the tokens of an image encoder at rest: leave palette at 0")
    data = config.data.model_dump(mode="json", exclude={"cache", "workers"})
    for share in ("half_body", "elsewhere"):
        if data[share] is None:
            del data[share]  # as those who kept latents before there was one
    files = [] if config.data.drawn() else open_clips(config.data).files()
    contents = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(json.dumps([data, config.loop.precision, contents], sort_keys=True).encode())
    for network in (parts.vae, parts.image_encoder):
        for parameter in nn.Module.parameters(network):
            digest.update(parameter.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return config.latents / digest.hexdigest()[:16]
