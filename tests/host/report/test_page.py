"""The HTML report in a real browser: it draws, does not complain, asks nobody for anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from livedump import analysis
from livedump.analysis import assets
from livedump.metrics import QUANTILES
from livedump.recording import store
from livedump.recording.schema import Row
from tests.host.report.browser import DARK, SHOTS, body, chromium, probed, result_of, shot, trouble
from tests.unit import samples
from tools.vm.kernels import series_of
from tools.vm.machines import SERIES


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's page."""
    folder = tmp_path_factory.mktemp("page")
    file = folder / "report.html"
    analysis.write_html(store.read(samples.write(folder / "recording")), file)
    return file


@pytest.fixture(scope="module")
def diff(page: Path) -> Path:
    """The sample compared with itself."""
    file = page.with_name("same.html")
    recorded = store.read(page.with_name("recording"))
    analysis.write_diff_html(analysis.compare(recorded, recorded), file)
    return file


def test_page_draws_without_a_complaint(page: Path) -> None:
    dom = chromium(probed(page), "--dump-dom")
    assert trouble(dom) == ""
    assert "main-svg" in dom, "plotly drew nothing"
    assert "65.1 ms" in dom and "64.9 ms" in dom
    assert "200 µs less: its probes are inside the call that the module times" in dom
    assert '<p class="note">7 events have no stack; 0 events lost</p>' in dom
    assert "banner bad" not in body(dom) and "banner good" not in body(dom)
    assert "Not countable: skipped events." in dom
    assert "Standard error of the heaviest: ±1.3 % of its count, ±1.7 % of its stalled time" in dom
    script = """result.frames = frames().length; result.names = frames().map((f) => f.node.name);
      press("kinds", "user"); result.cpus = rows("cpus"); result.tasks = rows("tasks");"""
    result = result_of(page, script)
    assert result["frames"] > 20 and "ext4_file_write_iter" in result["names"]
    assert result["cpus"][0][:3] == ["0", "4,000", "66.7%"]
    assert result["tasks"] == [["fio;1", "100", "/load.slice", "6,010", "70.0 ms"]]


def test_banner_is_for_lost_events_only(page: Path) -> None:
    tables = samples.tables()
    tables["losses"].append({"probe": "user", "what": "entry without exit", "count": 2})
    store.write(page.with_name("lossy"), samples.meta(), tables)
    file = page.with_name("lossy.html")
    analysis.write_html(store.read(page.with_name("lossy")), file)
    dom = chromium(probed(file), "--dump-dom")
    assert '<p class="banner bad">7 events have no stack; 2 events lost</p>' in dom


@pytest.mark.parametrize("series", SERIES)
def test_guest_recording_draws_too(series: str, tmp_path: Path) -> None:
    """What the guest's tests recorded last."""
    folders = (SHOTS.parent / "test").glob("*/recording")
    found = [path for path in folders if series_of(path.parent.name) == series]
    assert found, f"no recording of a {series} guest: make test-guest test-smoke"
    folder = max(found, key=lambda path: path.stat().st_mtime)
    file = tmp_path / "report.html"
    analysis.write_html(store.read(folder), file)
    assert result_of(file, "result.frames = frames().length;")["frames"]
    assert "main-svg" in chromium(file, "--dump-dom")
    shot(file, folder.parent.name, (1280, 2900))


def test_probe_bites(page: Path) -> None:
    """The check above can fail: an exception and a request both leave a trace."""
    tail = "<script>fetch('https://example.org/x').catch(() => 0); nonsense();</script>"
    found = trouble(chromium(probed(page, tail), "--dump-dom"))
    assert "nonsense" in found
    assert "request https://example.org" in found


def test_kinds_that_are_no_ordinary_names(page: Path) -> None:
    """A recording may hold anything, and `__proto__` is no key like others."""
    tables = samples.tables()
    for name in ("histograms", "slices", "stacks", "stack_slices", "tasks", "cpus"):
        for row in tables[name]:
            row["kind"] = {"cow": "__proto__", "user": "constructor"}.get(row["kind"], row["kind"])
    tables["stacks"] = [row for row in tables["stacks"] if row["kind"] != "constructor"]
    store.write(page.with_name("odd"), samples.meta(), tables)
    file = page.with_name("odd.html")
    analysis.write_html(store.read(page.with_name("odd")), file)
    script = """for (const kind of ["__proto__", "constructor"]) {
        press("kinds", kind); result[`_${kind}`] = [frames().length, text("flame"),
          !byId("histogram").hidden, rows("tasks").length];
      }
      result.clean = Object.keys(Object.prototype);"""
    result = result_of(file, script)
    assert result["clean"] == []
    assert result["___proto__"][0] > 20 and result["___proto__"][2:] == [True, 1]
    assert result["_constructor"][1:] == ["No stacks of this kind were recorded.", True, 1]


