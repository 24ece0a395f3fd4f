"""What decides the result of each step, apart from the inputs and steps that it reads, as plain data.

No path is in it: files count by their content and by their names inside a model.
"""

from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ...stages.models import CUTOUT, GENERATORS, MODELS
from ...stages.svd.files.base import base_files, find_base
from ...stages.svd.files.lora_alpha import CONFIG_NAME
from ..character.painting import Wanted
from ..config import AnimateConfig, EstimatorConfig, WeightsConfig
from ..job.inputs import file_beside
from ..job.job import source_digest
from ..job.masking import masked
from ..job.once import once
from ..upscale.enlarge import Enlarging

READ_OF_A_MODEL = frozenset({".json", ".safetensors", ".bin", ".pt", ".pth"})
"""Endings of the files of a model folder that are read."""
PAINTED_SIDE = 16
"""Sides of painted pictures are multiples of this."""
RTMLIB = ("rtmlib", "onnxruntime", "onnxruntime-gpu")
PACKAGES = {"mediapipe": ("mediapipe",), "dwpose": RTMLIB, "rtmw": RTMLIB}
"""The packages whose version decides what poses an estimator finds."""


def size(config: AnimateConfig) -> dict[str, Any]:
    """The width and height that are asked for, and the model whose own they are otherwise."""
    return {"size": [config.width, config.height], "model": model(config)}


def settings(config: AnimateConfig) -> dict[str, Any]:
    """How frames are sampled: the model, and all options but the seed, which is each video's own."""
    return {
        "preset": config.preset,
        "steps": config.steps,
        "guidance_scale": config.guidance_scale,
        "window": config.window.model_dump(),
        "approximate": config.approximate.model_dump(),
        "model": model(config),
    }


def reference(config: AnimateConfig) -> dict[str, Any]:
    """How the character's pose is found, and whether it may be missing."""
    return {"estimator": estimator(config.estimator), "may_lack": config.align == "none"}


def poses(config: AnimateConfig) -> dict[str, Any]:
    """Which part of the driving video, and how its poses are found; of a pose file the size of its video."""
    if config.pose is not None:
        return {"size": config.pose_size, "person": config.person}
    return {
        "clip": [config.start, config.duration, config.stride, config.fps],
        "estimator": estimator(config.estimator),
        "max_gap": config.estimator.max_gap,
        "smooth": config.smooth,
        "person": config.person,
    }


def placement(config: AnimateConfig) -> dict[str, Any]:
    """Whether the picture is padded or cut, and whether around the character or, as published, blindly."""
    return {"fit": config.fit, "blind": config.align == "published"}


def control(config: AnimateConfig) -> dict[str, Any]:
    """How the dancer is fitted to the character."""
    return {"align": config.align}


def latents(config: AnimateConfig) -> dict[str, Any]:
    """Seed, LoRA weights, device and precision. The model and the settings are decided with `settings`."""
    lora = None
    if config.lora is not None:
        lora = [*map(source_digest, files_of_lora(config.lora)), config.lora_scale]
    return {"seed": config.seed, "lora": lora, "device": config.device, "precision": config.precision}


def paper(config: AnimateConfig) -> dict[str, Any]:
    """How the dancer is fitted to the figure of paper, and what cuts that out."""
    return {**control(config), "packages": installed(PACKAGES["mediapipe"])}


def has_character(config: AnimateConfig) -> bool:
    """Whether the reference image is to be painted."""
    return config.character_prompt is not None


def character(config: AnimateConfig) -> dict[str, Any]:
    """Who is painted, by what, from which seeds, and how the truest picture is found. Not how large."""
    wanted = character_wanted(config, 0, 0)
    return {
        **wanted.decided_by(),
        "frame": wanted.options.frame,
        "seeds": list(wanted.seeds()),
        "estimator": estimator(config.estimator),
        "device": config.device,
    }


