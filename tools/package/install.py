"""`make install`, `make uninstall` on a real machine: the module by DKMS, commands in a venv.

The Python package gets a venv of its own in /usr/local/lib/livedump, with links in /usr/local/bin,
man pages and shell completion beside them.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.package import assets
from tools.paths import BUILD, ROOT
from tools.setup import apt
from tools.setup.steps import SetupError, step
from tools.setup.venv import SYSTEM_PYTHON
from tools.vm import kernels


def version() -> str:
    """The one of setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup["metadata"]["version"]


NAME = "livedump"
VERSION = version()
SOURCES = Path("/usr/src") / f"{NAME}-{VERSION}"
VENV = Path("/usr/local/lib") / NAME
COMMANDS = ("livedump", "livedump-trace")
PREFIX = Path("/usr/local")
BIN = PREFIX / "bin"
_PACKAGES = Path("/var/lib") / NAME / "packages"  # what install() installed
_MANUAL = Path("/var/lib") / NAME / "manual"  # the files of tools.package.manual


def dkms_conf() -> str:
    """dkms.conf for kmod/, whose Makefile builds out of tree into the folder O."""
    return f"""\
PACKAGE_NAME="{NAME}"
PACKAGE_VERSION="{VERSION}"
BUILT_MODULE_NAME[0]="{NAME}"
BUILT_MODULE_LOCATION[0]="out/"
DEST_MODULE_LOCATION[0]="/updates/dkms"
MAKE[0]="make KRELEASE=$kernelver O=$dkms_tree/$PACKAGE_NAME/$PACKAGE_VERSION/build/out"
CLEAN="rm -rf out"
AUTOINSTALL="yes"
"""


def packages_of_debian() -> list[str]:
    """That install() needs on every machine."""
    return ["dkms", "python3-bpfcc", "python3-venv"]


def needed(release: str) -> list[str]:
    """All that install() needs of Debian on this one."""
    packages = packages_of_debian()
    if not (Path("/lib/modules") / release / "build").exists():
        packages.append(f"linux-headers-{release}")
    if assets.lacking(assets.load_manifest()):
        packages += apt.absent_programs()
    return packages


def install(release: str) -> None:
    """Build and install for a kernel; DKMS does it again for later ones."""
    _install_packages(release)
    assets.ensure()
    before = _built_for()
    _remove_module()
    with step(f"building the module for {release} with DKMS"):
        ignore = shutil.ignore_patterns("*.o", "*.ko", "*.mod*", ".*.cmd", "out")
        shutil.copytree(ROOT / "kmod", SOURCES, ignore=ignore)
        (SOURCES / "dkms.conf").write_text(dkms_conf(), encoding="ascii")
        for action in ("add", "build", "install"):
            _run(["dkms", action, "-m", NAME, "-v", VERSION, *_kernel(action, release)])
    for other in before - {release}:
        with step(f"and again for {other}"):
            _run(["dkms", "install", "-m", NAME, "-v", VERSION, "-k", other])
    with step(f"installing the commands in {VENV}"):
        _run(
            [
                SYSTEM_PYTHON,
                "-m",
                "venv",
                "--clear",
                "--system-site-packages",
                str(VENV),
            ]
        )
        pip = [
            f"{VENV}/bin/python",
            "-m",
            "pip",
            "--disable-pip-version-check",
            "-q",
            "install",
        ]
        _run([*pip, "setuptools>=64", "wheel", "click-man"])
        BUILD.mkdir(exist_ok=True)
        shutil.rmtree(BUILD / "lib", ignore_errors=True)  # where setuptools gathers the files
        _run([*pip, "--no-build-isolation", str(ROOT)])
        for command in COMMANDS:
            link = BIN / command
            link.unlink(missing_ok=True)
            link.symlink_to(VENV / "bin" / command)
    with step(f"writing man pages and shell completion below {PREFIX}"):
        _remove_manual()
        written = _run([f"{VENV}/bin/python", "-m", "tools.package.manual", str(PREFIX)], cwd=ROOT)
        _MANUAL.parent.mkdir(parents=True, exist_ok=True)
        _MANUAL.write_text(written, encoding="utf-8")
    print("installed. Next: livedump doctor")


