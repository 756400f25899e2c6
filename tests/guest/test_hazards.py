"""What tracers, users and hypervisors do meanwhile: neither the machine nor the truth may pay."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from livedump import abi
from livedump.control import Control, Status
from livedump.dump import Image, open_image
from livedump.errors import ControlError
from livedump.session import Session
from tests.guest.pool import without_page

POOL = int(os.environ.get("LIVEDUMP_POOL_MIB", "128")) << 20  # 0: the module's default
PAGE = 4096
TRACING = Path("/sys/kernel/tracing")
KPROBES = Path("/sys/kernel/debug/kprobes")
EVENT = TRACING / "events/exceptions/page_fault_kernel/enable"
NOBODY = 65534
ROUNDS = int(os.environ.get("LIVEDUMP_ROUNDS", "8"))

#: The first is what the kernel calls on a fault once there is a second probe. Few others, and none
#: that CPUs are in all the time: QEMU may go on executing what was patched away, see
#: docs/decisions/009-stale-code-in-qemu.md.
TRACED = ("__traceiter_page_fault_kernel", "vfs_statx", "vfs_unlink")


@pytest.fixture(scope="module", autouse=True)
def names_recorded() -> None:
    """Any event and tracer lets ftrace record the names of tasks, by probes in the scheduler: with
    an event that is hardly ever there they stay, instead of being patched in and out each time."""
    (TRACING / "events/livedump/livedump_release/enable").write_text("1")


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of churn.c, which anybody may execute."""
    folder = tmp_path_factory.mktemp("churn")
    program = folder / "churn"
    source = Path(__file__).parent / "programs/churn.c"
    subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True, timeout=120)
    for path in (program, *program.parents[:3]):
        path.chmod(0o755)
    return program


@contextlib.contextmanager
def running(*argv: object, count: int = 1) -> Iterator[list[subprocess.Popen[str]]]:
    """The command, some times at once, by an ordinary user; none may end by itself."""
    processes = [
        subprocess.Popen(
            [str(word) for word in argv], stdout=subprocess.PIPE, text=True, user=NOBODY
        )
        for _ in range(count)
    ]
    try:
        time.sleep(0.3)
        assert all(process.poll() is None for process in processes)
        yield processes
        assert all(process.poll() is None for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def append(path: Path, text: str) -> None:
    """Without the look for its end that open() makes, which tracefs refuses."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


@contextlib.contextmanager
def second_probe() -> Iterator[None]:
    """On the tracepoint of the kernel's faults."""
    EVENT.write_text("1")
    try:
        yield
    finally:
        EVENT.write_text("0")


@contextlib.contextmanager
def traced(tracer: str) -> Iterator[None]:
    """*tracer* on the functions around the fault path."""
    current = TRACING / "current_tracer"
    for pattern in TRACED:
        append(TRACING / "set_ftrace_filter", pattern)
    current.write_text(tracer)
    try:
        yield
    finally:
        current.write_text("nop")
        (TRACING / "set_ftrace_filter").write_text("")


def fault_a_lot() -> None:
    """New processes, files, stacks."""
    for _ in range(5):
        subprocess.run(["/bin/ls", "/"], stdout=subprocess.DEVNULL, check=True)


def assert_complete(final: Status) -> None:
    """Nothing escaped."""
    assert final.verdict == "complete", final.report


@pytest.mark.smoke
def test_a_traced_fault_path_before_the_snapshot() -> None:
    with second_probe(), traced("function"), Session(pool_bytes=POOL) as session:
        fault_a_lot()
        assert_complete(session.release())


@pytest.mark.smoke
def test_a_traced_fault_path_after_the_snapshot() -> None:
    with Session(pool_bytes=POOL) as session:
        with second_probe(), traced("function_graph"):
            fault_a_lot()
        assert_complete(session.release())


#: Of dynamic_events: a probe by breakpoint or ftrace, and by fprobe at entry and return.
PROBES = {
    "kprobe": ("p:kprobes/hazard_{0} {0}", ("vfs_statx", "vfs_unlink")),
    "fprobe": ("f:fprobes/hazard_{0} {0}", TRACED),
    "fexit": ("f:fprobes/hazard_{0} {0}%return", TRACED),
}


def kinds_of_probes() -> list[str]:
    """What this kernel has: 6.1 no events by fprobe."""
    readme = TRACING / "README"
    has_fprobe = readme.exists() and "f[:[" in readme.read_text()
    return [kind for kind in PROBES if kind == "kprobe" or has_fprobe]


@pytest.mark.smoke
@pytest.mark.parametrize("kind", kinds_of_probes())
def test_probes_that_fault(kind: str) -> None:
    line, names = PROBES[kind]
    group = line.split(":")[1].split("/")[0]
    with Session(pool_bytes=POOL) as session:
        for name in names:
            append(TRACING / "dynamic_events", line.format(name) + "\n")
        enable = TRACING / f"events/{group}/enable"
        enable.write_text("1")
        try:
            with second_probe():
                fault_a_lot()
        finally:
            enable.write_text("0")
            for name in names:
                append(TRACING / "dynamic_events", f"-:{group}/hazard_{name}\n")
        assert_complete(session.release())


def test_our_recorder_a_function_tracer_and_a_snapshot(tmp_path: Path) -> None:
    command = ["livedump-trace", "record", "--kind", "kernel", "-o", str(tmp_path / "rec")]
    with subprocess.Popen([*command, "--", "sleep", "20"]) as recorder:
        # The command begins when the programs are attached.
        wait_for(lambda: has_child(recorder.pid, "sleep"), 180)
        with traced("function"), Session(pool_bytes=POOL) as session:
            fault_a_lot()
            assert_complete(session.release())
        assert recorder.wait(120) == 0


def has_child(pid: int, name: str) -> bool:
    """A process has a child of that name."""
    command = ["pgrep", "-x", "-P", str(pid), name]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)


