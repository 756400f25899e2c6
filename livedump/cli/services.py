"""What the commands work with; tests hand in fakes as ``ctx.obj``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from livedump import abi, kmod
from livedump.control import Control, Controller
from livedump.machine import Machine
from livedump.selftest.host import Host


@dataclass
class Services:
    """Factories for everything outside this process."""

    control: Callable[[], Controller] = Control
    image_path: str = abi.IMAGE_PATH
    machine: Callable[[str | None], Machine] = field(default=lambda path: Machine(module_path=path))
    find_module: Callable[[str | None], kmod.ModuleFile] = kmod.find_module
    load: Callable[[kmod.ModuleFile], bool] = kmod.load
    unload: Callable[[], None] = kmod.unload
    host: Callable[[], Host] = Host
