"""The Debian packages of `make deb`: installed, used and purged, in this order."""

from __future__ import annotations

from tests.install.conftest import Shell
from tests.install.daily import RELEASE, installed_module, use
from tools.paths import BUILD


def test_install(shell: Shell) -> None:
    """By apt, with what they depend on; DKMS builds for the kernels that it knows of."""
    packages = [str(path) for path in sorted((BUILD / "deb").glob("*.deb"))]
    assert len(packages) == 2, "make deb first"
    shell("apt-get", "-qy", "install", "--no-install-recommends", "dkms", *packages)
    shell("dkms", "autoinstall", "-k", RELEASE)
    assert installed_module(shell, RELEASE)
    assert shell("livedump", "--version").strip()
    assert shell("sh", "-c", "test -s /usr/share/man/man1/livedump-snapshot.1.gz && echo yes")


def test_it_is_used(shell: Shell) -> None:
    use(shell, RELEASE)


def test_purge_leaves_nothing_behind(shell: Shell) -> None:
    shell("apt-get", "-qy", "purge", "livedump", "livedump-dkms")
    assert "livedump" not in shell("dkms", "status")
    assert shell.left_behind() == set()
