"""`animate`: one driving video and one picture of a character -> the character doing the dance.

The steps are in `graph.py`. Each runs only if its inputs changed since it last ran.
"""

import logging
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...datasets.puppets.render import DEMO_FRAMES, write_demo
from ...stages.atomic import left_behind
from ...stages.errors import ConfigError
from ...stages.generate import Settings
from ...stages.media.picture import read_picture
from ...stages.media.video import count_frames, probe
from ...stages.models import why_unusable
from ...stages.pose.files import load_poses
from ...stages.windows import plan as plan_windows
from ..config import AnimateConfig, write_yaml
from ..job.inputs import with_local_inputs, with_whole_paths
from ..job.job import Job, Key, key_of, open_job, write_text
from ..job.masking import masked
from ..job.output import LOSSLESS, PLAYED, copy_video, job_folder
from ..job.publish import publish
from ..job.published import Published, is_whole, read_published
from ..job.scratch import scratch_for
from ..job.storage import is_file, localize, url_of
from ..progress import PROGRESS, kept_in
from ..upscale.estimate import about_enlarging
from ..upscale.spread import paint_on_ray
from ..workers.ray_actor import refuse_cluster
from .dance import clip_of, pose_size_of, refuse_pictures_at_url, with_pose_size
from .graph import results_of, run, step_keys, steps_of, wanted
from .photographs import about_photographs
from .refuse import refuse_contradictions, refuse_idle
from .settings import Paper, Size, is_cutout, notes_on, settings_of, size_of
from .spread import denoise as denoise_spread
from .tools import Tools

if TYPE_CHECKING:
    from ...stages.svd.generator import SvdGenerator

logger = logging.getLogger(__name__)

LOCK_PATIENCE_S = 1.0
"""How long a run waits for its folder's lock, for those who look whether it runs try it for a moment."""
RESULTS = ("upscale", "result", "comparison", "poses", "character")
"""The steps whose files users come for, the result first."""


def animate(
    config: AnimateConfig,
    workers: int | None = None,
    ray_address: str | None = None,
    verify: bool = False,
) -> list[Path]:
    """Make the video that `config` asks for; returns what was written, the result first.

    With `workers` the windows, and the frames to enlarge, are spread over so many Ray actors, to the same
    bytes. Run again, it does only what is not done yet; with `verify` it reads what was made before, and
    makes what is damaged again. Where the output is a URL the files are made in a scratch folder and then
    published; where it names a video, the job's folder is beside that.
    Raises PosedanceError with one line for the user.
    """
    config = with_pose_size(config)
    num_frames = check_request(config)
    refuse_workers(config, workers, ray_address)
    config = with_usable_model(config)
    if note := about_photographs(config):
        logger.warning(note)
    asked = config.output
    inputs = (config.driving, config.pose, config.reference, config.lora)
    folder = job_folder(asked, inputs, LOSSLESS if config.encode.lossless else PLAYED)
    asked_steps = {step.name: step for step in steps_of(config)}
    made = [name for name in RESULTS if name in asked_steps]
    results = [path for name in made for path in asked_steps[name].files(folder, config)]
    url = url_of(folder)
    if url is not None and workers is not None:
        refuse_cluster(url, ray_address)
    with open_job(folder if url is None else scratch_for(url), LOCK_PATIENCE_S) as job:
        for path in [] if folder == asked else left_behind(asked):
            path.unlink(missing_ok=True)
        config = with_demo_inputs(job, config)
        published = Published() if url is None else read_published(url)
        keys = step_keys(config, known=published.digest_of)
        if url is not None and is_whole(url, published, results_of(keys)):
            logger.info(f"everything in {masked(url)} is up to date")
            return results
        write_text(job.folder / "config.yaml", write_yaml(config))
        if verify:
            job.forget_damaged(keys)
        if not wanted(job, keys):
            logger.info(f"everything in {job.folder} is up to date")
        else:
            tools = Tools() if workers is None else tools_of_workers(config, workers, ray_address)
            with kept_in(job.folder / PROGRESS), closing(tools):
                make(job, config, keys, num_frames, tools)
        if url is not None:
            publish(job, url, keys)
        if folder == asked:
            return results
        copy_video(job, made[0], asked)
        return [asked, *results]


