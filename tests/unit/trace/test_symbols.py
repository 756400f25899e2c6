"""Names for addresses, from a kallsyms of a few lines."""

from __future__ import annotations

from pathlib import Path

from livedump.trace.symbols import UNKNOWN, Symbols

KALLSYMS = """\
ffffffff81000000 T _stext
ffffffff81000100 T do_syscall_64
ffffffff81000200 t odd;name
ffffffff81000300 D some_data
ffffffffc0000000 t livedump_probe\t[livedump]
ffffffffc0000080 d data_of_module\t[livedump]
"""


def symbols(tmp_path: Path, text: str = KALLSYMS) -> Symbols:
    """Symbols of *text*."""
    file = tmp_path / "kallsyms"
    file.write_text(text)
    return Symbols(file)


def test_names(tmp_path: Path) -> None:
    table = symbols(tmp_path)
    assert not table.hidden
    assert table.name(0xFFFFFFFF81000110) == "do_syscall_64"
    assert table.name(0xFFFFFFFFC0000010) == "livedump_probe [livedump]"
    assert table.name(0x1000) == UNKNOWN


def test_stack_is_folded_root_first(tmp_path: Path) -> None:
    """A return address at a function's start belongs to the function before."""
    table = symbols(tmp_path)
    stack = (0xFFFFFFFFC0000000, 0xFFFFFFFF81000210, 0xFFFFFFFF81000200)
    assert table.fold(stack) == "do_syscall_64;odd:name;livedump_probe [livedump]"


def test_hidden_symbols_are_noticed(tmp_path: Path) -> None:
    zeros = "".join(f"{'0' * 16}{line[16:]}\n" for line in KALLSYMS.splitlines())
    table = symbols(tmp_path, zeros)
    assert table.hidden
    assert table.name(0xFFFFFFFF81000110) == UNKNOWN
    assert Symbols(tmp_path / "missing").hidden
