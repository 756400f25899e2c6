"""Errors of tracing; see :mod:`livedump.errors` for what they carry."""

from __future__ import annotations

from livedump.errors import LivedumpError


class TraceError(LivedumpError):
    """Recording is not possible here, or failed."""


class CommandError(TraceError):
    """The command to record around could not be started.

    :param status: what a shell would return: 126 not executable, 127 not found
    """

    def __init__(self, cause: str, *, step: str, remedy: str = "", status: int = 126) -> None:
        self.status = status
        super().__init__(cause, step=step, remedy=remedy)
