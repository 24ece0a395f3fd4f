"""What a batch has to do: its items, what is left of them, and the tasks that this takes."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ...stages.errors import ConfigError
from ..animate.animate import with_usable_model
from ..animate.graph import (
    STEPS,
    drop_intermediates,
    following,
    forget,
    has_intermediates,
    results_of,
    step_keys,
    steps_of,
)
from ..animate.tools import opens_lora
from ..config import AnimateConfig, BatchConfig
from ..job.job import Job, Key, open_job
from ..job.once import in_parallel, in_turn, looking_once, once
from ..job.publish import is_done_at
from ..job.published import PUBLISHED, Published, read_published
from ..job.storage import statements_below, url_of
from ..progress import stage
from ..workers.executor import Task
from .manifest import Item, crossed, files_named, make_items, read_manifest
from .stages import PATIENCE_S, Work, pool_of, shared_folder, shared_name
from .status import quarantine_path, read_json, state_of

R = TypeVar("R")


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
    with looking_once():
        return items_of(config, base)


def items_of(config: BatchConfig, base: AnimateConfig) -> tuple[list[Item], dict[str, int]]:
    """The videos that a config asks for, as `find_items`, on top of the options `base`."""
    if config.manifest is None:
        rows, others = crossed(config.driving, config.reference, painted=config.character_prompt is not None)
        below = base.model_copy(update={"driving": None, "reference": None})
        who = config.reference or "the painted character"
        items = make_items(rows, below, f"{config.driving} x {who}", Path.cwd())
        return items, {"files of another kind": others}
    for path in (config.driving, config.reference):
        if path is not None and path.is_dir():
            raise ConfigError(f"{path} is a folder: with --manifest, name files or leave it out")
    rows = read_manifest(config.manifest)
    items = make_items(rows, base, str(config.manifest), config.manifest.parent)
    return items, {"rows like an earlier one": len(rows) - len(items)}


def plan_items(root: Path, items: Sequence[Item], config: BatchConfig, url: str | None = None) -> Plan:
    """Sort the items by what their records say, here and at `url`."""
    plan = Plan([], [], [], [], {})
    there = {} if url is None else statements_below(url)

    def look(item: Item) -> tuple[dict[str, Key], bool]:
        place, job = url and f"{url}/{item.name}", Job(item.config.output)
        files = there.get(item.name, {})
        published = read_published(place) if place and PUBLISHED in files else Published()
        keys = step_keys(item.config, known=published.digest_of)
        if config.verify:
            verify(root, item, keys)
        done = config.force is None and is_done_at(place, job, results_of(keys), published, files)
        if done and config.keep == "results":
            drop_left(item)
        return keys, done

    for item, (keys, done) in look_at(items, look, at_once=config.verify or url is not None):
        plan.keys[item.name] = keys
        if done:
            plan.done.append(item)
            quarantine_path(root, item.name).unlink(missing_ok=True)
        elif not config.retry_quarantined and is_given_up(root, item, keys):
            plan.quarantined.append(item)
        elif config.limit is not None and len(plan.todo) >= config.limit:
            plan.later.append(item)
        else:
            plan.todo.append(item)
    return plan


def is_given_up(root: Path, item: Item, keys: dict[str, Key]) -> bool:
    """Whether an item was given up before, with the same inputs, options, and limits of its poses."""
    if state_of(root, item.name, keys).status != "quarantined":
        return False
    return read_json(quarantine_path(root, item.name)).get("accept") == accept_of(item.config)


def accept_of(config: AnimateConfig) -> dict[str, Any]:
    """What decides whether poses are good enough, as plain data: it is in no key."""
    return config.model_dump(mode="json", include={"accept", "accept_poses"})


def look_at(items: Sequence[Item], look: Callable[[Item], R], *, at_once: bool) -> list[tuple[Item, R]]:
    """What `look` answers for each item, under a bar; many at once where they wait for a store or a disk."""
    at_once = at_once or any(map(has_urls, items))
    with looking_once(), stage("plan", len(items), "video") as advance:
        answers = (in_parallel if at_once else in_turn)(look, items, advance)
        return list(zip(items, answers, strict=True))


def has_urls(item: Item) -> bool:
    """Whether a row names files in a store."""
    return any(url_of(path) is not None for path in files_named(item.config))


def verify(root: Path, item: Item, keys: dict[str, Key]) -> None:
    """Let the steps of an item, and those that it shares, count as not done where a file is damaged."""
    Job(item.config.output).forget_damaged(keys)
    for step in steps_of(item.config):
        if step.shared:
            verify_shared(shared_folder(root, step.name, keys[step.name]), step.name)


@once
def verify_shared(folder: Path, step: str) -> None:
    """Read what several items share, once for all of them, and forget what is damaged."""
    Job(folder).forget_damaged([step])


def drop_left(item: Item) -> None:
    """Remove the intermediate files of a finished item that lie there still: of a run that kept them."""
    if has_intermediates(Job(item.config.output), item.config):
        with open_job(item.config.output, PATIENCE_S) as job:
            drop_intermediates(job, item.config)


def forget_from(root: Path, item: Item, keys: dict[str, str], name: str) -> None:
    """Make the step `name` of an item, and all that follow from it, count as not done, if it has it."""
    again = following(name, item.config)
    with open_job(item.config.output, PATIENCE_S) as job:
        for step in again:
            forget(job, step)
            if step.shared:
                with open_job(shared_folder(root, step.name, keys[step.name]), float("inf")) as shared:
                    for copied in again:
                        forget(shared, copied)


def by_model(items: Sequence[Item]) -> list[Item]:
    """The items in their order, those of one model and its same LoRA weights after each other."""
    groups: dict[str, dict[str, list[Item]]] = {}
    for item in items:
        model, lora = opens_lora(item.config)
        groups.setdefault(model, {}).setdefault(lora, []).append(item)
    return [item for group in groups.values() for same in group.values() for item in same]


def tasks_of(
    root: Path,
    items: Sequence[Item],
    keys: dict[str, dict[str, str]],
    pools: Container[str],
    keep_all: bool = False,
) -> list[Task]:
    """What there is to do, by these pools: each shared step once, and all others for each item.

    `keep_all`: whether finished videos keep their intermediate files. Videos of one model, and of its same
    LoRA weights, follow each other. In a pool shared steps go first, in the order of the graph, for many wait
    for them; then the later before the earlier, so that videos that are begun get done. What several share is
    made by one that accepts poor poses, if there is one: the others stop at their own control frames.
    """
    tasks: dict[str, Task] = {}
    for item in by_model(items):
        own, steps = keys[item.name], steps_of(item.config)
        names = {
            step.name: shared_name(step.name, own[step.name]) if step.shared else f"{item.name}/{step.name}"
            for step in steps
        }
        for index, step in enumerate(steps):
            name = names[step.name]
            if name in tasks and not item.config.accept_poses:
                continue
            tasks[name] = Task(
                name,
                pool_of(step, pools),
                2 * len(STEPS) - index if step.shared else index,
                Work(step.name, root, item.config, own, keep_all),
                tuple(names[read] for read in step.reads),
                None if step.shared else item.name,
                step.opens(item.config),
            )
    return list(tasks.values())
