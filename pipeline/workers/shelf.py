"""Which places of a cluster are sick: where one task after the other fails, whatever it is.

A worker whose task failed unexpectedly is replaced, which mends a sick process. It does not mend a sick GPU,
or a machine whose driver is broken or whose disk is full: the next worker may start there too. So failures
are counted by place, and tasks that fail everywhere count nowhere.
"""

from collections import defaultdict
from dataclasses import dataclass

SHELVED_AFTER = 3
"""Different tasks that fail at a place, and nowhere else, without a success there, until it gets no more."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker runs: a machine, by Ray's id and by its own name, and the GPUs that it has there."""

    node: str
    host: str
    gpus: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.host}, GPU {' and '.join(self.gpus)}" if self.gpus else self.host


class Shelf:
    """The places that get no more tasks, of each stage, and what led to it."""

    def __init__(self) -> None:
        self._in_a_row: defaultdict[tuple[str, Place], set[str]] = defaultdict(set)
        self._failed_at: defaultdict[str, set[Place]] = defaultdict(set)
        self._shelved: set[tuple[str, Place]] = set()
        self._full: set[str] = set()

    def worked(self, stage: str, place: Place, task: str) -> None:
        """A task was done there."""
        self._in_a_row.pop((stage, place), None)
        self._failed_at.pop(task, None)

    def failed(self, stage: str, place: Place, task: str) -> bool:
        """A task failed there unexpectedly; whether the place looks sick: `shelve` it if there is another.

        Where it failed elsewhere before, it is the task that is to blame: those places may come back.
        """
        for other in self._failed_at[task] - {place}:
            self._in_a_row[stage, other].discard(task)
            if len(self._in_a_row[stage, other]) < SHELVED_AFTER:
                self._shelved.discard((stage, other))
        self._failed_at[task].add(place)
        if len(self._failed_at[task]) == 1:
            self._in_a_row[stage, place].add(task)
        return len(self._in_a_row[stage, place]) >= SHELVED_AFTER

    def has_failed(self, task: str, place: Place | None) -> bool:
        """Whether the task failed there before: it is tried elsewhere if it can be."""
        return place in self._failed_at.get(task, ())

    def shelve(self, stage: str, place: Place) -> None:
        """Give the place no more tasks of the stage."""
        self._shelved.add((stage, place))

    def shelve_node(self, node: str) -> None:
        """Give a whole machine no more tasks: its disk is full."""
        self._full.add(node)

    def is_shelved(self, stage: str, place: Place | None) -> bool:
        """Whether the place gets no tasks of the stage."""
        return place is not None and (place.node in self._full or (stage, place) in self._shelved)

    def avoided(self, stage: str) -> set[str]:
        """The machines where no worker of the stage is to start: one without GPUs is shelved as a whole."""
        return self._full | {place.node for at, place in self._shelved if at == stage and not place.gpus}

    def concerns(self, stage: str) -> bool:
        """Whether there is a place that gets no tasks of the stage."""
        return bool(self._full) or any(at == stage for at, _ in self._shelved)

    def clear(self, stage: str) -> None:
        """Let the stage work wherever it can: no other place is left."""
        self._shelved = {(at, place) for at, place in self._shelved if at != stage}
        self._full.clear()
