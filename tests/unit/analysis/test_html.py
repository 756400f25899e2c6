"""The HTML report as text; tests/host/report looks at it in a browser."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from livedump import analysis
from livedump.analysis import assets, html
from livedump.receipt import PHASES
from livedump.recording import store
from livedump.recording.store import Recording
from tests.unit import samples


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remembered."""
        self.tags.append((tag, dict(attrs)))


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """The sample; libraries are stand-ins unless they were fetched."""
    return store.read(samples.write(tmp_path / "r"))


@pytest.fixture
def page(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page with stand-ins for the libraries."""
    monkeypatch.setattr(assets, "text", lambda name: f"/* {name} </script><!-- */")
    return analysis.render_html(recording)


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    for tag, attributes in Tags(page).tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attributes.get(name) in (None, "data:,"), (tag, attributes)
    scripts = {script for scripts in html.SCRIPTS.values() for script in scripts}
    files = ["page.css", "page.html", "diff.html", *(f"{script}.js" for script in scripts)]
    own = "".join(map(html._package_text, files))
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|import\(", own)
    [policy] = [a for _, a in Tags(page).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"] == html.POLICY
    assert "default-src 'none'" in html.POLICY and "http" not in html.POLICY


def test_data_cannot_end_its_script(page: str, recording: Recording) -> None:
    assert "--evil=</script>" in recording.meta["command"]["argv"][1]
    assert page.count("</script>") == len(Tags(page).tags) - len(
        [tag for tag, _ in Tags(page).tags if tag != "script"]
    )
    found = re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found and not re.search(r"[<>&]", found[1])
    data = json.loads(found[1])
    assert data["meta"]["command"] == recording.meta["command"]
    assert data["buckets"]["stop"][0][2] == 1
    assert data["names"][data["flames"]["cow"][1]] == "cow"


def test_libraries_cannot_end_their_script() -> None:
    assert html._escape_script("a</script>b</SCRIPT >c<!--") == r"a<\/script>b<\/SCRIPT >c<\!--"


def test_every_phase_has_its_colour() -> None:
    found = re.search(r"const colours = \{(.*?)\};", html._package_text("panels.js"))
    assert found
    colours = dict(re.findall(r'(\w+): "(--\w+)"', found[1]))
    assert set(colours) == {*PHASES, "exit"} and len(set(colours.values())) == len(colours)
    css = html._package_text("page.css")
    for variable in colours.values():  # in the light theme and in the dark one
        assert len(set(re.findall(rf"{variable}: (#\w{{6}});", css))) == 2, variable


def test_markers_in_data_stay_text(recording: Recording) -> None:
    recording.meta["host"] = "<!--livedump:data--><b>"
    assert "<b>" not in html.embed_json(html.page_data(recording))


def test_alike_stacks_are_cut_in_time(recording: Recording) -> None:
    """As many as --user-stacks has room for, of forty functions each with a name of its own."""
    row = next(row for row in recording.tables["stacks"] if row["kind"] == "user")
    recording.tables["stacks"] = [
        {
            **row,
            "comm": f"w{number % 500}",
            "stack": ";".join(f"ns::Class{number}::method{depth}<int>()" for depth in range(40)),
            "count": 1 + number % 50,
        }
        for number in range(16_384)
    ]
    began = time.process_time()
    data = html.page_data(recording)
    assert time.process_time() - began < 10
    cut = data["flames_cut"]
    assert cut["frames"] == 1 + 500 + 16_384 * 40 and cut["kept"] > 30_000
    assert max(data["flames"]["user"][::4]) == 41, "whole stacks, not their first functions"
    assert len(json.dumps([data["flames"], data["names"]])) < html.FLAME_BYTES * 1.1


def test_rows_of_tables_are_the_heaviest_by_either_weight(recording: Recording) -> None:
    row = recording.tables["tasks"][0]
    recording.tables["tasks"] = [
        {**row, "pid": number, "count": number, "stalled_ns": 10_000 - number}
        for number in range(1, 1001)
    ]
    data = html.page_data(recording)
    pids = [task["pid"] for task in data["tasks"]]
    assert pids == [*range(1000, 900, -1), *range(100, 0, -1)]
    assert data["totals"]["tasks"] == {"user": 1000}
    assert set(data["tasks"][0]) == {"kind", "pid", "comm", "cgroup", "count", "stalled_ns"}


def test_comparison_has_both_histograms_and_a_tree(recording: Recording) -> None:
    data = html.diff_data(analysis.compare(recording, recording))
    assert data["buckets"][0] == data["buckets"][1]
    assert sum(bucket[2] for bucket in data["buckets"][0]["user"]) == 6000
    depth, name, *weights = data["flames"]["cow"][:6]
    assert (depth, data["names"][name]) == (0, "cow")
    assert weights[:2] == weights[2:] and weights[0] == 1354


def test_of_many_stops_the_longest_are_shown(recording: Recording) -> None:
    own = recording.tables["stops"][0]
    start_ns = own["start_monotonic_ns"]
    recording.tables["stops"] += [
        {**own, "pid": 1, "start_monotonic_ns": start_ns + number * 10**8, "duration_ns": number}
        for number in range(1, 1000)
    ]
    data = html.page_data(recording)
    assert data["totals"]["stops"] == 1000
    shown = [(row["number"], row["duration_ns"]) for row in data["stops"]]
    assert shown == [(1, 64_900_000), *((n + 1, n) for n in range(999, 800, -1))]


def test_missing_library_names_the_remedy(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "LIBRARIES", ("no-such.js",))
    with pytest.raises(assets.AssetMissingError, match="no-such.js.*tools.package.assets"):
        analysis.render_html(recording)


def test_real_page_is_below_8_mb(recording: Recording, tmp_path: Path) -> None:
    """Fails with the remedy when the libraries were not fetched."""
    analysis.write_html(recording, tmp_path / "page.html")
    assert 1_000_000 < (tmp_path / "page.html").stat().st_size < 8_000_000
