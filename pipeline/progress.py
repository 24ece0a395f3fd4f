"""What a run shows while it works: the lines that it logs, and one bar for each stage."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm import tqdm

from .job.masking import masked

LOG_INTERVAL_S = 10.0
"""Where there is no terminal, a bar is written this often, in seconds."""


Observer = Callable[[str, int, int | None], None]
"""Told (stage, units done, units in all) whenever a stage goes on."""

LOGGER = logging.getLogger("posedance")
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


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


@contextmanager
def stage(title: str, total: int | None, unit: str = "frame") -> Iterator[Callable[[int], object]]:
    """Show a bar while a stage works. Yields a function to call with the number of units just done."""
    observer = _observer.get()
    if observer is not None:
        yield counter(observer, title, total)
        return
    interval = 0.2 if sys.stderr.isatty() else LOG_INTERVAL_S
    with tqdm(
        total=total,
        desc=f"{title:<10}",
        unit=unit,
        file=sys.stderr,
        mininterval=interval,
        maxinterval=interval,
    ) as bar:
        yield bar.update


def counter(observer: Observer, title: str, total: int | None) -> Callable[[int], object]:
    """A function to call with the number of units just done, which tells `observer` of the sum."""
    done = 0

    def advance(units: int) -> None:
        nonlocal done
        done += units
        observer(title, done, total)

    observer(title, 0, total)
    return advance
