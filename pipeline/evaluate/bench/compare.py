"""Two ways of doing the same, measured in turns in one run."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Median seconds of the published way and of ours, and how far apart their results are.

    `max_rel_diff` is the largest difference relative to the largest value.
    """

    published_s: float
    ours_s: float
    max_rel_diff: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.published_s / self.ours_s


def in_turns(
    published: Callable[[], ResultT],
    ours: Callable[[], ResultT],
    difference: Callable[[ResultT, ResultT], float],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> Comparison:
    """Run both once to warm up, then `repeats` times in turns.

    `clock` is processor time of all threads, which other programs on the machine disturb little. The worst
    `difference` of the repeats is reported.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    worst = difference(published(), ours())
    for _ in range(repeats):
        results: list[ResultT] = []
        for run, times in zip((published, ours), seconds, strict=True):
            started = clock()
            results.append(run())
            times.append(clock() - started)
        worst = max(worst, difference(*results))
    return Comparison(statistics.median(seconds[0]), statistics.median(seconds[1]), worst)


def medians(
    runs: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Median seconds of each of several ways, after one run to warm up and `repeats` in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            started = clock()
            run()
            if turn:
                seconds[name].append(clock() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}
