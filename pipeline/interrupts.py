"""Ctrl-C that lets running steps end: the first is noted, the second stops at once."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


@contextmanager
def deferred_interrupts(echo_s: float = 0) -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether Ctrl-C (or SIGTERM) came; a second one raises KeyboardInterrupt.

    What comes within `echo_s` seconds of the first is the same one: a launcher passes on to its processes
    what the terminal has sent them too. Signals reach a program's main thread alone, so in any other nothing
    is deferred.
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
        logger.info("stopping after the steps that run; once more stops at once")

    numbers = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield lambda: came is not None
        return
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield lambda: came is not None
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
