"""Another release of Debian beside the host's, without making one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tools.setup import apt
from tools.setup.steps import SetupError
from tools.userland import __main__, enter, root
from tools.userland.root import RELEASES

NEWEST = RELEASES["13"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(apt, "install", lambda packages: [])
    return tmp_path / "livedump"


def debootstrap(monkeypatch: pytest.MonkeyPatch, fails: bool = False) -> list[list[str]]:
    """What is called instead; what is half done is left as it would be."""
    called: list[list[str]] = []

    def run(command: list[str]) -> None:
        called.append(command)
        (Path(command[-2]) / "etc" / "apt").mkdir(parents=True)
        if fails:
            raise SetupError("no network")

    monkeypatch.setattr(root, "_debootstrap", run)
    return called


def test_a_root_is_made_once(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    called = debootstrap(monkeypatch)
    assert root.ensure(NEWEST) == root.ensure(NEWEST) == cache / "roots" / "13"
    [command] = called
    assert command[-3:] == ["trixie", f"{cache}/roots/13.partial", "http://deb.debian.org/debian"]
    sources = (cache / "roots" / "13" / "etc" / "apt" / "sources.list").read_text()
    assert "debian trixie-backports main" in sources and "debian-security trixie-" in sources
    assert sorted(path.name for path in (cache / "roots").iterdir()) == ["13", "13.lock"]


def test_half_a_root_is_none(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    debootstrap(monkeypatch, fails=True)
    with pytest.raises(SetupError, match="no network"):
        root.ensure(NEWEST)
    assert not NEWEST.path.exists() and NEWEST.path.with_suffix(".debs").is_dir()
    debootstrap(monkeypatch)
    assert root.ensure(NEWEST).is_dir()


def test_only_root_makes_and_enters_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in (["13"], ["13", "--", "true"]):
        monkeypatch.setattr("sys.argv", ["userland", *words])
        assert __main__.main() == 125
        assert capsys.readouterr().err.startswith("userland: error: only root can ")


def test_a_command_is_run_in_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    debootstrap(monkeypatch)
    monkeypatch.setattr(enter, "BUILD", tmp_path / "build")
    monkeypatch.setenv("https_proxy", "http://proxy")
    monkeypatch.setenv("PYTHONPATH", "/of/the/host")
    seen: dict[str, Any] = {}

    def run(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        seen.update(how, command=command)
        return subprocess.CompletedProcess(command, 7)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("sys.argv", ["userland", "13", "--", "make", "-k", "--", "kmod"])
    assert __main__.main() == 7
    assert seen["command"][-4:] == ["make", "-k", "--", "kmod"]
    assert str(tmp_path / "build" / "userland" / "13") in seen["command"]
    assert seen["env"]["https_proxy"] == "http://proxy" and "PYTHONPATH" not in seen["env"]
