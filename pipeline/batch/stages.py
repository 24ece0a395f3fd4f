"""The stage of a batch: makes steps of the graph of `animate` on a worker that opens its models once.

What several videos share is made once, in a job folder of its own under the batch's `.work/shared`, by key;
the first step of a video that reads it copies it. The rest is made in each video's own job folder, the same
that `animate` would make.
"""

import shutil
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

from ...stages.atomic import atomic_path
from ...stages.errors import CancelledError
from ...stages.types import Resources
from ..animate.graph import LAST, STEPS, Step, drop_intermediates, run, step_of, wanted
from ..animate.tools import Tools
from ..animate.video import Facts
from ..config import AnimateConfig, write_yaml
from ..interrupts import end_here, ending_when
from ..job.job import Job, Key, open_job, write_text

PATIENCE_S = 60.0
"""How long a step waits for the lock of a job folder: a killed worker's is freed in a moment."""

AGAIN = "`run.py batch` with --retry-quarantined makes it"


@dataclass(frozen=True, slots=True)
class Work:
    """One step of one video. `root` is the batch's folder, `config.output` the video's."""

    step: str
    root: Path
    config: AnimateConfig
    keys: dict[str, Key]
    """Key of each step."""
    keep_all: bool = True
    """Whether a finished video keeps its intermediate files."""


def shared_name(step: str, key: Key) -> str:
    """The name of what videos share: of the task that makes it, and of its job folder."""
    return f"{step}-{key[:16]}"


def shared_folder(root: Path, step: str, key: Key) -> Path:
    """The job folder of what videos share."""
    return root / ".work" / "shared" / shared_name(step, key)


@dataclass
class StepStage:
    """Makes any step of any video. Tells whether it made anything: what is done is not made again."""

    resources: Resources
    tools: Tools = field(init=False, repr=False)

    def setup(self) -> None:
        """Models are opened when a step needs one, so that one that cannot be costs its own videos alone."""
        self.tools = Tools(self.resources)

    def __call__(self, work: Work) -> bool:
        config, keys = work.config, work.keys
        step = step_of(config, work.step)
        folder, patience_s = config.output, PATIENCE_S
        if step.shared:
            folder, patience_s = shared_folder(work.root, step.name, keys[step.name]), float("inf")
        with open_job(folder, patience_s) as job:
            if not step.shared:
                write_text(job.folder / "config.yaml", write_yaml(config))
            for name in step.reads:
                if STEPS[name].shared:
                    take(job, STEPS[name], work.root, config, keys[name])
            if step.shared:
                return run(job, step, config, keys, self.tools)
            asked = cancel_mark(work.root, config.output.name).exists
            with ending_when(asked, CancelledError(f"cancelled: {AGAIN}")):
                end_here()
                made = step.name in wanted(job, keys) and run(job, step, config, keys, self.tools)
            if step.name == LAST and not work.keep_all:
                drop_intermediates(job, config)
            return made

    def close(self) -> None:
        self.tools.close()


def cancel_mark(root: Path, name: str) -> Path:
    """The file by which a video of a batch is cancelled, while it runs or before."""
    return root / ".work" / "cancelled" / name


def take(job: Job, step: Step, root: Path, config: AnimateConfig, key: Key) -> None:
    """Copy what videos share into a job folder where it is read, with what was recorded of it."""
    store = Job(shared_folder(root, step.name, key))
    if not store.holds(step.name, key):
        return  # the step that reads it makes it
    files = step.files(job.folder, config)

    def copy() -> Facts:
        for source, target in zip(step.files(store.folder, config), files, strict=True):
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
        return store.facts(step.name)

    job.run(step.name, key, files, copy)


def pool_of(step: Step, pools: Container[str]) -> str:
    """The workers that make a step where there are these: without `decode` those that denoise."""
    return step.pool if step.pool in pools else "denoise"
