"""A small web server under a client: ``requests()``.

A thread for each connection, as such servers have; each asks for a small file that is in the page
cache.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import multiprocessing
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

FILE = "page.html"
FILE_BYTES = 64 << 10
_LOCALHOST = "127.0.0.1"


class Server(NamedTuple):
    """Where it listens, and its process."""

    port: int
    pid: int


class _Quiet(SimpleHTTPRequestHandler):
    """Does not log each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def server(folder: Path) -> Iterator[Server]:
    """Serve a folder in a process of its own, until the block ends."""
    (folder / FILE).write_bytes(bytes(FILE_BYTES))
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer((_LOCALHOST, 0), handler) as http_server:
        process = multiprocessing.get_context("fork").Process(target=http_server.serve_forever)
        process.start()
        assert process.pid
        try:
            yield Server(http_server.server_address[1], process.pid)
        finally:
            process.terminate()
            process.join()


def requests(server: Server, count: int) -> float:
    """Ask so often, one after the other, each over a connection of its own.

    :returns: nanoseconds of CPU time for one request, the server's and the client's
    """
    begun = _spent_ns(server.pid)
    for _ in range(count):
        connection = http.client.HTTPConnection(_LOCALHOST, server.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", f"/{FILE}")
            if len(connection.getresponse().read()) != FILE_BYTES:
                raise RuntimeError("the web server has sent something else")
    return (_spent_ns(server.pid) - begun) / count


def _spent_ns(pid: int) -> int:
    """CPU time of a process and of this thread. A process' clock is called by its complement and
    CPUCLOCK_SCHED, as clock_getcpuclockid(3) does."""
    return time.clock_gettime_ns((~pid << 3) | 2) + time.thread_time_ns()
