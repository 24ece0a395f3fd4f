"""The steps that make one video: what each reads and writes, and the key that decides whether it is done.

driving video ── poses ───────┐
reference ────── its pose ────┴── control frames ── latents ── result.mp4 ── comparison.mp4, contact sheet

`animate` runs them one after the other, `batch` those of many videos on many workers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...stages.generate import Settings, check_size
from ...stages.models import GENERATORS
from ...stages.pose.files import load_poses
from ...stages.svd.files.base import base_files, find_base
from ..config import AnimateConfig
from ..job.job import Job, Key, key_of, source_digest
from ..job.storage import with_local_inputs
from . import steps
from .pose import driving_audio, poses_key
from .preview import Preview
from .report import write_comparison

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ...stages.svd.generator import SvdGenerator


@dataclass(frozen=True, slots=True)
class Preset:
    """Factors on the model's own number of steps and window overlap, and approximate levers."""

    steps: float
    overlap: float
    align_your_steps: bool = False
    """Whether models that start at SVD's noise level take the levels made for few steps."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)


PRESETS = {
    "preview": Preset(0.4, 0.5, align_your_steps=True, guidance_interval=(0.0, 0.8)),
    "default": Preset(1, 1),
    "best": Preset(1.6, 1.5),
}
"""What `--preset` does: time is proportional to steps, and grows with overlap. None caches deep features:
at few steps neighbours differ too much, and with `--workers` a window's features may be elsewhere."""
CONSISTENCY_STEPS = 4
"""Of consistency sampling by default, as published with AnimateLCM-SVD; presets scale it."""

PUBLISHED_DECODE_CHUNKS = {"published": 2, "mimicmotion": 8}
"""Frames that the published scripts decode together, by their window plan."""

STEPS = ("reference", "poses", "control", "latents", "result", "comparison")
"""In the order of work: the reference first, since a picture without a person is told soonest."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model makes of a config: sizes in pixels, the short side of the drawing, and how it samples."""

    width: int
    height: int
    canvas: int
    settings: Settings


def shape_of(generator: "SvdGenerator", config: AnimateConfig) -> Shape:
    """The shape of the video that `config` asks for. Raises ConfigError for a size the model cannot make."""
    defaults = generator.defaults
    width, height = config.width or defaults.width, config.height or defaults.height
    check_size(generator, width, height)
    return Shape(width, height, defaults.control_canvas, settings_of(generator, config))


def files_of(job: Job, step: str) -> list[Path]:
    """The files that a step writes."""
    names = {
        "reference": [job.work / "reference.npz"],
        "poses": [job.folder / "poses.npz"],
        "control": [job.work / "control.zip"],
        "latents": [job.work / "latents.safetensors"],
        "result": [job.folder / "result.mp4"],
        "comparison": [job.folder / "comparison.mp4", job.folder / "contact_sheet.png"],
    }
    return names[step]


def find_pose(
    step: str,
    config: AnimateConfig,
    output: Path,
    open_estimator: steps.OpenEstimator = steps.opened,
) -> steps.Facts:
    """Steps `reference` and `poses`: the character's pose or the dance -> pose file `output`."""
    config = with_local_inputs(config)
    if step == "reference":
        assert config.reference is not None
        may_lack = config.align == "none"
        return steps.reference_pose(config.reference, config.estimator, may_lack, output, open_estimator)
    if config.pose is not None:
        return steps.copy_poses(config.pose, output)
    assert config.driving is not None
    return steps.driving_poses(
        config.driving, steps.clip_of(config), config.estimator, output, open_estimator
    )


def draw(job: Job, config: AnimateConfig, key: Key, shape: Shape) -> bool:
    """Step `control`."""
    (poses,), (own,) = files_of(job, "poses"), files_of(job, "reference")
    (control,) = files = files_of(job, "control")
    size = (shape.width, shape.height)
    return job.run(
        "control",
        key,
        files,
        lambda: steps.draw_control(poses, own, config.align, size, shape.canvas, control),
    )


def denoise(
    job: Job,
    config: AnimateConfig,
    key: Key,
    shape: Shape,
    generator: "SvdGenerator",
    run: "Callable[..., Tensor] | None" = None,
) -> bool:
    """Step `latents`, by the generator or by `run`, which does the same. Writes previews where asked."""
    (control,), (poses,) = files_of(job, "control"), files_of(job, "poses")
    reference = with_local_inputs(config).reference
    assert reference is not None
    (latents,) = files = files_of(job, "latents")
    checkpoint, shown = job.work / "checkpoint.safetensors", job.folder / "preview.mp4"

    def open_preview(image: "np.ndarray") -> Preview:
        assert config.preview_every is not None
        colours, fps = generator.colours(image), load_poses(poses).fps
        return Preview(generator, colours, config.preview_every, fps, shown)

    def make() -> None:
        shown.unlink(missing_ok=True)
        steps.denoise(
            run or generator.denoise,
            reference,
            control,
            shape.settings,
            latents,
            checkpoint,
            key,
            None if config.preview_every is None else open_preview,
        )

    return job.run("latents", key, files, make)