@pytest.mark.smoke
def test_a_snapshot_patches_no_kernel_text() -> None:
    def hooked() -> list[str]:
        return [path.read_text() for path in (TRACING / "enabled_functions", KPROBES / "list")]

    before = hooked()
    with Session(pool_bytes=POOL):
        held = hooked()
    assert all(text.count("\n") > 10 for text in before), "nothing is hooked: proves nothing"
    assert held == before
    assert hooked() == before


def has_secret_memory(churn: Path) -> bool:
    """6.1 wants secretmem.enable=1 on its command line."""
    process = subprocess.run(["timeout", "1", str(churn), "secret"], capture_output=True)
    return process.returncode == 124


@pytest.mark.smoke
def test_pages_that_leave_the_direct_map_meanwhile(churn: Path) -> None:
    """An ordinary user's memfd_secret(): copies of such pages must not fault."""
    if os.uname().release.startswith("6.1."):
        assert not has_secret_memory(churn)
        return
    with running(churn, "secret", count=4):
        for _ in range(ROUNDS):
            with Session(pool_bytes=POOL) as session:
                time.sleep(0.1)
                final = session.release()
            assert final.verdict in ("complete", "unproven", "lost"), final.report
            assert final.report["hooks_missed"] == 0


@pytest.mark.smoke
def test_threads_in_bursts_during_preparation(churn: Path) -> None:
    with running(churn, "threads", count=2):
        for _ in range(ROUNDS):
            with Session(pool_bytes=POOL) as session:
                final = session.release()
            assert_complete(final)
            # Copies of stacks that had gone by the stop returned to the pool.
            assert 0 <= without_page(final.report) <= final.report["faults_already"]


