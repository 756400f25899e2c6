"""Errors that name the failed step, keep the cause and say what to do.

Libraries raise these and never print; only :mod:`livedump.cli` shows them, as one line::

    livedump: error: STEP: CAUSE. REMEDY
"""

from __future__ import annotations


class LivedumpError(Exception):
    """Base of every error that a user can meet.

    :param cause: what went wrong, without a final full stop; the kernel's own words where it has
        any
    :param step: what was being done, e.g. ``"load module"``
    :param remedy: what to do about it; empty when nothing sensible is known
    """

    def __init__(self, cause: str, *, step: str, remedy: str = "") -> None:
        self.step = step
        self.cause = " ".join(cause.split()).rstrip(".")
        self.remedy = " ".join(remedy.split()).rstrip(".")
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.step}: {self.cause}."
        return f"{text} {self.remedy}." if self.remedy else text

    def to_dict(self) -> dict[str, str]:
        """The error as ``{"type", "step", "cause", "remedy"}``, for ``--json``."""
        return {
            "type": type(self).__name__,
            "step": self.step,
            "cause": self.cause,
            "remedy": self.remedy,
        }


class AbiError(LivedumpError):
    """Module and client do not speak the same ABI."""


class ControlError(LivedumpError):
    """The module refused a request, or is not there.

    :param errno: of the kernel's answer, 0 when there was none
    :param refusal: enum livedump_refusal in lower case, ``"none"`` where the module gave none
    """

    def __init__(
        self,
        cause: str,
        *,
        step: str,
        remedy: str = "",
        errno: int = 0,
        refusal: str = "none",
    ) -> None:
        self.errno = errno
        self.refusal = refusal
        super().__init__(cause, step=step, remedy=remedy)

    def to_dict(self) -> dict[str, str]:
        """As :meth:`LivedumpError.to_dict`, with ``"refusal"``."""
        return {**super().to_dict(), "refusal": self.refusal}


class NotLoadedError(ControlError):
    """The kernel has no netlink family of ours: the module is not loaded."""


class ModuleError(LivedumpError):
    """The kernel module cannot be found, loaded or unloaded.

    :param errno: of the system call, 0 when none was made
    """

    def __init__(self, cause: str, *, step: str, remedy: str = "", errno: int = 0) -> None:
        self.errno = errno
        super().__init__(cause, step=step, remedy=remedy)


class SessionError(LivedumpError):
    """The snapshot's owner file cannot be opened, or the session is over."""


class DumpError(LivedumpError):
    """A dump could not be written; nothing is left under its final name."""


class ImageError(LivedumpError):
    """A file is not an image that can be read."""


class ForeignImageError(ImageError):
    """The file is no livedump image at all."""


class TruncatedImageError(ImageError):
    """The file ends before its headers say it does."""


class OpenError(LivedumpError):
    """crash or drgn could not be run on an image."""


class SelfTestError(LivedumpError):
    """The self-test cannot run, or its results cannot be kept."""
