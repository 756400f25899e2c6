"""The HTML report in a real browser: it draws, does not complain, asks nobody for anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from livedump import analysis
from livedump.analysis import assets
from livedump.recording import store
from tests.report.browser import DARK, SHOTS, body, chromium, probed, result_of, shot, trouble
from tests.unit import samples
from tools.vm.config import SERIES
from tools.vm.kernels import series_of


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
    store.write(page.with_name("odd"), samples.meta(), tables)
    file = page.with_name("odd.html")
    analysis.write_html(store.read(page.with_name("odd")), file)
    script = """for (const kind of ["__proto__", "constructor"]) {
        press("kinds", kind); result[`_${kind}`] = [frames().length, text("flame-details"),
          !byId("histogram").hidden, rows("tasks").length];
      }
      result.clean = Object.keys(Object.prototype);"""
    result = result_of(file, script)
    assert result["clean"] == []
    assert result["___proto__"][0] > 20 and result["___proto__"][2:] == [True, 1]
    assert result["_constructor"][1:] == ["constructor: 6,000 faults, 100.00 %", True, 1]


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
      }"""
    for file, what in ((page, ""), (diff, "diff-")):
        result = result_of(file, f"{assets.text('axe.js')};{script}", *extra, size=size)
        assert result.pop("width") == size[0]
        assert result.pop("wide") <= 0, "the page scrolls sideways"
        assert all(found == [] for found in result.values()), result
        assert shot(file, f"{what}{name}", size, *extra).stat().st_size > 30_000
