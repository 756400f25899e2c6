"""The HTML report in a real browser: it draws, does not complain, asks nobody for anything."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from livedump import analysis
from livedump.recording import store
from livedump.recording.schema import Row
from tests.unit import samples
from tools.vm.kernels import series_of
from tools.vm.machines import SERIES

CHROMIUM = shutil.which("chromium") or ""
SHOTS = Path(__file__).resolve().parents[3] / "build" / "report"

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=4000",
)

ALL_OF_COW = "all: −2 s to 10 s, 1,350 faults; losses: cow, no stack: 7"

#: Runs before the page's own scripts and leaves what went wrong in the document.
PROBE = """<script>
window.addEventListener("error", (event) => note("error " + event.message));
document.addEventListener("securitypolicyviolation", (event) => note("request " +
event.blockedURI)); for (const level of ["error", "warn"]) console[level] = (...words) =>
note(level + " " + words.join(" ")); function note(text) { document.documentElement.dataset.trouble
= (document.documentElement.dataset.trouble || "") + text + "|"; } </script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's page."""
    folder = tmp_path_factory.mktemp("page")
    file = folder / "report.html"
    analysis.write_html(store.read(samples.write(folder / "recording")), file)
    return file


def chromium(page: Path, *extra: str) -> str:
    """Run chromium on a page and return what it prints."""
    assert CHROMIUM, "chromium is missing: make setup installs it"
    profile = page.with_suffix(".profile")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *extra, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def probed(page: Path, tail: str = "") -> Path:
    """The page with :data:`PROBE` before and a script *tail* after its own scripts."""
    text = page.read_text()
    assert text.count("<style>") == 1
    text = text.replace("<style>", PROBE + "<style>").replace("</body>", f"{tail}</body>")
    file = page.with_name(f"probed-{len(tail)}.html")
    file.write_text(text)
    return file


def trouble(dom: str) -> str:
    """What :data:`PROBE` noted."""
    found = re.search(r'data-trouble="([^"]*)"', dom[:10_000])
    return found[1] if found else ""


def result_of(page: Path, tail: str) -> str:
    """What the script *tail* has put into the page's ``data-result``; nothing went wrong there."""
    dom = chromium(probed(page, tail), "--dump-dom")
    assert trouble(dom) == ""
    found = re.search(r'data-result="([^"]*)"', dom[:10_000])
    assert found
    return found[1].replace("&quot;", '"')


def body(dom: str) -> str:
    """The document without its style and scripts."""
    return dom[dom.index("<body>") : dom.index('<script id="data"')]


def test_page_draws_without_a_complaint(page: Path) -> None:
    dom = chromium(probed(page), "--dump-dom")
    assert trouble(dom) == ""
    flame = re.search(r'<svg[^>]*class="partition d3-flame-graph".*?</svg>', dom, re.DOTALL)
    assert flame
    assert flame[0].count('<g class="frame"') + flame[0].count('class="frame"') > 20
    assert "ext4_file_write_iter" in flame[0]
    assert "main-svg" in dom, "plotly drew nothing"
    assert "65.1 ms" in dom and "64.9 ms" in dom
    assert '<p class="note">7 events have no stack; 0 events lost</p>' in dom
    assert "banner bad" not in body(dom) and "banner good" not in body(dom)
    assert "Not countable: skipped events." in dom
    assert "66.7%" in dom and "/load.slice" in dom, "CPUs, and the tasks' cgroups"


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
    dom = chromium(probed(file), "--dump-dom")
    assert trouble(dom) == ""
    assert "d3-flame-graph" in dom and "main-svg" in dom
    SHOTS.mkdir(parents=True, exist_ok=True)
    chromium(file, f"--screenshot={SHOTS / folder.parent.name}.png", "--window-size=1280,2900")


def test_probe_bites(page: Path) -> None:
    """The check above can fail: an exception and a request both leave a trace."""
    tail = "<script>fetch('https://example.org/x').catch(() => 0); nonsense();</script>"
    found = trouble(chromium(probed(page, tail), "--dump-dom"))
    assert "nonsense" in found
    assert "request https://example.org" in found


