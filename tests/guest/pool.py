"""What the module's pool of copies was used for."""

from __future__ import annotations


def without_page(report: dict[str, int]) -> int:
    """Pages of the pool in use that hold no saved page."""
    saved = report["pages_saved_stop"] + report["pages_saved_fault"] + report["pages_saved_hook"]
    return report["pool_used"] - saved
