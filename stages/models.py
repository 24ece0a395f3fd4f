"""The table of models, and how a model is loaded: by its name in the table, or from a folder.

To add one: a folder in `stages/` whose generator keeps the protocol `generate.Generator`, and a row in
GENERATORS. The contract test runs over the table. The heavy libraries are imported when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder

    from .svd.decoder import Decoder
    from .svd.generator import SvdGenerator

RECORD = "posedance.json"
"""The file by which a model folder is known (`svd.files.record`)."""
BASE = "stable-video-diffusion-img2vid-xt-1-1 in diffusers layout, a folder or a hub id"

Files = Mapping[str, str]
"""What the user named of a model's files, by the name of the option `--weights.NAME`."""


@dataclass(frozen=True, slots=True)
class Model:
    """A row of the table: what a model is made of, and how it is loaded."""

    load: Callable[[Files], SvdGenerator]
    """Makes the generator of all its files, on the CPU."""
    load_vae: Callable[[Files], AutoencoderKLTemporalDecoder]
    """Makes what the decoder alone needs."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The files it is made of where they are not shipped, and what is named with each: {option: what}."""
    vae_files: tuple[str, ...] = ()
    """Those of them that `load_vae` needs."""
    shipped: Path | None = None
    """The folder inside the package where its weights lie, if they are shipped as files."""
    without: str = ""
    """What to do where the shipped files are missing."""


def load_generator(
    name: str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    memory_limit: int | None = None,
    compile: bool = False,
    **files: str | Path | None,
) -> SvdGenerator:
    """A generator by its name in the table, or by the folder that holds it, ready on `device`.

    Args:
        name: a key of GENERATORS, or a folder that `save_generator`, training or conversion wrote.
        dtype: of the weights; by default float32 on a CPU with enough memory, and bfloat16 elsewhere.
        memory_limit: bytes of the device that may be taken, weights included; all that is free by default.
        compile: fuse element-wise work by torch.compile.
        files: what the model is made of where its weights are not shipped: see `Model.files` of its row.

    Raises ConfigError for a name that is neither, and WeightsError for weights that are missing or unfit.
    """
    import torch

    from .svd.memory.plan import choose_dtype

    given = _given(name, files)
    if name in GENERATORS:
        model = GENERATORS[name]
        _check(name, given, model.files)
        generator = model.load(given)
    elif name != CUTOUT and Path(name).is_dir():
        generator = _from_folder(Path(name), name)
    else:
        raise _unknown(name)
    generator.memory_limit, generator.compile = memory_limit, compile
    return generator.to(device, dtype or choose_dtype(generator, generator.defaults, torch.device(device)))


def load_decoder(
    name: str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    memory_limit: int | None = None,
    compile: bool = False,
    **files: str | Path | None,
) -> Decoder:
    """What `decode` of a generator needs, without its other networks: to the same frames.

    See `load_generator`, also for the errors; `dtype` is by default float32 on a CPU, bfloat16 elsewhere.
    """
    import torch

    from .svd.decoder import Decoder

    given = _given(name, files)
    if name in GENERATORS:
        model = GENERATORS[name]
        _check(name, given, model.vae_files)
        vae = model.load_vae(given)
    elif name != CUTOUT and Path(name).is_dir():
        vae = _vae_of(Path(name))
    else:
        raise _unknown(name)
    return Decoder(name, vae, torch.device(device), dtype, memory_limit, compile)


def save_generator(generator: SvdGenerator, folder: str | Path) -> None:
    """Write a folder that `load_generator` reads."""
    from .svd.files.folder import save_folder

    save_folder(generator, Path(folder))


def why_unusable(name: str) -> str:
    """Why the model `name`, one of MODELS, cannot be used as it is; empty if it can."""
    if name == CUTOUT:
        return ""
    model = GENERATORS[name]
    if model.shipped is not None and not (model.shipped / RECORD).is_file():
        return f"its weights are not part of this installation; {model.without}"
    return f"needs local files: name them with {_options(model.files)}" if model.files else ""


def _given(name: str, files: Mapping[str, str | Path | None]) -> Files:
    """The files that were named; ConfigError for one that belongs to another model."""
    given = {key: str(value) for key, value in files.items() if value}
    own = GENERATORS[name].files if name in GENERATORS else {}
    for key in given:
        if key not in own:
            owners = [other for other, model in GENERATORS.items() if key in model.files]
            whose = f"belongs to the model {' or '.join(owners)}, not to" if owners else "is no file of"
            raise ConfigError(f"{key} {whose} {name}")
    return given


def _check(name: str, given: Files, needed: Iterable[str]) -> None:
    """WeightsError where files that are needed were not named."""
    missing = {key: GENERATORS[name].files[key] for key in needed if key not in given}
    if missing:
        what = "; ".join(missing.values())
        raise WeightsError(f"{name} needs weights that are not shipped: give {_options(missing)} ({what})")


def _unknown(name: str) -> ConfigError:
    if name == CUTOUT:
        return ConfigError(f"the model {CUTOUT} has no network to load: it is of `animate` and `batch`")
    return ConfigError(
        f"no model {name!r}: use one of {', '.join(MODELS)}, or a folder written by train or convert"
    )


def _options(keys: Iterable[str]) -> str:
    return " and ".join(f"--weights.{key}" for key in keys)


def _from_folder(folder: Path, name: str) -> SvdGenerator:
    from .svd.files.folder import load_folder

    return load_folder(folder, name)


def _vae_of(folder: Path) -> AutoencoderKLTemporalDecoder:
    from .svd.files.folder import load_vae

    return load_vae(folder)


def _base_vae(files: Files) -> AutoencoderKLTemporalDecoder:
    from .svd.files.base import find_base

    return _vae_of(find_base(files["base"]))


def _tiny_random(files: Files) -> SvdGenerator:
    from .svd.files.tiny import tiny_random

    return tiny_random()


def _shipped(name: str) -> Path:
    """The folder of a shipped model; WeightsError where its files are missing."""
    if reason := why_unusable(name):
        raise WeightsError(f"the model {name} is missing: {reason}, or use --model tiny-random")
    folder = GENERATORS[name].shipped
    assert folder is not None
    return folder


def _svd(files: Files) -> SvdGenerator:
    from .svd.files.published import load_published

    return load_published(files["base"], Path(files["controlnext"]), Path(files["unet"]))


def _mimicmotion(files: Files) -> SvdGenerator:
    from .mimicmotion.load import load_mimicmotion

    return load_mimicmotion(files["base"], Path(files["mimicmotion"]))


GENERATORS = {
    "tiny-random": Model(_tiny_random, lambda files: _tiny_random(files).vae),
    "demo": Model(
        lambda files: _from_folder(_shipped("demo"), "demo"),
        lambda files: _vae_of(_shipped("demo")),
        shipped=Path(__file__).parent / "demo",
        without="train them with `make demo-model`",
    ),
    "svd-xt-1.1": Model(
        _svd,
        _base_vae,
        {"base": BASE, "controlnext": "controlnet.bin", "unet": "unet.bin; see docs/models.md"},
        ("base",),
    ),
    "mimicmotion": Model(
        _mimicmotion, _base_vae, {"base": BASE, "mimicmotion": "MimicMotion_1-1.pth"}, ("base",)
    ),
}
"""Models by name."""
CUTOUT = "cutout"
"""The model without a network: the character as a figure of paper (`pose.animatic`)."""
MODELS = (*GENERATORS, CUTOUT)
"""All that --model can name, apart from folders."""
