"""What a user may ask for: pydantic models, and the layers that fill them.

A config is built from layers, each a mapping of only what it changes: the defaults of the models below, the
user's YAML file, the command line. Later layers win.
"""

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard, TypeVar

import yaml
from cyclopts import Parameter
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from ..stages.errors import ConfigError
from ..stages.generate import WindowPlan
from ..stages.types import LARGEST_FRAME
from .animate.accept import AcceptConfig
from .character.options import CharacterOptions
from .config_base import Config, FrameRate, Hidden, PersonOrAll, PersonText, Rare, Seconds
from .plain_yaml import load_yaml
from .upscale.options import UpscaleOptions


def _text_as_number(value: object) -> object:
    """A whole number that the command line or a CSV file gives as text: a choice of numbers takes no text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


ConfigFile = Annotated[Path | None, Parameter(name="--config", help="YAML file with any of these options.")]
"""The option by which a command takes a file for `resolve`."""

JsonFile = Annotated[Path | None, Parameter(name="--json")]
"""The option by which a command that measures is told where to write its figures."""


StepName = Literal[
    "size", "settings", "poses", "character", "reference", "placement", "control", "latents",
    "paper", "result",    "upscale", "comparison",
]  # fmt: skip
"""The steps of a video, as `animate/graph.py` lists them: a test compares."""


class EstimatorConfig(Config):
    """How poses are found."""

    name: Literal["mediapipe", "dwpose", "rtmw"] = "mediapipe"
    """Pose estimator; `run.py doctor` tells which ones work here."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$"), Rare] = "auto"
    """auto, cpu, cuda or cuda:N. `auto` is the GPU for dwpose and rtmw where there is one and onnxruntime has
    CUDA, else the CPU."""
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.3
    """A body is seen when the mean score of its joints reaches this (0 to 1)."""
    max_gap: Annotated[int, Field(ge=0), Rare] = 5
    """Frames for which the person, a joint or the face may be lost and is filled in, a hand for a second too;
    longer gaps stay empty. 0 fills none."""
    detector: Annotated[Path | None, Rare] = None
    """ONNX file of the person detector, for dwpose and rtmw."""
    model: Annotated[Path | None, Rare] = None
    """Model file: ONNX for dwpose and rtmw; for mediapipe 0.10 a pose_landmarker .task (the body's network,
    heavy for one), for mediapipe 1 and later the holistic_landmarker .task."""


class WindowConfig(Config):
    """How the frames are cut into windows that are generated together."""

    size: Annotated[int | None, Field(ge=2)] = None
    """Frames in a window [default: what the model was trained with]."""
    overlap: Annotated[int | None, Field(ge=0)] = None
    """Frames that neighbouring windows share [default: the model's]."""
    plan: Annotated[WindowPlan | None, Rare] = None
    """`even`: equal windows, ramped blending, reference frame in each. `published` and `mimicmotion`: the
    recipes of the published ControlNeXt-SVD-v2 and MimicMotion, which decide noise and decoding too
    [default: the model's]."""


class ApproximateConfig(Config):
    """Less work for a result that is near, not the same; off by default. `run.py bench` prints how near."""

    align_your_steps: bool | None = None
    """Noise levels made for SVD in 10 steps [default: the preset's, for models that they fit]."""
    consistency: bool = False
    """Steps for consistency-distilled weights (AnimateLCM-SVD): 2 to 8, without guidance [default: 4, 1]."""
    guidance_interval: tuple[float, float] | None = None
    """The part of the steps, from 0 to 1, in which the prediction is guided [default: the preset's]."""
    cache_interval: Annotated[int, Field(ge=1)] = 1
    """Compute the UNet's deep features at every n-th step and reuse them at the others."""


class WeightsConfig(Config):
    """Where the published weights of `--model svd-xt-1.1` and `--model mimicmotion` are."""

    base: str | None = None
    """Folder in diffusers layout, or hub id, of Stable Video Diffusion."""
    controlnext: Path | None = None
    """ControlNeXt weights: controlnet.bin, .safetensors, or a folder of your own training."""
    unet: Path | None = None
    """UNet weights trained with it: unet.bin, .safetensors, or a folder of your own training."""
    mimicmotion: Path | None = None
    """MimicMotion's weights, UNet and PoseNet in one: MimicMotion_1-1.pth or MimicMotion_1.pth."""


