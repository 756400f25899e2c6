"""Log-linear buckets: the promised error, and the C that runs in the kernel does the same."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from livedump.recording.buckets import BUCKETS, bounds
from tests.unit.buckets import bucket_of

BPF = Path(__file__).resolve().parents[3] / "bpf"

PROGRAM = """
#include <stdio.h>
#include "loglinear.h"
int main(void)
{
    unsigned long long value;

    printf("%d\\n", LD_BUCKETS);
    while (scanf("%llu", &value) == 1)
        printf("%u\\n", ld_bucket(value));
    return 0;
}
"""


def samples() -> list[int]:
    """Small values, edges of powers of two and of buckets, random ones over the whole range."""
    chance = random.Random(7)
    found = set(range(5000)) | {(1 << 64) - 1}
    for bit in range(64):
        found |= {1 << bit, (1 << bit) - 1, (1 << bit) + 1}
        found |= {chance.getrandbits(bit + 1) for _ in range(200)}
    for bucket in range(BUCKETS):
        low, high = bounds(bucket)
        found |= {low, high - 1}
    return sorted(value for value in found if value < 1 << 64)


def test_buckets_cover_everything_without_gap_or_overlap() -> None:
    edges = [bounds(bucket) for bucket in range(BUCKETS)]
    assert edges[0][0] == 0
    assert edges[-1][1] == 1 << 64
    assert all(this[1] == following[0] for this, following in zip(edges, edges[1:], strict=False))


def test_error_is_at_most_what_is_promised() -> None:
    for value in samples():
        low, high = bounds(bucket_of(value))
        assert low <= value < high
        middle = (low + high - 1) // 2
        assert max(value - low, high - 1 - value) <= value * 0.0625
        assert abs(middle - value) <= value * 0.0323 or high - low <= 2


def test_the_c_does_the_same(tmp_path: Path) -> None:
    source = tmp_path / "buckets.c"
    source.write_text(PROGRAM)
    flags = ["-Wall", "-Wextra", "-Werror", "-Wno-sign-compare", f"-I{BPF}"]
    subprocess.run(["gcc", *flags, "-o", tmp_path / "buckets", source], check=True)
    values = samples()
    done = subprocess.run(
        [tmp_path / "buckets"],
        input="\n".join(map(str, values)),
        capture_output=True,
        text=True,
        check=True,
    )
    count, *found = map(int, done.stdout.split())
    assert count == BUCKETS
    assert found == [bucket_of(value) for value in values]


def test_no_such_bucket() -> None:
    with pytest.raises(ValueError):
        bounds(BUCKETS)
