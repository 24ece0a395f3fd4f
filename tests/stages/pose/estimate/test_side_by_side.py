"""Tasks of which some wait for others: all are done, in order, on as many threads as are asked for."""

import threading

import pytest

from posedance.stages.pose.estimate.side_by_side import Task, do_all


def test_of_what_can_be_done_the_lowest_rank_comes_first():
    done: list[int] = []
    needs = ((), (0,), (0,), (1, 2), ())
    tasks = [
        Task(lambda i=i: done.append(i), after, rank)
        for i, (after, rank) in enumerate(zip(needs, (0, 2, 1, 0, 3), strict=True))
    ]
    do_all(tasks, 1)
    assert done == [0, 2, 1, 3, 4]


def test_tasks_that_wait_for_nothing_are_done_beside_each_other():
    """Each of two waits until the other has begun; a third follows both."""
    together, after = threading.Barrier(2, timeout=10), []
    meet = Task(lambda: together.wait() and None)
    do_all([meet, meet, Task(lambda: after.append(together.broken), (0, 1))], 2)
    assert after == [False]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_ends_all(threads: int):
    done: list[str] = []

    def fail() -> None:
        raise ValueError("of a task")

    before = threading.active_count()
    with pytest.raises(ValueError, match="of a task"):
        do_all([Task(fail), Task(lambda: done.append("after"), (0,))], threads)
    assert not done and threading.active_count() == before
