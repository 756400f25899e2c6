"""Kernel lockdown, which may forbid unsigned modules, or reading kernel memory at all."""

from __future__ import annotations

import re

#: Where the kernel shows it, below the root of the file system; needs securityfs.
PATH = "sys/kernel/security/lockdown"

NONE = "none"
INTEGRITY = "integrity"
CONFIDENTIALITY = "confidentiality"

REMEDY = "Boot with lockdown=none, and without Secure Boot if that sets it"

#: Of who may not open the image.
IMAGE_REMEDY = "Run as root with CAP_SYS_RAWIO, and without kernel lockdown"


def mode(text: str) -> str:
    """The mode that the text of :data:`PATH` says is in force, e.g. ``none [integrity]``."""
    found = re.search(r"\[(\w+)\]", text)
    return found.group(1) if found else NONE