def refuse_workers(config: AnimateConfig, workers: int | None, ray_address: str | None) -> None:
    """ConfigError for workers that have nothing to do, or that what is asked for cannot be spread over."""
    if workers is None:
        if ray_address is not None:
            raise ConfigError(f"--ray-address {ray_address} without --workers: say how many share the video")
        return
    if (interval := config.approximate.cache_interval) > 1:
        raise ConfigError(
            "with --workers each window may be predicted by another worker at each step, so deep features "
            f"cannot be reused (cache interval {interval}): use 1, or leave --workers out"
        )
    if is_cutout(config) and config.upscale is None:
        raise ConfigError(
            f"--workers {workers} with --model {config.model}, which has no windows: leave it out"
        )


def tools_of_workers(config: AnimateConfig, workers: int, ray_address: str | None) -> Tools:
    """Tools that spread windows, and frames to enlarge, over so many Ray actors."""
    there = AnimateConfig.model_validate(with_whole_paths(config.model_dump(), Path.cwd()))
    return Tools(
        denoise=partial(denoise_spread, there, workers, ray_address),
        paint=partial(paint_on_ray, workers, ray_address),
    )


def make(job: Job, config: AnimateConfig, keys: dict[str, Key], num_frames: int, tools: Tools) -> None:
    """Say what will be made, and run the steps that are not done."""
    if is_cutout(config):
        size = size_of(Paper(), config.width, config.height)
        logger.info(
            f"{config.model}: {num_frames} frames of {size.width}x{size.height}{enlarged_to(config, size)}"
        )
    else:
        size = tell_outline(tools.generator(config), config, num_frames)
    names = wanted(job, keys)
    if "upscale" in names and (note := time_to_enlarge(config, size, num_frames)):
        logger.info(note)
    for step in steps_of(config):
        if step.name in names or job.holds(step.name, keys[step.name]):
            run(job, step, config, keys, tools)


def tell_outline(generator: "SvdGenerator", config: AnimateConfig, num_frames: int) -> Size:
    """Say what a network will make; returns the size of its frames."""
    outline = outline_of(generator, config, num_frames)
    logger.info(
        f"{generator.name} on {generator.device}: {num_frames} frames of "
        f"{outline.size.width}x{outline.size.height} in {outline.windows} windows of "
        f"{outline.settings.window_size}, {outline.settings.steps} steps{enlarged_to(config, outline.size)}"
    )
    return outline.size


@dataclass(frozen=True, slots=True)
class Outline:
    """What will be made, before it is."""

    size: Size
    settings: Settings
    windows: int


def outline_of(generator: "SvdGenerator", config: AnimateConfig, num_frames: int) -> Outline:
    """What will be made of a dance of so many frames. Raises ConfigError for what the model cannot make."""
    size, settings = size_of(generator, config.width, config.height), settings_of(generator, config)
    overlap = settings.window_overlap
    windows = plan_windows(settings.window_plan, 1 + num_frames, settings.window_size, overlap)
    return Outline(size, settings, len(windows))


def enlarged_to(config: AnimateConfig, size: Size) -> str:
    """Which size the frames get at the end, for the user; nothing where they stay as they are."""
    factor = config.upscale
    return "" if factor is None else f", then enlarged to {factor * size.width}x{factor * size.height}"


def time_to_enlarge(config: AnimateConfig, size: Size, num_frames: int) -> str:
    """A note on how long a CPU takes to enlarge the frames, where they are."""
    if config.upscale is None:
        return ""
    pixels = size.width, size.height
    return about_enlarging(config.upscaler, config.upscale, pixels, num_frames, config.device)


