"""What one does on a real machine: `make test-install`. Installed natively, booted as a guest.

One machine for all tests (machine.sh), which are in the order in which one does all that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.paths import BUILD, PYTHON, ROOT
from tools.vm import kernels
from tools.vm.machines import SERIES

_VM = (str(PYTHON), "-m", "tools.vm", "run", "--memory", "2G", "--timeout", "900")


class Shell:
    """Commands of the machine: on it as it is installed, and on its kernels once it has booted."""

    def __init__(self) -> None:
        self.root = Path(os.environ["MACHINE"])
        self.changes = Path(os.environ["MACHINE_CHANGES"])
        kept = ("HOME", "XDG_CACHE_HOME", "SSL_CERT_FILE")
        self._environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
            **{name: os.environ[name] for name in kept if name in os.environ},
            **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
        }

    def __call__(self, *command: str, status: int | None = 0, timeout: float = 900) -> str:
        """What it printed, both ways.

        :param status: what it must end with; None: any will do
        """
        inside = ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(ROOT)]
        result = subprocess.run(
            ["chroot", str(self.root), *inside, *command],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert status in (None, result.returncode), f"{result.returncode}\n{result.stdout}"
        return result.stdout

    def boot(self, release: str, script: str, *options: str) -> dict[str, tuple[int, str]]:
        """Run a script on that kernel: status and output of each ``try NAME COMMAND...`` in it.

        :param options: further ones of tools.vm
        """
        folder = BUILD / "test" / "install"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        text = _TRY.format(folder=folder) + script
        disk = f"{BUILD}/test/install.img:3G"
        # Not the checkout's commands and module, which the guest's environment names.
        environment = ["env", "-u", "LIVEDUMP_KO", f"PATH={self._environment['PATH']}"]
        machine = [*_VM, "--kernel", release, "--disk", disk, *options]
        self(*machine, "--", *environment, "bash", "-c", text, timeout=1200)
        return {
            ended.stem: (
                int(ended.read_text()),
                ended.with_suffix(".out").read_text(errors="replace"),
            )
            for ended in folder.glob("*.status")
        }

    def path(self, path: str) -> Path:
        """Where we see it from outside."""
        return self.root / path.lstrip("/")

    def left_behind(self) -> set[str]:
        """What is new or changed, of our name or with it inside; not what apt keeps of any package.

        The checkout and the cache are the real ones, and not looked at.
        """
        found = set()
        for path in self.changes.rglob("*"):
            inner = str(path.relative_to(self.changes))
            if inner.startswith(_OF_APT) or (path.is_dir() and any(path.iterdir())):
                continue
            whole = path.is_file() and not path.is_symlink()
            if "livedump" in inner or (whole and b"livedump" in path.read_bytes()):
                found.add(inner)
        return found


_OF_APT = ("root/var/lib/dpkg/", "root/var/log/", "root/var/cache/", "root/var/lib/apt/")
_TRY = """
try() {{ name=$1; shift; "$@" > {folder}/$name.out 2>&1; echo $? > {folder}/$name.status; }}
"""


@pytest.fixture(scope="session")
def shell() -> Shell:
    """The machine, as it was when the tests began."""
    assert "MACHINE" in os.environ, "these tests change their machine: make test-install"
    return Shell()


def pytest_report_header() -> list[str]:
    """Which kernels it is installed for, as tools.keep reads them."""
    return [f"vm: Linux {kernels.resolve(series).release}, installed" for series in SERIES]