def test_search_shapes_and_weights_work(page: Path) -> None:
    script = """
      const find = (term) => { type("flame-search", term); return text("flame-details"); };
      const node = (name) => frames().find((frame) => frame.node.name === name).node;
      const canvas = document.querySelector("#flame canvas");
      result.all = frames().length;
      result.found = find("KERNEL_clone");
      result.regex = find("^(dup|vfs)_");
      result.broken = find("dup_mm(");
      byId("flame-literal").click();
      result.literal = find("^(dup|vfs)_");
      byId("flame-literal").click();
      result.cleared = find("");
      livedump.state.set({ frame: '["stress-ng","entry_SYSCALL_64_after_hwframe"]' });
      result.zoomed = frames().filter((frame) => !frame.faded).length;
      result.stack = livedump.views.flame.stackText(node("dup_mm")).split("\\n");
      byId("flame-reset").click();
      result.reset = frames().length;
      press("flame-weights", "stalled"); result.stalled = text("flame-details");
      press("flame-weights", "count");
      press("flame-shapes", "icicle"); result.icicle = frames().length;
      press("flame-shapes", "callers");
      const [root, ...above] = frames();
      const leaves = above.filter((frame) => frame.depth === 1)
        .map(({ node: { name, value } }) => [name, value]);
      result.callers = Object.fromEntries(leaves); result.root = root.node.value;
      result.of = node("memcpy").children.map((child) => child.name);
      result.callerStack = livedump.views.flame.stackText(node("memcpy").children[0]).split("\\n");
      press("flame-shapes", "flame"); press("kinds", "kernel"); press("flame-weights", "stalled");
      result.untimed = [text("flame"), text("histogram-none"), byId("histogram").hidden];
    """
    result = result_of(page, script)
    assert result["found"].startswith("search: 2 frames, 606 faults, 44.76 %")
    assert result["regex"].startswith("search: 4 frames, 776 faults")
    assert (
        result["broken"] == "search: 0 frames, 0 faults, 0.00 % (no regular expression: as it is)"
    )
    assert result["literal"] == "search: 0 frames, 0 faults, 0.00 %"
    assert result["cleared"] == "cow: 1,354 faults, 100.00 %"
    assert result["zoomed"] < result["all"] == result["reset"] == result["icicle"]
    assert result["stack"][:3] == ["dup_mm", "copy_process", "kernel_clone"]
    assert result["stack"][-1] == "stress-ng"
    assert result["stalled"].startswith("cow: 3.9")
    weights = {stack.split(";")[-4]: 0 for stack in samples.COW_STACKS}
    for stack, count in samples.COW_STACKS.items():
        weights[stack.split(";")[-4]] += count // 2 * 2 + 1
    assert result["callers"] == weights and result["root"] == sum(weights.values()) == 1354
    assert result["of"] == ["ext4_file_write_iter"]
    assert result["callerStack"] == ["memcpy", "ext4_file_write_iter"]
    assert result["untimed"][0].startswith("Nothing to weigh: this kind was counted, but not timed")
    assert result["untimed"][1:] == ["kernel is counted, but not timed.", True]


def test_stacks_that_are_alike_are_no_flat_line(page: Path) -> None:
    """2,000 of 30 functions, each too narrow to be drawn, and what is zoomed to."""
    tables = samples.tables()
    row = next(row for row in tables["stacks"] if row["kind"] == "user")
    tables["stacks"] = [
        {**row, "comm": "w", "stack": ";".join(f"f{n}.{depth}" for depth in range(30))}
        for n in range(2000)
    ]
    store.write(page.with_name("alike"), samples.meta(), tables)
    file = page.with_name("alike.html")
    analysis.write_html(store.read(page.with_name("alike")), file)
    script = """press("kinds", "user");
      const last = () => frames().reduce((a, b) => (b.depth > a.depth ? b : a));
      result.deep = last().depth; result.merged = last().nodes.length;
      result.full = frames().filter((frame) => frame.depth === 31)
        .reduce((sum, frame) => sum + frame.width, 0) / frames()[0].width;
      livedump.state.set({ frame: '["w","f7.0"]' });
      result.zoomed = [last().depth, last().nodes.length, last().node.name];"""
    result = result_of(file, script)
    assert result["deep"] == 31 and result["merged"] > 1
    assert 0.95 < result["full"] <= 1.001
    assert result["zoomed"] == [31, 1, "f7.29"]