def write_result(
    job: Job,
    config: AnimateConfig,
    key: Key,
    shape: Shape,
    decode: "Callable[[Tensor, Settings], Iterator[np.ndarray]]",
) -> bool:
    """Step `result`, by `Generator.decode` or what does the same."""
    (poses,), (latents,) = files_of(job, "poses"), files_of(job, "latents")
    (result,) = files = files_of(job, "result")

    def make() -> None:
        fps, audio = load_poses(poses).fps, driving_audio(with_local_inputs(config))
        steps.write_result(decode, latents, shape.settings, fps, result, audio, config.encode)

    return job.run("result", key, files, make)


def compare(job: Job, config: AnimateConfig, key: Key) -> bool:
    """Step `comparison`."""
    config = with_local_inputs(config)
    reference, (control,), (result,) = config.reference, files_of(job, "control"), files_of(job, "result")
    assert reference is not None
    shown = None if config.driving is None else (config.driving, steps.clip_of(config))

    def make() -> None:
        audio = driving_audio(config)
        write_comparison(shown, control, reference, result, job.folder, audio, config.encode)

    return job.run("comparison", key, files_of(job, "comparison"), make)


def step_keys(config: AnimateConfig) -> dict[str, Key]:
    """Key of each step: of everything that decides its result, and of nothing else."""
    reference = config.reference
    assert reference is not None
    beside = steps.keypoints_beside(reference)
    picture = source_digest(reference)
    model = [config.model, config.weights.base, digests(model_files(config))]
    source = key_of("poses", file=source_digest(config.pose)) if config.pose else poses_key(config)
    own = key_of(
        "reference",
        picture=picture,
        keypoints=source_digest(beside) if beside else None,
        estimator=config.estimator.model_dump(mode="json"),
        may_lack=config.align == "none",
    )
    size = [config.width, config.height, model]
    control = key_of("control", poses=source, reference=own, align=config.align, size=size)
    latents = key_of(
        "latents",
        control=control,
        picture=picture,
        model=model,
        settings=[
            config.preset,
            config.seed,
            config.steps,
            config.guidance_scale,
            config.window.model_dump(),
            config.approximate.model_dump(),
        ],
        lora=None if config.lora is None else [source_digest(config.lora), config.lora_scale],
        device=config.device,
    )
    sound = source_digest(config.driving) if config.driving and config.encode.audio else None
    result = key_of("result", latents=latents, encode=config.encode.model_dump(), sound=sound)
    comparison = key_of("comparison", result=result, control=control)
    return dict(zip(STEPS, (own, source, control, latents, result, comparison), strict=True))


def settings_of(generator: "SvdGenerator", config: AnimateConfig) -> Settings:
    """The model's own settings, scaled by the preset, replaced by what the config names."""
    from ...stages.svd.schedule import can_align

    defaults, approximate = generator.settings(), config.approximate
    preset, window = PRESETS[config.preset], config.window
    aligned = approximate.align_your_steps
    if approximate.consistency:
        defaults = replace(defaults, steps=CONSISTENCY_STEPS, guidance_scale=1.0)
    size = window.size or defaults.window_size
    overlap = min(round(defaults.window_overlap * preset.overlap), size // 2)
    guidance = config.guidance_scale
    plan = window.plan or defaults.window_plan
    return replace(
        defaults,
        seed=config.seed,
        steps=config.steps or max(1, round(defaults.steps * preset.steps)),
        guidance_scale=defaults.guidance_scale if guidance is None else guidance,
        window_size=size,
        window_overlap=overlap if window.overlap is None else window.overlap,
        window_plan=plan,
        decode_chunk=PUBLISHED_DECODE_CHUNKS.get(plan, defaults.decode_chunk),
        align_your_steps=preset.align_your_steps
        and can_align(generator.scheduler)
        and not approximate.consistency
        if aligned is None
        else aligned,
        consistency=approximate.consistency,
        guidance_interval=approximate.guidance_interval or preset.guidance_interval,
        cache_interval=approximate.cache_interval,
    )


def model_files(config: AnimateConfig) -> list[Path]:
    """Every local file that the model reads, so that a changed weight counts as a changed option.

    A base from the hub is named in the keys instead.
    """
    weights, base = config.weights.model_dump(exclude={"base"}), config.weights.base
    shipped = GENERATORS[config.model].shipped if config.model in GENERATORS else None
    roots = [Path(name) for name in (*weights.values(), config.model, shipped) if name is not None]
    files = {file for root in roots for file in (root, *root.rglob("*")) if file.is_file()}
    return sorted(files | (set() if base is None else set(base_files(Path(base)))))


def weights_of(config: AnimateConfig) -> dict[str, str]:
    """SHA-256 of each file of the model and of its LoRA weights, by path: what environment.json keeps."""
    files, base = model_files(config), config.weights.base
    if base is not None and not Path(base).is_dir():
        files += base_files(find_base(base))
    return digests(files if config.lora is None else [*files, config.lora])


def notes_on(generator: "SvdGenerator", settings: Settings) -> list[str]:
    """What a user should know of settings that a model was not made for."""
    trained = generator.defaults.window_size
    if settings.window_size == trained:
        return []
    return [
        f"windows of {settings.window_size} frames: {generator.name} was trained with {trained}, "
        "and others may flicker or lose the character"
    ]


def digests(files: list[Path]) -> dict[str, str]:
    """SHA-256 of each file by its path."""
    return {str(path): source_digest(path) for path in files}
