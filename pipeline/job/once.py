"""Looking at each file once while many videos are planned, by many threads: row after row names the same."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import wraps
from typing import Any, ParamSpec, TypeVar

CALLS_AT_ONCE = 32
"""Calls of a store that wait for their answers together."""

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

_answers: ContextVar[dict[Any, Future[Any]] | None] = ContextVar("answers", default=None)
_lock = threading.Lock()


@contextmanager
def looking_once(answers: dict[Any, Future[Any]] | None = None) -> Iterator[None]:
    """Within this, in threads of `in_parallel` too, functions marked `once` answer each question once.

    What changes meanwhile is not seen, so it is for looking at files, before anything is made. `answers`
    holds those that were given before; by default those of the same around this one, if there is one.
    """
    if answers is None:
        answers = _answers.get()
    token = _answers.set({} if answers is None else answers)
    try:
        yield
    finally:
        _answers.reset(token)


def once(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function that looks at files: see `looking_once`. Elsewhere it looks anew at every call."""

    @wraps(function)
    def answered(*arguments: P.args, **named: P.kwargs) -> R:
        answers = _answers.get()
        if answers is None:
            return function(*arguments, **named)
        question, own = (function, arguments, tuple(named.items())), Future[Any]()
        with _lock:
            answer = answers.setdefault(question, own)
        if answer is own:
            try:
                own.set_result(function(*arguments, **named))
            except BaseException as error:
                own.set_exception(error)
                raise
        return answer.result()

    return answered


def foretell(function: Callable[..., R], argument: Any, answer: R) -> None:
    """Let a function marked `once` answer so to a question that was not asked yet: it is known already."""
    answers = _answers.get()
    if answers is not None:
        known = Future[Any]()
        known.set_result(answer)
        with _lock:
            answers.setdefault((vars(function)["__wrapped__"], (argument,), ()), known)


def in_parallel(
    function: Callable[[T], R], items: Sequence[T], advance: Callable[[int], object] = lambda count: None
) -> Iterable[R]:
    """What `function` answers for each of the items, in their order, CALLS_AT_ONCE at a time.

    `advance` is called with 1 for each. The first error ends it.
    """
    with ThreadPoolExecutor(CALLS_AT_ONCE, "look") as threads:
        answers = [threads.submit(copy_context().run, function, item) for item in items]
        try:
            for answer in answers:
                yield answer.result()
                advance(1)
        finally:
            for answer in answers:
                answer.cancel()


def in_turn(
    function: Callable[[T], R], items: Iterable[T], advance: Callable[[int], object] = lambda count: None
) -> Iterable[R]:
    """As `in_parallel`, one after the other: for what takes this process's time and waits for nothing."""
    for item in items:
        yield function(item)
        advance(1)
