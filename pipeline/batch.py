"""`batch`: many videos on many workers, each made as `animate` makes it and nothing made twice.

    OUT/NAME/            one job folder for each video: what `animate` writes
    OUT/index.html       every comparison video, and the state of every item
    OUT/events.jsonl     what happened, one line each
    OUT/summary.json     the last run in numbers
    OUT/.work/shared/    poses of driving videos and reference images, one for all that use them
    OUT/.work/quarantine/NAME.json   what was given up: stage, error, attempts

The graph of one video is in `graph.py`, the scheduler in `executor.py`, the workers in `workers.py`.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..stages.errors import ConfigError
from ..stages.types import Resources
from .animate import with_usable_model
from .batch_log import Log
from .batch_stages import STAGE_OF, Work, make_stages, shared_name
from .config import AnimateConfig, BatchConfig
from .executor import Executor, InProcess, Outcome, Scheduler, Task
from .graph import STEPS, digests, model_files, step_keys
from .job import Job, hold, key_of, make_folder, write_text
from .manifest import Item, crossed, make_items, read_manifest
from .progress import say
from .resources import Shares, describe, share_out
from .status import BEATS, quarantine_path, state_of, states_of, write_index
from .workers import OnRay, Pool, start_ray

LIVE_PER_WORKER = 2
"""Videos that are begun and not finished, for each worker: bounds the disk that intermediate files take."""
QUARANTINED = 3
"""Exit code when some videos were given up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The items of a batch by what is left to do, and the keys of each."""

    done: list[Item]
    quarantined: list[Item]
    todo: list[Item]
    later: list[Item]
    keys: dict[str, dict[str, str]]


def batch(config: BatchConfig) -> int:
    """Make what `config` asks for; returns the exit code: 0 all done, 3 some given up.

    Raises PosedanceError for a request that cannot be run.
    """
    root = config.output.resolve()
    items = shard_of(find_items(config), config.shard)
    make_folder(root)
    with batch_lock(root, config.shard):
        plan = plan_items(root, items, config)
        part = "" if config.shard is None else f"-{config.shard.replace('/', '-of-')}"
        write_text(root / ".work" / f"items{part}.json", json.dumps(plan.keys))
        say(
            f"{len(items)} videos: {len(plan.done)} done before, {len(plan.todo)} to make"
            + (f", {len(plan.quarantined)} given up before (--retry-quarantined)" if plan.quarantined else "")
            + (f", {len(plan.later)} beyond --limit" if plan.later else "")
        )
        log = Log(root, len(plan.todo))
        try:
            if plan.todo:
                run_tasks(root, plan, config, log)
        finally:
            log.close()
            write_index(root, states_of(root))
            states = [state_of(root, name, keys) for name, keys in plan.keys.items()]
            write_text(root / "summary.json", json.dumps(log.summary(states), indent=1))
    for line in log.lines(states):
        say(line)
    return QUARANTINED if any(state.status == "quarantined" for state in states) else 0


def find_items(config: BatchConfig) -> list[Item]:
    """The videos that a config asks for."""
    own = set(BatchConfig.model_fields) - set(AnimateConfig.model_fields)
    base = AnimateConfig.model_validate(config.model_dump(exclude=own, exclude_unset=True))
    base = with_usable_model(base)
    if config.manifest is None:
        rows = crossed(config.driving, config.reference)
        below = base.model_copy(update={"driving": None, "reference": None})
        return make_items(rows, below, f"{config.driving} x {config.reference}", Path.cwd())
    for path in (config.driving, config.reference):
        if path is not None and path.is_dir():
            raise ConfigError(f"{path} is a folder: with --manifest, name files or leave it out")
    return make_items(read_manifest(config.manifest), base, str(config.manifest), config.manifest.parent)


def shard_of(items: list[Item], shard: str | None) -> list[Item]:
    """The items of one shard, i/n: by hash of the name, so that every run of a job array agrees."""
    if shard is None:
        return items
    part, parts = (int(number) for number in shard.split("/"))
    if part >= parts:
        raise ConfigError(f"--shard {shard}: the parts of {parts} are 0/{parts} to {parts - 1}/{parts}")
    return [item for item in items if int(hashlib.sha256(item.name.encode()).hexdigest(), 16) % parts == part]


@contextmanager
def batch_lock(root: Path, shard: str | None) -> Iterator[None]:
    """Hold the batch's folder: alone, or one shard of it beside the others."""
    lock = root / ".work" / "lock"
    if shard is None:
        with hold(root, lock):
            yield
    else:
        with hold(root, lock, shared=True), hold(root, lock.with_name(f"lock-{shard.replace('/', '-of-')}")):
            yield


