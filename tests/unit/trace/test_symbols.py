"""Names for addresses, from a kallsyms of a few lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from livedump.trace import names
from livedump.trace.names import Names
from livedump.trace.symbols import MADE_BYTES, UNKNOWN, Symbols

KALLSYMS = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000100 T do_syscall_64
ffffffff81000200 t odd;name
ffffffff81000280 T native_load_sp0
ffffffff810002a0 T native_set_pte
ffffffff810002c0 T asm_exc_page_fault
ffffffff81000300 T asm_sysvec_apic_timer_interrupt
ffffffff81000340 t last
ffffffff81000400 T _etext
ffffffff81000500 D some_data
ffffffffc0000000 t livedump_probe\t[livedump]
ffffffffc0000080 d data_of_module\t[livedump]
ffffffffc0000200 t handle\t[livedump]
ffffffffc0100000 t bpf_prog_1234_mine\t[bpf]
"""
MODULES = "livedump 4096 0 - Live 0xffffffffc0000000 (OE)\n"


def symbols(tmp_path: Path, text: str = KALLSYMS) -> Symbols:
    """Symbols of *text*."""
    file, modules = tmp_path / "kallsyms", tmp_path / "modules"
    file.write_text(text)
    modules.write_text(MODULES)
    return Symbols(file, modules)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0xFFFFFFFF81000110, "do_syscall_64"),
        (0xFFFFFFFFC0000010, "livedump_probe [livedump]"),
        (0xFFFFFFFFC0100010, "bpf_prog_1234_mine [bpf]"),
        (0xFFFFFFFF810003FF, "last"),
        # Behind a symbol's end there is nobody.
        (0x1000, UNKNOWN),
        (0xFFFFFFFF81000410, UNKNOWN),
        (0xFFFFFFFF81000510, UNKNOWN),
        (0xFFFFFFFF9FFFFFFF, UNKNOWN),
        (0xFFFFFFFFC0000090, UNKNOWN),
        (0xFFFFFFFFC0001000, UNKNOWN),
        (0xFFFFFFFFC0100000 + MADE_BYTES, UNKNOWN),
        (0xFFFFFE0000002000, UNKNOWN),
    ],
)
def test_names(tmp_path: Path, address: int, name: str) -> None:
    table = symbols(tmp_path)
    assert not table.hidden
    assert table.name(address) == name


def test_stack_is_folded_root_first(tmp_path: Path) -> None:
    """A return address at a function's start belongs to the function before."""
    table = symbols(tmp_path)
    stack = (0xFFFFFFFFC0000000, 0xFFFFFFFF81000210, 0xFFFFFFFF81000200)
    assert table.fold(stack) == "do_syscall_64;odd:name;livedump_probe [livedump]"


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (0xFFFFFFFF810002E6, "asm_exc_page_fault"),
        (0xFFFFFFFF81000316, "asm_sysvec_apic_timer_interrupt"),
    ],
)
def test_who_is_interrupted_at_its_first_instruction(tmp_path: Path, entry: int, name: str) -> None:
    """What an exception has interrupted is no return address."""
    stack = (0xFFFFFFFFC0000210, entry, 0xFFFFFFFF810002A0, 0xFFFFFFFF81000200)
    folded = symbols(tmp_path).fold(stack)
    assert folded == f"do_syscall_64;native_set_pte;{name};handle [livedump]"


def test_hidden_symbols_are_noticed(tmp_path: Path) -> None:
    zeros = "".join(f"{'0' * 16}{line[16:]}\n" for line in KALLSYMS.splitlines())
    table = symbols(tmp_path, zeros)
    assert table.hidden
    assert table.name(0xFFFFFFFF81000110) == UNKNOWN
    assert Symbols(tmp_path / "missing").hidden


def test_names_that_come_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A BPF program is loaded: the list of modules does not tell."""
    now, made = [0.0], [0]
    text = KALLSYMS

    def read() -> Symbols:
        made[0] += 1
        return symbols(tmp_path, text)

    monkeypatch.setattr("livedump.trace.names.time.monotonic", lambda: now[0])
    found = Names(read)
    text += "ffffffffc0200000 t bpf_prog_5678_late\t[bpf]\n"
    assert found[((0xFFFFFFFFC0200010,), ())] == UNKNOWN
    now[0] += names.AGAIN_S
    assert found[((0xFFFFFFFFC0200020,), ())] == "bpf_prog_5678_late [bpf]"
    assert made == [2]
    # Nobody can make us read it again and again.
    assert [found[((address,), ())] for address in range(1, 9)] == [UNKNOWN] * 8
    assert made == [2]
