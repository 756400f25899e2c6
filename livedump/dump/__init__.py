"""Dumps: write the image that the module shows to a file, and read such files.

:mod:`livedump.dump.crash` and :mod:`livedump.dump.drgn` open an image with the tools of those
names.
"""

from livedump.dump.image import Image, Layout, Range, kernel_release, open_image
from livedump.dump.writer import DumpResult, amend, write

__all__ = [
    "DumpResult",
    "Image",
    "Layout",
    "Range",
    "amend",
    "kernel_release",
    "open_image",
    "write",
]
