"""What is cited is there: a path or a module of the tree in prose, comments and messages."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("bpf", "docs", "kmod", "livedump", "tests", "tools")
SUFFIXES = {".py", ".c", ".h", ".mk", ".md"}
NAMES = {"Makefile", "Kbuild", "setup.cfg"}

#: Neither part of a longer path, nor of an address.
_PATH = re.compile(
    r"(?<![\w/.-])(?:tests|tools|livedump|kmod|bpf|docs)/[\w./-]+\.(?:py|c|h|md|sh|mk|json|png)\b"
)
_MODULE = re.compile(r"(?<![\w/.-])(?:python3? -m |:mod:`~?)((?:tests|tools|livedump)(?:\.\w+)+)")

#: Output of somebody's machine, as it was.
_EXAMPLES = {"tests/unit/tools/test_vm_log.py"}


def cited(text: str) -> set[str]:
    """Paths below the root: those of files, and of modules without their suffix."""
    return {*_PATH.findall(text), *(name.replace(".", "/") for name in _MODULE.findall(text))}


def is_there(path: str) -> bool:
    """As a file, a folder, or a module."""
    return any((ROOT / name).exists() for name in (path, f"{path}.py"))


def test_what_is_cited_is_there() -> None:
    below = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    files = {str(path.relative_to(ROOT)): path for path in (*ROOT.glob("*"), *below)}
    found = {
        (name, path)
        for name, file in files.items()
        if (file.suffix in SUFFIXES or file.name in NAMES) and name not in _EXAMPLES
        for path in cited(file.read_text())
    }
    assert len(found) > 100
    assert sorted((name, path) for name, path in found if not is_there(path)) == []


def test_a_path_is_told_from_others() -> None:
    missing = "tools/" + "gone.py"
    text = f"see {missing} (docs/kernels.md), /usr/tools/x.py; run `python -m tools.vm kernels`"
    assert cited(text) == {missing, "docs/kernels.md", "tools/vm"}
    assert not is_there(missing)
    assert is_there("tools/vm") and is_there("tools/vm/machine")