def plan_items(root: Path, items: Sequence[Item], config: BatchConfig) -> Plan:
    """Sort the items by what their records say."""
    plan = Plan([], [], [], [], {})
    for item in items:
        keys = plan.keys[item.name] = {**step_keys(item.config), "shape": shape_key(item.config)}
        job = Job(item.config.output)
        if all(job.is_done(step, keys[step]) for step in STEPS):
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


def tasks_of(root: Path, items: Sequence[Item], keys: dict[str, dict[str, str]]) -> list[Task]:
    """What there is to do: each shared step once, then a chain of steps for each item."""
    tasks: dict[str, Task] = {}

    def add(step: str, item: Item, needs: tuple[str, ...], rank: int, common: bool) -> str:
        own = keys[item.name]
        name = shared_name(step, own[step]) if common else f"{item.name}/{step}"
        owner = None if common else item.name
        work = Work(step, root, item.config, own)
        tasks.setdefault(name, Task(name, STAGE_OF[step], rank, work, needs, owner))
        return name

    for item in items:
        needs = tuple(
            add(step, item, (), rank, common=True)
            for step, rank in (("shape", len(STEPS)), ("reference", 1), ("poses", 0))
        )
        for rank, step in enumerate(STEPS[2:], 2):
            needs = (add(step, item, needs, rank, common=False),)
    return list(tasks.values())


def run_tasks(root: Path, plan: Plan, config: BatchConfig, log: "Log") -> None:
    """Run what is to do on the executor that the config names."""
    (root / ".work" / "quarantine").mkdir(exist_ok=True)
    for item in plan.todo:
        quarantine_path(root, item.name).unlink(missing_ok=True)
    executor, shares = make_executor(root, plan.todo[0].config, config)
    say(describe(shares))
    keys = plan.keys

    failed: list[str] = []

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        log(event, task, outcome, tries)
        if event == "quarantine":
            failed[:] = [task.name]
        if outcome is None or task.item is None or event not in ("quarantine", "drop"):
            return
        path = quarantine_path(root, task.item)
        if not path.exists():
            record = {
                "keys": keys[task.item],
                "stage": failed[0],
                "error": outcome.error,
                "attempts": tries,
                "trace": outcome.trace,
            }
            write_text(path, json.dumps(record, indent=1))

    with closing(executor):
        Scheduler(
            tasks_of(root, plan.todo, keys),
            executor,
            list(shares),
            attempts=config.attempts,
            max_live=LIVE_PER_WORKER * sum(workers for workers, _ in shares.values()),
            listen=listen,
        ).run()


def make_executor(root: Path, first: AnimateConfig, config: BatchConfig) -> tuple[Executor, Shares]:
    """The executor that a config names, and how the machine is shared out among the stages."""
    if config.executor == "local":
        import torch

        shares = share_out([(os.cpu_count() or 1, torch.cuda.device_count())], config.pools)
        return InProcess(make_stages(resources_of(shares), first)), shares
    import ray

    owned = start_ray(config.ray_address)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    shares = share_out([(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes], config.pools)
    stages = make_stages(resources_of(shares), first)
    pools = {stage: Pool(stages[stage], workers) for stage, (workers, _) in shares.items()}
    beats = root / BEATS
    beats.mkdir(exist_ok=True)
    timeout_s, attempts = config.timeout, config.attempts
    return OnRay(pools, beats, timeout_s=timeout_s, attempts=attempts, owns_ray=owned), shares


def resources_of(shares: Shares) -> dict[str, Resources]:
    """What a worker of each stage takes."""
    return {stage: each for stage, (_, each) in shares.items()}
