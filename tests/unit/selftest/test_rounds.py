"""Rounds on a fake module and a fake machine; the command, and what the doctor makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from livedump import doctor
from livedump.cli.common import command_main
from livedump.cli.main import cli
from livedump.dump import open_image
from livedump.errors import SelfTestError
from livedump.machine import Machine
from livedump.selftest.host import Host
from livedump.selftest.pages import SLAB, TABLE, KernelPages, LiveMemory
from livedump.selftest.perf import CycleSampler, Unavailable
from livedump.selftest.record import Record
from livedump.selftest.rounds import Options, Outcome, Round, SelfTest
from tests.unit import images
from tests.unit.fakes import FakeModule, names

PAGE = images.PAGE
RELEASE = "6.1.0-56-amd64"


class FakePages(KernelPages):
    """Pages 0, 1, 2...: page tables first."""

    def __init__(self, kinds: dict[int, str]) -> None:
        self._kinds = kinds

    def sample(self, limit: int, windows: int = 0) -> dict[int, str]:
        return {**self._kinds, 77: SLAB}

    def still(self, pages: dict[int, str]) -> dict[int, str]:
        return {pfn: kind for pfn, kind in pages.items() if pfn != 77}


class FakeLive(LiveMemory):
    """Live memory in which all has changed."""

    def __init__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, pfn: int) -> bytes:
        return b"?" * PAGE


class FakeHost(Host):
    """A machine without a kernel; what happens while a snapshot is held is up to the test."""

    def __init__(self, root: Path, module: FakeModule) -> None:
        super().__init__(root, RELEASE)
        self.module = module
        self.pmu = True
        self.root_user = True
        self.count = 1000
        self.loads = 0
        self.while_held: Callable[[], None] = lambda: None
        self.kinds = {0: TABLE, 1: TABLE, 2: SLAB, 1 << 20: SLAB}

    def require_root(self) -> None:
        if not self.root_user:
            raise SelfTestError("not root", step="start self-test")

    def pages(self) -> KernelPages:
        return FakePages(self.kinds)

    def live(self) -> LiveMemory:
        return FakeLive()

    def sampler(self) -> CycleSampler:
        return FakeSampler(self)

    def nmis(self) -> int:
        return self.count

    def available_bytes(self) -> int:
        return 1 << 30

    def sleep(self, seconds: float) -> None:
        assert self.module.now.state == "holding" and self.loads == 1
        self.while_held()

    @contextmanager
    def load(self) -> Iterator[None]:
        self.loads += 1
        yield
        self.loads -= 1
        assert self.module.now.state == "idle", "the load ends after the release"


class FakeSampler(CycleSampler):
    """A counter that is there or not; each run makes NMIs."""

    def __init__(self, host: FakeHost) -> None:
        super().__init__()
        self._host = host

    def __enter__(self) -> CycleSampler:
        if not self._host.pmu:
            raise Unavailable("perf_event_open: No such file or directory")
        return self

    @contextmanager
    def running(self) -> Iterator[None]:
        assert self._host.module.now.state == "holding", "not in the stop"
        yield
        assert self._host.module.now.state == "holding", "not in the release"
        self._host.count += 500


@pytest.fixture
def module(tmp_path: Path) -> FakeModule:
    """Whose large pages come back."""
    fake = FakeModule(tmp_path / "image")
    fake.values = images.report(leaves_before=[512, 1000, 1], leaves_after=[512, 1000, 1])
    fake.write()
    return fake


@pytest.fixture
def host(tmp_path: Path, module: FakeModule) -> FakeHost:
    return FakeHost(tmp_path, module)


def test_a_good_machine(host: FakeHost) -> None:
    result = a_round(host)
    assert result.problems == () and result.remarks == ()
    assert result.verdict == "complete" and result.nmis_held == 500
    assert (result.compared.pages, result.compared.tables, result.compared.newer) == (3, 2, 3)
    (call,) = [call for call in host.module.calls if call[0] == "snapshot"]
    assert call[2:] == ("lazy", 256 << 20, 0, 120_000)
    assert names(host.module.calls) == ["snapshot", "release"]


def a_test(host: FakeHost) -> SelfTest:
    """On *host*."""
    image = str(host.module.image)
    return SelfTest(host, Options(), control=host.module.control, image_path=image)


def a_round(host: FakeHost) -> Round:
    """One snapshot on *host*."""
    return a_test(host).round()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pages_lost", "3 pages had no room in the pool, zeros instead"),
        (
            "pages_vanished",
            "3 pages were unmapped or poisoned before they were read, zeros instead",
        ),
        ("entries_late", "3 entries were still tagged after release"),
        ("nmis_late", "3 NMIs came after the last copy in the stop"),
        ("nmis_running", "3 CPUs were inside an NMI at the instant"),
        ("hooks_missed", "3 hooked kernel calls were not seen"),
        ("mappings_unseen", "3 mappings were made in a way that cannot be followed"),
        ("tables_left", "3 large pages were not given back"),
    ],
)
def test_counters_that_must_be_zero(host: FakeHost, name: str, words: str) -> None:
    host.module.late = {name: 3}
    assert a_round(host).problems[0] == f"{words} ({name})"


def test_no_fault_at_all(host: FakeHost) -> None:
    host.module.values = images.report(faults=0)
    assert any("not one fault" in text for text in a_round(host).problems)


def test_leaves_that_do_not_come_back(host: FakeHost) -> None:
    host.module.values = images.report(leaves_before=[1, 2, 3], leaves_after=[4, 5, 6])
    result = a_round(host)
    assert result.problems == ()
    assert result.remarks == ("the direct map's leaves were [1, 2, 3], are [4, 5, 6]",)


def change(host: FakeHost, pfn: int, word: int) -> Callable[[], None]:
    """Write *word* at the beginning of a page of the image."""

    def write() -> None:
        data = bytearray(host.module.image.read_bytes())
        with open_image(host.module.image) as image:
            (at,) = [r.offset + pfn * PAGE for r in image.ranges if r.paddr == 0]
        data[at : at + 8] = (int.from_bytes(data[at : at + 8], "little") ^ word).to_bytes(
            8, "little"
        )
        host.module.image.write_bytes(data)

    return write


def test_an_image_that_changes(host: FakeHost) -> None:
    host.while_held = change(host, 1, 0x1000)
    (problem,) = a_round(host).problems
    assert problem == "1 page tables of the image changed while held (page frames 0x1)"
    host.while_held = change(host, 1, 0x60)  # accessed and dirty
    assert a_round(host).problems == ()
    host.while_held = change(host, 2, 0x60)
    (problem,) = a_round(host).problems
    assert "1 slab pages" in problem


def test_a_slab_page_of_thousands_is_a_remark(host: FakeHost) -> None:
    host.kinds = {pfn: SLAB for pfn in range(256)}
    host.while_held = change(host, 9, 1)
    assert "1 slab pages" in a_round(host).problems[0]
    host.module.write(
        images.build([images.Segment(0, bytes(1100 * PAGE)), images.Segment(0x10000000, b"K")])
    )
    host.kinds = {pfn: SLAB for pfn in range(1100)}
    host.while_held = change(host, 1099, 1)
    result = a_round(host)
    assert result.problems == () and "1 slab pages" in result.remarks[0]


def test_nothing_to_sample(host: FakeHost) -> None:
    host.kinds = {}
    assert "no kernel-owned pages" in a_round(host).remarks[0]


def test_a_machine_without_counters(host: FakeHost) -> None:
    host.pmu = False
    test = a_test(host)
    host.while_held = lambda: setattr(host, "count", host.count + 1)
    outcome = test.outcome([test.round()])
    assert outcome.passed and outcome.rounds[0].nmis_held == 1
    assert "No such file" in outcome.sampling
    assert not outcome.exercised()["PMU NMIs"], "that NMI was somebody else's"


def test_nothing_stays_held(host: FakeHost) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    host.while_held = fail
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(KeyboardInterrupt):
        a_round(host)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert names(host.module.calls) == ["snapshot"], "the owner file's close releases it"


def test_no_rounds_are_no_pass(host: FakeHost) -> None:
    assert not a_test(host).outcome([]).passed


# ---- the command ----


@pytest.fixture
def run(host: FakeHost, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``livedump ARGUMENTS``."""
    services = replace(host.module.services(), host=lambda: host)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            command_main(cli, list(arguments), obj=services)
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def test_the_command(host: FakeHost, run: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = run("selftest")
    assert (status, err) == (0, "")
    assert out.count("ok, verdict complete, downtime") == 3
    assert "PMU NMIs" in out and "passed" in out and "var/lib/livedump/selftest.json" in out
    assert host.module.loaded, "it was loaded before"
    found = Record(host.root).find(host.identity())
    assert found is not None and found["passed"] is True and len(found["rounds"]) == 3


def test_the_command_json(run: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = run("selftest", "--json", "--rounds", "1")
    data = json.loads(out)
    assert status == 0 and data["passed"] and data["exercised"]["PMU NMIs"]
    assert data["rounds"][0]["nmis_held"] == 500


def test_it_loads_and_unloads(host: FakeHost, run: Callable[..., tuple[int, str, str]]) -> None:
    host.module.loaded = False
    assert run("selftest", "--rounds", "1")[0] == 0
    assert not host.module.loaded


def test_a_failure(host: FakeHost, run: Callable[..., tuple[int, str, str]]) -> None:
    host.module.late = {"entries_late": 1}
    status, out, _ = run("selftest", "--rounds", "2")
    assert status == 1
    assert "FAIL 1 entries were still tagged" in out and "FAILED: do not trust" in out
    found = Record(host.root).find(host.identity())
    assert found is not None and found["passed"] is False


def test_a_result_that_cannot_be_kept(
    host: FakeHost, run: Callable[..., tuple[int, str, str]]
) -> None:
    """It is shown all the same."""
    (host.root / "var").write_text("a file")
    status, out, _ = run("selftest", "--rounds", "1")
    assert status == 1 and "passed\nNOT kept: keep results: " in out
    status, out, _ = run("selftest", "--rounds", "1", "--json")
    data = json.loads(out)
    assert status == 1 and data["passed"] and data["error"]["step"] == "keep results"


def test_only_root(host: FakeHost, run: Callable[..., tuple[int, str, str]]) -> None:
    host.root_user = False
    status, _, err = run("selftest")
    assert status == 1 and "not root" in err and host.module.calls == []


# ---- the doctor ----


def verdict(host: FakeHost) -> doctor.Check:
    """What the doctor says of the self-test."""
    machine = Machine(root=host.root, release=RELEASE, environ={})
    (check,) = doctor.check_selftest(machine)
    return check


def test_the_doctor(host: FakeHost) -> None:
    assert verdict(host).status == doctor.WARN
    assert verdict(host).remedy == "Run: livedump selftest"
    test = a_test(host)
    good: Outcome = test.outcome([test.round()])
    host.record().save(host.identity(), good.to_dict())
    assert verdict(host).status == doctor.OK
    assert "PMU NMIs" in verdict(host).message
    host.module.late = {"entries_late": 1}
    bad: dict[str, Any] = test.outcome([test.round()]).to_dict()
    host.record().save(host.identity(), bad)
    assert verdict(host).status == doctor.FAIL
    assert "1 entries were still tagged" in verdict(host).message
    host.record().path.write_text("{")
    assert verdict(host).status == doctor.WARN and "cannot tell" in verdict(host).message


def test_the_doctor_of_another_kernel(host: FakeHost) -> None:
    host.record().save(host.identity(), {"passed": True, "when": "now"})
    machine = Machine(root=host.root, release="6.12", environ={})
    (check,) = doctor.check_selftest(machine)
    assert check.status == doctor.WARN and "not run with this kernel" in check.message
