"""livedump/abi.py is kmod/uapi/livedump.h: every name, value, size and offset, as gcc sees them.

The names are read from the header, so that one without its mirror fails, and so does a mirror
without its name in the header.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import pytest

from livedump import abi
from livedump.errors import AbiError

ROOT = Path(__file__).parents[2]
HEADER = ROOT / "kmod/uapi/livedump.h"


@dataclass(frozen=True)
class Header:
    """The names in a header: enums to their constants, defines, structs to their fields."""

    enums: dict[str, list[str]]
    defines: list[str]
    structs: dict[str, list[str]]


def parse(text: str) -> Header:
    """Read the names; values are the compiler's business."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    enums = {
        name: re.findall(r"\b(\w+)\s*(?:=[^,}]*)?[,}]", body + "}")
        for name, body in re.findall(r"enum (\w+)\s*\{(.*?)\}", text, re.S)
    }
    structs = {
        name: re.findall(r"(\w+)(?:\[\w+\])?;", body)
        for name, body in re.findall(r"struct (\w+)\s*\{(.*?)\n\}", text, re.S)
    }
    defines = re.findall(r"^#define (LIVEDUMP_\w+)[ \t]+\S", text, re.M)
    return Header(enums, defines, structs)


def compile_values(text: str, header: Header, folder: Path) -> dict[str, str]:
    """Ask gcc: ``{"LIVEDUMP_ABI": "1", "livedump_report.size": "offset size", ...}``."""
    lines = []
    for name in [*header.defines, *(n for names in header.enums.values() for n in names)]:
        lines.append(f'SHOW("{name}", {name});')
    for struct, fields in header.structs.items():
        lines.append(f'printf("{struct}=%zu\\n", sizeof(struct {struct}));')
        for field in fields:
            lines.append(
                f'printf("{struct}.{field}=%zu %zu\\n", offsetof(struct {struct}, {field}), '
                f"sizeof(((struct {struct} *)0)->{field}));"
            )
    (folder / "uapi").mkdir(exist_ok=True)
    (folder / "uapi/livedump.h").write_text(text)
    source = folder / "abi.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n"
        '#include "uapi/livedump.h"\n'
        '#define SHOW(n, v) printf(_Generic((v), char *: n "=%s\\n", default: n "=%d\\n"), v)\n'
        "int main(void)\n{\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    )
    program = folder / "abi"
    subprocess.run(
        ["gcc", "-w", "-I", str(folder), "-o", str(program), str(source)],
        check=True,
        capture_output=True,
    )
    output = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in output.splitlines())


def mirror_class(enum: str) -> type[IntEnum] | None:
    """``livedump_state`` -> ``abi.State``."""
    found = getattr(abi, enum.removeprefix("livedump_").title(), None)
    return found if isinstance(found, type) and issubclass(found, IntEnum) else None


def mirror_member(enum: str, constant: str) -> str:
    """``LIVEDUMP_STATE_IDLE`` -> ``IDLE``; ``LIVEDUMP_LEAF_4K`` -> ``LEAF_4K``."""
    prefix = enum.upper() + "_"
    name = constant.removeprefix(prefix)
    return name if name.isidentifier() else prefix.removeprefix("LIVEDUMP_") + name


def differences(text: str, folder: Path) -> Iterator[str]:
    """Everything in which the header and the mirror differ."""
    header = parse(text)
    values = compile_values(text, header, folder)
    for define in header.defines:
        mirror = getattr(abi, define.removeprefix("LIVEDUMP_"), None)
        if str(mirror) != values[define]:
            yield f"{define} is {values[define]}, abi has {mirror}"
    for enum, constants in header.enums.items():
        kind = mirror_class(enum)
        if kind is None:
            yield f"abi has no enum {enum}"
            continue
        public = [name for name in constants if not name.startswith("__")]
        expected = {mirror_member(enum, name): int(values[name]) for name in public}
        actual = {name: int(item) for name, item in kind.__members__.items()}
        if expected != actual:
            yield f"{enum} is {expected}, abi has {actual}"
        for name in constants:
            if name.startswith("__") and int(values[name]) != len(public):
                yield f"{name} is {values[name]}, not the number of its constants"
    for struct, fields in header.structs.items():
        mirror_struct = getattr(abi, struct.removeprefix("livedump_").title(), None)
        if mirror_struct is None:
            yield f"abi has no struct {struct}"
            continue
        if ctypes.sizeof(mirror_struct) != int(values[struct]):
            yield f"{struct} has {values[struct]} bytes, abi {ctypes.sizeof(mirror_struct)}"
        names = [name for name, *_ in mirror_struct._fields_]
        if names != fields:
            yield f"{struct} has fields {fields}, abi {names}"
        for name in set(names) & set(fields):
            field = getattr(mirror_struct, name)
            if f"{field.offset} {field.size}" != values[f"{struct}.{name}"]:
                yield f"{struct}.{name}: offset and size differ"
    yield from _extra(header)


