"""`animate`: one graph, read from top to bottom. Each step runs only if its inputs changed since it last ran.

driving video ── poses ───────┐
reference ────── its pose ────┴── control frames ── latents ── result.mp4 ── comparison.mp4, contact sheet
"""

import json
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from ..datasets.puppets import DEMO_FRAMES, write_demo
from ..stages.errors import ConfigError
from ..stages.generate import DEMO_FOLDER, Settings, check_size, load_generator, why_unusable
from ..stages.picture import read_picture
from ..stages.pose.files import load_poses
from ..stages.video import count_frames, probe
from ..stages.windows import plan as plan_windows
from . import steps
from .config import AnimateConfig, write_yaml
from .doctor import devices, versions
from .job import Job, Key, file_digest, key_of, open_job, write_text
from .memory import expected_memory
from .pose import driving_audio, poses_key
from .progress import say
from .report import write_comparison

if TYPE_CHECKING:
    from ..stages.svd.generator import SvdGenerator


@dataclass(frozen=True, slots=True)
class Preset:
    """Factors on the model's own number of steps and window overlap."""

    steps: float
    overlap: float


PRESETS = {"preview": Preset(0.4, 0.5), "default": Preset(1, 1), "best": Preset(1.6, 1.5)}
"""What `--preset` does: time is proportional to steps, and grows with overlap."""

STEPS = ("reference", "poses", "control", "latents", "result", "comparison")
"""In the order of work: the reference first, since a picture without a person is told soonest."""


def animate(config: AnimateConfig) -> list[Path]:
    """Make the video that `config` asks for; returns what was written, the result first.

    Run again, it does only what is not done yet. Raises PosedanceError with one line for the user.
    """
    check_request(config)
    config = with_usable_model(config)
    with open_job(config.output) as job:
        config = with_demo_inputs(job, config)
        keys = step_keys(config)
        write_text(job.folder / "config.yaml", write_yaml(config))
        if all(job.is_done(step, keys[step]) for step in STEPS):
            say(f"everything in {job.folder} is up to date")
        else:
            make(job, config, keys)
        names = ("result.mp4", "comparison.mp4", "contact_sheet.png", "poses.npz")
        return [job.folder / name for name in names]


def make(job: Job, config: AnimateConfig, keys: dict[str, Key]) -> None:
    """Run the steps that are not done."""
    generator = open_generator(config)
    width, height = config.width or generator.defaults.width, config.height or generator.defaults.height
    check_size(generator, width, height)
    settings = settings_of(generator.settings(), config)
    num_frames = 1 + count_driving_frames(config)
    windows = plan_windows(settings.window_plan, num_frames, settings.window_size, settings.window_overlap)
    say(
        f"{generator.name} on {generator.unet.device}: {num_frames - 1} frames of {width}x{height} in "
        f"{len(windows)} windows of {settings.window_size}, {settings.steps} steps"
    )
    environment = {"versions": versions(), "devices": devices(), "weights": digests(model_files(config))}
    write_text(job.folder / "environment.json", json.dumps(environment, indent=1))

    reference, estimator, encode = config.reference, config.estimator, config.encode
    driving, clip, pose = config.driving, steps.clip_of(config), config.pose
    assert reference is not None
    poses, result = job.folder / "poses.npz", job.folder / "result.mp4"
    own_pose, control = job.work / "reference.npz", job.work / "control.zip"
    latents, checkpoint = job.work / "latents.safetensors", job.work / "checkpoint.safetensors"
    compared = [job.folder / "comparison.mp4", job.folder / "contact_sheet.png"]
    audio = driving_audio(config)

    def find_poses() -> steps.Facts:
        if pose is not None:
            return steps.copy_poses(pose, poses)
        assert driving is not None
        return steps.driving_poses(driving, clip, estimator, poses)

    def find_own_pose() -> steps.Facts:
        return steps.reference_pose(reference, estimator, config.align == "none", own_pose)

    def draw() -> steps.Facts:
        canvas = generator.defaults.control_canvas
        return steps.draw_control(poses, own_pose, config.align, (width, height), canvas, control)

    def denoise() -> None:
        steps.denoise(generator, reference, control, settings, latents, checkpoint, keys["latents"])

    def write_result() -> None:
        steps.write_result(generator, latents, settings, load_poses(poses).fps, result, audio, encode)

    def compare() -> None:
        shown = None if driving is None else (driving, clip)
        write_comparison(shown, control, reference, result, job.folder, audio, encode)

    job.run("reference", keys["reference"], [own_pose], find_own_pose)
    job.run("poses", keys["poses"], [poses], find_poses)
    job.run("control", keys["control"], [control], draw)
    job.run("latents", keys["latents"], [latents], denoise)
    job.run("result", keys["result"], [result], write_result)
    job.run("comparison", keys["comparison"], compared, compare)


def step_keys(config: AnimateConfig) -> dict[str, Key]:
    """Key of each step: of everything that decides its result, and of nothing else."""
    reference = config.reference
    assert reference is not None
    beside = steps.keypoints_beside(reference)
    picture, model = file_digest(reference), [config.model, digests(model_files(config))]
    source = key_of("poses", file=file_digest(config.pose)) if config.pose else poses_key(config)
    own = key_of(
        "reference",
        picture=picture,
        keypoints=file_digest(beside) if beside else None,
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
        ],
        device=config.device,
    )
    sound = file_digest(config.driving) if config.driving and config.encode.audio else None
    result = key_of("result", latents=latents, encode=config.encode.model_dump(), sound=sound)
    comparison = key_of("comparison", result=result, control=control)
    return dict(zip(STEPS, (own, source, control, latents, result, comparison), strict=True))


