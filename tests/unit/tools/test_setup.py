"""Set-up says what is missing, and changes nothing when nothing is."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

import pytest

from tools.paths import ROOT
from tools.setup import apt, install
from tools.setup.steps import SetupError


def test_missing_packages() -> None:
    assert apt.missing(["dpkg", "no-such-package-livedump"]) == ["no-such-package-livedump"]


def test_without_root_every_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SetupError, match="apt-get install .* no-such-a no-such-b"):
        apt.install(["dpkg", "no-such-a", "no-such-b"])


def test_nothing_to_install_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "_apt_get", lambda arguments: pytest.fail("apt-get was run"))
    apt.install(["dpkg"])


def test_stale_lists_are_fetched_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def fake(arguments: list[str]) -> str:
        calls.append(arguments[0])
        return "404" if calls == ["install"] else ""

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(apt, "have_lists", lambda: True)
    monkeypatch.setattr(apt, "_apt_get", fake)
    apt.install(["no-such-a"])
    assert calls == ["install", "update", "install"]


def test_install_needs_root(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert install.main(["install"]) == 1
    assert capsys.readouterr().err == "install: error: make install needs root\n"


def test_install_names_missing_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(install, "missing", lambda packages: ["dkms"])
    assert install.main(["install"]) == 1
    assert "apt-get install dkms" in capsys.readouterr().err


def test_one_version() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert install.VERSION == setup["metadata"]["version"]
    assert f'PACKAGE_VERSION="{install.VERSION}"' in install.dkms_conf()


def test_bytecode_and_builds_are_ignored() -> None:
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"/build/", "__pycache__/"} <= set(ignored)
    assert Path(ROOT / ".ci" / "run").stat().st_mode & 0o111