def _extra(header: Header) -> Iterator[str]:
    """What the mirror has and the header has not."""
    known = {enum.removeprefix("livedump_").title() for enum in header.enums}
    for name, value in vars(abi).items():
        if isinstance(value, type) and issubclass(value, IntEnum) and value is not IntEnum:
            if name not in known:
                yield f"abi.{name} is no enum of the header"
    derived = {"REPORT_BYTES", "FIELDS"}
    defines = {name.removeprefix("LIVEDUMP_") for name in header.defines}
    for name, value in vars(abi).items():
        if name.isupper() and not name.startswith("_") and name not in defines | derived:
            yield f"abi.{name} is no define of the header"


def test_mirror_equals_header(tmp_path: Path) -> None:
    assert list(differences(HEADER.read_text(), tmp_path)) == []


def test_header_is_understood() -> None:
    """The parser sees what is there: an empty list would make the test above pass by luck."""
    header = parse(HEADER.read_text())
    assert "LIVEDUMP_IMAGE_PATH" in header.defines
    assert "__LIVEDUMP_LEAF_MAX" in header.enums["livedump_leaf"]
    assert header.structs["livedump_report"][:2] == ["abi", "size"]
    assert header.structs["livedump_report"][-1] == "pool_used"
    assert "leaves_after" in header.structs["livedump_report"]
    assert len(header.enums) >= 9


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("__u64 pool_used;", "__u64 pool_used;\n\t__u64 brand_new;"),
        ("__u32 flags;\t", "__u64 flags;\t"),
        ("__u64 stop_ns;", "__u64 stopped_ns;"),
        ("\tLIVEDUMP_STATE_HOLDING,", "\tLIVEDUMP_STATE_DRAINING,\n\tLIVEDUMP_STATE_HOLDING,"),
        ("\tLIVEDUMP_VERDICT_UNPROVEN,", "\tLIVEDUMP_VERDICT_UNPROVEN,\n\tLIVEDUMP_VERDICT_NEW,"),
        ("#define LIVEDUMP_F_PERSIST 1", "#define LIVEDUMP_F_PERSIST 2"),
        ("#define LIVEDUMP_F_PERSIST 1", "#define LIVEDUMP_F_PERSIST 1\n#define LIVEDUMP_F_NEW 4"),
        ("#define LIVEDUMP_F_PERSIST 1", ""),
        ('"/proc/livedump"', '"/dev/livedump"'),
        ("enum livedump_reason {", "enum livedump_new { LIVEDUMP_NEW_A };\nenum livedump_reason {"),
        ("\tLIVEDUMP_LEAF_1G,", "\tLIVEDUMP_LEAF_1G,\n\tLIVEDUMP_LEAF_512G,"),
    ],
)
def test_the_comparison_bites(tmp_path: Path, old: str, new: str) -> None:
    """Any change of the header alone is noticed."""
    text = HEADER.read_text()
    assert old in text
    assert list(differences(text.replace(old, new), tmp_path))


def test_report_round_trip() -> None:
    values = {**abi.empty_report(), "stop_ns": 7, "leaves_before": [1, 2, 3], "verdict": 2}
    report = abi.report_from_bytes(bytes(abi.report_from_dict(values)))
    assert abi.report_to_dict(report) == values


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "too short"),
        (bytes(abi.Report(abi=abi.ABI + 1, size=abi.REPORT_BYTES)), f"ABI {abi.ABI + 1} and"),
        (bytes(abi.Report(abi=abi.ABI, size=99)), "99 bytes"),
        (bytes(abi.Report(abi=abi.ABI, size=abi.REPORT_BYTES))[:-1], "present"),
    ],
)
def test_foreign_reports_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(AbiError, match=words):
        abi.report_from_bytes(data)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(AbiError, match="no field 'bogus'"):
        abi.report_from_dict({"bogus": 1})
