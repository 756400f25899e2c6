"""Set-up says what is missing, and changes nothing when nothing is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.lint import checkpatch
from tools.package import assets, install
from tools.paths import ROOT
from tools.setup import __main__ as setup_main
from tools.setup import apt
from tools.setup.steps import SetupError
from tools.vm import VmError, kernels
from tools.vm.kernels import Kernel
from tools.vm.machines import FULL, HEADERS_META, SMOKE


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


def test_apt_get_says_what_went_wrong() -> None:
    assert "Invalid operation" in apt._apt_get(["no-such-command"])


class TestWithoutRoot:
    """One message names everything, whatever is missing."""

    @pytest.fixture(autouse=True)
    def _host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lists, newest kernels with the ABI 9; `gcc` and those headers are missing."""
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr(apt, "have_lists", lambda: True)
        monkeypatch.setattr(apt, "wanted", lambda: ["gcc", "make"])
        monkeypatch.setattr(
            apt, "missing", lambda names: [n for n in names if n == "gcc" or "headers" in n]
        )
        monkeypatch.setattr(kernels, "resolve", self.resolve)
        monkeypatch.setattr(kernels, "known", list)

    @staticmethod
    def resolve(series: str, latest: bool = False) -> Kernel:
        return Kernel(series, f"{series}.0-9-amd64")

    def test_packages_and_all_headers(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert setup_main.main() == 1
        assert capsys.readouterr().err == (
            "setup: error: missing packages. As root: apt-get install --no-install-recommends "
            "gcc linux-headers-6.1.0-9-amd64 linux-headers-6.12.0-9-amd64\n"
        )

    def test_no_lists(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def unknown(series: str, latest: bool = False) -> Kernel:
            raise VmError("no kernel")

        monkeypatch.setattr(kernels, "resolve", unknown)
        monkeypatch.setattr(apt, "have_lists", lambda: False)
        assert setup_main.main() == 1
        names = f"gcc {HEADERS_META[FULL]}"
        assert capsys.readouterr().err == (
            "setup: error: missing packages. As root: apt-get update && "
            f"apt-get install --no-install-recommends {names}\n"
        )

    def test_a_kernel_that_is_ready_will_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def resolve(series: str, latest: bool = False) -> Kernel:
            return Kernel(series, f"{series}.0-{9 if latest else 8}-amd64")

        monkeypatch.setattr(kernels, "resolve", resolve)
        monkeypatch.setattr(apt, "missing", lambda names: [n for n in names if n.count("0-9")])
        setup_main.require_packages()


class TestWithoutBackports:
    """A user need not have the archive of the kernel that only the short run wants."""

    @pytest.fixture(autouse=True)
    def _host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            kernels, "known", lambda series: [each for each in series if each == FULL]
        )

    def test_it_goes_on_and_says_so(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(apt, "have_lists", lambda: True)
        assert setup_main._to_have() == [FULL]
        said = capsys.readouterr().err
        assert f"no kernel of series {SMOKE}" in said and HEADERS_META[SMOKE] in said

    def test_without_lists_nobody_can_tell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(apt, "have_lists", lambda: False)
        assert setup_main._to_have() == [FULL]


def test_install_without_root_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(apt, "missing", lambda packages: ["dkms"])
    assert install.main(["install"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("install: error: make install needs root. ")
    assert said.endswith("apt-get install --no-install-recommends dkms\n")
    assert install.main(["uninstall"]) == 1
    assert capsys.readouterr().err == "uninstall: error: make uninstall needs root\n"


def test_install_needs_headers_and_npm_only_for_what_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apt, "absent_programs", lambda: ["npm"])
    monkeypatch.setattr(assets, "lacking", lambda pinned: pinned)
    assert {"linux-headers-0.0-none", "npm"} <= set(install.needed("0.0-none"))
    monkeypatch.setattr(assets, "lacking", lambda pinned: [])
    assert "npm" not in install.needed("0.0-none")


def test_headers_that_no_archive_has_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The running kernel was upgraded meanwhile: apt's own words say nothing of that."""

    def failed(packages: Sequence[str]) -> list[str]:
        raise SetupError(f"apt-get install {' '.join(packages)} failed")

    monkeypatch.setattr(install, "needed", lambda release: ["dkms", f"linux-headers-{release}"])
    monkeypatch.setattr(apt, "install", failed)
    monkeypatch.setattr(kernels, "offered", lambda package: False)
    with pytest.raises(SetupError, match="no archive has linux-headers-5.10.0.*reboot"):
        install._install_packages("5.10.0")
    monkeypatch.setattr(kernels, "offered", lambda package: True)
    with pytest.raises(SetupError, match="failed"):
        install._install_packages("5.10.0")


def test_install_remembers_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "_PACKAGES", tmp_path / "lib" / "packages")
    monkeypatch.setattr(install, "_remove_module", lambda: None)
    monkeypatch.setattr(install, "VENV", tmp_path / "venv")
    monkeypatch.setattr(install, "BIN", tmp_path)
    install._remember([])
    assert list(tmp_path.iterdir()) == []
    for packages in (["dkms"], [], ["npm", "dkms"]):
        install._remember(packages)
    install.uninstall("6.1.0-9-amd64")
    assert "purge --autoremove dkms npm\n" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_check_is_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpatch, "ROOT", tmp_path)
    assert checkpatch.main() == 1
    assert "no files" in capsys.readouterr().err


def _make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-s", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("strict, flags", [("STRICT=1", "1 -Werror"), ("STRICT=", "")])
def test_warnings_are_errors_only_if_asked(tmp_path: Path, strict: str, flags: str) -> None:
    kernel = tmp_path / "kernel"
    kernel.mkdir()
    (kernel / "Makefile").write_text("modules:\n\t@echo $(W) $(KCFLAGS)\n")
    made = _make(ROOT / "kmod", f"KDIR={kernel}", f"O={tmp_path}/out", strict)
    assert (made.stdout.strip(), made.returncode) == (flags, 0), made.stderr
    assert "STRICT" not in install.dkms_conf()


@pytest.mark.parametrize("vm", ["true", "false"])
@pytest.mark.parametrize("target", ["kmod", "lint"])
def test_no_loop_over_nothing_passes(target: str, vm: str) -> None:
    made = _make(ROOT, target, f"VM={vm}", "SYSTEM_PYTHON=/bin/true", "PYTHON=true")
    assert made.returncode != 0
    assert ("knows no kernels" in made.stderr) == (vm == "true")