def plan(config: AnimateConfig) -> str:
    """What `animate` would do with `config`: frames, windows, steps, memory. Writes nothing."""
    check_request(config)
    config = with_usable_model(config)
    generator = open_generator(config)
    width, height = config.width or generator.defaults.width, config.height or generator.defaults.height
    check_size(generator, width, height)
    settings = settings_of(generator.settings(), config)
    num_frames = 1 + (DEMO_FRAMES if is_demo(config) else count_driving_frames(config))
    windows = plan_windows(settings.window_plan, num_frames, settings.window_size, settings.window_overlap)
    weights, work = expected_memory(generator, settings, num_frames, width, height)
    return "\n".join(
        [
            f"model    {generator.name} on {generator.unet.device}, {generator.unet.dtype}",
            f"frames   {num_frames - 1} of {width}x{height}",
            f"windows  {len(windows)} of {settings.window_size}, overlap at least {settings.window_overlap}",
            f"steps    {settings.steps}: {settings.steps * len(windows)} calls of the UNet",
            f"memory   about {(weights + work) / 2**30:.1f} GiB, of which weights {weights / 2**30:.1f} GiB",
        ]
    )


def check_request(config: AnimateConfig) -> None:
    """Refuse, before anything is written, what contradicts itself or cannot be read."""
    if config.driving and config.pose:
        raise ConfigError("--driving and --pose are both given: the dance comes from one of them")
    if (config.driving or config.pose) and not config.reference:
        raise ConfigError("--reference is missing: name a picture of the character")
    if config.reference and not (config.driving or config.pose):
        raise ConfigError("--driving is missing: name a video of the dance, or a pose file with --pose")
    if config.pose and (config.start or config.duration):
        raise ConfigError("--start and --duration cut a driving video: leave them out with --pose")
    if config.reference:
        read_picture(config.reference)
        count_driving_frames(config)


def count_driving_frames(config: AnimateConfig) -> int:
    """Frames of the dance, which are those of the result. Raises where its source cannot be read."""
    if config.pose:
        return len(load_poses(config.pose))
    assert config.driving is not None
    return count_frames(probe(config.driving), steps.clip_of(config))


def is_demo(config: AnimateConfig) -> bool:
    """Whether nothing was named to animate."""
    return config.reference is None


def with_demo_inputs(job: Job, config: AnimateConfig) -> AnimateConfig:
    """Draw the built-in dancers where nothing was named to animate, and name them."""
    if not is_demo(config):
        return config
    folder = job.folder / "inputs"
    files = [folder / "driving.mp4", folder / "reference.png"]
    folder.mkdir(exist_ok=True)

    def draw() -> None:
        say("drawing two dancers: one drives, one is animated")
        write_demo(folder)

    job.run("inputs", key_of("inputs"), files, draw)
    return config.model_copy(update={"driving": files[0], "reference": files[1], "stride": 1})


def with_usable_model(config: AnimateConfig) -> AnimateConfig:
    """Where the demo model is not shipped, say so and take the untrained tiny one."""
    reason = why_unusable(config.model) if config.model == "demo" else ""
    if not reason:
        return config
    say(f"the model demo is missing ({reason}): tiny-random is used, and its pictures are noise")
    return config.model_copy(update={"model": "tiny-random"})


def open_generator(config: AnimateConfig) -> "SvdGenerator":
    """The generator that a config asks for, on its device."""
    import torch

    best = "cuda" if torch.cuda.is_available() else "cpu"
    device = best if config.device == "auto" else config.device
    return load_generator(config.model, device=device, **config.weights.model_dump())


def settings_of(defaults: Settings, config: AnimateConfig) -> Settings:
    """The model's own settings, scaled by the preset, replaced by what the config names."""
    preset, window = PRESETS[config.preset], config.window
    size = window.size or defaults.window_size
    overlap = min(round(defaults.window_overlap * preset.overlap), size // 2)
    guidance = config.guidance_scale
    return replace(
        defaults,
        seed=config.seed,
        steps=config.steps or max(1, round(defaults.steps * preset.steps)),
        guidance_scale=defaults.guidance_scale if guidance is None else guidance,
        window_size=size,
        window_overlap=overlap if window.overlap is None else window.overlap,
        window_plan=window.plan,
    )


def model_files(config: AnimateConfig) -> list[Path]:
    """Every file of the model, so that a changed weight counts as a changed option."""
    named = [config.weights.base, config.weights.controlnext, config.weights.unet, config.model]
    roots = [Path(name) for name in named if name is not None]
    if config.model == "demo":
        roots.append(Path(str(resources.files("posedance.stages") / DEMO_FOLDER)))
    return sorted({file for root in roots for file in (root, *root.rglob("*")) if file.is_file()})


def digests(files: list[Path]) -> dict[str, str]:
    """SHA-256 of each file by its path."""
    return {str(path): file_digest(path) for path in files}
