"""Published files for pictures to one folder: a base, its control module beside it, a model card."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..controlnext.convert import DTYPES, Source, digest_of
from ..controlnext.model import ControlNeXt
from ..errors import ConfigError, WeightsError
from ..svd.files.weights import find_weights, read_weights
from .attach import network_of
from .bases import TINY, cast_all, load_base
from .families import family_of
from .tiny import tiny_module
from .weights import CONTROL_NAMES, Kind, find_control, load_control, load_network_weights, named_file

CONTROL_FOLDER = "controlnext"
"""Subfolder of a model folder with the control module."""
LICENCES = {
    "sd15": ("CreativeML Open RAIL-M", "https://huggingface.co/spaces/CompVis/stable-diffusion-license"),
    "sdxl": (
        "CreativeML Open RAIL++-M",
        "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
    ),
    "sd3": ("Stability AI Community License", "https://stability.ai/license"),
}
"""Of the original bases, and so of what was trained on them; a base that others trained may add to it."""
CONTROL_LICENCE = ("Apache-2.0", "https://github.com/dvlab-research/ControlNeXt/blob/main/LICENSE")

CARD = """---
license: other
pipeline_tag: text-to-image
---

# ControlNeXt on {base}, converted by posedance

A base of the family {family} in diffusers layout, and in `{folder}/` the control module that joins it:

```python
from posedance.stages import attach_control, load_pictures

pipeline, module = load_pictures(FOLDER)
with attach_control(pipeline, module, condition):
    picture = pipeline("a dancer").images[0]
```

| parts | made from | SHA-256 | licence of the published weights |
|---|---|---|---|
{rows}

The weights are stored as {dtype}. Who passes this folder on has to keep these licences.
"""


def convert_pictures(
    base: str,
    folder: Path,
    *,
    controlnext: Path,
    unet: Sequence[Path] = (),
    kind: Kind | None = None,
    vae: str | None = None,
    config: str | None = None,
    dtype: str = "fp16",
) -> list[Source]:
    """Write `folder` from a base and published files, every key of which is used, or WeightsError lists it.

    Args:
        base, vae, config: see `load_base`.
        folder: appears when it is complete.
        controlnext: file of the control module, a folder that holds one, or a hub id: see `find_control`.
        unet: files of network weights, put on one after the other.
        kind: what they hold: see `load_network_weights`.
        dtype: fp16, bf16 or fp32.

    Returns what was found in the files.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already and not empty: name a new folder")
    controlnext = find_control(controlnext)
    pipeline, module = put_together(base, controlnext, unet, kind=kind, vae=vae, config=config)
    family = family_of(network_of(pipeline), module)
    licence = LICENCES[family.removesuffix("-v2")]
    control = _control_file(controlnext)
    rows = [_row("base, and what was trained on it", Path(base).name or base, "", licence)]
    sources = [_source(control)]
    rows.append(_row("controlnext", control.name, sources[0].sha256, CONTROL_LICENCE))
    for path in unet:
        sources.append(_source(path))
        rows.append(_row("weights of the network", path.name, sources[-1].sha256, licence))
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    nn.Module.to(module, dtype=DTYPES[dtype])
    save_pictures(cast_all(pipeline, DTYPES[dtype]), module, partial)
    card = CARD.format(
        base=Path(base).name or base, family=family, folder=CONTROL_FOLDER, rows="\n".join(rows), dtype=dtype
    )
    (partial / "README.md").write_text(card)
    if folder.exists():
        folder.rmdir()
    partial.replace(folder)
    return sources


def put_together(
    base: str,
    controlnext: Path,
    unet: Sequence[Path] = (),
    *,
    kind: Kind | None = None,
    vae: str | None = None,
    config: str | None = None,
    dtype: Any = None,
) -> tuple[Any, ControlNeXt]:
    """A base with published weights put on, and the control module that joins it; see `convert_pictures`.

    ConfigError where the two do not belong together.
    """
    module = load_control(controlnext)
    pipeline = load_base(base, config=config, vae=vae)
    network = network_of(pipeline)
    family_of(network, module)
    for path in unet:
        load_network_weights(network, path, kind)
    if dtype is not None:
        cast_all(pipeline, dtype)
        nn.Module.to(module, dtype=dtype)
    return pipeline, module


def save_pictures(pipeline: Any, module: ControlNeXt, folder: Path) -> None:
    """Write a pipeline in diffusers layout, and the control module beside its parts."""
    pipeline.save_pretrained(folder)
    module.save_pretrained(folder / CONTROL_FOLDER)


def _control_file(source: Path) -> Path:
    """The file that `load_control` reads."""
    if not source.is_dir():
        return source
    own = source / CONTROL_FOLDER if (source / CONTROL_FOLDER).is_dir() else source
    if (own / "config.json").is_file():
        return find_weights(own)
    return named_file(source, CONTROL_NAMES)


def _source(path: Path) -> Source:
    from ..svd.files.names import is_original

    state = read_weights(path)
    parameters = sum(value.numel() for value in state.values())
    return Source(path, len(state), parameters, is_original(state), digest_of(path), own=False)


def _row(parts: str, name: str, digest: str, licence: tuple[str, str]) -> str:
    return f"| {parts} | {name} | {digest} | [{licence[0]}]({licence[1]}) |"


def load_folder(folder: Path, dtype: Any = None) -> tuple[Any, ControlNeXt]:
    """Pipeline and control module of a folder that `save_pictures` wrote, or of a tiny base by its name.

    WeightsError where it is none.
    """
    if str(folder) in TINY:
        pipeline = load_base(str(folder), dtype=dtype)
        module = tiny_module(network_of(pipeline))
        if dtype is not None:
            nn.Module.to(module, dtype=dtype)
        return pipeline, module
    if not (folder / CONTROL_FOLDER / "config.json").is_file():
        raise WeightsError(
            f"{folder} has no {CONTROL_FOLDER}/config.json: name a folder that convert or train image wrote"
        )
    return put_together(str(folder), folder, dtype=dtype)
