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

FILE = "page.html"
FILE_BYTES = 64 << 10
_LOCALHOST = "127.0.0.1"


class _Quiet(SimpleHTTPRequestHandler):
    """Does not log each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def server(folder: Path) -> Iterator[int]:
    """Serve a folder in a process of its own, until the block ends; the port."""
    (folder / FILE).write_bytes(bytes(FILE_BYTES))
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer((_LOCALHOST, 0), handler) as http_server:
        process = multiprocessing.get_context("fork").Process(target=http_server.serve_forever)
        process.start()
        try:
            yield http_server.server_address[1]
        finally:
            process.terminate()
            process.join()


def requests(port: int, count: int) -> float:
    """Ask so often, one after the other, each over a connection of its own.

    :returns: nanoseconds for one request
    """
    begun = time.monotonic_ns()
    for _ in range(count):
        connection = http.client.HTTPConnection(_LOCALHOST, port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", f"/{FILE}")
            if len(connection.getresponse().read()) != FILE_BYTES:
                raise RuntimeError("the web server has sent something else")
    return (time.monotonic_ns() - begun) / count