def test_flame_graph_works_by_keyboard(page: Path, diff: Path) -> None:
    """The text names the frame that the keys have come to."""
    script = """
      const flame = byId("flame"), clear = () => frames().filter((frame) => !frame.faded).length;
      const go = (...keys) => keys.map((name) => {
        key("flame", name);
        return text("flame-details").split(":")[0];
      });
      press("kinds", "cow");
      flame.focus();
      result.ring = getComputedStyle(flame).outlineStyle; result.all = clear();
      result.path = go("ArrowUp", "ArrowUp", "ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown");
      result.rim = go("ArrowLeft", "ArrowLeft", "ArrowDown", "ArrowDown");
      go("ArrowUp", "Enter"); result.zoomed = clear();
      result.home = go("Home"); result.reset = clear();
      go("ArrowUp", "Enter", "Escape"); result.escaped = clear();
      go("/"); result.field = document.activeElement.id;
      press("flame-shapes", "icicle"); result.down = go("ArrowDown", "ArrowDown", "ArrowDown");
      go("c"); await pause(); result.copied = text("flame-details");
      """
    for file in (page, diff):
        result = result_of(file, script)
        entry = "entry_SYSCALL_64_after_hwframe"
        assert result["ring"] == "solid" and result["field"] == "flame-search"
        assert result["path"] == ["cow", "stress-ng", "stress-ng", "fio", entry, "fio"], result
        assert result["rim"] == ["fio", "fio", "cow", "cow"], result
        assert result["zoomed"] < result["all"] == result["reset"] == result["escaped"], result
        assert result["home"] == ["cow"]
        assert result["down"] == ["cow", "stress-ng", entry]
        assert result["copied"] == f"copied: 2 frames, {entry}"


def count(page: Path, kind: str, slices: range, low_ns: int = 0, high_ns: int = 1 << 62) -> int:
    """Faults of the sample."""
    return sum(
        row["count"]
        for row in store.read(page.with_name("recording")).columns("slices").to_pylist()
        if row["kind"] == kind
        and row["slice"] in slices
        and low_ns <= row["bucket_low_ns"] < high_ns
    )


