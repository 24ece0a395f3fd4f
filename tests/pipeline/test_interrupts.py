"""Ctrl-C that is deferred, with real signals."""

import os
import signal
import threading
import time

import pytest

from posedance.pipeline.interrupts import deferred_interrupts, end_here, ending_when, unbroken
from posedance.stages.errors import CancelledError, StoppedError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_and_the_second_stops_at_once(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "posedance")
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), deferred_interrupts() as stopped:
        assert not stopped()
        os.kill(os.getpid(), number)
        assert stopped()
        assert caplog.text.count("once more stops at once") == 1
        os.kill(os.getpid(), number)
        raise AssertionError("the second was deferred too")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_a_launcher_passes_on_is_no_second_one() -> None:
    with pytest.raises(KeyboardInterrupt), deferred_interrupts(echo_s=1.0) as stopped:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped()
        time.sleep(1.1)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second was deferred too")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_must_not_be_left_half_done_is_done_first(number: signal.Signals) -> None:
    done, before = [], [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), unbroken():
        for _ in range(2):
            os.kill(os.getpid(), number)
        done.append(True)
    assert done == [True]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    with unbroken():
        done.append(True)
    assert done == [True, True]


def test_a_thread_that_gets_no_signals_defers_none_and_heeds_who_asks_around_it() -> None:
    handlers, told = [], []
    wanted = False

    def work() -> None:
        nonlocal wanted
        with ending_when(lambda: wanted, StoppedError("no more")), deferred_interrupts() as stopped:
            handlers.append(signal.getsignal(signal.SIGINT))
            told.append(stopped())
            wanted = True
            told.append(stopped())

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (handlers, told) == ([before], [False, True])


def test_a_step_ends_where_it_asks_and_only_then() -> None:
    with deferred_interrupts():
        end_here()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StoppedError):
            end_here()
    end_here()
    wanted = True
    with ending_when(lambda: not wanted, CancelledError("no more")):
        end_here()
        wanted = False
        with pytest.raises(CancelledError, match="no more"):
            end_here()
