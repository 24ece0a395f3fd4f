"""What a batch has to do: its items, what is left of them, and the tasks that this takes."""

import hashlib
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...stages.errors import ConfigError
from ..animate.animate import with_usable_model
from ..animate.graph import STEPS, digests, model_files, step_keys
from ..config import AnimateConfig, BatchConfig
from ..job.job import Job, key_of, open_job
from ..job.publish import is_done_at
from ..workers.executor import Task
from .manifest import Item, crossed, make_items, read_manifest
from .stages import PATIENCE_S, Work, hold_shared, shared_name, stage_of
from .status import quarantine_path, state_of


@dataclass(frozen=True, slots=True)
class Plan:
    """The items of a batch by what is left to do, and the keys of each."""

    done: list[Item]
    quarantined: list[Item]
    todo: list[Item]
    later: list[Item]
    keys: dict[str, dict[str, str]]


def find_items(config: BatchConfig) -> tuple[list[Item], dict[str, int]]:
    """The videos that a config asks for, and how much was left out for which reason."""
    own = set(BatchConfig.model_fields) - set(AnimateConfig.model_fields)
    base = AnimateConfig.model_validate(config.model_dump(exclude=own, exclude_unset=True))
    base = with_usable_model(base)
    if config.manifest is None:
        rows, others = crossed(config.driving, config.reference)
        below = base.model_copy(update={"driving": None, "reference": None})
        items = make_items(rows, below, f"{config.driving} x {config.reference}", Path.cwd())
        return items, {"files of another kind": others}
    for path in (config.driving, config.reference):
        if path is not None and path.is_dir():
            raise ConfigError(f"{path} is a folder: with --manifest, name files or leave it out")
    rows = read_manifest(config.manifest)
    items = make_items(rows, base, str(config.manifest), config.manifest.parent)
    return items, {"rows like an earlier one": len(rows) - len(items)}


def shard_of(items: list[Item], shard: str | None) -> list[Item]:
    """The items of one shard, i/n: by hash of the name, so that every run of a job array agrees."""
    if shard is None:
        return items
    part, parts = (int(number) for number in shard.split("/"))
    if part >= parts:
        raise ConfigError(f"--shard {shard}: the parts of {parts} are 0/{parts} to {parts - 1}/{parts}")
    return [item for item in items if int(hashlib.sha256(item.name.encode()).hexdigest(), 16) % parts == part]


def plan_items(root: Path, items: Sequence[Item], config: BatchConfig, url: str | None = None) -> Plan:
    """Sort the items by what their records say, here and at `url`."""
    plan = Plan([], [], [], [], {})
    for item in items:
        keys = plan.keys[item.name] = {**step_keys(item.config), "shape": shape_key(item.config)}
        job = Job(item.config.output)
        own, place = {step: keys[step] for step in STEPS}, url and f"{url}/{item.name}"
        if config.force is None and is_done_at(place, job, own):
            plan.done.append(item)
            quarantine_path(root, item.name).unlink(missing_ok=True)
        elif state_of(root, item.name, keys).status == "quarantined" and not config.retry_quarantined:
            plan.quarantined.append(item)
        elif config.limit is not None and len(plan.todo) >= config.limit:
            plan.later.append(item)
        else:
            plan.todo.append(item)
    return plan


def shape_key(config: AnimateConfig) -> str:
    """Key of the video's shape: of the model, and of all options but those that do not bear on it."""
    others = {"driving", "reference", "pose", "output", "stride", "start", "duration", "seed"}
    others |= {"estimator", "encode", "align", "lora", "lora_scale", "preview_every"}
    options = config.model_dump(mode="json", exclude=others)
    return key_of("shape", options=options, weights=digests(model_files(config)))


def forget(root: Path, item: Item, keys: dict[str, str], step: str) -> None:
    """Make `step` of an item, and all that follow from it, count as not done."""
    shared = step in ("reference", "poses")
    steps = [step, *STEPS[2:]] if shared else STEPS[STEPS.index(step) :]
    with open_job(item.config.output, PATIENCE_S) as job:
        for name in steps:
            job.record_path(name).unlink(missing_ok=True)
        if "latents" in steps:
            (job.work / "checkpoint.safetensors").unlink(missing_ok=True)
    if shared:
        name = shared_name(step, keys[step])
        with hold_shared(root, name):
            Job(root).record_path(name).unlink(missing_ok=True)


def tasks_of(
    root: Path, items: Sequence[Item], keys: dict[str, dict[str, str]], stages: Container[str]
) -> list[Task]:
    """What there is to do, by these stages: each shared step once, then a chain of steps for each item."""
    tasks: dict[str, Task] = {}

    def add(step: str, item: Item, needs: tuple[str, ...], rank: int, common: bool) -> str:
        own = keys[item.name]
        name = shared_name(step, own[step]) if common else f"{item.name}/{step}"
        owner = None if common else item.name
        work = Work(step, root, item.config, own)
        tasks.setdefault(name, Task(name, stage_of(step, stages), rank, work, needs, owner))
        return name

    for item in items:
        needs = tuple(
            add(step, item, (), rank, common=True)
            for step, rank in (("shape", len(STEPS)), ("reference", 1), ("poses", 0))
        )
        for rank, step in enumerate(STEPS[2:], 2):
            needs = (add(step, item, needs, rank, common=False),)
    return list(tasks.values())
