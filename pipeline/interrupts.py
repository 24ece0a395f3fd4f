"""Ctrl-C that lets running steps end: the first is noted, the second stops at once.

A step that may take hours asks at its checkpoints whether it is to end there.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

from ..stages.errors import PosedanceError, StoppedError

logger = logging.getLogger(__name__)


Reason = tuple[Callable[[], bool], PosedanceError]
"""Tells whether a step is to end, and what it then raises."""
_reasons: ContextVar[tuple[Reason, ...]] = ContextVar("reasons", default=())


@contextmanager
def ending_when(asked: Callable[[], bool], error: PosedanceError) -> Iterator[None]:
    """Within this, `end_here` raises `error` once `asked()` is true."""
    token = _reasons.set((*_reasons.get(), (asked, error)))
    try:
        yield
    finally:
        _reasons.reset(token)


def end_here() -> None:
    """End the step here if that is wanted: all that it needs to go on is on the disk."""
    for asked, error in _reasons.get():
        if asked():
            raise error


@contextmanager
def unbroken() -> Iterator[None]:
    """Ctrl-C (or SIGTERM) waits for the end of this, for what breaks when it is left half done.

    KeyboardInterrupt is raised there. Signals reach a program's main thread alone: in others nothing waits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


STOPPING = "stopping: steps that run end at their next checkpoint; once more stops at once"


@contextmanager
def deferred_interrupts(echo_s: float = 0) -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether Ctrl-C (or SIGTERM) came; a second one raises KeyboardInterrupt.

    What comes within `echo_s` seconds of the first is the same one: a launcher passes on to its processes
    what the terminal has sent them too. Signals reach a program's main thread alone, so in any other none is
    deferred, and the function tells whether `ending_when` around it asks for the end.
    """
    came: float | None = None

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came is None:
            came = time.monotonic()
        elif time.monotonic() - came < echo_s:
            return
        else:
            raise KeyboardInterrupt
        logger.info(STOPPING, extra={"always": True})

    numbers = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        reasons = _reasons.get()
        yield lambda: any(asked() for asked, _ in reasons)
        return
    before = [signal.signal(number, note) for number in numbers]
    try:
        with ending_when(lambda: came is not None, StoppedError("stopped at a checkpoint")):
            yield lambda: came is not None
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