def page_frame(pid: int, address: int) -> int:
    """The page frame that a process has mapped at an address."""
    with open(f"/proc/{pid}/pagemap", "rb") as file:
        file.seek(address // PAGE * 8)
        (entry,) = struct.unpack("Q", file.read(8))
    assert entry >> 63, "not in memory"
    return int(entry & ((1 << 55) - 1))


def number_at(image: Image, frame: int) -> int:
    """The first eight bytes of a page."""
    return int.from_bytes(image.read(frame * PAGE, 8), "little")


def test_no_page_is_older_than_a_round(churn: Path) -> None:
    """Memory that user space stamps by its own mapping is no older than the instant allows."""
    pages = 8192
    with running(churn, "stamp", pages) as (process,):
        assert process.stdout
        start = int(process.stdout.readline(), 16)
        rounds = [int(process.stdout.readline()) for _ in range(3)]
        with Session(pool_bytes=POOL) as session, open_image(abi.IMAGE_PATH) as image:
            assert session.taken
            instant = session.taken.report["instant_boottime_ns"]
            frames = [page_frame(process.pid, start + i * PAGE) for i in range(0, pages, 4)]
            rounds += [int(process.stdout.readline()) for _ in range(2)]
            oldest = min(number_at(image, frame) for frame in frames)
    # Stopped, and slowed down by first writes, it takes longer than any of these.
    assert instant - oldest < 4 * max(rounds) + session.taken.report["stop_ns"]


@pytest.mark.smoke
def test_page_cache_that_is_mapped_for_each_store_is_in_order(churn: Path) -> None:
    pages = 48
    path = Path("/dev/shm/livedump-row")
    path.write_bytes(bytes(pages * PAGE))
    os.chown(path, NOBODY, NOBODY)
    try:
        with running(churn, "row", path, pages), path.open("r+b") as file:
            frames = frames_of(file.fileno(), pages)
            different = set()
            for _ in range(20):
                with Session(pool_bytes=POOL), open_image(abi.IMAGE_PATH) as image:
                    numbers = [number_at(image, frame) for frame in frames]
                assert numbers == sorted(numbers, reverse=True), numbers
                assert numbers[0] - numbers[-1] <= 1, numbers
                different.add(numbers[0])
            assert len(different) > 1, "nothing was stored: proves nothing"
    finally:
        path.unlink()


def frames_of(fd: int, pages: int) -> list[int]:
    """Page frames of a tmpfs file, which keeps them."""
    import mmap

    with mmap.mmap(fd, pages * PAGE) as mapped:
        for i in range(pages):
            mapped[i * PAGE]  # noqa: B018  # touched, so that it is mapped
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        return [page_frame(os.getpid(), start + i * PAGE) for i in range(pages)]


def prepared(process: subprocess.Popen[bytes]) -> Status:
    """The status once the process's snapshot is being prepared."""
    with Control() as control:
        while process.poll() is None:
            status = control.status()
            if status.state == "prepared":
                return status
    raise AssertionError(f"ended with {process.returncode} before anything was prepared")


def largest_pool() -> int:
    """Most of the memory that is free: so that preparation takes long."""
    text = Path("/proc/meminfo").read_text()
    available = next(int(line.split()[1]) << 10 for line in text.splitlines() if "MemAv" in line)
    return int(available * 0.7) - (80 << 20)


@pytest.mark.smoke
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_owner_that_ends_during_preparation(how: signal.Signals) -> None:
    pool = f"{largest_pool() >> 20}M"
    command = ["livedump", "snapshot", "--foreground", "--pool", pool]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        prepared(process)
        process.send_signal(how)
        process.wait(60)
    with Control() as control:
        wait_for(lambda: control.status().state == "idle", 30)
        status = control.status()
    assert (status.state, status.refusal) == ("idle", "cancelled")
    with Session(pool_bytes=POOL) as session:
        assert_complete(session.release())


#: A module that registers a generic netlink family and does little else.
FAMILY = "psample"
GETFAMILY = struct.pack("=IHHIIBBH", 20, 0x10, 0x301, 1, 0, 3, 1, 0)
"""A dump of all generic netlink families: struct nlmsghdr and genlmsghdr."""

DONE = 3


def kinds_of(datagram: bytes) -> Iterator[int]:
    """The type of each of its messages: since 6.9 the last one may follow others."""
    at = 0
    while at < len(datagram):
        length, kind = struct.unpack_from("=IH", datagram, at)
        yield kind
        at += -(-length // 4) * 4


def seconds_to_list_families() -> float:
    """How long generic netlink takes to answer."""
    start = time.monotonic()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16) as sock:
        sock.send(GETFAMILY)
        while DONE not in kinds_of(sock.recv(65536)):
            pass
    return time.monotonic() - start


@contextlib.contextmanager
def slow_workers() -> Iterator[None]:
    """The kernel's workers, of which a preparation is one, have a tenth of one CPU."""
    mask = Path("/sys/devices/virtual/workqueue/cpumask")
    usual = mask.read_text()
    mask.write_text("2")
    weigh = "echo -10 > /proc/self/autogroup; renice -n -10 $$; while :; do :; done"
    hog = ["taskset", "--cpu-list", "1", "sh", "-c", weigh]
    with subprocess.Popen(hog, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            yield
        finally:
            process.kill()
            mask.write_text(usual)


def family_during_preparation() -> tuple[bool, list[float]]:
    """A module registers its family while a snapshot is prepared: did it come before that ended?
    And the seconds that each list of all families took meanwhile."""
    times: list[float] = []

    def hold() -> None:
        with Session(pool_bytes=largest_pool()):
            pass

    with ThreadPoolExecutor(1) as other, Control() as control:
        with slow_workers():
            holder = other.submit(hold)
            wait_for(lambda: control.status().state == "prepared" or holder.done(), 20)
            with subprocess.Popen(["modprobe", FAMILY]) as family:
                while control.status().state == "prepared" and family.poll() is None:
                    times.append(seconds_to_list_families())
                came = control.status().state == "prepared" and family.wait() == 0
        holder.result()
    subprocess.run(["rmmod", FAMILY], check=True)
    return came, times


def test_other_generic_netlink_goes_on_during_preparation() -> None:
    """A family comes, and all are listed, before the preparation is over: a slow one, because a
    module may take longer to load than memory to be allocated."""
    subprocess.run(["modprobe", FAMILY], check=True)
    subprocess.run(["rmmod", FAMILY], check=True)  # what it needs stays
    usual = statistics.median(seconds_to_list_families() for _ in range(20))
    came, times = family_during_preparation()
    assert came, "the family came only when the preparation was over"
    assert statistics.median(times) < usual + 0.1, (usual, times)


KVM_CREATE_VM = 0xAE01


@pytest.mark.smoke
def test_no_virtual_machine_begins_while_a_snapshot_is_held() -> None:
    with Session(pool_bytes=POOL) as session:
        subprocess.run(["modprobe", "kvm_amd"], check=True)
        with open("/dev/kvm", "rb") as kvm:
            with pytest.raises(OSError) as caught:
                fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
        assert caught.value.errno == errno.EBUSY
        assert_complete(session.release())
    with open("/dev/kvm", "rb") as kvm:
        machine = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
        try:
            with pytest.raises(ControlError, match="virtual machine") as refused:
                Session(pool_bytes=POOL).__enter__()
            assert refused.value.refusal == "kvm_guest"
        finally:
            os.close(machine)
    # Loaded, without a guest: served, with the hook in place before it begins.
    with Session(pool_bytes=POOL) as session:
        with open("/dev/kvm", "rb") as kvm, pytest.raises(OSError):
            fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
        assert_complete(session.release())
    subprocess.run(["modprobe", "-r", "kvm_amd"], check=True)


@pytest.mark.smoke
@pytest.mark.parametrize(
    "enabled", [KPROBES / "enabled", Path("/proc/sys/kernel/ftrace_enabled")], ids=str
)
def test_a_hook_that_is_disarmed_is_missed(enabled: Path) -> None:
    """Hooks that somebody has switched off see nothing: the verdict must say so."""
    with Session(pool_bytes=POOL) as session:
        try:
            enabled.write_text("0")
        except OSError as error:  # 7.3 lets nobody switch ftrace off any more
            assert (error.errno, enabled.name) == (errno.EOPNOTSUPP, "ftrace_enabled")
            assert_complete(session.release())
            return
        try:
            final = session.release()
        finally:
            enabled.write_text("1")
    assert final.verdict == "unproven"
    assert final.report["hooks_missed"] >= 10
