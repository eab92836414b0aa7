"""How the job is told to end."""

import os
import signal
import time

import pytest

from fraud.errors import GapError, StateError
from spark_jobs.stop import SIGNALS, Stop, held_back


def test_the_first_reason_counts() -> None:
    stop = Stop()
    stop.because(GapError("first"))
    stop.because(StateError("second"))
    assert str(stop.error) == "first"
    stop = Stop()
    stop.event.set()  # a signal
    stop.because(StateError("the query was stopped"))
    assert stop.error is None


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_a_start(number: signal.Signals) -> None:
    stop, reached = Stop(), False
    with stop.on_signals():
        os.kill(os.getpid(), number)
        time.sleep(5)  # interrupted at once
        reached = True
    assert stop.event.is_set()
    assert not reached
    assert stop.error is None


@pytest.mark.parametrize("number", SIGNALS)
def test_a_running_query_is_ended_in_order(number: signal.Signals) -> None:
    stop, before = Stop(), signal.getsignal(number)
    with stop.on_signals():
        stop.ready()
        os.kill(os.getpid(), number)
        assert stop.event.wait(5)
        os.kill(os.getpid(), number)  # a second one changes nothing
        time.sleep(0.01)
    assert stop.event.is_set()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_waits_for_what_must_not_be_left_half_done(number: int) -> None:
    steps: list[str] = []
    stop = Stop()
    with stop.on_signals():
        with held_back():
            signal.raise_signal(number)
            steps.append("held")
        steps.append("never")
    assert steps == ["held"]
    assert stop.event.is_set()
