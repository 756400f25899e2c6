"""Errors of recordings; see :mod:`livedump.errors` for what they carry."""

from __future__ import annotations

from livedump.errors import LivedumpError


class RecordingError(LivedumpError):
    """A folder is not a recording, or not a whole one, or cannot be written."""
