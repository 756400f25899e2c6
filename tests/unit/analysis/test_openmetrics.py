"""Metrics, read by Prometheus's own tools."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser

from livedump.analysis.openmetrics import WIDEST, edges_ns, openmetrics
from livedump.kinds import KINDS
from livedump.recording import store
from livedump.recording.buckets import BUCKETS, bounds
from livedump.recording.schema import Row
from livedump.recording.store import Recording
from tests.unit import samples
from tests.unit.buckets import bucket_of
from tools.setup import promtool

BUCKET = "livedump_latency_seconds_bucket"

QUANTILES = (0.01, 0.5, 0.9, 0.99, 0.999)


def run_promtool(*arguments: str, stdin: str = "") -> str:
    """What it prints; it must be content."""
    assert promtool.program().exists(), "promtool is missing: make setup"
    done = subprocess.run(
        [promtool.program(), *arguments], input=stdin, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def sample(tmp_path: Path) -> Recording:
    """The sample recording."""
    return store.read(samples.write(tmp_path / "rec"))


def recording(folder: Path, host: str, values: dict[str, list[int]]) -> Recording:
    """Of a host that has measured these latencies, by kind."""
    rows: list[Row] = []
    counters: list[Row] = []
    for kind, numbers in values.items():
        for bucket in sorted({bucket_of(number) for number in numbers}):
            low, high = bounds(bucket)
            count = sum(low <= number < high for number in numbers)
            edges = {"bucket_low_ns": low, "bucket_high_ns": high}
            rows.append({"kind": kind, **edges, "count": count})
        sums = {"sum_ns": sum(numbers), "max_ns": max(numbers)}
        counters += [{"kind": kind, "name": name, "count": n} for name, n in sums.items()]
    tables = {"histograms": rows, "counters": counters}
    store.write(folder / host, {**samples.meta(), "host": host}, tables)
    return store.read(folder / host)


def values_of(text: str) -> dict[str, float]:
    """Series -> its value, as they are in the text."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}


def test_bounds_are_edges_of_the_buckets_and_close_enough() -> None:
    edges = edges_ns()
    assert set(edges) <= {bounds(bucket)[0] for bucket in range(BUCKETS)}
    for before, edge in zip(edges, edges[1:], strict=False):
        assert edge <= before * WIDEST
        assert bounds(bucket_of(edge))[1] > before * WIDEST, "a larger one would do"
    assert (edges[0], edges[-1], len(edges)) == (32, 1 << 35, 301)


@pytest.mark.parametrize("timestamps", [False, True])
def test_openmetrics_is_read_by_prometheus(sample: Recording, timestamps: bool) -> None:
    text = openmetrics(sample, timestamps=timestamps)
    read = parser.text_string_to_metric_families
    families = {family.name: family for family in read(text)}  # type: ignore[no-untyped-call]
    latency = families["livedump_latency_seconds"]
    assert latency.type == "histogram"
    assert {family.type for name, family in families.items() if family is not latency} == {"gauge"}
    found = values_of(openmetrics(sample))
    assert found['livedump_latency_seconds_count{host="sample",kind="user"}'] == 6000
    assert found['livedump_events{host="sample",kind="user",name="events"}'] == 6010
    assert found['livedump_lost{host="sample",probe="cow",what="no stack"}'] == 7
    assert found['livedump_latency_max_seconds{host="sample",kind="stop"}'] == 0.0649
    assert found['livedump_recording_duration_seconds{host="sample"}'] == 12
    times = {
        float(each.timestamp)
        for family in families.values()
        for each in family.samples
        if each.timestamp is not None
    }
    assert times == ({1_795_454_317.0} if timestamps else set())


def test_the_older_format_has_the_same_types(sample: Recording) -> None:
    """node_exporter and the Pushgateway read that one; no family is without a type or a help."""
    for family in text_parser.text_string_to_metric_families(openmetrics(sample)):
        assert family.type in ("histogram", "gauge") and family.documentation, family.name


def test_promtool_checks_the_names(sample: Recording) -> None:
    assert run_promtool("check", "metrics", stdin=openmetrics(sample)) == ""


def test_promtool_makes_blocks(sample: Recording, tmp_path: Path) -> None:
    """With times only, which tsdb dump shows in milliseconds."""
    file, blocks = tmp_path / "recording.om", tmp_path / "blocks"
    file.write_text(openmetrics(sample, timestamps=True))
    run_promtool("tsdb", "create-blocks-from", "openmetrics", str(file), str(blocks))
    (blocks / "wal").mkdir()
    dumped = run_promtool("tsdb", "dump", str(blocks)).splitlines()
    assert len(dumped) == len(values_of(openmetrics(sample)))
    [line] = [line for line in dumped if '"livedump_lost"' in line]
    assert line.endswith("} 7 1795454317000")


