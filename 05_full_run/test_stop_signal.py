"""Stopping a run, on each system in its own way."""

import os

import pytest

from shared.training import stop_signal
from shared.training.stop_signal import send_stop, start_apart


def test_a_child_is_stopped_as_its_system_allows(monkeypatch):
    """Windows sends no SIGINT to a child: a break, and only to a group of its own."""
    begun, sent = {}, []
    monkeypatch.setattr(stop_signal.subprocess, "Popen", lambda command, **how: begun.update(how))
    monkeypatch.setattr(stop_signal.subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    monkeypatch.setattr(stop_signal.signal, "CTRL_BREAK_EVENT", 1, raising=False)
    start_apart(["x"])
    assert begun["creationflags"] == 512
    send_stop(type("Child", (), {"send_signal": sent.append}))
    assert sent == [1]


@pytest.mark.posix
def test_windows_own_signal_ends_a_run_as_ctrl_c_does(monkeypatch):
    signal = stop_signal.signal
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    with stop_signal.stop_signal(lambda line: None) as stopped:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stopped()
