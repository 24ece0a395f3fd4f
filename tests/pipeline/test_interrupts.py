"""Ctrl-C that is held back, with real signals."""

import os
import signal
import threading

import pytest

from posedance.pipeline.interrupts import held_back


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_and_the_second_stops_at_once(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), held_back() as stopped:
        assert not stopped()
        os.kill(os.getpid(), number)
        assert stopped()
        assert capsys.readouterr().err.count("once more stops at once") == 1
        os.kill(os.getpid(), number)
        raise AssertionError("the second was held back too")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_thread_that_gets_no_signals_holds_none_back() -> None:
    handlers, told = [], []

    def work() -> None:
        with held_back() as stopped:
            handlers.append(signal.getsignal(signal.SIGINT))
            told.append(stopped())

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (handlers, told) == ([before], [False])
