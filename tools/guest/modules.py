"""Kernel modules of the folder $LIVEDUMP_KO: livedump's, and those of tests/kmod beside it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence

from livedump import kmod

LIVEDUMP, WITNESS = "livedump", "livedump_witness"


def insert(name: str, *parameters: str) -> None:
    """insmod $LIVEDUMP_KO/NAME.ko PARAMETERS"""
    path = f"{os.environ['LIVEDUMP_KO']}/{name}.ko"
    subprocess.run(["insmod", path, *parameters], check=True)


def remove(name: str) -> None:
    """rmmod NAME"""
    subprocess.run(["rmmod", name], check=True)


@contextlib.contextmanager
def inserted(name: str, *parameters: str) -> Iterator[None]:
    """A module that is there while the block runs; it must go at the end."""
    insert(name, *parameters)
    try:
        yield
    finally:
        remove(name)


@contextlib.contextmanager
def _loaded() -> Iterator[None]:
    """livedump, as `livedump load` does it."""
    kmod.load(kmod.find_module())
    try:
        yield
    finally:
        kmod.unload()


@contextlib.contextmanager
def modules(*others: str, parameters: Sequence[str] = ()) -> Iterator[None]:
    """livedump and then the *others*; they go the other way around.

    :param parameters: of livedump, which users cannot give
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(inserted(LIVEDUMP, *parameters) if parameters else _loaded())
        for name in others:
            stack.enter_context(inserted(name))
        yield
