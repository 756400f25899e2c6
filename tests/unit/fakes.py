"""Stand-ins for the kernel: a module that holds snapshots, without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from livedump import kmod
from livedump.cli.services import Services
from livedump.control import Status
from livedump.errors import ControlError, ModuleError, NotLoadedError
from livedump.machine import Machine
from livedump.receipt import final_verdict
from tests.unit import images


class FakeModule:
    """What the kernel module would do; ``calls`` keeps what it was asked."""

    def __init__(self, image: Path) -> None:
        self.image = image
        self.now = Status(state="idle")
        self.calls: list[tuple[object, ...]] = []
        self.loaded = True
        self.refuse: Exception | None = None
        self.on_snapshot: Callable[[], None] = lambda: None
        self.preparing: list[Status] = []  # what it says until it holds
        self.values = images.report()
        self.late: dict[str, int] = {}  # what only release finds out
        self.write()

    def write(self, data: bytes | None = None) -> None:
        """Put an image where /proc/livedump would be."""
        ram = [images.Segment(0, bytes(range(256)) * 4096), images.Segment(0x100000, b"K" * 8192)]
        self.image.write_bytes(images.build(ram, values=self.values) if data is None else data)

    def hold(self, flags: int = 0, owner_pid: int = 77) -> None:
        """A snapshot is held."""
        self.now = Status(
            state="holding", strategy="lazy", flags=flags, owner_pid=owner_pid, report=self.values
        )

    def control(self) -> FakeControl:
        """A connection, as Control() would be."""
        return FakeControl(self)

    def services(self) -> Services:
        """What commands get as ``ctx.obj``."""
        return Services(
            control=self.control,
            image_path=str(self.image),
            machine=lambda path: Machine(
                root=self.image.parent, module_path=path, control=self.control
            ),
            find_module=lambda path: kmod.ModuleFile(Path(path or "x.ko"), "argument", ""),
            load=self._load,
            unload=self._unload,
        )

    def _load(self, module: kmod.ModuleFile) -> bool:
        if self.refuse:
            raise self.refuse
        fresh, self.loaded = not self.loaded, True
        return fresh

    def _unload(self) -> None:
        if self.now.state != "idle":
            raise ModuleError(
                "a snapshot is held", step="unload module", remedy="Run: livedump release"
            )
        self.loaded = False


class FakeControl:
    """Control without netlink."""

    def __init__(self, module: FakeModule) -> None:
        self._module = module

    def __enter__(self) -> FakeControl:
        if not self._module.loaded:
            raise NotLoadedError(
                "the module is not loaded", step="reach module", remedy="Run: livedump load"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def status(self) -> Status:
        self._module.calls.append(("status",))
        return self._module.now

    def snapshot(
        self,
        owner_fd: int,
        strategy: str = "lazy",
        pool_bytes: int = 0,
        flags: int = 0,
        max_hold_ms: int = 0,
        progress: Callable[[Status], None] | None = None,
    ) -> Status:
        module = self._module
        module.calls.append(("snapshot", owner_fd, strategy, pool_bytes, flags, max_hold_ms))
        if module.refuse:
            raise module.refuse
        for status in module.preparing:
            module.now = status
            if progress:
                progress(status)
        module.hold(flags)
        module.on_snapshot()
        return module.now

    def release(self) -> Status:
        module = self._module
        module.calls.append(("release",))
        if module.now.state not in ("prepared", "holding"):
            raise ControlError("no snapshot is held", step="release snapshot", remedy="Take one")
        verdict = int(final_verdict({**module.now.report, **module.late}))
        final = {
            **module.now.report,
            **module.late,
            "state": 0,
            "verdict": verdict,
            "release_ns": 3_000_000,
        }
        module.now = replace(module.now, state="idle", reason="request", report=final)
        return module.now

    def lost(self) -> list[int]:
        return []


def names(calls: Sequence[tuple[object, ...]]) -> list[object]:
    """The first item of each call, status not."""
    return [call[0] for call in calls if call[0] != "status"]
