"""``python3 -m tools.userland 13 -- CMD...``: run CMD in the checkout, on that release of Debian.

With the system's Python: standard library only. Without CMD the root is only made.
"""

from __future__ import annotations

import argparse
import sys

from tools.setup.steps import SetupError
from tools.userland.enter import run
from tools.userland.root import RELEASES, ensure


def main() -> int:
    """The exit status of CMD; 125 if it could not be started."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.userland", description=__doc__)
    parser.add_argument("release", choices=sorted(RELEASES))
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD...")
    asked = parser.parse_args()
    release = RELEASES[asked.release]
    command = asked.command[1:] if asked.command[:1] == ["--"] else asked.command
    try:
        if not command:
            print(ensure(release))
            return 0
        return run(release, command)
    except KeyboardInterrupt:
        return 130
    except SetupError as error:
        print(f"userland: error: {error}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