def test_what_is_chosen_is_all_that_is_shown(page: Path) -> None:
    """By mouse; the sample's stacks each are in two slices."""
    script = """
      const now = () => ({
        heat: text("heat-details"), flame: text("flame-details"), where: text("flame-span"),
        chosen: text("chosen"), rows: rows("percentiles"), tasks: rows("tasks"),
        said: text("tasks"), bars: byId("histogram").data[0].y.reduce((a, b) => a + b),
      });
      result.all = now();
      drag([2 / 12, 0.5], [3 / 12, 0.5]); result.span = now();
      await pause();
      const { height } = document.querySelector("#heat .overlay").getBBox();
      const most = Math.round(height / 9);
      drag([0.5, 0.01], [0.501, (most / 2 - 0.2) * 9 / height]); result.range = now();
      await pause();
      drag([4 / 12, 0.01], [6 / 12, (most / 2 - 0.2) * 9 / height]); result.both = now();
      result.state = [livedump.state.get("span"), livedump.state.get("latency")];
      await pause();
      byId("chosen-clear").click(); result.none = now();
      drag([9 / 12, 0.5], [10 / 12, 0.5]);
      result.nothing = text("flame"); result.tasks = text("tasks");
      await pause();
      press("kinds", "stop");
      drag([1 / 12, 0.5], [3 / 12, 0.5]); result.stops = rows("stops").length;
      await pause();
      drag([3 / 12, 0.5], [4 / 12, 0.5]); result.later = rows("stops").length;
    """
    result = result_of(page, script)
    over = analysis.over_time(store.read(page.with_name("recording")))
    taken = sum(cell[2] for cell in over.stacks["cow"].cells if 20 <= cell[0] < 30)
    every, whole, one = range(120), result["all"], result["span"]
    assert whole["flame"].startswith("cow: 1,354 faults")
    assert whole["heat"] == "all: 0 to 12 s, 1,350 faults; losses: cow, no stack: 7"
    assert whole["bars"] == 1350 and whole["chosen"] == "All of the recording"

    faults = count(page, "cow", range(20, 30))
    assert one["heat"] == f"selected: 2 s to 3 s, {faults} faults; losses: cow, no stack: 7"
    assert one["flame"] == f"cow: {taken:,} faults, 100.00 %" and 0 < taken < 1354
    assert one["where"] == "Only 2 s to 3 s of the recording."
    assert one["chosen"] == "Only 2 s to 3 s of the recording" and one["bars"] == faults
    counts = {row[0]: row[1] for row in one["rows"]}
    assert counts["cowlivedump's copy-on-write fault, probe entry to writable"] == str(faults)
    assert counts["stopstop_machine(), call to return"] == "1"
    assert sum(int(row[1]) for row in one["tasks"][:-1]) == taken
    assert "from the stacks that were taken, so they are estimates" in one["said"]

    low, high = map(float, result["state"][1].split(","))
    slow = count(page, "cow", every, int(low), int(high))
    assert 0 < slow < 1350 and result["range"]["bars"] == slow
    assert result["range"]["heat"].startswith("selected: 0 to 12 s, ")
    assert f"{slow} faults" in result["range"]["heat"]
    assert "mean latency in 100 ms is known: that lies there" in result["range"]["where"]

    both = count(page, "cow", range(40, 60), int(low), int(high))
    assert result["state"][0] == "4,6" and f", {both} faults" in result["both"]["heat"]
    assert result["both"]["bars"] == both
    assert result["none"] == whole
    assert result["nothing"] == "No stack was taken there."
    assert "Whole recording" in result["tasks"]
    assert (result["stops"], result["later"]) == (1, 0)


def test_percentiles_of_what_is_chosen(page: Path) -> None:
    """Against the report's own, of a recording of that span alone."""
    wanted = range(30, 60)
    recording = store.read(page.with_name("recording"))
    tables = samples.tables()
    cells = [row for row in recording.columns("slices").to_pylist() if row["slice"] in wanted]
    tables["histograms"] = [
        {**row, "count": sum(c["count"] for c in cells if same(c, row))}
        for row in tables["histograms"]
    ]
    tables["counters"] = []
    store.write(page.with_name("part"), samples.meta(), tables)
    part = analysis.summarize(store.read(page.with_name("part")))
    script = """for (const kind of ["user", "cow", "cow_demote"]) {
        const found = livedump.views.timeline.latency(kind, [3e9, 6e9], null);
        result[kind] = [found.count, found.p50_ns, found.p90_ns, found.p99_ns];
      }"""
    result = result_of(page, script)
    for latency in part.latencies:
        if latency.kind in result:
            values = latency.percentiles_ns
            assert result[latency.kind] == [
                latency.count,
                *(values[p] for p in ("p50", "p90", "p99")),
            ]


def test_percentiles_of_few_are_not_told(page: Path) -> None:
    """As in the text, where one more event would be the maximum again."""
    tables = samples.tables()
    few = next(row for row in tables["histograms"] if row["kind"] == "cow_demote")
    others = [row for row in tables["histograms"] if row["kind"] != "cow_demote"]
    tables["histograms"] = [*others, {**few, "count": 50}]
    tables["counters"] = []
    store.write(page.with_name("few"), samples.meta(), tables)
    recording = store.read(page.with_name("few"))
    analysis.write_html(recording, page.with_name("few.html"))
    script = """result.rows = rows("percentiles").map((row) => row.slice(1, 6));"""
    shown = result_of(page.with_name("few.html"), script)["rows"]
    latencies = analysis.summarize(recording).latencies
    assert [row[0] for row in shown] == [f"{latency.count:,}" for latency in latencies]
    assert ["50", False, False, True, True] in [
        [row[0], *("–" == t for t in row[1:])] for row in shown
    ]
    for row, latency in zip(shown, latencies, strict=True):
        untold = [latency.count * (1 - share) < 1 for share in QUANTILES.values()]
        assert [text == "–" for text in row[1:]] == untold, latency.kind


