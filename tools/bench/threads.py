"""``python -m tools.bench.threads NUMBER``: so many sleeping threads, until stdin ends."""

from __future__ import annotations

import sys
import threading

STACK_BYTES = 64 << 10  # in user space; the kernel's is what is wanted


def main() -> None:
    """Start the threads, say so, wait."""
    threading.stack_size(STACK_BYTES)
    over = threading.Event()
    for _ in range(int(sys.argv[1])):
        threading.Thread(target=over.wait, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
