"""Who releases a snapshot, and when."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from livedump import abi
from livedump.control import Status
from livedump.errors import ControlError, NotLoadedError, SessionError
from livedump.session import Session, open_image_file
from tests.unit import images
from tests.unit.fakes import FakeModule, names


@pytest.fixture
def module(tmp_path: Path) -> FakeModule:
    return FakeModule(tmp_path / "proc")


def make(module: FakeModule, *, persist: bool = False) -> Session:
    return Session(persist=persist, controller=module.control, image_path=str(module.image))


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_taken_and_released(module: FakeModule) -> None:
    with make(module) as session:
        fd = session.fd
        assert module.calls == [("snapshot", fd, "lazy", 0, 0, 0)]
        assert session.taken is not None and session.taken.state == "holding"
        assert session.status().state == "holding"
    assert names(module.calls) == ["snapshot", "release"]
    assert not is_open(fd)
    with pytest.raises(SessionError, match="not open"):
        session.fd


def test_persistent_stays(module: FakeModule) -> None:
    with make(module, persist=True) as session:
        fd = session.fd
    assert names(module.calls) == ["snapshot"]
    assert module.now.persistent and not is_open(fd)


def test_an_error_inside_closes_the_owner_file(module: FakeModule) -> None:
    """Closing is what releases: no request that could fail itself."""
    with pytest.raises(ZeroDivisionError):
        with make(module) as session:
            fd = session.fd
            raise ZeroDivisionError
    assert not is_open(fd)


def test_an_error_inside_releases_a_persistent_one(module: FakeModule) -> None:
    with pytest.raises(KeyboardInterrupt):
        with make(module, persist=True):
            raise KeyboardInterrupt
    assert names(module.calls) == ["snapshot", "release"]
    assert module.now.state == "idle"


def test_interrupted_while_it_is_taken(module: FakeModule) -> None:
    """The kernel took a persistent snapshot, the answer never arrived: it is ours, release it."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    module.on_snapshot = interrupt
    with pytest.raises(KeyboardInterrupt):
        make(module, persist=True).__enter__()
    assert names(module.calls) == ["snapshot", "release"]


@pytest.mark.parametrize("persist", [False, True])
def test_interrupted_while_it_is_prepared(module: FakeModule, persist: bool) -> None:
    """The connection may have been interrupted, too: a new one ends what is prepared."""

    def interrupt(_status: Status) -> None:
        raise KeyboardInterrupt

    module.preparing = [Status(state="prepared", step="survey")]
    session = Session(
        persist=persist,
        preparing=interrupt,
        controller=module.control,
        image_path=str(module.image),
    )
    with pytest.raises(KeyboardInterrupt):
        session.__enter__()
    assert names(module.calls) == ["snapshot", *(["release"] if persist else [])]
    with pytest.raises(SessionError, match="not open"):  # closing it ends the other kind
        session.fd


def test_steps_are_told_while_it_is_prepared(module: FakeModule) -> None:
    module.preparing = [Status(state="prepared", step=step) for step in ("reserve", "plan")]
    seen: list[str] = []
    with Session(
        preparing=lambda status: seen.append(status.step),
        controller=module.control,
        image_path=str(module.image),
    ) as session:
        assert session.taken is not None and session.taken.state == "holding"
    assert seen == ["reserve", "plan"]


@pytest.mark.parametrize("state", ["prepared", "holding"])
def test_refused_leaves_the_others_snapshot_alone(module: FakeModule, state: str) -> None:
    """Even one that came between our look at the instant and the refusal."""

    def come() -> None:
        module.hold(flags=abi.F_PERSIST, owner_pid=0)
        module.now = replace(module.now, state=state)
        raise ControlError("there is one already", step="take snapshot", refusal="busy")

    module.on_snapshot = come
    with pytest.raises(ControlError, match="one already"):
        make(module, persist=True).__enter__()
    assert names(module.calls) == ["snapshot"]
    assert module.now.state == state


def test_dump_reads_the_owner_file(module: FakeModule, tmp_path: Path) -> None:
    with make(module) as session:
        os.unlink(module.image)  # only the open file is left
        result = session.dump(tmp_path / "vmcore")
    assert result.complete and (tmp_path / "vmcore").stat().st_size == result.written_bytes


def test_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(NotLoadedError, match="livedump load"):
        open_image_file(str(tmp_path / "absent"))


def test_not_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SessionError, match="Permission denied. Run as root with CAP_SYS_RAWIO"):
        open_image_file()


def test_module_unloaded_is_said_first(module: FakeModule) -> None:
    module.loaded = False
    with pytest.raises(NotLoadedError):
        make(module).__enter__()
    assert images.INSTANT_NS and module.calls == []