def test_search_kinds_and_weights_work(page: Path) -> None:
    tail = """<script>
      const press = (id, value) => document.querySelector(`#${id} [data-value="${value}"]`).click();
      const search = document.getElementById("flame-search");
      const frames = () => [...document.querySelectorAll("#flame g.frame")];
      const result = {};
      result.cow = frames().length;
      search.value = "KERNEL_clone"; search.dispatchEvent(new Event("input"));
      result.found = document.getElementById("flame-details").textContent;
      search.value = ""; search.dispatchEvent(new Event("input"));
      frames().find((frame) => frame.getAttribute("name") === "copy_process")
        .dispatchEvent(new MouseEvent("click", { bubbles: true }));
      result.zoomed = frames().length;
      document.getElementById("flame-reset").click();
      result.reset = frames().length;
      press("flame-weights", "1");
      result.stalled = document.getElementById("flame-details").textContent;
      press("flame-kinds", "kernel");
      result.untimed = document.getElementById("flame").textContent;
      press("latency-kinds", "user");
      document.documentElement.dataset.result = JSON.stringify(result);
    </script>"""
    result = result_of(page, tail)
    assert re.search(r'"found":"search: \d+ frames, 6\d\d faults', result), result
    assert '"stalled":"cow: 3.9' in result, result
    assert "counted, but not timed" in result
    numbers = {name: int(value) for name, value in re.findall(r'"(\w+)":(\d+)', result)}
    assert numbers["zoomed"] < numbers["cow"] == numbers["reset"]


def test_flame_graph_works_by_keyboard(page: Path) -> None:
    """What is drawn is zoomed; the text names the frame that the keys have come to."""
    diff = page.with_name("same.html")
    recorded = store.read(page.with_name("recording"))
    analysis.write_diff_html(analysis.compare(recorded, recorded), diff)
    tail = """<script>
      const flame = document.getElementById("flame");
      document.querySelector('#flame-kinds [data-value="cow"]').click();
      const frames = () => flame.querySelectorAll("g.frame").length;
      const press = (...keys) => keys.map((key) => {
        document.activeElement.dispatchEvent(
          new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
        const [cursor, ...more] = flame.querySelectorAll("g.cursor");
        if (more.length) throw new Error("more than one cursor");
        const said = document.getElementById("flame-details").textContent.split(":")[0];
        return cursor && cursor.getAttribute("name").startsWith(said) ? said : null;
      });
      flame.focus();
      const result = { ring: getComputedStyle(flame).outlineStyle, all: frames() };
      result.path = press("ArrowUp", "ArrowUp", "ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown");
      result.rim = press("ArrowLeft", "ArrowLeft", "ArrowDown", "ArrowDown");
      result.up = press("ArrowUp", "Enter"); result.zoomed = frames();
      result.home = press("Home"); result.reset = frames();
      press("ArrowUp", "Enter", "Escape"); result.escaped = frames();
      press("/"); result.field = document.activeElement.id;
      document.documentElement.dataset.result = JSON.stringify(result);
    </script>"""
    for file in (page, diff):
        result = json.loads(result_of(file, tail))
        entry = "entry_SYSCALL_64_after_hwframe"
        assert result["ring"] == "solid" and result["field"] == "flame-search"
        assert result["path"] == ["cow", "stress-ng", "stress-ng", "fio", entry, "fio"], result
        assert result["rim"] == ["fio", "fio", "cow", "cow"], result
        assert result["zoomed"] < result["all"] == result["reset"] == result["escaped"], result
        assert result["home"] == ["cow"]


