"""`animate`: one driving video and one picture of a character -> the character doing the dance.

The steps are in `graph.py`. Each runs only if its inputs changed since it last ran.
"""

from functools import partial
from pathlib import Path

from ...datasets.puppets.render import DEMO_FRAMES, write_demo
from ...stages.errors import ConfigError
from ...stages.media.picture import read_picture
from ...stages.media.video import count_frames, probe
from ...stages.models import why_unusable
from ...stages.pose.files import load_poses
from ...stages.windows import plan as plan_windows
from ..batch.manifest import with_paths
from ..config import AnimateConfig, write_yaml
from ..doctor import environment
from ..job.job import Job, Key, key_of, open_job, write_text
from ..job.publish import is_published, publish
from ..job.storage import is_file, localize, scratch_for, url_of, with_local_inputs
from ..models import open_generator
from ..progress import say
from ..workers.ray_pool import refuse_cluster
from . import steps
from .graph import (
    STEPS,
    compare,
    denoise,
    draw,
    files_of,
    find_pose,
    notes_on,
    shape_of,
    step_keys,
    weights_of,
    write_result,
)
from .spread import denoise as denoise_spread


def animate(config: AnimateConfig, workers: int | None = None, ray_address: str | None = None) -> list[Path]:
    """Make the video that `config` asks for; returns what was written, the result first.

    With `workers` the windows are spread over so many Ray actors, to the same bytes. Run again, it does only
    what is not done yet. Where the output is a URL the files are made in a scratch folder and then published.
    Raises PosedanceError with one line for the user.
    """
    check_request(config)
    if ray_address is not None and workers is None:
        raise ConfigError(f"--ray-address {ray_address} without --workers: say how many share the video")
    config = with_usable_model(config)
    names = ("result.mp4", "comparison.mp4", "contact_sheet.png", "poses.npz")
    asked = config.output
    url = url_of(asked)
    if url is not None:
        if workers is not None:
            refuse_cluster(url, ray_address)
        config = config.model_copy(update={"output": scratch_for(url)})
    with open_job(config.output) as job:
        config = with_demo_inputs(job, config)
        keys = step_keys(config)
        if url is not None and is_published(url, keys):
            say(f"everything in {url} is up to date")
            return [asked / name for name in names]
        write_text(job.folder / "config.yaml", write_yaml(config))
        if all(job.is_done(step, keys[step]) for step in STEPS):
            say(f"everything in {job.folder} is up to date")
        else:
            make(job, config, keys, workers, ray_address)
        if url is not None:
            publish(job, url, keys)
        return [asked / name for name in names]


def make(
    job: Job, config: AnimateConfig, keys: dict[str, Key], workers: int | None, ray_address: str | None
) -> None:
    """Run the steps that are not done."""
    generator = open_generator(config)
    shape = shape_of(generator, config)
    settings = shape.settings
    num_frames = 1 + count_driving_frames(config)
    windows = plan_windows(settings.window_plan, num_frames, settings.window_size, settings.window_overlap)
    say(
        f"{generator.name} on {generator.device}: {num_frames - 1} frames of "
        f"{shape.width}x{shape.height} in {len(windows)} windows of "
        f"{settings.window_size}, {settings.steps} steps"
    )
    for note in notes_on(generator, settings):
        say(note)
    write_text(job.folder / "environment.json", environment(weights_of(config)))
    for step in ("reference", "poses"):
        (output,) = files = files_of(job, step)
        job.run(step, keys[step], files, partial(find_pose, step, config, output))
    draw(job, config, keys["control"], shape)
    run = None
    if workers is not None:
        (control,) = files_of(job, "control")
        there = AnimateConfig.model_validate(with_paths(config.model_dump(), Path.cwd()))
        run = partial(denoise_spread, there, control.resolve(), workers, ray_address, generator)
    denoise(job, config, keys["latents"], shape, generator, run)
    write_result(job, config, keys["result"], shape, generator.decode)
    compare(job, config, keys["comparison"])


def plan(config: AnimateConfig) -> str:
    """What `animate` would do with `config`: frames, windows, steps, memory. Writes nothing."""
    check_request(config)
    config = with_usable_model(config)
    generator = open_generator(config)
    shape = shape_of(generator, config)
    width, height, settings = shape.width, shape.height, shape.settings
    num_frames = 1 + (DEMO_FRAMES if is_demo(config) else count_driving_frames(config))
    windows = plan_windows(settings.window_plan, num_frames, settings.window_size, settings.window_overlap)
    memory = generator.plan_memory(num_frames, width, height, settings).lines()
    return "\n".join(
        [
            f"model    {generator.name} on {generator.device}, {generator.unet.dtype}",
            f"frames   {num_frames - 1} of {width}x{height}",
            f"windows  {len(windows)} of {settings.window_size}, overlap at least {settings.window_overlap}",
            f"steps    {settings.steps}: {settings.steps * len(windows)} calls of the UNet",
            *(f"note     {note}" for note in notes_on(generator, settings)),
            *(f"memory   {line}" for line in memory),
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
    if config.lora is not None and not is_file(config.lora):
        raise ConfigError(f"there is no file {config.lora}: --lora names LoRA weights")
    if config.lora is None and config.lora_scale != 1:
        raise ConfigError(f"--lora-scale {config.lora_scale:g} without weights: name them with --lora")
    if config.reference:
        read_picture(localize(config.reference, beside=".npz"))
        count_driving_frames(config)


def count_driving_frames(config: AnimateConfig) -> int:
    """Frames of the dance, which are those of the result. Raises where its source cannot be read."""
    config = with_local_inputs(config)
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
