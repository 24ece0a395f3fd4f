"""Published files to one folder that loads by itself: safetensors, configs, a model card."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..atomic import partial_folder
from ..errors import ConfigError
from ..models import load_generator
from ..svd.files.folder import save_folder
from ..svd.files.names import is_original
from ..svd.files.weights import find_weights, read_weights, shards_of

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}

STABILITY = "Stable Video Diffusion 1.1 licence of Stability AI (restricts commercial use)"
BASE = "https://huggingface.co/stabilityai/stable-video-diffusion-img2vid-xt-1-1"
CONTROLNEXT = "https://huggingface.co/Pbihao/ControlNeXt"
MIMICMOTION = "https://huggingface.co/tencent/MimicMotion"
"""Where the published weights and their licences are."""

LICENCES = {
    "base": ("vae, image_encoder, scheduler", STABILITY, BASE),
    "controlnext": ("controlnext", "Apache-2.0", CONTROLNEXT),
    "unet": ("unet, fine-tuned from Stable Video Diffusion", STABILITY, BASE),
    "mimicmotion": (
        "unet, fine-tuned from Stable Video Diffusion, and controlnext (PoseNet)",
        f"{STABILITY}, and MimicMotion's LICENSE and NOTICE",
        MIMICMOTION,
    ),
}
"""What each file gives, and under which licence it was published."""

CARD = """---
license: other
license_name: stable-video-diffusion-1-1-community
license_link: {base_link}
base_model: stabilityai/stable-video-diffusion-img2vid-xt-1-1
pipeline_tag: image-to-video
---

# {title}, converted by posedance

Animates a picture of a character by a sequence of poses: `run.py animate --model FOLDER`, or with diffusers
`DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)`, where posedance
is installed.

| parts | made from | SHA-256 | licence of the published weights |
|---|---|---|---|
{rows}

The weights are stored as {dtype}. Who passes this folder on has to keep these licences.
"""


@dataclass(frozen=True, slots=True)
class Source:
    """What was found in one weight file."""

    path: Path
    tensors: int
    parameters: int
    renamed: bool
    """Whether its keys were the original UNet's and had to be renamed."""
    sha256: str
    own: bool
    """Whether it is not published, but from a folder of somebody's own training."""

    def __str__(self) -> str:
        names = "renamed from the original names" if self.renamed else "all names as expected"
        return f"{self.path}: {self.tensors} tensors, {self.parameters:,} parameters, {names}"


def convert(
    base: str,
    folder: Path,
    *,
    controlnext: Path | None = None,
    unet: Path | None = None,
    mimicmotion: Path | None = None,
    dtype: str = "fp16",
) -> list[Source]:
    """Write `folder` from the published files; every key of every file is used, or WeightsError lists it.

    Args:
        base: Stable Video Diffusion in diffusers layout, a folder or a hub id.
        folder: appears when it is complete.
        controlnext, unet: .bin or .safetensors, with diffusers' or the original names; or folders of our own
            training.
        mimicmotion: MimicMotion's weights, in place of these two.
        dtype: fp16, bf16 or fp32.

    Returns what was found in the files. Raises ConfigError for another dtype, a folder in use, or files of
    both models.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: name a new folder for the converted model")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: name a new folder for the converted model")
    if mimicmotion is not None and (controlnext is not None or unet is not None):
        raise ConfigError("mimicmotion holds its own UNet and PoseNet: leave out controlnext and unet")
    if mimicmotion is None and (controlnext is None or unet is None):
        raise ConfigError("weights are missing: give --controlnext and --unet, or --mimicmotion")
    name = "svd-xt-1.1" if mimicmotion is None else "mimicmotion"
    given = {"controlnext": controlnext, "unet": unet, "mimicmotion": mimicmotion}
    files = {key: path for key, path in given.items() if path is not None}
    generator = load_generator(
        name, dtype=DTYPES[dtype], base=base, controlnext=controlnext, unet=unet, mimicmotion=mimicmotion
    )
    sources = {key: _source(key, path) for key, path in files.items()}
    partial = partial_folder(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_folder(generator, partial)
    (partial / "README.md").write_text(model_card(name, base, sources, dtype))
    partial.replace(folder)
    return list(sources.values())


def model_card(name: str, base: str, sources: Mapping[str, Source], dtype: str) -> str:
    """The README of a converted folder: what went in, its digests and its licences."""
    parts, licence, link = LICENCES["base"]
    what, link = (Path(base).name, link) if Path(base).is_dir() else (base, f"https://huggingface.co/{base}")
    lines = [f"| {parts} | {what} | | [{licence}]({link}) |"]
    for key, source in sources.items():
        parts, licence, link = LICENCES[key]
        stated = "of those who trained it" if source.own else f"[{licence}]({link})"
        lines.append(f"| {parts} | {source.path.name} | {source.sha256} | {stated} |")
    title = "MimicMotion" if name == "mimicmotion" else "ControlNeXt-SVD-v2"
    return CARD.format(title=title, rows="\n".join(lines), dtype=dtype, base_link=BASE)


def _source(key: str, path: Path) -> Source:
    own = path.is_dir()
    if own:
        path = find_weights(path / key if (path / key).is_dir() else path)
    state = read_weights(path)
    parameters = sum(value.numel() for value in state.values())
    return Source(path, len(state), parameters, is_original(state), digest_of(path), own)


def digest_of(path: Path) -> str:
    """SHA-256 of a weight file; of an index, that of it and its shards one after the other."""
    digest = hashlib.sha256()
    for part in [path, *(shards_of(path) if path.suffix == ".json" else [])]:
        with part.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
