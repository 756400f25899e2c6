"""livedump knows no tools, tools know no tests, and the rooms of tools/ import downward only."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.unit.test_layers import PACKAGE, circles, edges, imports, package_sources

TOOLS = Path(__file__).parents[2] / "tools"

#: Each room of tools/, and what it may import of the others.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "paths": set(),
    "keep": {"paths", "setup"},
    "vm": {"paths"},
    "setup": {"paths", "vm"},
    "package": {"paths", "setup", "vm"},
    "lint": {"paths", "vm", "setup"},
    "userland": {"paths", "setup", "vm"},
    "guest": set(),
    "demo": {"paths", "vm", "guest"},
    "matrix": {"paths", "vm"},
    "stats": {"paths"},
    "oracle": {"paths", "vm", "guest"},
    "bench": {"paths", "vm", "guest"},
}

#: The same inside the oracle; its own modules may import all of them.
ORACLE: dict[str, set[str]] = {"read": set(), "take": {"read"}, "judge": {"read", "plan"}}

#: Run by the system's Python, before there is a venv: the standard library only.
BARE = (
    *("setup/__main__.py", "userland/__main__.py", "keep.py"),
    *("package/assets.py", "package/install.py", "package/debs.py"),
)

#: The one module of the package that it reads, which needs nothing either.
TABLE = "livedump.tested"


def modules_named(name: str) -> list[str]:
    """``vm/kernels.py`` -> what is imported with it: its packages, too."""
    parents = [str(parent / "__init__.py") for parent in Path(name).parents]
    return [name, *parents]


def outward(sources: dict[str, str], forbidden: set[str]) -> list[str]:
    """Imports of packages that must not be known."""
    return [
        f"{name} must not import {target}"
        for name, text in sources.items()
        for target, _late in imports(ast.parse(text))
        if target.partition(".")[0] in forbidden
    ]


def upward(sources: dict[str, str]) -> list[str]:
    """Imports of one room by another that lies below it."""
    found = []
    for name, others in edges(sources, "tools").items():
        room, inner = _rooms(name)
        for other in others:
            to_room, to_inner = _rooms(other)
            if room != to_room:
                good = to_room in ALLOWED[room]
            else:
                good = room != "oracle" or inner == to_inner or inner not in ORACLE
                good = good or to_inner in ORACLE[inner]
            if not good:
                found.append(f"{name} must not import {other}")
    return found


def _rooms(name: str) -> tuple[str, str]:
    """``oracle/read/core.py`` -> ``("oracle", "read")``, ``oracle/plan.py`` -> ``("oracle",
    "plan")``."""
    first, *rest = (part.removesuffix(".py") for part in Path(name).parts)
    return first, rest[0] if rest else ""


def foreign(sources: dict[str, str], start: str) -> set[str]:
    """What *start* takes from elsewhere than the standard library, itself or by others of ours."""
    left, seen, found = modules_named(start), set[str](), set[str]()
    known = edges(sources, "tools")
    while left:
        name = left.pop()
        if name in seen or name not in sources:
            continue
        seen.add(name)
        for target, late in imports(ast.parse(sources[name])):
            head = target.partition(".")[0]
            ours = head == "tools" or target.startswith(TABLE)
            if not late and not ours and head not in sys.stdlib_module_names:
                found.add(f"{name} imports {head}")
        left += [item for other in known[name] for item in modules_named(other)]
    return found


def test_nobody_imports_what_is_above() -> None:
    assert outward(package_sources(PACKAGE), {"tools", "tests"}) == []
    assert outward(package_sources(TOOLS), {"tests"}) == []


def test_rooms_of_tools() -> None:
    sources = package_sources(TOOLS)
    assert "vm/machines.py" in sources
    assert upward(sources) == []
    assert circles(sources, "tools") == []


@pytest.mark.parametrize("name", BARE)
def test_set_up_needs_nothing(name: str) -> None:
    sources = package_sources(TOOLS)
    assert name in sources
    assert foreign(sources, name) == set()


def test_nor_does_the_table_of_what_is_tested() -> None:
    sources = package_sources(PACKAGE)
    for name in ("tested.py", "__init__.py"):
        for target, _late in imports(ast.parse(sources[name])):
            assert target.partition(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("vm/x.py", "oracle/plan.py"),
        ("setup/x.py", "package/assets.py"),
        ("guest/witness.py", "oracle/plan.py"),
        ("oracle/read/core.py", "oracle/judge/verdict.py"),
        ("oracle/read/core.py", "oracle/plan.py"),
        ("oracle/take/run.py", "oracle/judge/verdict.py"),
    ],
)
def test_the_check_bites(name: str, other: str) -> None:
    target = other.removesuffix(".py").replace("/", ".")
    sources = {name: f"def f():\n    import tools.{target}", other: ""}
    assert upward(sources) == [f"{name} must not import {other}"]


def test_what_set_up_must_not_need_is_seen() -> None:
    sources = {
        "setup/__main__.py": "import sys\nfrom tools.vm.a import b\n",
        "vm/__init__.py": "import click\n",
        "vm/a.py": "def f():\n    import rich\n",
    }
    assert foreign(sources, "setup/__main__.py") == {"vm/__init__.py imports click"}
    assert outward({"x.py": "from tests.unit import fakes\n"}, {"tests"})
