"""The steps that make one video: what each reads and writes, and the key that decides whether it is done.

driving video ── poses ────────────────┐
reference ────── its pose ── placement ┼── control frames ──┬── latents ── result.mp4 ─┬─ comparison.mp4, ...
model ────────── size ─────────────────┘        settings ───┘                          └─ upscaled.mp4

A reference that is not given is painted in the dancer's pose: step `character`.

A step is one row of GRAPH. `animate` makes those that a config asks for one after the other, `batch` those of
many videos on many workers, `replay` one of them.
"""

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ...stages.errors import ConfigError
from ..config import AnimateConfig
from ..job.inputs import input_digests, with_local_inputs
from ..job.job import Job, Key, Known, key_of, unknown
from . import decided, paper, picture_steps, pose_steps, steps
from .checkpoint import CHECKPOINT
from .settings import has_network, is_cutout
from .tools import Tools, opens_character, opens_estimator, opens_lora, opens_model, opens_upscaler
from .video import Facts, Video


def opens_nothing(config: AnimateConfig) -> tuple[str, ...]:
    """Nothing: the step works with files alone."""
    return ()


def always(config: AnimateConfig) -> bool:
    """Whether a config asks for a step that every video needs: yes."""
    return True


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a video."""

    name: str
    pool: str
    """The workers of a batch that make it (`PoolsConfig`)."""
    reads: tuple[str, ...]
    """The steps whose files it reads."""
    inputs: tuple[str, ...]
    """The options that name the files of the user that it reads."""
    writes: tuple[str, ...]
    """The files that it writes, in the job folder. Those in `.work` are for later steps."""
    decided_by: Callable[[AnimateConfig], dict[str, Any]]
    """What else changes its result, and nothing that does not: plain data."""
    make: Callable[[Video, Tools], Facts]
    version: int = 1
    """Raised when the same inputs no longer give the same result."""
    shared: bool = False
    """Whether the videos of a batch share the result: it is small, and decided by a part of their options."""
    opens: Callable[[AnimateConfig], tuple[str, ...]] = opens_nothing
    """What a worker must have opened to make it, the costliest first, as names that compare."""
    scratch: tuple[str, ...] = ()
    """Files, or folders of files, from which a stopped run of it goes on."""
    renamed: Callable[[AnimateConfig], Mapping[str, str]] = decided.own_names
    """Other names for files that it writes, where the config asks for another kind of them."""
    asked: Callable[[AnimateConfig], bool] = always
    """Whether a config asks for it. Where it does not, no other step reads it either."""

    @property
    def is_result(self) -> bool:
        """Whether users come for what it writes."""
        return any(not name.startswith(".work/") for name in self.writes)

    def files(self, folder: Path, config: AnimateConfig) -> tuple[Path, ...]:
        """The files that it writes in a job folder."""
        names = self.renamed(config)
        return tuple(folder / names.get(name, name) for name in self.writes)


GRAPH = (
    Step(
        name="size",
        pool="denoise",
        reads=(),
        inputs=(),
        writes=(".work/size.json",),
        decided_by=decided.size,
        make=steps.size,
        opens=opens_model,
        shared=True,
    ),
    Step(
        name="settings",
        pool="denoise",
        reads=(),
        inputs=(),
        writes=(".work/settings.json",),
        decided_by=decided.settings,
        make=steps.settings,
        opens=opens_model,
        shared=True,
        asked=has_network,
    ),
    Step(  # before the poses, since a picture without a person is told soonest
        name="reference",
        pool="pose",
        reads=("character",),
        inputs=("reference",),
        writes=(".work/reference.npz",),
        decided_by=decided.reference,
        make=pose_steps.reference,
        opens=opens_estimator,
        version=3,
        shared=True,
    ),
    Step(
        name="placement",
        pool="draw",
        reads=("size", "reference"),
        inputs=(),
        writes=(".work/placement.json",),
        decided_by=decided.placement,
        make=steps.placement,
        shared=True,
    ),
    Step(
        name="poses",
        pool="pose",
        reads=(),
        inputs=("driving", "pose"),
        writes=("poses.npz", "pose_report.json"),
        decided_by=decided.poses,
        make=pose_steps.poses,
        opens=opens_estimator,
        version=4,
        shared=True,
    ),
    Step(
        name="character",
        pool="denoise",
        reads=("size", "poses"),
        inputs=(),
        writes=("reference.png", "sheet.png", "character.json"),
        decided_by=decided.character,
        make=picture_steps.character,
        opens=opens_character,
        shared=True,
        asked=decided.has_character,
    ),
    Step(
        name="control",
        pool="draw",
        reads=("size", "reference", "placement", "poses"),
        inputs=(),
        writes=(".work/control.zip",),
        decided_by=decided.control,
        make=steps.control,
        version=4,
    ),
    Step(
        name="latents",
        pool="denoise",
        reads=("settings", "poses", "character", "control", "placement"),
        inputs=("reference",),
        writes=(".work/latents.safetensors",),
        decided_by=decided.latents,
        make=steps.latents,
        opens=opens_lora,
        scratch=(CHECKPOINT,),
        version=2,
        asked=has_network,
    ),
    Step(
        name="paper",
        pool="draw",
        reads=("character", "reference", "placement", "poses"),
        inputs=("reference",),
        writes=(".work/paper.npz",),
        decided_by=decided.paper,
        make=paper.paper,
        asked=is_cutout,
    ),
    Step(
        name="result",
        pool="decode",
        reads=("settings", "placement", "poses", "latents", "paper"),
        inputs=("driving",),
        writes=("result.mp4",),
        decided_by=decided.result,
        make=steps.result,
        renamed=decided.result_names,
        opens=opens_model,
    ),
    Step(
        name="upscale",
        pool="decode",
        reads=("result",),
        inputs=("driving",),
        writes=("upscaled.mp4",),
        decided_by=decided.upscale,
        make=picture_steps.upscale,
        opens=opens_upscaler,
        scratch=(picture_steps.PAINTED,),
        renamed=decided.result_names,
        asked=decided.has_upscale,
    ),
    Step(
        name="comparison",
        pool="compare",
        reads=("character", "placement", "control", "result", "upscale"),
        inputs=("driving", "reference"),
        writes=("comparison.mp4", "contact_sheet.png"),
        decided_by=decided.nothing,
        make=steps.comparison,
    ),
)
"""The steps of a video, in the order in which they are made where none has to wait for another."""


def in_order(rows: Iterable[Step]) -> tuple[Step, ...]:
    """The rows, each after those of them that it reads, and reading no others."""
    left = list(rows)
    names = {step.name for step in left}
    left = [replace(step, reads=tuple(read for read in step.reads if read in names)) for step in left]
    found: dict[str, Step] = {}
    while left:
        ready = next(step for step in left if found.keys() >= set(step.reads))
        found[ready.name] = ready
        left.remove(ready)
    return tuple(found.values())


STEPS = {step.name: step for step in in_order(GRAPH)}
"""All steps by name, each after those that it reads."""
LAST = GRAPH[-1].name
"""The step with which a video is done."""


def steps_of(config: AnimateConfig) -> tuple[Step, ...]:
    """The steps that a config asks for, each after those that it reads."""
    return _steps_named(tuple(step.name for step in GRAPH if step.asked(config)))


@cache
def _steps_named(names: tuple[str, ...]) -> tuple[Step, ...]:
    return in_order(step for step in GRAPH if step.name in names)


def step_of(config: AnimateConfig, name: str) -> Step:
    """A step that the config asks for. Raises ConfigError for one that it does not ask for."""
    for step in steps_of(config):
        if step.name == name:
            return step
    asked = ", ".join(step.name for step in steps_of(config))
    raise ConfigError(f"step {step_named(name).name} is not part of this video, whose steps are {asked}")


def step_named(name: str) -> Step:
    """The step of that name. Raises ConfigError."""
    if name not in STEPS:
        raise ConfigError(f"no step {name!r}: use one of {', '.join(STEPS)}")
    return STEPS[name]


def step_keys(
    config: AnimateConfig, graph: Iterable[Step] | None = None, known: Known = unknown
) -> dict[str, Key]:
    """The key of each step of `graph`, by default of all that the config asks for.

    It is of everything that decides the step's result, and of nothing else. `known` tells the digests of
    inputs that are URLs, where they need not be read.
    """
    graph = steps_of(config) if graph is None else in_order(graph)
    keys: dict[str, Key] = {}
    inputs = input_digests(config, {name for step in graph for name in step.inputs}, known)
    for step in graph:
        keys[step.name] = key_of(
            step.name,
            step.version,
            decided_by=step.decided_by(config),
            inputs={name: inputs[name] for name in step.inputs if name in inputs},
            reads={name: keys[name] for name in step.reads},
        )
    return keys


def following(name: str, config: AnimateConfig) -> list[Step]:
    """The step of that name and all that follow from it, of those that a config asks for.

    None where it does not ask for that step. Raises ConfigError for a name of no step.
    """
    step_named(name)
    found: list[Step] = []
    for step in steps_of(config):
        if step.name == name or any(before.name in step.reads for before in found):
            found.append(step)
    return found


def results_of(keys: Mapping[str, Key]) -> dict[str, Key]:
    """The keys of the steps that users come for. They hold those of all that these steps read."""
    return {name: key for name, key in keys.items() if STEPS[name].is_result}


def wanted(job: Job, keys: Mapping[str, Key], again: Collection[str] = ()) -> set[str]:
    """The steps of these keys to make so that all results are there, those `again` that are done too.

    What only steps read that are done is not made.
    """
    names: set[str] = set()
    read: set[str] = set()
    for step in reversed(STEPS.values()):
        if step.name not in keys:
            continue
        done = step.name not in again and job.is_done(step.name, keys[step.name])
        if (step.is_result or step.name in read) and not done:
            names.add(step.name)
            read.update(step.reads)
    return names


def drop_intermediates(job: Job, config: AnimateConfig) -> None:
    """Remove from a finished job what only the making of it needed and is large: latents, control frames."""
    for step in steps_of(config):
        if not step.is_result and not step.shared:
            for path in step.files(job.folder, config):
                path.unlink(missing_ok=True)


def has_intermediates(job: Job, config: AnimateConfig) -> bool:
    """Whether a job has such files."""
    steps = (step for step in steps_of(config) if not step.is_result and not step.shared)
    return any(path.exists() for step in steps for path in step.files(job.folder, config))


def run(job: Job, step: Step, config: AnimateConfig, keys: Mapping[str, Key], tools: Tools) -> bool:
    """Make `step` unless it is done under its key; returns whether it was made.

    What it reads is made before where it is not of these keys: another config may have worked in the folder.
    What an earlier config asked for of the result, and this one does not, goes with the old result.
    """

    def make() -> Facts:
        before = [read for read in steps_of(config) if read.name in step.reads]
        for read in before:
            if not job.holds(read.name, keys[read.name]):
                run(job, read, config, keys, tools)
        local = with_local_inputs(config, step.inputs)
        reads = {read.name: read.files(job.folder, local) for read in before}
        return step.make(Video(job.folder, local, keys[step.name], reads, files), tools)

    files = step.files(job.folder, config)
    made = job.run(step.name, keys[step.name], files, make)
    if made and step.name == "result":
        drop_outdated(job, config)
    return made


def drop_outdated(job: Job, config: AnimateConfig) -> None:
    """Remove what was made of the result before, where the config does not ask for it: it shows another."""
    given = {Path(path).resolve() for path in (config.driving, config.reference) if path is not None}
    for step in GRAPH:
        outdated = "result" in step.reads and not step.asked(config)
        if outdated and given.isdisjoint(path.resolve() for path in step.files(job.folder, config)):
            job.drop(step.name)


def forget(job: Job, step: Step) -> None:
    """Let a step count as not done, and not as begun."""
    job.record_path(step.name).unlink(missing_ok=True)
    for name in step.scratch:
        path = job.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
