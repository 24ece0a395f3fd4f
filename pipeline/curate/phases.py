"""The two phases that read videos, each on the executor of the config: sources, then clips."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ...stages.errors import ConfigError
from ...stages.threads import usable_cpus
from ...stages.types import Resources
from ..interrupts import deferred_interrupts
from ..job.job import write_text
from ..workers.executor import Executor, InProcess, Outcome, Task, failure
from ..workers.machines import machines_of_ray
from ..workers.ray_actor import end_ray, start_ray
from ..workers.ray_pool import OnRay, Pool
from ..workers.scheduler import Scheduler
from ..workers.shards import beats_folder
from .config import CurateConfig
from .log import Log
from .stages import CurateStage
from .store import quarantine_path

logger = logging.getLogger(__name__)


@contextmanager
def connected(config: CurateConfig, needed: bool) -> Iterator[None]:
    """Ray, where the config asks for it and there is anything to do; ended with the block if begun here."""
    if config.executor == "local" or not needed:
        yield
        return
    owned = start_ray(config.ray_address)
    try:
        yield
    finally:
        if owned:
            end_ray()


def run_phase(
    root: Path, phase: str, unit: str, tasks: Sequence[Task], config: CurateConfig, log: Log
) -> None:
    """Run tasks, all of the stage `phase`. What is given up is written down and the others go on.

    Raises KeyboardInterrupt after Ctrl-C, when the tasks that ran are done.
    """
    if not tasks:
        return
    for task in tasks:
        quarantine_path(root, task.name).unlink(missing_ok=True)

    def listen(event: str, task: Task, outcome: Outcome | None, tries: int) -> None:
        log(event, task, outcome, tries)
        if event == "quarantine" and outcome is not None:
            record = {"key": task.work.key, "item": task.item, **failure(outcome, phase, tries)}
            write_text(quarantine_path(root, task.name), json.dumps(record, indent=1))

    executor, count = make_executor(root, phase, len(tasks), config)
    log.begin(phase, len(tasks), unit)
    log.workers = executor.workers
    try:
        with closing(executor), deferred_interrupts() as stopped:
            Scheduler(
                tasks,
                executor,
                [phase],
                attempts=config.attempts,
                max_live=2 * count,
                listen=listen,
                stopped=stopped,
            ).run()
    finally:
        log.end()


def make_executor(root: Path, phase: str, tasks: int, config: CurateConfig) -> tuple[Executor, int]:
    """The executor of a phase, and how many workers it may have: one a core, but no more than tasks."""
    if config.executor == "local":
        return InProcess({phase: CurateStage(Resources(usable_cpus()))}), 1
    machines = machines_of_ray()
    if not machines:
        raise ConfigError("no machine of the Ray cluster gives cores: start one with --num-cpus above 0")
    own = config.workers
    each = Resources(own.cpus or 1.0, own.gpus or 0.0)
    count = own.workers or max(1, sum(int(machine.cpus / each.cpus) for machine in machines))
    count = min(count, tasks)
    logger.info(f"{phase}: {count} workers, {each.cpus:g} cores each")
    beats = beats_folder(root, config.shard)
    pools: dict[str, Any] = {phase: Pool(CurateStage(each), count)}
    return OnRay(pools, beats, timeout_s=config.timeout, attempts=config.attempts, owns_ray=False), count
