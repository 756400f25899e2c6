"""How long the module prepares a snapshot on an idle machine: what grows with RAM beside the stop.

``python -m tools.bench.preparation FILE ROUNDS``
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

from livedump import receipt
from livedump.session import Session
from tools.bench import module

#: A small pool: a large one takes long to get, whatever is in memory.
POOL_BYTES = 64 << 20


def preparation() -> dict[str, int]:
    """Of one snapshot, ns: the whole, and its steps."""
    with Session(pool_bytes=POOL_BYTES) as session:
        assert session.taken
        report = session.taken.report
        return {"whole": report["prepare_ns"], **receipt.preparation_ns(report)}


def main() -> None:
    """One snapshot first that is not measured: it arms the hooks."""
    target, rounds = Path(sys.argv[1]), int(sys.argv[2])
    with module.loaded():
        clock = module.clock()
        preparation()
        samples = [preparation() for _ in range(rounds)]
    found: dict[str, Any] = {
        "kernel": platform.release(),
        "clock": clock._asdict(),
        "prepare_ns": {name: [sample[name] for sample in samples] for name in samples[0]},
    }
    target.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
