"""Ctrl-C that lets running steps end: the first is noted, the second stops at once."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether Ctrl-C (or SIGTERM) came; a second one raises KeyboardInterrupt.

    Signals reach a program's main thread alone, so in any other nothing is deferred.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True
        logger.info("stopping after the steps that run; once more stops at once")

    numbers = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield lambda: came
        return
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield lambda: came
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