def same(one: Row, other: Row) -> bool:
    """Of one bucket of a kind."""
    return all(one[name] == other[name] for name in ("kind", "bucket_low_ns"))


def test_heat_map_works_by_keyboard(page: Path) -> None:
    script = """
      const go = (name, shiftKey) => {
        key("heat", name, { shiftKey });
        return text("heat-details");
      };
      pick("heat-zeros", "1"); result.zero = text("heat-details");
      result.first = go("ArrowRight"); result.longer = go("ArrowRight", true);
      result.up = go("ArrowUp"); result.top = go("ArrowDown", true);
      result.state = livedump.state.get("latency").split(",").map(Number);
      result.none = go("Escape");
      go("ArrowRight"); go("Enter"); result.near = livedump.state.get("view");
      for (let i = 0; i < 5; i += 1) go("ArrowRight");
      result.moved = livedump.state.get("view");
      go("-"); result.wider = livedump.state.get("view");
      result.all = [go("0"), livedump.state.get("view")];
    """
    result = result_of(page, script)
    # The stop was at 1.936 s and lasted 64.9 ms: it ended at 2.0009 s.
    faults = count(page, "cow", range(10, 61))
    assert result["zero"].startswith(f"shown: −1 s to 4 s, {faults:,} faults"), result
    assert result["first"].startswith("selected: −"), result
    low, high = result["state"]
    assert ", " in result["up"] and low > 0 and high < 13_000, result
    assert result["none"] == result["zero"]
    assert (
        result["near"] and result["moved"] != result["near"] and result["wider"] != result["moved"]
    )
    assert result["all"][0].startswith("selected: ") and result["all"][1] == ""


def test_heat_map_says_what_is_pointed_at(page: Path) -> None:
    script = """
      press("kinds", "user");
      const svg = document.querySelector("#heat svg");
      const box = document.querySelector("#heat .overlay").getBoundingClientRect();
      const at = (x, y) => {
        byId("heat").dispatchEvent(new PointerEvent("pointermove",
          { clientX: box.left + x * box.width, clientY: box.top + y }));
        return [...document.querySelectorAll("#heat .tip div")].map((line) => line.textContent);
      };
      result.tip = at(2.15 / 12, box.height - 4);
      result.shown = !document.querySelector("#heat .tip").hidden;
      result.stop = at(2.001 / 12, 5);
      byId("heat").dispatchEvent(new PointerEvent("pointerleave"));
      result.gone = document.querySelector("#heat .tip").hidden;
      result.legend = text("heat-legend");
      result.labels = [...svg.querySelectorAll(".bands text")].map((each) => each.textContent);
      result.utc = [...svg.querySelectorAll(".utc text")].map((each) => each.textContent);
      const edge = svg.getBoundingClientRect();
      result.cut = [...svg.querySelectorAll("text")].filter((each) => {
        const { left, right } = each.getBoundingClientRect();
        return left < edge.left - 0.5 || right > edge.right + 0.5;
      }).map((each) => each.textContent);
      const canvas = document.querySelector("#heat canvas");
      result.sharp = canvas.width / canvas.clientWidth;
    """
    result = result_of(page, script, "--force-device-scale-factor=2")
    assert result["shown"] and result["gone"]
    assert result["tip"][:2] == ["2.1 s to 2.2 s", "17:18:27.100 UTC"]
    assert result["tip"][-2:] == [
        f"all in this column: {count(page, 'user', range(21, 22))}",
        "lost: cow, no stack: 7",
    ]
    assert result["stop"][-1] == "stop 1: 64.9 ms, livedump_stop [livedump]"
    assert result["legend"].startswith("Faults in a cell:1")
    assert set(result["labels"]) == {
        *("1 µs", "2 µs", "5 µs", "10 µs", "20 µs", "50 µs", "100 µs"),
        *("start", "UTC"),
    }
    assert result["utc"][0] == "17:18:25" and result["utc"][-1] == "17:18:37"
    assert result["cut"] == []
    assert abs(result["sharp"] - 2) < 0.01


HOUR_SLICES = 36_000