def test_all_recordings_have_the_same_bounds(tmp_path: Path) -> None:
    """Though their values do not overlap, or lie outside of all of them."""
    found = [
        values_of(openmetrics(recording(tmp_path, "x" * size, {"user": numbers})))
        for size, numbers in enumerate(([1, 2], [10**12, 1 << 60], [5000]), 1)
    ]
    bounds_of = [
        [series.partition("le=")[2] for series in values if series.startswith(BUCKET)]
        for values in found
    ]
    assert bounds_of[0] == bounds_of[1] == bounds_of[2] and len(bounds_of[0]) == 302
    counts = [[n for series, n in values.items() if series.startswith(BUCKET)] for values in found]
    assert counts[0] == [2] * 302 and counts[1] == [0] * 301 + [2]
    exact = counts[2].index(1)
    assert edges_ns()[exact - 1] <= 5000 < edges_ns()[exact]


def hosts() -> dict[str, dict[str, list[int]]]:
    """Two hosts whose latencies have little in common; of stops there is one on each."""
    chance = random.Random(2012)

    def spread(middle: float, width: float, count: int) -> list[int]:
        return [int(chance.lognormvariate(middle, width)) + 33 for _ in range(count)]

    slow = [*spread(8.0, 0.4, 4000), *spread(16.5, 0.3, 45)]  # and few that wait for a disk
    return {
        "quick": {
            "user": spread(6.5, 0.5, 9000),
            "user_major": [73_000],
            "uaccess": spread(7.5, 1.0, 500),
            "gup": spread(9.0, 0.2, 11),
            "cow": spread(7.9, 0.5, 1350),
            "cow_demote": spread(4.0, 1.0, 700),
            "cow_copy": spread(6.9, 0.1, 700),
            "stop": [23_100_000],
        },
        "slow": {
            "user": slow,
            "user_major": spread(15.0, 0.5, 300),
            "uaccess": [4_000] * 600,
            "gup": [14_400] * 30,
            "cow": [2_112] * 500,
            "cow_demote": [64] * 5,
            "cow_copy": [1_023, 1_024, 1_025],
            "stop": [64_900_000],
        },
    }


def rank(numbers: list[int], share: float) -> int:
    """The value that this share of all does not exceed."""
    return sorted(numbers)[max(-(-len(numbers) * round(share * 1000) // 1000), 1) - 1]


def evaluated(series: dict[str, float], expressions: list[str], folder: Path) -> str:
    """What promtool says when each expression over these series must be 1."""
    rules = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": str(value)} for name, value in series.items()
                ],
                "promql_expr_test": [
                    {"expr": text, "eval_time": "0m", "exp_samples": [{"labels": "{}", "value": 1}]}
                    for text in expressions
                ],
            }
        ],
    }
    (folder / "test.yaml").write_text(json.dumps(rules))  # JSON is YAML
    return run_promtool("test", "rules", str(folder / "test.yaml"))


def within(tenth: float, over: str, share: float, truth_ns: int) -> str:
    """PromQL: 1 where the quantile is so near to the truth."""
    quantile = f"histogram_quantile({share}, {over})"
    return f"abs({quantile} / {truth_ns / 1e9!r} - 1) <= bool {tenth}"


@pytest.fixture
def fleet(tmp_path: Path) -> dict[str, float]:
    """Series of both hosts."""
    texts = [openmetrics(recording(tmp_path, *host)) for host in hosts().items()]
    return {
        series: value
        for text in texts
        for series, value in values_of(text).items()
        if series.startswith(BUCKET)
    }


def test_quantiles_over_hosts_are_within_a_tenth(fleet: dict[str, float], tmp_path: Path) -> None:
    """And those of one host, of one value."""
    expressions = []
    for kind in KINDS:
        every = [host[kind] for host in hosts().values() if kind in host]
        for share in QUANTILES if every else ():
            truth = rank([number for numbers in every for number in numbers], share)
            over = f'sum by (le) ({BUCKET}{{kind="{kind}"}})'
            expressions.append(within(0.1, over, share, truth))
    alone = f'sum by (le) ({BUCKET}{{kind="stop", host="quick"}})'
    expressions += [within(0.1, alone, share, 23_100_000) for share in QUANTILES]
    assert len(expressions) == 9 * len(QUANTILES)
    assert "SUCCESS" in evaluated(fleet, expressions, tmp_path)


def test_that_check_bites(fleet: dict[str, float], tmp_path: Path) -> None:
    over = f'sum by (le) ({BUCKET}{{kind="stop"}})'
    with pytest.raises(AssertionError, match="FAILED"):
        evaluated(fleet, [within(0.1, over, 0.5, 20_000_000)], tmp_path)


def test_a_name_may_be_anything(tmp_path: Path) -> None:
    host = 'a"b\\c\nd\udcff\x1b'
    found = recording(tmp_path, "x", {"user": [1]})
    found.meta["host"] = host.encode(errors="replace").decode()
    text = openmetrics(found)
    run_promtool("check", "metrics", stdin=text)
    read = list(parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert read[0].samples[0].labels["host"] == found.meta["host"]
