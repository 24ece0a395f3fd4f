"""`replay`: one step of a finished or stopped job, made again from the files that it reads."""

from functools import partial
from pathlib import Path

from ...stages.errors import ConfigError
from ..config import AnimateConfig, resolve
from ..job.job import Job, Key, open_job
from ..models import open_generator
from .graph import STEPS, compare, denoise, draw, files_of, find_pose, shape_of, step_keys, write_result

READS = {
    "reference": (),
    "poses": (),
    "control": ("reference", "poses"),
    "latents": ("control",),
    "result": ("latents", "poses"),
    "comparison": ("result", "control"),
}
"""The steps whose files each step reads."""


def replay(folder: Path, step: str) -> list[Path]:
    """Make `step` of the job in `folder` again, with the job's own config; returns the files it wrote.

    The other steps are left as they are. Raises ConfigError where the job or what the step reads is missing.
    """
    if step not in STEPS:
        raise ConfigError(f"no step {step!r}: use one of {', '.join(STEPS)}")
    saved = folder / "config.yaml"
    if not saved.is_file():
        raise ConfigError(f"{folder} is not a job folder: it has no config.yaml")
    config = resolve(AnimateConfig, AnimateConfig(), saved)
    with open_job(folder) as job:
        missing = [path for need in READS[step] for path in files_of(job, need) if not path.is_file()]
        if missing:
            raise ConfigError(f"step {step} reads {missing[0]}, which is not there: run the job first")
        key = step_keys(config)[step]  # before anything is touched: the inputs may be gone
        job.record_path(step).unlink(missing_ok=True)
        (job.work / "checkpoint.safetensors").unlink(missing_ok=True)
        make(job, config, step, key)
        return files_of(job, step)


def make(job: Job, config: AnimateConfig, step: str, key: Key) -> None:
    """Run one step."""
    if step in ("reference", "poses"):
        (output,) = files = files_of(job, step)
        job.run(step, key, files, partial(find_pose, step, config, output))
    elif step == "comparison":
        compare(job, config, key)
    else:
        generator = open_generator(config)
        shape = shape_of(generator, config)
        if step == "control":
            draw(job, config, key, shape)
        elif step == "latents":
            denoise(job, config, key, shape, generator)
        else:
            write_result(job, config, key, shape, generator.decode)
