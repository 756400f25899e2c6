"""livedump: consistent memory snapshots of a running Linux kernel, and what they cost."""

__version__ = "0.1.0"
