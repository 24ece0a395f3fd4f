"""What a run says while it works: plain lines, and one bar for each stage."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

LOG_INTERVAL_S = 10.0
"""Where there is no terminal, a bar is written this often, in seconds."""


def say(line: str) -> None:
    """One line for the user, on standard error so that standard output stays for results."""
    tqdm.write(line, file=sys.stderr)


@contextmanager
def stage(title: str, total: int | None, unit: str = "frame") -> Iterator[Callable[[int], object]]:
    """Show a bar while a stage works. Yields a function to call with the number of units just done."""
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
