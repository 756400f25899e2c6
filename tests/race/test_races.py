"""What rarely happens by itself, made to happen."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import pytest

from livedump import abi
from livedump.control import Control
from livedump.dump import open_image
from livedump.errors import ControlError
from livedump.session import Session
from tests.race.conftest import PARAMETERS, set_delays
from tests.race.provoke import PAGE, control, nmis, pages, word
from tools.guest import witness
from tools.guest.kernel import IS_7
from tools.guest.program import Load

POOL = 192 << 20
SMALL_POOL = 64 << 20
#: kmod/fault/tables.h
MAX_DEPTH = 6
#: NMI_WORD of livedump_race.c
NMI_WORD = 500
DELAYS: tuple[dict[str, int], ...] = ({}, {"copied": 300}, {"published": 300}, {"demote": 300})


def final(split: int = 0) -> dict[str, int]:
    """The report after release.

    :param split: so many large leaves the kernel may have split for good meanwhile
    """
    with Control() as client:
        report = client.status().report
    assert report["entries_late"] == 0
    assert report["tables_left"] in {0, split}
    assert split or report["leaves_after"] == report["leaves_before"]
    return report


@pytest.mark.parametrize("delays", DELAYS, ids=lambda delays: next(iter(delays), "none"))
def test_cpus_and_nmis_write_the_same_page(delays: dict[str, int]) -> None:
    """Whoever saves it: the image has the value of the instant in every word."""
    seen = nmis()
    for value in (1, 2, 3):
        with Session(pool_bytes=POOL, strategy="lazy"):
            with open_image(abi.IMAGE_PATH) as image:
                before = [image.read(paddr, PAGE) for paddr in pages("race")]
            set_delays(**delays)
            control(f"race {value}")
            set_delays()
            with open_image(abi.IMAGE_PATH) as image:
                assert [image.read(paddr, PAGE) for paddr in pages("race")] == before
                expected = value - 1 if value > 1 else None
                for paddr in pages("race") if expected else []:
                    for cpu in range(os.cpu_count() or 1):
                        assert word(image, paddr, cpu) == expected
        assert final()["verdict"] == abi.Verdict.COMPLETE
    assert nmis() > seen, "no NMI came: proves nothing"


@pytest.mark.parametrize("strategy", ["lazy", "eager"])
def test_an_nmi_that_goes_on_while_the_stop_ends(strategy: str) -> None:
    """It counts in one page, then in another: an image between two steps has the first ahead."""
    first, second = pages("race")[:2]
    for _ in range(5):
        seen = nmis()
        control("nmi 20000")
        with Session(pool_bytes=POOL, strategy=strategy), open_image(abi.IMAGE_PATH) as image:
            control("nmi 0")
            counts = word(image, first, NMI_WORD), word(image, second, NMI_WORD)
        assert nmis() > seen, "no NMI came: proves nothing"
        assert counts[0] - counts[1] in (0, 1) and counts[1] > 0, counts
        report = final()
        assert report["recopies"] > 0
        assert report["verdict"] == abi.Verdict.COMPLETE


def test_a_mark_that_a_release_has_left() -> None:
    """The page behind it is protected all the same."""
    control("race 1")
    control("mark")
    with Session(pool_bytes=POOL), open_image(abi.IMAGE_PATH) as image:
        control("race 2")
        for paddr in pages("race"):
            assert word(image, paddr, 0) == 1
    report = final()
    assert report["marks_cleared"] == 1
    assert report["verdict"] == abi.Verdict.COMPLETE


def held_after(change: str, strategy: str) -> tuple[bytes, dict[str, int]]:
    """The changing page of a snapshot that *change* comes before, once it is written; its report.

    Not :func:`final`: the kernel splits a leaf in between, and keeps it so.
    """
    (paddr,) = pages("changing")
    control("write 7")
    control(f"change {change}")
    try:
        with Session(pool_bytes=POOL, strategy=strategy), open_image(abi.IMAGE_PATH) as image:
            if change != "gone":
                control("write 8")
            held = image.read(paddr, 2 * PAGE)
    finally:
        control("change none")
    with Control() as client:
        report = client.status().report
    assert report and report["changes_logged"] > 0 and report["entries_late"] == 0
    return held, report


SEVEN = (7).to_bytes(8, "little") + bytes(PAGE - 8)
BEFORE_THE_STOP = {"split": SEVEN * 2, "back": SEVEN * 2, "gone": bytes(PAGE) + SEVEN}


@pytest.mark.parametrize("strategy", ["lazy", "eager"])
@pytest.mark.parametrize("change", BEFORE_THE_STOP)
def test_a_mapping_changes_between_the_plan_and_the_stop(change: str, strategy: str) -> None:
    held, report = held_after(change, strategy)
    assert held == BEFORE_THE_STOP[change]
    assert report["verdict"] == abi.Verdict.COMPLETE


def test_more_changes_than_are_logged_void_an_attempt() -> None:
    control("flood 1")
    with Session(pool_bytes=POOL) as session:
        assert session.taken and session.taken.report
        assert session.taken.report["attempts"] == 2
        assert session.taken.report["stops_ns"] > session.taken.report["stop_ns"]
    control("flood 0")
    assert final()["verdict"] == abi.Verdict.COMPLETE


def test_changes_that_do_not_end_are_a_refusal() -> None:
    """MIN_ATTEMPTS, MAX_ATTEMPTS of kmod/stop/stop.c."""
    control("flood 1000")
    with pytest.raises(ControlError) as refused:
        Session(pool_bytes=POOL).__enter__()
    control("flood 0")
    assert refused.value.refusal == "changing"
    with Control() as client:
        report = client.status().report
    assert report and 3 <= report["attempts"] <= 20


def test_nested_to_the_deepest_level() -> None:
    chain = pages("chain")
    with Session(pool_bytes=POOL, strategy="lazy"):
        with open_image(abi.IMAGE_PATH) as image:
            before = [image.read(paddr, PAGE) for paddr in chain]
        control(f"chain {MAX_DEPTH}")
        with open_image(abi.IMAGE_PATH) as image:
            assert [image.read(paddr, PAGE) for paddr in chain] == before
    report = final()
    assert report["pages_lost"] == 0
    assert report["verdict"] == abi.Verdict.COMPLETE


def test_nested_one_deeper_is_lost_and_named() -> None:
    chain = pages("chain")
    with Session(pool_bytes=POOL, strategy="lazy"):
        control(f"chain {MAX_DEPTH + 1}")
        with Control() as client:
            lost = set(client.lost())
        assert chain[MAX_DEPTH] // PAGE in lost
        assert not {paddr // PAGE for paddr in chain[:MAX_DEPTH]} & lost
        with open_image(abi.IMAGE_PATH) as image:
            assert image.read(chain[MAX_DEPTH], PAGE) == bytes(PAGE)
    report = final()
    assert report["pages_lost"] == len(lost)
    assert report["verdict"] == abi.Verdict.LOST


def test_exit_status_tells_of_lost_pages(tmp_path: object) -> None:
    """`livedump snapshot --dump` while a fault nests too deep."""
    disk = os.environ["LIVEDUMP_DISK"]
    command = ["livedump", "snapshot", "--strategy", "lazy", "--pool", "192M", "--dump", disk]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as dump:
        with Control() as client:
            while client.status().state != "holding":
                assert dump.poll() is None
                time.sleep(0.05)
        control(f"chain {MAX_DEPTH + 1}")
        output, _ = dump.communicate(timeout=200)
    assert dump.returncode == 3, output


def test_demotion_meets_demotion_and_the_kernels_own_split() -> None:
    blocks = pages("block")
    for value in (1, 2):
        with Session(pool_bytes=POOL, strategy="lazy"):
            set_delays(demote=500)
            control(f"split {value}")
            set_delays()
            with open_image(abi.IMAGE_PATH) as image:
                for paddr in blocks:
                    assert word(image, paddr) == value - 1
                    if (os.cpu_count() or 1) > 1:
                        assert word(image, paddr + PAGE) == value - 1
        # 7.3 marks a page that it has split for, so that it is not merged again.
        split = len(blocks) if IS_7 else 0
        assert final(split)["verdict"] == abi.Verdict.COMPLETE


def test_release_races_faults(load: Load, writers: None) -> None:
    """Round after round under load ($LIVEDUMP_ROUNDS): an image of the instant, and every large
    leaf comes back, every time."""
    stop = threading.Event()

    def race() -> None:
        while not stop.is_set():
            control("race 7")

    thread = threading.Thread(target=race)
    thread.start()
    try:
        for _ in range(int(os.environ.get("LIVEDUMP_ROUNDS", "10"))):
            with Session(pool_bytes=POOL, strategy="lazy"):
                with open_image(abi.IMAGE_PATH) as image:
                    rows = witness.image_values(image)
            assert witness.torn_rows(rows) == witness.wrong_pages(rows) == 0
            assert final()["verdict"] == abi.Verdict.COMPLETE
    finally:
        stop.set()
        thread.join()


def test_release_after_every_step_that_can_fail() -> None:
    failed = 0
    for step in range(1, 1000):
        (PARAMETERS / "fail_at").write_text(str(step))
        try:
            with Session(pool_bytes=POOL, strategy="lazy"):
                pass
        except ControlError as error:
            assert error.refusal != "none" and error.remedy, error
            failed += 1
            with Control() as client:
                assert client.status().state == "idle"
            assert witness.tags(witness.direct_map()) == 0
            continue
        break  # so many steps there are not
    else:
        pytest.fail("fail_at lets every snapshot fail, whatever its number")
    (PARAMETERS / "fail_at").write_text("0")
    # Each step before a snapshot is held has a part that can.
    assert failed >= len(abi.Step) - 1, f"only {failed} steps can fail"


def hold_until_killed() -> tuple[int, int]:
    """A child of ours that holds a snapshot: its number, and what it writes to once it does.

    Forked: a Python that starts anew takes five times as long as all that is looked at here.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            Session(pool_bytes=POOL, strategy="lazy").__enter__()
            os.write(writer, b"holding")
            time.sleep(600)
        finally:
            os._exit(1)
    os.close(writer)
    return pid, reader


def test_owner_is_killed_under_load(load: Load) -> None:
    for _ in range(5):
        pid, reader = hold_until_killed()
        with open(reader, "rb", buffering=0) as said:
            assert said.read(7) == b"holding"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with Control() as client:
            deadline = time.monotonic() + 60
            while client.status().state != "idle":
                assert time.monotonic() < deadline
                time.sleep(0.1)


def test_each_hook_that_is_blind_is_missed() -> None:
    """Only those that hardly anybody calls: QEMU may go on executing what was patched away (docs/
    decisions/009). The others, of rmap, are looked at in the same way as that of the balloon."""
    with Session(pool_bytes=SMALL_POOL, strategy="lazy"):
        pass  # armed from here on
    blind = PARAMETERS / "blind"
    names = blind.read_text().split()
    assert {"__text_poke", "vmap_range_noflush", "page_reporting_process"} < {*names}, names
    missed = {}
    for name in (*names, "none"):
        with Session(pool_bytes=SMALL_POOL, strategy="lazy") as session:
            blind.write_text(name)
            missed[name] = session.release().report["hooks_missed"]
            blind.write_text("none")
    assert missed == {**dict.fromkeys(names, 1), "none": 0}