def character_wanted(config: AnimateConfig, width: int, height: int) -> Wanted:
    """The reference image that a config asks for, of the video's size or up to 15 pixels more."""
    assert config.character_prompt is not None
    size = tuple(-(-side // PAINTED_SIDE) * PAINTED_SIDE for side in (width, height))
    return Wanted(
        config.character,
        config.character_prompt,
        (size[0], size[1]),
        config.estimator,
        config.device,
        config.precision,
    )


def has_upscale(config: AnimateConfig) -> bool:
    """Whether the result is to be enlarged."""
    return config.upscale is not None


def upscale(config: AnimateConfig) -> dict[str, Any]:
    """How the result is enlarged."""
    return enlarging(config).decided_by()


def enlarging(config: AnimateConfig) -> Enlarging:
    """How a config asks for frames to be enlarged."""
    assert config.upscale is not None
    return Enlarging(config.upscaler, config.upscale, config.device, config.precision)


def result(config: AnimateConfig) -> dict[str, Any]:
    """How the video is encoded."""
    return {"encode": config.encode.model_dump()}


def result_names(config: AnimateConfig) -> dict[str, str]:
    """The names of results where they do not end in .mp4."""
    return {f"{name}.mp4": f"{name}.mkv" for name in ("result", "upscaled") if config.encode.lossless}


def own_names(config: AnimateConfig) -> dict[str, str]:
    """No file has another name than the step says."""
    return {}


def nothing(config: AnimateConfig) -> dict[str, Any]:
    """Nothing but what the step reads."""
    return {}


def model(config: AnimateConfig) -> dict[str, Any]:
    """The model: its name in the table, if it has one, and the digests of its files.

    A base from the hub counts by its name.
    """
    return of_model(config.model, config.weights)


@once
def of_model(name: str, weights: WeightsConfig) -> dict[str, Any]:
    """What decides a model, given by its name or folder and its weights."""
    base = weights.base
    return {
        "name": name if name in MODELS else None,
        "hub": None if base is None or Path(base).is_dir() else base,
        "files": {inside: source_digest(path) for inside, path in model_files(name, weights).items()},
    }


@once
def estimator(options: EstimatorConfig) -> dict[str, Any]:
    """A pose estimator: name, device, bar for a person, digests of its files, and its packages."""
    files = {"model": options.model, "detector": options.detector}
    return {
        "name": options.name,
        "device": options.device,
        "min_score": options.min_score,
        **{name: None if path is None else source_digest(path) for name, path in files.items()},
        "packages": installed(PACKAGES[options.name]),
    }


@cache
def installed(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of those of `packages` that are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def model_files(name: str, weights: WeightsConfig) -> dict[str, Path]:
    """Every local file that the model reads, by its option and its name inside that."""
    base = weights.base
    roots: dict[str, Path | None] = weights.model_dump(exclude={"base"})
    if name != CUTOUT:  # which has none
        roots["model"] = GENERATORS[name].shipped if name in GENERATORS else Path(name)
    files: dict[str, Path] = {}
    for option, root in roots.items():
        if root is not None:
            files |= files_of(option, root)
    return files if base is None else {**files, **files_of_base(Path(base))}


def files_of(option: str, root: Path) -> dict[str, Path]:
    """What is read of a model's file or folder."""
    if root.is_file():
        return {option: root}
    found = sorted(path for path in root.rglob("*") if path.suffix in READ_OF_A_MODEL and path.is_file())
    return {name_inside(option, root, path): path for path in found}


def files_of_base(folder: Path) -> dict[str, Path]:
    """What is used of a base in diffusers layout."""
    return {name_inside("base", folder, path): path for path in sorted(base_files(folder))}


def files_of_lora(path: Path) -> list[Path]:
    """LoRA weights, and the file beside them that may tell their alpha."""
    told = file_beside(path, CONFIG_NAME)
    return [path] if told is None else [path, told]


def name_inside(option: str, root: Path, path: Path) -> str:
    """The name of a file of a model: it does not change when the model lies elsewhere."""
    return Path(option, path.relative_to(root)).as_posix()


def weights_of(config: AnimateConfig) -> dict[str, str]:
    """SHA-256 of each file of the model and of its LoRA weights, by path: what environment.json keeps."""
    files, base = model_files(config.model, config.weights), config.weights.base
    if base is not None and not Path(base).is_dir():
        files |= files_of_base(find_base(base))
    paths = [*files.values(), *([] if config.lora is None else files_of_lora(config.lora))]
    return {masked(str(path)): source_digest(path) for path in sorted(paths)}