def test_span_of_time_redraws_the_flame_graph(page: Path) -> None:
    """By mouse and by keyboard; the sample's stacks each are in two slices."""
    tail = """<script>
      const flame = () => document.getElementById("flame-details").textContent;
      const shown = () => document.getElementById("heat-details").textContent;
      const heat = document.getElementById("heat");
      const key = (name, more) => heat.dispatchEvent(
        new KeyboardEvent("keydown", { key: name, bubbles: true, ...more }));
      const pause = () => new Promise((done) => setTimeout(done, 20));  // d3 swallows clicks
      const drag = (from, to) => {
        const overlay = heat.querySelector(".overlay"), box = overlay.getBoundingClientRect();
        const at = (share) => (
          { bubbles: true, view: window,
            clientX: box.left + share * box.width, clientY: box.top + 5 });
        overlay.dispatchEvent(new MouseEvent("mousedown", at(from)));
        window.dispatchEvent(new MouseEvent("mousemove", at(to)));
        window.dispatchEvent(new MouseEvent("mouseup", at(to)));
      };
      const result = { all: flame() };
      (async () => {
      drag(2.0 / 12, 3.0 / 12);
      result.dragged = shown(); result.part = flame();
      await pause();
      document.querySelector('#heat-zeros [data-value="stop 1"]').click();
      result.zero = shown();
      key("Escape");
      result.none = flame(); result.cleared = shown();
      key("ArrowRight"); key("ArrowRight", { shiftKey: true });
      result.keyed = shown();
      key("Escape");
      document.querySelector('#heat-kinds [data-value="user"]').click();
      document.querySelector('#heat-zeros [data-value="start"]').click();
      drag(9.0 / 12, 10.0 / 12);
      result.empty = document.getElementById("flame").textContent;
      document.documentElement.dataset.result = JSON.stringify(result);
      })();
    </script>"""
    result = json.loads(result_of(page, tail))
    over = analysis.over_time(store.read(page.with_name("recording")))
    stacks = sum(cell[2] for cell in over.stacks["cow"].cells if 20 <= cell[0] < 30)
    faults = sum(over.counts("cow")[20:30])
    assert result["all"].startswith("cow: 1,354 faults")
    lost = "losses: cow, no stack: 7"
    assert result["dragged"] == f"selected: 2 s to 3 s, {faults:,} faults; {lost}"
    assert result["part"] == f"cow: {stacks:,} faults, 100.00 %"
    # The stop was at 1.936 s and lasted 64.9 ms.
    assert result["zero"].startswith("selected: −900 µs to 999 ms, "), result
    assert (result["none"], result["cleared"]) == (result["all"], ALL_OF_COW)
    assert re.match(r"selected: −\d+ ms to −\d+ ms, 0 faults", result["keyed"]), result
    assert result["empty"] == "No stack was taken in this span of time."


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
    store.write(folder, meta, tables)
    return folder


def test_an_hour_has_every_slice_around_a_stop(page: Path) -> None:
    file = page.with_name("hour.html")
    analysis.write_html(store.read(hour(page.with_name("hour"))), file)
    tail = """<script>
      const text = (id) => document.getElementById(id).textContent;
      const heat = document.getElementById("heat"), result = {}, columns = [];
      const key = (name) => heat.dispatchEvent(
        new KeyboardEvent("keydown", { key: name, bubbles: true }));
      const fill = CanvasRenderingContext2D.prototype.fillRect;
      CanvasRenderingContext2D.prototype.fillRect = function (x, y, width, height) {
        columns.push(width / this.canvas.width); fill.call(this, x, y, width, height);
      };
      document.querySelector('#flame-kinds [data-value="user"]').click();
      result.whole = text("heat-columns");
      document.querySelector('#heat-zeros [data-value="stop 18"]').click();
      result.close = text("heat-columns");
      result.columns = columns.filter((share) => Math.abs(share - 0.02) < 0.001).length;
      result.others = columns.length - result.columns;
      for (let i = 0; i < 10; i += 1) key("ArrowRight");
      result.heat = text("heat-details"); result.span = text("flame-span");
      result.flame = text("flame-details");
      document.querySelector('#heat-zeros [data-value="start"]').click();
      result.later = text("heat-details");
      document.documentElement.dataset.result = JSON.stringify(result);
    </script>"""
    result = json.loads(result_of(file, tail))
    among = "20 of 30 stops are shown: those of snapshots, then the longest."
    assert result["whole"] == f"Each column is 6 s. From a stop it is 100 ms. {among}"
    assert result["close"] == f"Each column is 100 ms. {among}"
    assert result["columns"] == 50 and result["others"] <= 2, result  # at the edges
    faults, taken = 100 + 18_000 % 777, 20 + 18_000 % 777
    assert result["heat"] == f"selected: 0 to 100 ms, {faults} faults"
    assert result["span"] == "Only 0 to 100 ms from stop 18."
    assert result["flame"].startswith(f"user: {taken} faults, 100.00 %")
    assert result["later"] == f"selected: 1,800 s to 1,800.1 s, {faults} faults"


