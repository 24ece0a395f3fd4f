"""What `--output` names: a folder, or one video that gets the job's folder beside it.

-o out/dance.mp4      the video, a copy of result.mp4 in the job's folder out/dance.job/
-o out/dance.mkv      the same with --encode.lossless, of result.mkv
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from ...stages.atomic import atomic_path
from ...stages.errors import ConfigError
from .job import Job, matches, read_record
from .storage import url_of

VIDEOS = frozenset(
    {".3gp", ".apng", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)
"""Names of videos end in these."""
PLAYED, LOSSLESS = ".mp4", ".mkv"
"""Those of the videos that are written."""


def names_video(output: Path) -> bool:
    """Whether `--output` names a video, and not a folder."""
    return output.suffix.lower() in VIDEOS and not output.is_dir()


def job_folder(output: Path, inputs: Iterable[Path | None], ending: str = PLAYED) -> Path:
    """The folder where the job of `--output` works, whose result has a name of this `ending`.

    Raises ConfigError for a video that cannot be written, or that is one of the job's inputs.
    """
    if not names_video(output):
        return output
    if output.suffix.lower() != ending:
        known = f"{PLAYED} (with --encode.lossless {LOSSLESS})"
        raise ConfigError(f"--output {output}: results are {known}: name {output.with_suffix(ending)}")
    if (url := url_of(output)) is not None:
        raise ConfigError(f"--output {url}: a URL names a folder: leave out {output.suffix}")
    if any(path is not None and path.resolve() == output.resolve() for path in inputs):
        raise ConfigError(f"--output {output} is an input of this job and would be lost: give another name")
    return output.with_suffix(".job")


def refuse_video(output: Path) -> None:
    """Raise ConfigError where `--output` names a video and the command writes a folder."""
    if names_video(output):
        raise ConfigError(
            f"--output {output}: this command writes a folder: name one, such as {output.with_suffix('')}"
        )


def copy_video(job: Job, step: str, video: Path) -> None:
    """Put the one file of a finished step at `video`, whole or not at all; nothing where it lies there."""
    record = read_record(job.record_path(step))
    assert record is not None, f"{step} is not done"
    ((name, entry),) = record["files"].items()
    if not matches(video, entry):
        with atomic_path(video) as temporary:
            shutil.copyfile(job.folder / name, temporary)
