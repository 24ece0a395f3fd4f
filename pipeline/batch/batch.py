"""`batch`: many videos on many workers, each made as `animate` makes it and nothing made twice.

    OUT/NAME/            one job folder for each video: what `animate` writes
    OUT/index.html       every comparison video, and the state of every item, while it runs too
    OUT/events.jsonl     what happened, one line each
    OUT/summary.json     the last run in numbers
    OUT/.work/shared/    what several videos share, each a job folder: poses, sizes, settings
    OUT/.work/quarantine/NAME.json   what was given up: stage, error, attempts

What there is to do is found in `plan.py`; the scheduler of `workers/` runs it.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ...stages.errors import ConfigError
from ...stages.threads import usable_cpus
from ..animate.graph import LAST, STEPS
from ..animate.photographs import note_on
from ..config import BatchConfig
from ..interrupts import deferred_interrupts
from ..job.job import Job, make_folder, sweep, write_text
from ..job.once import looking_once
from ..job.output import refuse_video
from ..job.scratch import scratch_for
from ..job.storage import put, url_of
from ..workers.executor import Executor, InProcess, Outcome, Task, failure
from ..workers.machines import Machine, machines_of_ray
from ..workers.ray_actor import refuse_cluster, start_ray
from ..workers.ray_pool import OnRay, Pool
from ..workers.resources import Shares, describe, share_out
from ..workers.scheduler import QUARANTINED, Scheduler
from ..workers.shards import beats_folder, held, part_of, shard_of
from .index import write_index
from .log import Log
from .plan import Plan, accept_of, find_items, forget_from, plan_items, tasks_of
from .publishing import Publisher
from .stages import StepStage, cancel_mark, shared_folder
from .status import EVENTS, items_path, quarantine_path, state_of, states_of

logger = logging.getLogger(__name__)

LIVE_PER_WORKER = 2
"""Videos that are begun and not finished, for each worker: bounds the disk that intermediate files take."""


def batch(config: BatchConfig) -> int:
    """Make what `config` asks for; returns the exit code: 0 all done, 3 some given up.

    Raises PosedanceError for a request that cannot be run.
    """
    refuse_video(config.output)
    url = url_of(config.output)
    root = config.output.resolve() if url is None else scratch_for(url)
    if config.executor == "local" and config.ray_address is not None:
        raise ConfigError(f"--executor local with --ray-address {config.ray_address}: choose one of them")
    if url is not None and config.executor == "ray":
        refuse_cluster(url, config.ray_address)
    config = config.model_copy(update={"output": root})
    answers: dict[Any, Any] = {}
    with looking_once(answers):
        found, left_out = find_items(config)
    items = shard_of(found, config.shard)
    part = part_of(config.shard)
    make_folder(root)
    with held(root, config.shard):
        if config.shard is None:
            sweep(root)
        with looking_once(answers):
            plan = plan_items(root, items, config, url)
        answers.clear()
        write_text(items_path(root, part), json.dumps(plan.keys))
        if config.force is not None:
            for item in plan.todo:
                forget_from(root, item, plan.keys[item.name], config.force)
        logger.info(
            f"{len(items)} videos: {len(plan.done)} done before, {len(plan.todo)} to make"
            + (f", {len(plan.quarantined)} given up before (--retry-quarantined)" if plan.quarantined else "")
            + (f", {len(plan.later)} beyond --limit" if plan.later else "")
        )
        log = Log(root, part, len(plan.todo), left_out)
        try:
            if plan.todo:
                run_tasks(root, plan, config, log, url)
        finally:
            log.close()
            states = [state_of(root, name, keys) for name, keys in plan.keys.items()]
            lines = list(log.lines(states, len(plan.done)))
            write_summary(root, part, log, log.summary(states, len(plan.done)), lines, url)
    for line in lines:
        logger.info(line)
    return QUARANTINED if any(state.status == "quarantined" for state in states) else 0


def write_summary(
    root: Path, part: str, log: Log, summary: Mapping[str, Any], lines: Sequence[str], url: str | None
) -> None:
    """Write what tells of the run that ended; copies of it, and of events.jsonl, go to `url`."""
    name = f"summary{part}.json"
    with log.spared("index.html"):
        write_index(root, states_of(root), lines)
    with log.spared(name):
        write_text(root / name, json.dumps(summary, indent=1))
    if url is not None:
        copies = {"index.html": f"index{part}.html", EVENTS: f"events{part}.jsonl", name: name}
        for file, copy in copies.items():
            with log.spared(file):
                put(root / file, f"{url}/{copy}")


def run_tasks(root: Path, plan: Plan, config: BatchConfig, log: "Log", url: str | None = None) -> None:
    """Run what is to do on the executor that the config names."""
    (root / ".work" / "quarantine").mkdir(exist_ok=True)
    for item in plan.todo:
        quarantine_path(root, item.name).unlink(missing_ok=True)
        if config.retry_quarantined:
            cancel_mark(root, item.name).unlink(missing_ok=True)
    executor, shares = make_executor(root, config)
    logger.info(describe(shares))
    keys = plan.keys

    failed: list[str] = []
    publisher = Publisher(root, url, keys)

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        log(event, task, outcome, tries)
        ended, step = event in ("done", "skip"), STEPS[task.work.step]
        if ended and step.shared:  # said once for all videos that share it
            facts = Job(shared_folder(root, step.name, task.work.keys[step.name])).facts(step.name)
            for note in () if step.inputs else facts.get("notes", ()):  # of options
                logger.info(note)
            if note := note_on(task.work.config, facts.get("photograph", False)):
                logger.warning(note)
                log.notes.append(note)
        if ended and task.item is not None and step.name == LAST:
            publisher.add(task.item)
        if event == "quarantine":
            failed[:] = [task.name]
        if outcome is None or task.item is None or event not in ("quarantine", "drop"):
            return
        path = quarantine_path(root, task.item)
        if not path.exists():
            why = failure(outcome, failed[0], tries)
            record = {"keys": keys[task.item], "accept": accept_of(task.work.config), **why}
            with log.spared(path.name):
                write_text(path, json.dumps(record, indent=1))

    log.workers = executor.workers
    with closing(publisher), closing(executor), deferred_interrupts() as stopped:
        Scheduler(
            tasks_of(root, plan.todo, keys, shares, config.keep == "all"),
            executor,
            list(shares),
            attempts=config.attempts,
            max_live=LIVE_PER_WORKER * sum(workers for workers, _ in shares.values()),
            listen=listen,
            stopped=stopped,
        ).run()
        publisher.finish()


def make_executor(root: Path, config: BatchConfig) -> tuple[Executor, Shares]:
    """The executor that a config names, and how the machine is shared out among the stages."""
    if config.executor == "local":
        import torch

        here = Machine(usable_cpus(), torch.cuda.device_count())
        shares = share_out([here], config.pools)
        return InProcess({pool: StepStage(each) for pool, (_, each) in shares.items()}), shares
    owned = start_ray(config.ray_address)
    machines = machines_of_ray()
    if not machines:
        raise ConfigError("no machine of the Ray cluster gives cores: start one with --num-cpus above 0")
    shares = share_out(machines, config.pools)
    pools = {pool: Pool(StepStage(each), workers) for pool, (workers, each) in shares.items()}
    beats = beats_folder(root, config.shard)
    timeout_s, attempts = config.timeout, config.attempts
    return OnRay(pools, beats, timeout_s=timeout_s, attempts=attempts, owns_ray=owned), shares
