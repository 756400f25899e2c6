"""The HTML report's JavaScript: fetched by ``python -m tools.package.assets``, never committed."""

from __future__ import annotations

import sys
from pathlib import Path

from livedump.errors import LivedumpError

#: The checkout's, else the installed ones (setup.cfg, data_files).
PLACES = (
    Path(__file__).resolve().parents[2] / "build" / "assets",
    Path(sys.prefix) / "share" / "livedump" / "assets",
)


class AssetMissingError(LivedumpError):
    """A library of the HTML report was not fetched."""


def text(name: str) -> str:
    """Content of one library.

    :raises AssetMissingError: it was not fetched
    """
    for place in PLACES:
        if (place / name).is_file():
            return (place / name).read_text(encoding="utf-8")
    raise AssetMissingError(
        f"{name} is not installed",
        step="write HTML report",
        remedy="Run `python -m tools.package.assets` (or `make setup`) in the checkout; "
        "if livedump was installed from there, repeat `make install`",
    )
