"""Imports go downward only, and each outside library has one home (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "livedump"

#: Each part of the package, and what it may import of the others.
BASE = {"__init__", "errors", "abi", "units", "kinds", "metrics", "receipt", "conditions"}
BASE |= {"lockdown", "refusals", "text"}
ALLOWED = {
    "__init__": set(),
    "errors": set(),
    "abi": {"errors"},
    "units": set(),
    "text": set(),
    "kinds": set(),
    "metrics": set(),
    "receipt": {"errors", "abi", "units"},
    "conditions": {"errors", "units", "kinds", "metrics"},
    "lockdown": set(),
    "refusals": set(),
    "sums": set(),
    "syscalls": set(),
    "tested": set(),
    "control": BASE,
    "kmod": BASE | {"syscalls"},
    "dump": BASE,
    "session": BASE | {"control", "kmod", "dump"},
    "machine": BASE | {"control"},
    "doctor": BASE | {"control", "kmod", "dump", "machine", "tested"},
    "selftest": BASE | {"syscalls", "control", "kmod", "dump", "session"},
    "recording": BASE | {"sums"},
    "trace": BASE | {"sums", "syscalls", "control", "kmod", "dump", "recording"},
    "flight": BASE | {"control", "session", "recording", "trace"},
    "analysis": BASE | {"sums", "dump", "recording"},
    "cli": BASE
    | {"control", "kmod", "dump", "session", "machine", "doctor", "selftest"}
    | {"recording", "trace", "flight", "analysis"},
}

#: The doctor reads the self-test's results.
SEAMS = {("doctor", "selftest"): {"record"}}

#: Inside a folder that has rooms: what each may import of the others, but for errors.
INNER = {
    "trace": {"probe": set(), "": {"probe"}},
    "cli": {"trace": {""}, "": set()},
    "analysis": {"perfetto": {""}, "": {"perfetto"}},
}

#: Outside libraries, and which part may import them at all.
HOMES = {
    "click": {"cli"},
    "rich": {"cli"},
    "pyroute2": {"control"},
    "bcc": {"trace"},
    "drgn": {"dump"},
    "duckdb": {"analysis"},
    "numpy": {"recording", "analysis"},
    "perfetto": {"analysis"},
    "plotly": {"analysis"},
    "prometheus_client": {"analysis"},
    "pyarrow": {"recording", "analysis"},
}

#: Slow to import: only inside functions.
LATE = {"bcc", "drgn", "duckdb", "numpy", "perfetto", "plotly", "prometheus_client", "pyarrow"}
LATE |= {"pyroute2"}

#: At most so many modules of their home may import them.
ONE_MODULE = {"bcc", "pyroute2"}


def part_of(path: Path) -> str:
    """The part that a module belongs to: its folder or its own name."""
    return path.parts[0].removesuffix(".py")


def imports(tree: ast.AST, *, late: bool = False) -> Iterator[tuple[str, bool]]:
    """(imported name with dots, inside a function) of every import, TYPE_CHECKING ones not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level + (node.module or ""), late
            else:
                yield from ((f"{node.module}.{alias.name}", late) for alias in node.names)
        inner = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports(node, late=inner)


def violations(sources: dict[str, str]) -> list[str]:
    """Every import in *sources* (path below livedump/ -> text) that goes the wrong way."""
    found = []
    importers: dict[str, set[str]] = {name: set() for name in ONE_MODULE}
    for name, text in sorted(sources.items()):
        part = part_of(Path(name))
        if part not in ALLOWED:
            found.append(f"{name}: {part} is in no layer")
            continue
        for target, late in imports(ast.parse(text)):
            head, _, rest = target.partition(".")
            if target.startswith("."):
                found.append(f"{name}: relative import {target}")
            elif head == "livedump":
                other, _, inner = rest.partition(".")
                if other not in ALLOWED:
                    other = "__init__"  # from livedump import __version__
                seam = inner.partition(".")[0] in SEAMS.get((part, other), ())
                if other != part and other not in ALLOWED[part] and not seam:
                    found.append(f"{name}: {part} must not import {other}")
            elif head in HOMES:
                if part not in HOMES[head]:
                    found.append(f"{name}: {part} must not import {head}")
                if head in LATE and not late:
                    found.append(f"{name}: {head} must be imported inside a function")
                if head in ONE_MODULE:
                    importers[head].add(name)
    for library, names in importers.items():
        if len(names) > 1:
            found.append(f"{library} is imported by more than one module: {sorted(names)}")
    return found


