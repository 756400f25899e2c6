"""From a value to its bucket, as only the BPF programs do it; test_buckets compares the two."""

from __future__ import annotations

from livedump.recording.buckets import SUB, SUB_BITS


def bucket_of(value: int) -> int:
    """Index of the bucket that holds *value* (0 <= value < 2**64)."""
    if value < SUB:
        return value
    exponent = value.bit_length() - 1
    return (exponent - SUB_BITS + 1) * SUB + ((value >> (exponent - SUB_BITS)) & (SUB - 1))
