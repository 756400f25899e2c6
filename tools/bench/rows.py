"""The machines that downtime is measured on, as data."""

from __future__ import annotations

from dataclasses import dataclass

#: For copies of pages. A quarter of RAM, the module's default, takes long to get and is not used.
POOL_BYTES = 256 << 20
POOL_MANY_THREADS_BYTES = 512 << 20  # their stacks are saved, too


@dataclass(frozen=True)
class Row:
    """One machine, and what is in it. Its RAM is `-m`, less is the kernel's to use."""

    ram_gib: int
    cpus: int = 2
    extra_threads: int = 0
    vmalloc_gib: int = 0

    @property
    def name(self) -> str:
        """``"8g"``, ``"4g-5000-threads"``: what ``--row`` takes."""
        parts = [f"{self.ram_gib}g"]
        if self.cpus != 2:
            parts.append(f"{self.cpus}-cpus")
        if self.extra_threads:
            parts.append(f"{self.extra_threads}-threads")
        if self.vmalloc_gib:
            parts.append(f"vmalloc-{self.vmalloc_gib}g")
        return "-".join(parts)

    @property
    def pool_bytes(self) -> int:
        """What a snapshot reserves for copies."""
        return POOL_MANY_THREADS_BYTES if self.extra_threads else POOL_BYTES

    @property
    def timeout_s(self) -> float:
        """A limit for the boot: eager prepares and releases every 4 KiB entry, sample by sample."""
        return 600 + 150 * self.ram_gib


SIZES = tuple(Row(gib) for gib in (1, 2, 4, 8, 16))
ROWS = (
    *SIZES,
    Row(4, extra_threads=5000),
    Row(8, vmalloc_gib=2),
    Row(4, cpus=4),
)
BY_NAME = {row.name: row for row in ROWS}