def room_of(name: str) -> tuple[str, str]:
    """``trace/probe/points.py`` -> ``("trace", "probe")``; in no room: ``("trace", "")``."""
    folder, *rest = Path(name).parts
    return folder, rest[0] if len(rest) > 1 else ""


def inner_violations(sources: dict[str, str]) -> list[str]:
    """Every import inside a folder that goes the wrong way between its rooms."""
    found = []
    for name, modules in edges(sources).items():
        folder, room = room_of(name)
        for other in modules:
            elsewhere, target = room_of(other)
            allowed = INNER.get(folder, {}).get(room, {""})
            inside = folder == elsewhere and Path(other).name != "errors.py"
            if inside and target != room and target not in allowed:
                found.append(f"{name}: {room or folder} must not import {other}")
    return found


def edges(sources: dict[str, str], package: str = "livedump") -> dict[str, set[str]]:
    """Which module of *sources*, paths below *package*, imports which, late or not."""
    found: dict[str, set[str]] = {}
    for name, text in sources.items():
        found[name] = set()
        for target, _late in imports(ast.parse(text)):
            parts = target.split(".")[1:] if target.startswith(f"{package}.") else []
            for length in (len(parts), len(parts) - 1):
                path = "/".join(parts[:length])
                if module := {f"{path}.py", f"{path}/__init__.py"} & sources.keys():
                    found[name] |= module - {name}
                    break
    return found


def circles(sources: dict[str, str], package: str = "livedump") -> list[set[str]]:
    """Modules that import each other, however far around."""
    left = edges(sources, package)
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    while free := left.keys() - set().union(*left.values()) if left else set():
        left = {name: others for name, others in left.items() if name not in free}
    return [set(left)] if left else []


def package_sources(package: Path = PACKAGE) -> dict[str, str]:
    """All modules of the package."""
    return {
        str(path.relative_to(package)): path.read_text()
        for path in package.rglob("*.py")
        if "__pycache__" not in path.parts
    }


def test_imports_go_downward() -> None:
    sources = package_sources()
    assert "cli/main.py" in sources
    assert violations(sources) == []
    assert inner_violations(sources) == []
    assert circles(sources) == []


def test_circles_and_rooms_are_seen() -> None:
    a, b = "from livedump.a import y\n", "def f():\n    from livedump import b\n"
    assert circles({"a.py": b, "b.py": a, "c.py": a}) == [{"a.py", "b.py"}]
    assert circles({"a.py": "", "b.py": a}) == []
    up = {"trace/top.py": "", "trace/probe/points.py": "from livedump.trace import top"}
    assert inner_violations(up) == ["trace/probe/points.py: probe must not import trace/top.py"]
    down = {"trace/top.py": "import livedump.trace.probe.points", "trace/probe/points.py": ""}
    assert inner_violations(down) == []


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("abi.py", "from livedump import control", "abi must not import control"),
        ("dump/x.py", "import livedump.control", "dump must not import control"),
        ("control.py", "def f():\n    from livedump.session import Session", "import session"),
        ("session.py", "from livedump.cli.common import emit", "must not import cli"),
        ("analysis/x.py", "from livedump.trace import record", "must not import trace"),
        ("analysis/x.py", "from livedump.trace.recorder import record", "must not import trace"),
        ("doctor.py", "from livedump.selftest.rounds import SelfTest", "must not import selftest"),
        ("kmod.py", "import click", "kmod must not import click"),
        ("doctor.py", "def f():\n    import rich.table", "must not import rich"),
        ("session.py", "def f():\n    import pyroute2", "must not import pyroute2"),
        ("control.py", "import pyroute2.netlink", "inside a function"),
        ("cli/x.py", "def f():\n    import bcc", "must not import bcc"),
        ("trace/x.py", "try:\n    import bcc\nexcept ImportError:\n    pass", "inside a function"),
        ("dump/x.py", "from . import image", "relative import"),
        ("new.py", "", "in no layer"),
    ],
)
def test_the_check_bites(name: str, text: str, words: str) -> None:
    """Each kind of violation is found."""
    assert any(words in line for line in violations({name: text}))


def test_one_home_for_bcc() -> None:
    text = "def f() -> None:\n    import bcc\n"
    assert not violations({"trace/probes.py": text})
    assert violations({"trace/probes.py": text, "trace/other.py": text})


def test_allowed_imports_pass() -> None:
    text = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import drgn\n"
        "from livedump import __version__, abi\n"
        "from livedump.dump.image import Image\n"
    )
    assert violations({"cli/x.py": text}) == []
    assert violations({"analysis/x.py": "from livedump.recording.store import read"}) == []
    assert violations({"dump/x.py": "def f() -> None:\n    import drgn\n"}) == []