def test_losses_have_a_row_under_the_heat_map(page: Path) -> None:
    dom = chromium(probed(page), "--dump-dom")
    [row] = re.findall(r'<rect class="loss"[^>]*><title>([^<]*)', dom)
    assert row == "2.10 s to 2.20 s: cow, no stack: 7"
    tables = samples.tables()
    tables["loss_slices"] = []
    store.write(page.with_name("lossless"), samples.meta(), tables)
    file = page.with_name("lossless.html")
    analysis.write_html(store.read(page.with_name("lossless")), file)
    assert '"loss"' not in body(chromium(probed(file), "--dump-dom"))


def changed() -> dict[str, list[Row]]:
    """The sample's tables, with three times as many faults on one stack, also of the kind that is
    not timed, one stack gone and a rare one come."""
    tables = samples.tables()
    rare = {"kind": "stop", "comm": "a", "stack": "f", "samples": 1, "count": 1}
    tables["stacks"].append({**rare, "stalled_ns": 5_000_000})
    for row in tables["stacks"]:
        if "memcpy" in row["stack"] or row["kind"] == "kernel":
            row["count"] *= 3
    tables["stacks"] = [row for row in tables["stacks"] if "mmap_region" not in row["stack"]]
    return tables


def test_comparison_draws_and_shows_what_is_gone(page: Path) -> None:
    folder = page.with_name("changed")
    store.write(folder, samples.meta(), changed())
    file = page.with_name("diff.html")
    before = store.read(page.with_name("recording"))
    analysis.write_diff_html(analysis.compare(before, store.read(folder)), file)
    tail = """<script>
      document.querySelector('#flame-kinds [data-value="cow"]').click();
      const frames = [...document.querySelectorAll("#flame g.frame")];
      const fill = (name) => frames.find((frame) => frame.getAttribute("name") === name)
        .querySelector("rect").getAttribute("fill");
      const rates = ["kernel", "stop"].flatMap((kind) => {
        const row = [...document.querySelectorAll("#most tr")]
          .find((each) => each.firstChild.textContent === kind);
        return [...row.children].slice(1, 5).map((cell) => cell.textContent);
      });
      document.documentElement.dataset.result =
        [fill("memcpy"), fill("mmap_region"), fill("dup_mm"), ...rates].join("|");
    </script>"""
    more, gone, same, *rates = result_of(file, tail).split("|")
    assert rates == ["7.5", "22.5", "–", "–", "0", "0.0833", "0 ns", "417 µs"]
    assert more.startswith("hsl(8 ") and gone.startswith("hsl(212 78%") and " 0%" in same
    SHOTS.mkdir(parents=True, exist_ok=True)
    chromium(file, f"--screenshot={SHOTS / 'diff.png'}", "--window-size=1280,2400")


@pytest.mark.parametrize(
    ("name", "size", "extra"),
    [
        ("desktop-light", "1280,2600", ()),
        (
            "desktop-dark",
            "1280,2600",
            ("--force-dark-mode", "--blink-settings=preferredColorScheme=0"),
        ),
        ("narrow", "500,3600", ()),
    ],
)
def test_screenshot(page: Path, name: str, size: str, extra: tuple[str, ...]) -> None:
    """For people to look at; here only that there is one and the page is wide enough."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    shot = SHOTS / f"{name}.png"
    shot.unlink(missing_ok=True)
    chromium(page, f"--screenshot={shot}", f"--window-size={size}", *extra)
    assert shot.stat().st_size > 50_000
    tail = """<script>document.documentElement.dataset.result =
      document.documentElement.scrollWidth - document.documentElement.clientWidth;</script>"""
    dom = chromium(probed(page, tail), "--dump-dom", f"--window-size={size}")
    assert 'data-result="0"' in dom[:10_000], "the page scrolls sideways"