def uninstall(_release: str) -> None:
    """Remove all that install() made, for every kernel; what is not there is no error."""
    _remove_module()
    for command in COMMANDS:
        link = BIN / command
        if link.is_symlink() and link.readlink() == VENV / "bin" / command:
            link.unlink()
    _remove_manual()
    packages = _PACKAGES.read_text().split() if _PACKAGES.exists() else []
    shutil.rmtree(VENV, ignore_errors=True)
    _PACKAGES.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or not ours alone
        _PACKAGES.parent.rmdir()
    print("uninstalled")
    if packages:  # others may need them by now
        print(f"Packages that came with it: apt-get purge --autoremove {' '.join(packages)}")


def _remove_manual() -> None:
    """What the last install() wrote."""
    if _MANUAL.exists():
        for line in _MANUAL.read_text(encoding="utf-8").splitlines():
            Path(line).unlink(missing_ok=True)
        _MANUAL.unlink()


def _install_packages(release: str) -> None:
    packages, headers = needed(release), f"linux-headers-{release}"
    try:
        _remember(apt.install(packages))
    except SetupError as error:
        if headers not in packages or kernels.offered(headers):
            raise
        raise SetupError(
            f"no archive has {headers}, the headers of that kernel. Most often the running one was "
            "upgraded, and the machine not rebooted since: reboot, then run make install again"
        ) from error


def _remember(packages: list[str]) -> None:
    """Add to the list of the packages that were installed by us, for uninstall()."""
    if not packages:
        return
    before = _PACKAGES.read_text().split() if _PACKAGES.exists() else []
    _PACKAGES.parent.mkdir(parents=True, exist_ok=True)
    _PACKAGES.write_text("\n".join(sorted({*before, *packages})), encoding="ascii")


def _kernel(action: str, release: str) -> list[str]:
    return [] if action == "add" else ["-k", release]


def _status() -> str:
    """What DKMS says of this version: a line for each kernel."""
    if not shutil.which("dkms"):
        return ""
    query = ["dkms", "status", "-m", NAME, "-v", VERSION]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


def _built_for() -> set[str]:
    """The kernels that have it and can have it again."""
    found = re.findall(r"^\S+, ([^,]+), [^,:]+: installed", _status(), re.MULTILINE)
    return {each for each in found if (Path("/lib/modules") / each / "build").exists()}


def _remove_module() -> None:
    if _status():
        _run(["dkms", "remove", "-m", NAME, "-v", VERSION, "--all"])
    shutil.rmtree(SOURCES, ignore_errors=True)


def _run(command: list[str], cwd: Path | None = None) -> str:
    """Run it; its output."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if result.returncode:
        output = (result.stdout + result.stderr).strip()
        raise SetupError(f"'{' '.join(command)}' failed:\n{output}")
    return result.stdout


def _what_else(action: str, release: str) -> str:
    absent = apt.missing(needed(release)) if action == "install" else []
    return f". It will install, or you do: {apt.remedy(absent)}" if absent else ""


def main(arguments: list[str]) -> int:
    """`install` or `uninstall`, for the running kernel or the one named; the exit status."""
    actions = {"install": install, "uninstall": uninstall}
    if len(arguments) not in (1, 2) or arguments[0] not in actions:
        usage = "usage: python3 -m tools.package.install install|uninstall [KERNEL-RELEASE]"
        print(usage, file=sys.stderr)
        return 2
    action, release = (*arguments, platform.release())[:2]
    try:
        if os.geteuid() != 0:
            raise SetupError(f"make {action} needs root{_what_else(action, release)}")
        actions[action](release)
    except SetupError as error:
        print(f"{action}: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
