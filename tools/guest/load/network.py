"""A network of our own: a namespace, a veth pair, and TCP between the two ends."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import time
from collections.abc import Iterator

from tools.guest.kernel import IS_7

NAME = "livedump-load"
NEAR, FAR = "ldload0", "ldload1"
NEAR_ADDRESS, FAR_ADDRESS = "10.213.7.1", "10.213.7.2"
PORT = 7213
MESSAGE_BYTES = 32 << 10

#: Seconds for an answer: an emulated guest beside others on a busy host took more than 30.
PATIENCE_S = 120.0
#: Emulated, 7.3 now and then loses what a veth pair should carry, with livedump or without: there a
#: connection that stands still is made anew, so many times in a row.
STILL_S, TRIES = (10.0, 4) if IS_7 else (PATIENCE_S, 1)


@contextlib.contextmanager
def namespace() -> Iterator[None]:
    """Make the namespace and its link; remove both on exit.

    :raises OSError: not root, or the kernel has no veth
    """
    from pyroute2 import IPRoute, NetNS, netns

    netns.create(NAME)
    try:
        with IPRoute() as near, NetNS(NAME) as far:
            near.link("add", ifname=NEAR, kind="veth", peer={"ifname": FAR})
            near.link("set", index=near.link_lookup(ifname=FAR)[0], net_ns_fd=NAME)
            for side, name, address in ((near, NEAR, NEAR_ADDRESS), (far, FAR, FAR_ADDRESS)):
                index = side.link_lookup(ifname=name)[0]
                side.addr("add", index=index, address=address, prefixlen=24)
                side.link("set", index=index, state="up")
        yield
    finally:
        netns.remove(NAME)  # and with it both ends of the pair


def serve() -> None:
    """Echo what clients send, inside the namespace; never returns."""
    with open(f"/run/netns/{NAME}", "rb") as handle:
        _enter(handle.fileno())
    with socket.create_server((FAR_ADDRESS, PORT)) as server:
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(ConnectionError):  # the client waits no more
                while data := connection.recv(1 << 16):
                    connection.sendall(data)


@contextlib.contextmanager
def server() -> Iterator[int]:
    """:func:`serve` in a process of its own, until the block ends; yields its number."""
    pid = os.fork()
    if not pid:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for our parent
            serve()
        finally:
            os._exit(1)
    try:
        _await_server(pid)
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it has ended by itself
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _await_server(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(OSError), _connect():
            return
        if os.waitpid(pid, os.WNOHANG)[0] or time.monotonic() > deadline:
            raise OSError("the server of the load's network does not answer")
        time.sleep(0.05)


def _connect() -> socket.socket:
    return socket.create_connection((FAR_ADDRESS, PORT), timeout=PATIENCE_S)


def _enter(fd: int) -> None:
    """setns(2), which os has only since Python 3.12."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, 0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns")


def exchange() -> Iterator[None]:
    """Send a message and read it back, once for each next().

    :raises TimeoutError: there was no answer
    """
    message = os.urandom(MESSAGE_BYTES)
    tried = 0
    while True:
        connection = _connect()
        try:
            connection.settimeout(STILL_S)
            while True:
                connection.sendall(message)
                _receive(connection, memoryview(bytearray(MESSAGE_BYTES)))
                tried = 0
                yield
        except TimeoutError:
            tried += 1
            if tried == TRIES:
                raise
        finally:
            connection.close()


def receive(memory: mmap.mmap) -> None:
    """Fill it with echoes, message by message."""
    message = bytes(MESSAGE_BYTES)
    with _connect() as connection:
        for offset in range(0, len(memory), MESSAGE_BYTES):
            part = memoryview(memory)[offset : offset + MESSAGE_BYTES]
            connection.sendall(message[: len(part)])
            _receive(connection, part)


def _receive(connection: socket.socket, part: memoryview) -> None:
    """Fill it.

    :raises ConnectionError: the server has gone
    """
    while part:
        count = connection.recv_into(part)
        if not count:
            raise ConnectionError("the server of the load's network has gone")
        part = part[count:]