def hour(folder: Path) -> Path:
    """An hour of user faults, each slice with its own number, and a stop of 900 ms of 30 stops."""
    meta, tables = samples.meta(), samples.tables()
    meta["clocks"]["end"]["monotonic_ns"] = samples.START_NS + 3600 * 10**9
    numbers = range(HOUR_SLICES)
    cell = next(row for row in tables["slices"] if row["kind"] == "user")
    stack = next(row for row in tables["stack_slices"] if row["kind"] == "user")
    when = [{"slice": n, "start_ns": n * samples.SLICE_NS} for n in numbers]
    tables["slices"] = [{**cell, **when[n], "count": 100 + n % 777} for n in numbers]
    tables["stack_slices"] = [{**stack, **when[n], "count": 20 + n % 777} for n in numbers]
    stop = {**tables["stops"][0], "duration_ns": 50_000}
    tables["stops"] = [
        {**stop, "start_monotonic_ns": samples.START_NS + (minute + 1) * 10**11}
        for minute in range(30)
    ]
    long_ns = 900_000_000
    start_ns = samples.START_NS + 1_800 * 10**9 - long_ns
    tables["stops"][17].update(start_monotonic_ns=start_ns, duration_ns=long_ns)
    tables["snapshots"] = []
    tables["tasks"] = [{**tables["tasks"][0], "pid": n, "count": n + 1} for n in range(300)]
    store.write(folder, meta, tables)
    return folder


@pytest.fixture(scope="module")
def hour_page(page: Path) -> Path:
    """Of :func:`hour`."""
    file = page.with_name("hour.html")
    analysis.write_html(store.read(hour(page.with_name("hour"))), file)
    return file


def test_an_hour_has_every_slice_around_a_stop(hour_page: Path) -> None:
    script = """
      const columns = [], fill = CanvasRenderingContext2D.prototype.fillRect;
      CanvasRenderingContext2D.prototype.fillRect = function (x, y, width, height) {
        if (this.canvas.closest("#heat")) columns.push(width / this.canvas.clientWidth);
        fill.call(this, x, y, width, height);
      };
      press("kinds", "user");
      result.whole = text("heat-columns");
      const labels = [...document.querySelectorAll("#heat text.stop")]
        .map((each) => each.getBoundingClientRect());
      result.labels = labels.length;
      result.lines = document.querySelectorAll("#heat line.stop").length;
      result.smear = labels.some((one) => labels.some(
        (other) => one !== other && one.left < other.right && other.left < one.right));
      columns.length = 0;
      pick("heat-zeros", "18");
      result.close = text("heat-columns");
      result.columns = columns.filter((share) => Math.abs(share - 0.02) < 0.002).length;
      for (let i = 0; i < 10; i += 1) key("heat", "ArrowRight");
      result.heat = text("heat-details"); result.span = text("flame-span");
      result.flame = text("flame-details");
      pick("heat-zeros", "");
      result.later = text("heat-details");
      byId("heat-zoom").click(); result.zoomed = text("heat-columns");
    """
    result = result_of(hour_page, script)
    among = "20 of 30 stops are marked: those of snapshots, then the longest."
    assert result["whole"] == f"Each column is 6 s. From a stop it is 100 ms. {among}"
    assert result["close"] == f"Each column is 100 ms. {among}"
    assert result["lines"] == 20 and 5 < result["labels"] <= 20 and not result["smear"]
    assert 48 <= result["columns"] <= 52, result
    faults, taken = 100 + 18_000 % 777, 20 + 18_000 % 777
    assert result["heat"] == f"selected: 0 to 100 ms, {faults} faults"
    assert result["span"] == "Only 0 to 100 ms from stop 18."
    assert result["flame"].startswith(f"user: {taken} faults, 100.00 %")
    assert result["later"] == f"selected: 1,800 s to 1,800.1 s, {faults} faults"
    assert result["zoomed"] == f"Each column is 100 ms. {among}"


