"""Chromium, driven by its own DevTools protocol over a pair of pipes: no library, no port."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.host.report.browser import CHROMIUM, HEADLESS

SIZE = "--window-size=1280,1000"


class BrowserError(Exception):
    """The browser has ended, did not answer in time, or a script in the page failed."""


class Page:
    """A page, by the browser's file descriptors to write to and to read from."""

    def __init__(self, write: int, read: int, timeout_s: float) -> None:
        self._write, self._read = write, read
        self._until = time.monotonic() + timeout_s
        self._left = b""
        self._number = 0
        self._session = ""
        self._session = self._attach()

    def goto(self, url: str) -> None:
        """Go to an address."""
        self._call("Page.navigate", url=url)

    def result(self, script: str) -> Any:
        """Value of an expression in the page; of a promise, when it is kept."""
        found = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise BrowserError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until an expression is true."""
        while not self.result(condition):
            if time.monotonic() > self._until:
                raise BrowserError(f"never true: {condition}")
            time.sleep(0.1)

    def screenshot(self, file: Path) -> None:
        """What is seen, as PNG."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _attach(self) -> str:
        target = self._call("Target.createTarget", url="about:blank")
        found = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        return str(found["sessionId"])

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        call = {"id": self._number, "method": method, "params": params, **session}
        os.write(self._write, json.dumps(call).encode() + b"\0")
        while (answer := self._message()).get("id") != self._number:
            pass  # events
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            ready, _, _ = select.select(
                [self._read], [], [], max(self._until - time.monotonic(), 0)
            )
            data = os.read(self._read, 1 << 20) if ready else b""
            if not data:
                raise BrowserError("chromium has ended" if ready else "chromium took too long")
            self._left += data
        message, _, self._left = self._left.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def browser(profile: Path, *, timeout_s: float) -> Iterator[Page]:
    """A page in a browser of its own, for so long at most."""
    assert CHROMIUM, "chromium is missing: make setup installs it"
    command = [CHROMIUM, *HEADLESS, SIZE, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    to_read, to_write = _pipe()
    from_read, from_write = _pipe()

    def connect() -> None:
        os.dup2(to_read, 3)
        os.dup2(from_write, 4)

    with (profile.with_suffix(".log")).open("wb") as log:
        running = subprocess.Popen(
            command, preexec_fn=connect, pass_fds=(3, 4), stdout=log, stderr=log
        )
    os.close(to_read)
    os.close(from_write)
    try:
        yield Page(to_write, from_read, timeout_s)
    finally:
        os.close(to_write)  # it ends by itself
        os.close(from_read)
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _pipe() -> tuple[int, int]:
    """Descriptors that are not those which chromium wants to have."""
    found = []
    for end in os.pipe():
        found.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return found[0], found[1]