def plan(config: AnimateConfig) -> str:
    """What `animate` would do with `config`: frames, windows, steps, memory. Writes nothing."""
    config = with_pose_size(config)
    num_frames = check_request(config)
    config = with_usable_model(config)
    note = about_photographs(config)
    if is_cutout(config):
        size = size_of(Paper(), config.width, config.height)
        frames = f"{num_frames} of {size.width}x{size.height}{enlarged_to(config, size)}"
        lines = [f"model    {config.model}, without a network", f"frames   {frames}"]
        if time := time_to_enlarge(config, size, num_frames):
            lines.append(f"note     {time}")
        return "\n".join(lines)
    with closing(Tools()) as tools:
        generator = tools.generator(config)
        outline = outline_of(generator, config, num_frames)
        (width, height), settings = (outline.size.width, outline.size.height), outline.settings
        time = time_to_enlarge(config, outline.size, num_frames)
        memory = generator.plan_memory(1 + num_frames, width, height, settings).lines()
        overlap, calls = settings.window_overlap, settings.steps * outline.windows
        return "\n".join(
            [
                f"model    {generator.name} on {generator.device}, {generator.unet.dtype}",
                f"frames   {num_frames} of {width}x{height}{enlarged_to(config, outline.size)}",
                f"windows  {outline.windows} of {settings.window_size}, overlap at least {overlap}",
                f"steps    {settings.steps}: {calls} calls of the UNet",
                *(f"note     {line}" for line in (*notes_on(generator, settings), note, time) if line),
                *(f"memory   {line}" for line in memory),
            ]
        )


def check_request(config: AnimateConfig) -> int:
    """Refuse, before anything is written, what contradicts itself or cannot be read; returns the frames."""
    refuse_contradictions(config)
    painted = config.character_prompt is not None
    if (config.driving or config.pose) and not (config.reference or painted):
        raise ConfigError("--reference is missing: name a picture of the character, or --character-prompt")
    if config.reference and not (config.driving or config.pose):
        raise ConfigError("--driving is missing: name a video of the dance, or a pose file with --pose")
    if config.lora is not None and not is_file(config.lora):
        raise ConfigError(f"there is no file {config.lora}: --lora names LoRA weights")
    refuse_idle(config, set(AnimateConfig.model_fields))
    if config.driving is None and config.pose is None:
        return DEMO_FRAMES
    refuse_pictures_at_url(config.driving)
    local = with_local_inputs(config)
    for picture in (local.reference, local.character.picture):
        if picture is not None:
            read_picture(localize(picture))
    return count_driving_frames(local)


def count_driving_frames(config: AnimateConfig) -> int:
    """Frames of the dance, which are those of the result. Raises where its source cannot be read."""
    if config.pose:
        return len(load_poses(config.pose, pose_size_of(config)))
    assert config.driving is not None
    return count_frames(probe(config.driving, clip_of(config)), clip_of(config))


def with_demo_inputs(job: Job, config: AnimateConfig) -> AnimateConfig:
    """Draw the built-in dancers where nothing was named to animate, and name them."""
    if config.driving is not None or config.pose is not None:
        return config
    folder = job.folder / "inputs"
    files = [folder / "driving.mp4", folder / "reference.png"]
    folder.mkdir(exist_ok=True)

    def draw() -> None:
        logger.info("drawing two dancers: one drives, one is animated")
        write_demo(folder)

    job.run("inputs", key_of("inputs", version=1), files, draw)
    named = {"driving": files[0], "stride": 1}
    if config.character_prompt is None:
        named["reference"] = files[1]
    return config.model_copy(update=named)


def with_usable_model(config: AnimateConfig) -> AnimateConfig:
    """Where the demo model is not shipped, say so and take the untrained tiny one."""
    reason = why_unusable(config.model) if config.model == "demo" else ""
    if not reason:
        return config
    logger.warning(f"the model demo is missing ({reason}): tiny-random is used, and its pictures are noise")
    return config.model_copy(update={"model": "tiny-random"})