def test_tables_are_sorted_and_tell_how_many(hour_page: Path) -> None:
    script = """
      const head = (title) => [...document.querySelectorAll("#tasks th")]
        .find((each) => each.textContent === title);
      const sort = (title) => {
        head(title).querySelector("button").click();
        return [head(title).getAttribute("aria-sort"), rows("tasks")[0][1]];
      };
      const more = () => document.querySelector("#tasks .below button");
      press("kinds", "user");
      result.first = [rows("tasks").length, text("tasks").match(/\\d+ of \\d+/)[0]];
      result.sorted = [sort("pid"), sort("pid"), sort("faults"), sort("task")];
      while (more()) more().click();
      result.all = [rows("tasks").length, document.querySelector("#tasks .below").textContent];
      result.stops = [rows("stops").length, document.querySelector("#stops .below").textContent];
    """
    result = result_of(hour_page, script)
    assert result["first"] == [12, "12 of 300"]
    assert result["sorted"][:3] == [
        ["descending", "299"],
        ["ascending", "0"],
        ["descending", "299"],
    ]
    assert result["sorted"][3][0] == "ascending"
    others = "the others: livedump-trace query 'SELECT * FROM tasks'"
    assert result["all"] == [200, f"200 of 300: {others}"]
    assert result["stops"] == [20, "20 of 30Show 10 more"]


def test_the_url_brings_it_all_back(page: Path) -> None:
    say = """
      const say = () => ({
        heat: text("heat-details"), flame: text("flame-details"), chosen: text("chosen"),
        span: text("flame-span"), search: byId("flame-search").value, frames: frames().length,
        zero: byId("heat-zeros").value, rows: rows("percentiles"), tasks: rows("tasks"),
        pressed: [...document.querySelectorAll('[aria-pressed="true"]')]
          .map((each) => each.textContent),
      });"""
    script = """
      press("kinds", "user"); press("kinds", "cow"); pick("heat-zeros", "1");
      press("flame-shapes", "callers"); press("flame-weights", "stalled");
      key("heat", "ArrowRight");
      for (let i = 0; i < 19; i += 1) key("heat", "ArrowRight", { shiftKey: true });
      key("heat", "ArrowUp"); key("heat", "ArrowUp");
      type("flame-search", "sys_(write|clone)");
      await pause(); await pause();
      result.seen = say(); result.hash = location.hash;
      location.hash = "#kind=user"; await pause();
      result.changed = [text("flame-details"), byId("flame-search").value, text("chosen")];
    """
    result = result_of(page, say + script)
    assert result["changed"] == ["user: 6,000 faults, 100.00 %", "", "All of the recording"]
    seen = result["seen"]
    assert seen["search"] and seen["zero"] == "1" and "selected" in seen["heat"]
    assert "from stop 1, latencies of " in seen["chosen"] and "search: " in seen["flame"]
    assert seen["pressed"] == ["cow", "callers (reversed)", "by stalled time", ".*"]
    again = result_of(page, say + "result.seen = say();", fragment=result["hash"])
    assert again["seen"] == seen
    broken = (
        "#kind=%00&span=9,x&latency=5,1&view=1e99,2e99&zero=-1&shape=__proto__&frame={&search=("
    )
    other = result_of(page, say + "result.seen = say();", fragment=broken)["seen"]
    assert other["heat"].startswith("all: 0 to 12 s, 1,350 faults")
    assert other["pressed"] == ["cow", "flame", "by count", ".*"]


def test_losses_have_a_row_under_the_heat_map(page: Path) -> None:
    dom = chromium(probed(page), "--dump-dom")
    assert body(dom).count('<rect class="loss"') == 1
    tables = samples.tables()
    tables["loss_slices"] = []
    store.write(page.with_name("lossless"), samples.meta(), tables)
    file = page.with_name("lossless.html")
    analysis.write_html(store.read(page.with_name("lossless")), file)
    assert '"loss"' not in body(chromium(probed(file), "--dump-dom"))


def changed() -> dict[str, list[Row]]:
    """The sample's tables, with three times as many faults on one stack, also of the kind that is
    not timed, one stack gone and a rare one come; user faults take twice as long."""
    tables = samples.tables()
    rare = {"kind": "stop", "comm": "a", "stack": "f", "samples": 1, "count": 1}
    exact = {"count_error": 0.0, "stalled_error_ns": 0.0}
    tables["stacks"].append({**rare, **exact, "stalled_ns": 5_000_000})
    for row in tables["stacks"]:
        if "memcpy" in row["stack"] or row["kind"] == "kernel":
            row["count"] *= 3
    tables["stacks"] = [row for row in tables["stacks"] if "mmap_region" not in row["stack"]]
    for name in ("histograms", "slices"):
        for row in tables[name]:
            if row["kind"] == "user":
                row.update({edge: 2 * row[edge] for edge in ("bucket_low_ns", "bucket_high_ns")})
    tables["counters"] = [
        row for row in tables["counters"] if row["name"] not in ("sum_ns", "max_ns")
    ]
    return tables