class EncodeConfig(Config):
    """How the result is written."""

    crf: Annotated[int, Field(ge=0, le=51)] = 18
    """x264 constant rate factor: lower is better and larger."""
    preset: Literal["veryfast", "medium", "slow"] = "medium"
    """x264 speed preset."""
    audio: bool = True
    """Keep the driving video's sound."""
    bit_depth: Annotated[Literal[8, 10], BeforeValidator(_text_as_number)] = 8
    """Bits of each colour of the result. 10 keeps soft gradients free of bands; not every player takes it."""
    lossless: bool = False
    """Write result.mkv in place of result.mp4: the frames to the bit, in FFV1, and the sound as FLAC."""


class ClipConfig(Config):
    """What is read of a driving video, and how its poses are found."""

    driving: Path | None = None
    """Driving video: the dance."""
    output: Annotated[Path, Parameter(alias="-o")] = Path("out")
    """Folder for everything this job writes; run the same command again to resume it. `animate` also takes
    the name of a video, NAME.mp4: its folder is then NAME.job."""
    fps: Annotated[FrameRate | None, Field(gt=0)] = None
    """Frames a second of a driving video that is a folder of numbered pictures, or frame_%04d.png."""
    max_pixels: Annotated[int, Field(gt=0), Rare] = LARGEST_FRAME
    """Pixels of the largest frame of a driving video that is decoded."""
    stride: Annotated[int, Field(ge=1)] = 2
    """Use every STRIDE-th frame of the driving video."""
    start: Annotated[Seconds, Field(ge=0)] = Fraction(0)
    """Seconds to skip at the beginning of the driving video."""
    duration: Annotated[Seconds | None, Field(gt=0)] = None
    """Seconds to use of the driving video [default: all]."""
    person: PersonOrAll | None = None
    """Whose poses are found, where the driving video shows several: all (a file for each), largest, left,
    right or center (most of the time), 2 (the second from the left where so many are first seen), X,Y or
    x0,y0,x1,y1 (who is first seen there, in pixels) [default: largest, and most constant]."""
    smooth: Annotated[float, Field(ge=0, le=10)] = 1.0
    """How strongly the trembling of a driving video's poses is filtered; outliers, blinking joints and short
    gaps are mended too. 0 leaves all as it was found. A pose file is taken as it is in any case."""
    estimator: EstimatorConfig = EstimatorConfig()
    accept: Annotated[AcceptConfig, Rare] = AcceptConfig()
    encode: Annotated[EncodeConfig, Rare] = EncodeConfig()


class PoseConfig(ClipConfig):
    """What `pose` finds, and what it shows of it."""

    reference: Path | None = None
    """Picture of the character. Its keypoints are read from NAME.npz beside it when that exists."""
    align: Literal["limbs", "robust", "published", "wan", "none"] = "limbs"
    """Fit the dancer to the character: bone by bone (`limbs`), in one size (`robust`), as ControlNeXt
    (`published`) or Wan-Animate (`wan`) do, or `none`."""


