"""Running a command in the root of a release."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.paths import BUILD, ROOT, cache_dir
from tools.setup.steps import SetupError
from tools.userland.root import Release, ensure

SCRIPT = Path(__file__).with_name("enter.sh")

#: Of the host's environment: how it comes to the network, and what tools are told by it.
KEPT = ("_proxy", "_PROXY", "PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "TERM", "COLUMNS")


def build_dir(release: Release) -> Path:
    """What build/ is in there."""
    return BUILD / "userland" / release.version


def environment() -> dict[str, str]:
    """The environment of a command in there."""
    kept = {name: value for name, value in os.environ.items() if name.endswith(KEPT)}
    return {
        **kept,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "XDG_CACHE_HOME": str(cache_dir().parent),
    }


def run(release: Release, command: Sequence[str]) -> int:
    """Run it in the checkout, as root, and return its exit status. It ends with us.

    :raises SetupError: not root, or there is no such root and none can be made
    """
    if os.geteuid() != 0:
        raise SetupError(f"only root can enter Debian {release.version}: it takes mounts")
    root, build = ensure(release), build_dir(release)
    build.mkdir(parents=True, exist_ok=True)
    # setpriv: the kernel kills unshare when we end, and that the whole PID namespace.
    alone = ["setpriv", "--pdeathsig", "KILL"]
    namespaces = [*alone, "unshare", "--mount", "--pid", "--fork", "--kill-child"]
    script = ["bash", str(SCRIPT), *map(str, (root, ROOT, cache_dir(), build)), *command]
    status = subprocess.run([*namespaces, *script], env=environment(), check=False).returncode
    return status if status >= 0 else 128 - status
