"""What a run shows while it works: the lines that it logs, one bar for each stage, and a file for others."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..stages.atomic import atomic_path
from ..stages.errors import OutputError
from .job.masking import masked

TERMINAL_INTERVAL_S, LOG_INTERVAL_S = 0.2, 10.0
"""A bar is written this often in a terminal, and where there is none, in seconds."""


Observer = Callable[[str, int, int | None], None]
"""Told (stage, units done, units in all) whenever a stage goes on."""

KEPT_S = 1.0
"""A file of progress is written at most this often, in seconds."""
PROGRESS = ".work/progress.json"
"""In a job folder: the stages of the last run."""

LOGGER = logging.getLogger("posedance")
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)
_kept: ContextVar["KeptProgress | None"] = ContextVar("kept", default=None)


class KeptProgress:
    """The stages of a run in a file, so that others see how far it is.

    JSON: `pid` and `began` (seconds since 1970) of the run, and its `stages` in their order, each
    {"stage", "unit", "done", "total", "began", "seconds"}.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._began, self._written = time.time(), 0.0
        self._stages: list[dict[str, Any]] = []
        self._failed = False

    def begin(self, title: str, total: int | None, unit: str) -> Callable[[int], None]:
        """A stage begins. Returns a function to call with the number of units just done."""
        began = time.time()
        row = {"stage": title, "unit": unit, "done": 0, "total": total, "began": began, "seconds": 0.0}
        self._stages.append(row)
        self.write()

        def advance(units: int) -> None:
            now = time.time()
            row["done"] += units
            row["seconds"] = round(now - began, 3)
            if now - self._written >= KEPT_S:
                self.write()

        return advance

    def write(self) -> None:
        """Write the file; where it cannot be, that is said once and the run goes on."""
        self._written = time.time()
        told = {"pid": os.getpid(), "began": round(self._began, 3), "stages": self._stages}
        try:
            with atomic_path(self._path) as temporary:
                temporary.write_text(json.dumps(told), encoding="utf-8")
        except (OSError, OutputError) as error:
            if not self._failed:
                self._failed = True
                LOGGER.warning(f"{error}: the run goes on without {self._path.name}")


@contextmanager
def kept_in(path: Path) -> Iterator[None]:
    """Within this, stages are told in the file `path` too (`KeptProgress`)."""
    kept = KeptProgress(path)
    token = _kept.set(kept)
    try:
        kept.write()
        yield
    finally:
        kept.write()
        _kept.reset(token)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Within this, stages report to `observer` and show nothing: what a worker of a batch does."""
    token, quiet = _observer.set(observer), logging.NullHandler()
    LOGGER.addHandler(quiet)  # without any handler Python itself would show warnings
    try:
        yield
    finally:
        LOGGER.removeHandler(quiet)
        _observer.reset(token)


class ProgressHandler(logging.Handler):
    """Shows log records above the bars, on standard error so that standard output stays for results."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a record; within `observed` only one that is marked `always`, as for Ctrl-C."""
        if _observer.get() is None or getattr(record, "always", False):
            tqdm.write(masked(self.format(record)), file=sys.stderr)


def show_log() -> None:
    """Show what posedance logs, from INFO on, as plain lines: what the command line does, once."""
    LOGGER.setLevel(logging.INFO)
    LOGGER.handlers = [ProgressHandler()]


def still_here(title: str) -> None:
    """Tell the observer, if there is one, that a stage waits and is not stuck."""
    if (observer := _observer.get()) is not None:
        observer(title, 0, None)


def bar_interval_s() -> float:
    """How often a bar on standard error is written."""
    return TERMINAL_INTERVAL_S if sys.stderr.isatty() else LOG_INTERVAL_S


@contextmanager
def stage(title: str, total: int | None, unit: str = "frame") -> Iterator[Callable[[int], object]]:
    """Show a bar while a stage works. Yields a function to call with the number of units just done."""
    observer = _observer.get()
    if observer is not None:
        yield counter(observer, title, total)
        return
    interval = bar_interval_s()
    with tqdm(
        total=total,
        desc=f"{title:<10}",
        unit=unit,
        file=sys.stderr,
        mininterval=interval,
        maxinterval=interval,
    ) as bar:
        kept = _kept.get()
        if kept is None:
            yield bar.update
            return
        advance = kept.begin(title, total, unit)

        def both(units: int) -> None:
            bar.update(units)
            advance(units)

        yield both
        kept.write()


def counter(observer: Observer, title: str, total: int | None) -> Callable[[int], object]:
    """A function to call with the number of units just done, which tells `observer` of the sum."""
    done = 0

    def advance(units: int) -> None:
        nonlocal done
        done += units
        observer(title, done, total)

    observer(title, 0, total)
    return advance