class AnimateConfig(PoseConfig):
    """Everything that decides what `animate` makes."""

    person: PersonText | None = None
    """Who dances, where the driving video or pose file shows several: largest, left, right or center (most of
    the time), 2 (the second from the left where so many are first seen), X,Y or x0,y0,x1,y1 (who is first
    seen there, in pixels) [default: largest, and most constant]."""
    character_prompt: str | None = None
    """Who is to dance, in words, instead of a picture: one is painted in the dancer's pose."""
    pose: Path | None = None
    """Pose file to dance to, instead of a driving video: .npz, or .json of OpenPose, DWPose, AlphaPose, COCO,
    MMPose or an editor, or a folder of such."""
    pose_size: str | None = None
    """Size of the pose file's video where the file tells none: WIDTHxHEIGHT in pixels, or that video."""
    model: str = "demo"
    """demo, tiny-random, svd-xt-1.1, mimicmotion, a folder that `train` or `convert` wrote, or cutout: the
    character itself, cut out and bent like a figure of paper, on any machine."""
    preset: Literal["preview", "default", "best"] = "default"
    """Quality against time: decides steps, overlap and approximate levers where you name none."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The same seed gives the same video."""
    width: Annotated[int | None, Field(ge=1)] = None
    """Width of the result in pixels [default: the model's]."""
    height: Annotated[int | None, Field(ge=1)] = None
    """Height of the result in pixels [default: the model's]."""
    steps: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Denoising steps [default: the model's]."""
    guidance_scale: Annotated[float | None, Field(ge=0, le=100)] = None
    """How strongly the reference image is followed; 1 switches guidance off [default: the model's]."""
    lora: Path | None = None
    """LoRA weights for the model's UNet (.safetensors, names of diffusers or peft)."""
    lora_scale: Annotated[float, Field(ge=-10, le=10)] = 1.0
    """How much of them is added: 0 is none."""
    preview_every: Annotated[int | None, Field(ge=1)] = None
    """Write preview.mp4, small and rough, into the output folder after every PREVIEW_EVERY-th step."""
    accept_poses: bool = False
    """Go on with poses that fall short of the limits (--accept.*), which `pose` and this command tell."""
    fit: Literal["crop", "pad"] = "crop"
    """How the picture gets its size: `crop` around the character, or `pad` with bars, cut off at the end."""
    upscale: Annotated[int | None, Field(ge=2, le=4)] = None
    """How much wider and higher the result is to be painted again, as upscaled.mp4 [default: not at all]."""
    window: WindowConfig = WindowConfig()
    character: Annotated[CharacterOptions, Rare] = CharacterOptions()
    upscaler: Annotated[UpscaleOptions, Rare] = UpscaleOptions()
    approximate: Annotated[ApproximateConfig, Rare] = ApproximateConfig()
    weights: Annotated[WeightsConfig, Rare] = WeightsConfig()
    device: Annotated[str, Rare] = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Annotated[Literal["bf16", "fp16", "fp32"] | None, Rare] = None
    """Precision of the model's weights and of its work; latents and noise levels are always float32 [default:
    fp32 on a CPU that has the memory, else bf16, or fp16 on a GPU without it]."""
    memory_limit: Annotated[float | None, Field(gt=0, allow_inf_nan=False), Rare] = None
    """GiB of the device's memory that the model may take [default: all that is free]. With less the same
    video is made in smaller pieces; `--dry-run` shows them."""
    compile: Annotated[bool | None, Rare] = None
    """Fuse the model's element-wise work by torch.compile; the first run waits for it [default: on a GPU]."""


class PoolConfig(Config):
    """Workers of one stage of a batch, and what each takes; what is not given fits itself to the machine."""

    workers: Annotated[int | None, Field(ge=1)] = None
    """How many there are."""
    cpus: Annotated[float | None, Field(gt=0)] = None
    """Cores that each takes."""
    gpus: Annotated[float | None, Field(ge=0)] = None
    """Whole numbers, or a fraction where several workers share a GPU."""


class PoolsConfig(Config):
    """The stages of a batch: poses, control frames, the model, its decoder where it works apart, comparison
    videos."""

    pose: PoolConfig = PoolConfig()
    draw: PoolConfig = PoolConfig()
    denoise: PoolConfig = PoolConfig()
    decode: PoolConfig = PoolConfig()
    """Named, it decodes on workers of its own while the model denoises the next video."""
    compare: PoolConfig = PoolConfig()


class BatchConfig(AnimateConfig):
    """What a batch makes, and how it runs; the options of `animate` hold for every video."""

    driving: Path | None = None
    """Folder of driving videos, or one: each dances with every reference image."""
    reference: Path | None = None
    """Folder of reference images, or one. Keypoints are read from NAME.npz beside each when that exists."""
    manifest: Path | None = None
    """CSV, JSONL or YAML: one row for each video, with driving (or pose), reference, any option of animate,
    and name. Paths are relative to the manifest. A row wins over the command line."""
    executor: Literal["ray", "local"] = "ray"
    """`ray`: many workers, here or on a cluster. `local`: one task at a time in this process."""
    ray_address: str | None = None
    """Ray cluster: `auto` inside one, or HOST:PORT [default: RAY_ADDRESS if set, or this machine alone]."""
    attempts: Annotated[int, Field(ge=1)] = 3
    """How often a step is tried before its video is quarantined."""
    timeout: Annotated[float, Field(gt=0)] = 1800
    """Seconds without progress after which a worker is killed and replaced."""
    keep: Literal["results", "all"] = "results"
    """Of a finished video: its results, or latents and control frames too."""
    verify: bool = False
    """Read what was made before and make again what is damaged, not only what has another size or time."""
    retry_quarantined: bool = False
    """Try again what an earlier run gave up."""
    force: StepName | None = None
    """Make this step again, and all that follow from it. To go on after a stop, leave it out."""
    limit: Annotated[int | None, Field(ge=1)] = None
    """Make at most this many of the videos that are not done."""
    shard: Annotated[str | None, Field(pattern=r"^\d+/\d+$")] = None
    """i/n with i from 0: only the i-th of n parts, for n runs side by side on one output folder."""
    pools: Annotated[PoolsConfig, Hidden] = PoolsConfig()


ConfigT = TypeVar("ConfigT", bound=Config)

SHOWN = 200
"""Characters of a value that an error shows."""
BRIEF = reprlib.Repr()
"""Writes values with few of their parts, and those of few levels: a file may hold anything."""
BRIEF.maxother = BRIEF.maxstring = SHOWN


def resolve(
    model: type[ConfigT], cli: Config, config_file: Path | None = None, below: Config | None = None
) -> ConfigT:
    """Merge defaults, what is set in `below`, YAML file and command line, and validate the whole.

    `cli` holds what the command line set (its `model_fields_set`). Raises ConfigError with one line that
    names the file, the key and the near match.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = [("the command line", cli.model_dump(exclude_unset=True))]
    if config_file is not None:
        layers.insert(0, (str(config_file), read_yaml(config_file)))
    merged: dict[str, Any] = {} if below is None else below.model_dump(exclude_unset=True)
    for source, layer in layers:
        for key in unknown_keys(model, layer):
            known = list(all_keys(model))
            near = difflib.get_close_matches(key, known, n=1) or difflib.get_close_matches(
                key.rpartition(".")[2], known, n=1
            )
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
            raise ConfigError(f"{source}: unknown key {shortened(key)}: {hint}")
        merged = merge(merged, layer)
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(explain(error)) from error


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Plain data of a YAML file. Raises ConfigError, for tags that would run code too."""
    try:
        loaded = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read config file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"config file {path} is not text: give a YAML file") from error
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise ConfigError(f"config file {path} is not plain YAML: {what}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"config file {path} holds a {type(loaded).__name__}: expected `key: value` lines")
    return loaded


def write_yaml(config: Config) -> str:
    """The config as YAML that `--config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings merged key by key; `above` wins."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of every field, groups included."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if is_group(field.annotation):
            yield from all_keys(field.annotation, f"{prefix}{name}.")


def is_group(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Whether a field holds further named options."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def unknown_keys(model: type[BaseModel], layer: Mapping[Any, Any], prefix: str = "") -> Iterable[str]:
    """Dotted names in `layer` that `model` does not have."""
    for key, value in layer.items():
        field = model.model_fields.get(key)
        if field is None:
            yield f"{prefix}{key}"
        elif isinstance(value, Mapping) and is_group(field.annotation):
            yield from unknown_keys(field.annotation, value, f"{prefix}{key}.")


def shortened(value: Any) -> str:
    """A value as text of one line and at most SHOWN characters, never written out beyond."""
    text = value if isinstance(value, str) else BRIEF.repr(value)
    text = " ".join(text[: SHOWN + 1].split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def explain(error: ValidationError) -> str:
    """A pydantic error as one line: which key, which value, what is expected."""
    lines = []
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"])
        lines.append(f"{key} = {shortened(detail['input'])}: {detail['msg'][:1].lower()}{detail['msg'][1:]}")
    return "; ".join(lines)
