"""The HTML report's JavaScript: fetched by ``python -m tools.setup.assets``, never committed."""

from __future__ import annotations

from importlib import resources

from livedump.errors import LivedumpError


class AssetMissingError(LivedumpError):
    """A library of the HTML report was not fetched."""


def text(name: str) -> str:
    """Content of one library.

    :raises AssetMissingError: it was not fetched
    """
    file = resources.files(__name__) / name
    if not file.is_file():
        raise AssetMissingError(
            f"{name} is not installed",
            step="write HTML report",
            remedy="Run `python -m tools.setup.assets` (or `make setup`) in the checkout",
        )
    return file.read_text(encoding="utf-8")
