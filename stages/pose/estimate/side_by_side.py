"""Tasks of which some wait for others, done by a few threads."""

import heapq
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do, the places in the list of what must be done before, and a rank.

    Of all that can be done, the lowest rank comes first, and of equals what stands first in the list.
    """

    work: Callable[[], None]
    after: tuple[int, ...] = ()
    rank: int = 0


def do_all(tasks: Sequence[Task], threads: int) -> None:
    """Do the tasks on so many threads, of which the caller's is one.

    The first error is raised once every thread has stopped; what was not begun then is left.
    """
    waits = [len(task.after) for task in tasks]
    followers: list[list[int]] = [[] for _ in tasks]
    for place, task in enumerate(tasks):
        for other in task.after:
            followers[other].append(place)
    ready = [(task.rank, place) for place, task in enumerate(tasks) if not task.after]
    heapq.heapify(ready)
    done: list[int] = []
    errors: list[BaseException] = []
    changed = threading.Condition()

    def work() -> None:
        try:
            while True:
                with changed:
                    changed.wait_for(lambda: ready or errors or len(done) == len(tasks))
                    if errors or not ready:
                        return
                    _, place = heapq.heappop(ready)
                tasks[place].work()
                with changed:
                    done.append(place)
                    for follower in followers[place]:
                        waits[follower] -= 1
                        if not waits[follower]:
                            heapq.heappush(ready, (tasks[follower].rank, follower))
                    changed.notify_all()
        except BaseException as error:  # noqa: BLE001 (raised below)
            with changed:
                errors.append(error)
                changed.notify_all()

    helpers = [threading.Thread(target=work, name="poses") for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]
