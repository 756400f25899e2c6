"""What runs inside machines: modules come and go in order, and loads must run."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from typing import Any

import pytest

from tools.guest import modules
from tools.guest.load import mixed, network
from tools.guest.program import Load, Program


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was run, up to a module called `absent`."""
    found: list[str] = []

    def run(command: list[str], **_: Any) -> None:
        if "absent" in command[1]:
            raise subprocess.CalledProcessError(1, command)
        found.append(" ".join(command))

    monkeypatch.setenv("LIVEDUMP_KO", "/ko")
    monkeypatch.setattr(subprocess, "run", run)
    return found


def test_modules_go_the_other_way_around(commands: list[str]) -> None:
    with modules.modules("a", "b", parameters=["x=1"]):
        assert commands == ["insmod /ko/livedump.ko x=1", "insmod /ko/a.ko", "insmod /ko/b.ko"]
        commands.clear()
    assert commands == ["rmmod b", "rmmod a", "rmmod livedump"]


def test_none_stays_where_one_is_missing(commands: list[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        with modules.modules("a", "absent", parameters=["x=1"]):
            pytest.fail("it is missing")
    assert commands[2:] == ["rmmod a", "rmmod livedump"]


def test_a_load_that_ends_by_itself() -> None:
    with pytest.raises(RuntimeError, match="this ended by itself"):
        with Program("this") as program:
            program._process.wait()
    with pytest.raises(RuntimeError, match="this did not start"):
        with Program("this") as program:
            program.await_ready()
    with pytest.raises(KeyError):  # no other error hides that of the block
        with Program("this") as program:
            program._process.wait()
            raise KeyError


@pytest.mark.parametrize("said", ['{"files": 3, "forks": 0}', "{}"])
def test_a_load_that_did_nothing(said: str) -> None:
    load = Load.__new__(Load)
    load._process = subprocess.Popen(["true"], stdout=subprocess.PIPE, text=True)
    load._process.communicate()
    with pytest.raises(RuntimeError, match="did only"):
        load.judge(said)
    load.judge('{"files": 3}')


def test_a_load_that_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal right after the fork is no failure: each generator still makes its step."""
    monkeypatch.setattr(network, "namespace", contextlib.nullcontext)
    monkeypatch.setattr(network, "server", contextlib.nullcontext)
    monkeypatch.setattr(mixed, "GENERATORS", {name: lambda: iter([None]) for name in "abcdefgh"})
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        for _ in range(20):
            assert mixed.run(0, 0, lambda: None) == dict.fromkeys("abcdefgh", 1)
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before):
            signal.signal(number, handler)