def test_comparison_shows_what_changed_first(page: Path) -> None:
    folder = page.with_name("changed")
    store.write(folder, samples.meta(), changed())
    file = page.with_name("diff.html")
    before = store.read(page.with_name("recording"))
    analysis.write_diff_html(analysis.compare(before, store.read(folder)), file)
    script = """
      result.changes = rows("changes"); result.all = rows("all").length;
      result.lines = byId("histogram").data.map((line) => [line.name, line.x[1]]);
      press("kinds", "kernel"); result.untimed = text("histogram-none");
      press("kinds", "cow");
      const node = (name) => frames().find((frame) => frame.node.name === name).node;
      for (const name of ["memcpy", "mmap_region", "dup_mm"]) {
        result[name] = [node(name).before, node(name).after];
      }
      press("flame-shapes", "callers");
      result.callers = [node("memcpy").before, node("memcpy").after, frames()[0].node.value];
      result.rates = ["kernel", "stop"].flatMap(
        (kind) => rows("most").find((row) => row[0] === kind).slice(1, 5));
    """
    result = result_of(file, script, f"--screenshot={SHOTS / 'diff.png'}")
    assert result["rates"] == ["7.5", "22.5", "–", "–", "0", "0.0833", "0 ns", "417 µs"]
    kinds = [(row[0], row[1]) for row in result["changes"]]
    assert ("user", "p50") in kinds and all(row[-1].endswith("*") for row in result["changes"])
    assert len(kinds) < result["all"]
    (a, low), (b, high) = result["lines"]
    assert (a, b) == ("A", "B") and high == 2 * low
    assert result["untimed"] == "kernel is counted, but not timed."
    [own] = [number for stack, number in samples.COW_STACKS.items() if "memcpy" in stack]
    assert result["memcpy"] == [own // 2, own // 2 * 3]  # of one of the two tasks
    assert result["mmap_region"][1] == 0 < result["mmap_region"][0]
    assert result["dup_mm"][0] == result["dup_mm"][1]
    assert result["callers"][:2] == [own // 2 * 2 + 1, (own // 2 * 2 + 1) * 3]


LOOKS = [
    ("desktop-light", (1400, 3000), ()),
    ("desktop-dark", (1400, 3000), DARK),
    ("tablet", (800, 3400), ()),
    ("tablet-dark", (800, 3400), DARK),
    ("narrow", (400, 4600), ()),
    ("narrow-dark", (400, 4600), DARK),
]


@pytest.mark.parametrize(("name", "size", "extra"), LOOKS)
def test_nothing_is_in_the_way_at_any_width(
    page: Path, diff: Path, name: str, size: tuple[int, int], extra: tuple[str, ...]
) -> None:
    """Pictures for people to look at. The page does not scroll sideways, and axe-core, by which
    accessibility is judged, finds nothing: with something chosen and without."""
    script = """
      result.width = innerWidth;
      result.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
      const judge = async () => (await axe.run(document)).violations.map(
        (found) => `${found.id}: ${found.nodes.map((node) => node.target).join(" ")}`);
      result.first = await judge();
      if (byId("heat")) {
        livedump.state.set({ kind: "user", span: "2,4", latency: "10000,100000", zero: "1" });
        result.then = await judge();
        result.clock = [...document.querySelectorAll("#heat .utc text")]
          .map((each) => each.textContent);
      }"""
    for file, what in ((page, ""), (diff, "diff-")):
        picture = SHOTS / f"{what}{name}.png"
        picture.unlink(missing_ok=True)
        flags = (*extra, f"--screenshot={picture}")
        result = result_of(file, f"{assets.text('axe.js')};{script}", *flags, size=size)
        assert result.pop("width") == size[0]
        assert result.pop("wide") <= 0, "the page scrolls sideways"
        clock = result.pop("clock", ["17:18:25", "17:18:27"])
        assert len(clock) > 1 and all(re.fullmatch(r"\d\d:\d\d:\d\d", each) for each in clock)
        assert all(found == [] for found in result.values()), result
        assert picture.stat().st_size > 30_000
