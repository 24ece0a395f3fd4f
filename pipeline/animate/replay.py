"""`replay`: one step of a finished or stopped job, made again from the files that it reads."""

from contextlib import closing
from pathlib import Path

from ...stages.errors import ConfigError
from ..config import AnimateConfig, resolve
from ..job.job import open_job
from .graph import forget, run, step_keys, step_named, step_of
from .tools import Tools


def replay(folder: Path, name: str) -> list[Path]:
    """Make the step `name` of the job in `folder` again, with the job's own config; returns its files.

    The other steps are left as they are. Raises ConfigError where the job is missing, or what the step reads
    is missing or of another config.
    """
    step_named(name)
    saved = folder / "config.yaml"
    if not saved.is_file():
        raise ConfigError(f"{folder} is not a job folder: it has no config.yaml")
    config = resolve(AnimateConfig, AnimateConfig(), saved)
    step = step_of(config, name)
    with open_job(folder) as job, closing(Tools()) as tools:
        keys = step_keys(config)  # before anything is touched: the inputs may be gone
        for read in step.reads:
            files = step_of(config, read).files(folder, config)
            missing = [path for path in files if not path.is_file()]
            if missing:
                raise ConfigError(f"step {name} reads {missing[0]}, which is not there: run the job first")
            if not job.holds(read, keys[read]):
                raise ConfigError(
                    f"step {name} reads {files[0]}, which is not what {saved} makes: run the job first"
                )
        forget(job, step)
        run(job, step, config, keys, tools)
        return list(step.files(folder, config))
