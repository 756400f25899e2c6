"""Dumps: write the image that the module shows to a file, and read such files.

:mod:`livedump.dump.crash` and :mod:`livedump.dump.drgn` open an image with the tools of those
names.
"""

from livedump.dump.image import Image, Layout, Range, open_image
from livedump.dump.writer import DumpResult, write

__all__ = ["DumpResult", "Image", "Layout", "Range", "open_image", "write"]
