"""The check of the fault path, on objects compiled on the spot."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.lint import outside, untraced
from tools.lint.argued import Argued
from tools.lint.elf import ElfError
from tools.lint.outside import Exit

#: As the kernel's headers have them; what Kbuild leaves untraced is so by an attribute here.
HEAD = """
#define notrace __attribute__((no_instrument_function)) notraced
#define notraced
#define noinline __attribute__((noinline, noclone))
#define NOKPROBE_SYMBOL(f) static unsigned long __attribute__((used, \\
    section("_kprobe_blacklist"))) _kbl_##f = (unsigned long)f
#define barrier() __asm__ volatile("" ::: "memory")
void elsewhere(void);
extern void (*pointer)(void);
extern int number;
"""
#: The helper that tests break, its caller, and the root.
PATH = """
static noinline notrace void helper(void) { HELPER }
NOKPROBE_SYMBOL(helper);
static noinline notrace void middle(void) { helper(); barrier(); }
NOKPROBE_SYMBOL(middle);
void notrace probe(void) { middle(); barrier(); }
NOKPROBE_SYMBOL(probe);
"""
#: Not in the path: the check must see that something is traced.
OTHER = "void bystander(void) { elsewhere(); barrier(); }\n"
CHAIN = "helper < middle < probe"

Compile = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Compile:
    """Compile C to objects, as Kbuild does, and link them to one: the path's, and the other."""

    def compile_(text: str, *options: str, folder: str = "fault", other: str = OTHER) -> Path:
        objects = []
        for home, code in ((folder, text), ("map", other)):
            source = tmp_path / home / f"{home}.c"
            source.parent.mkdir(exist_ok=True)
            source.write_text(HEAD + code)
            objects.append(str(source.with_suffix(".o")))
            command = ["gcc", "-c", "-g", "-O2", "-mcmodel=kernel", "-fno-pic", "-fno-pie"]
            command += ["-fno-asynchronous-unwind-tables", "-fcf-protection=none"]
            command += ["-pg", "-mfentry", *(options or ["-mrecord-mcount"])]
            subprocess.run([*command, "-o", objects[-1], str(source)], check=True)
        target = tmp_path / "module.ko"
        subprocess.run(["ld", "-r", "-o", str(target), *objects], check=True)
        return target

    return compile_


def problems(
    path: Path,
    *,
    exits: tuple[Exit, ...] = (),
    branches: tuple[Argued, ...] = (),
    roots: tuple[str, ...] = ("probe",),
) -> list[str]:
    """What the check finds in one file."""
    return untraced.check(
        path, exits=exits, branches=branches, roots=roots, listing=Counter(), used=set()
    )


def path_with(helper: str = "barrier();") -> str:
    """The path, with another body of its helper."""
    return PATH.replace("HELPER", helper)


def test_a_clean_path(build: Compile) -> None:
    listing: untraced.Listing = Counter()
    path = build(path_with())
    found = untraced.check(
        path, exits=(), branches=(), roots=("probe",), listing=listing, used=set()
    )
    assert found == []
    assert list(listing) == ["probe", "middle < probe", CHAIN]


@pytest.mark.parametrize("option", ["-mrecord-mcount", "-mno-record-mcount"])
def test_a_traced_function(build: Compile, option: str) -> None:
    """By the list of places to patch, and by the call alone."""
    text = path_with().replace("noinline notrace void helper", "noinline void helper")
    reached, listed = problems(build(text, option))
    assert reached == f"traced: {CHAIN}"
    assert listed == "traced, and in kmod/fault/: helper"


def test_a_place_to_patch_is_enough(build: Compile) -> None:
    """Objtool turns the calls into no-operations; the padding before a function is nothing."""
    listed = '__asm__(".pushsection SECTION,\\"a\\"\\n .quad probe + OFFSET\\n .popsection");\n'
    for section in ("__mcount_loc", "__patchable_function_entries"):
        text = path_with() + listed.replace("SECTION", section)
        assert problems(build(text.replace("OFFSET", "0")))[0] == "traced: probe"
        text = text.replace("void notrace probe", "__attribute__((aligned(64))) void notrace probe")
        assert problems(build(text.replace("OFFSET", "-16"))) == []


def test_a_traced_function_of_the_folder_that_is_not_reached(build: Compile) -> None:
    (problem,) = problems(build(path_with() + "void idle(void) { barrier(); }\n"))
    assert problem == "traced, and in kmod/fault/: idle"


def test_a_function_that_may_be_probed(build: Compile) -> None:
    path = build(path_with().replace("NOKPROBE_SYMBOL(helper);", ""))
    assert problems(path) == [f"not NOKPROBE: {CHAIN}"]


def test_sections_without_probes(build: Compile) -> None:
    text = path_with().replace("NOKPROBE_SYMBOL(helper);", "")
    home = 'static __attribute__((section("SECTION"))) noinline notrace void helper'
    text = text.replace("static noinline notrace void helper", home)
    assert problems(build(text.replace("SECTION", ".noinstr.text"))) == []
    assert len(problems(build(text.replace("SECTION", ".other.text")))) == 1


@pytest.mark.parametrize("part", ["helper.part.0", "helper.cold", "helper.constprop.0"])
def test_a_part_has_a_symbol_of_its_own(build: Compile, part: str) -> None:
    code = f'static noinline notrace void piece(void) __asm__("{part}");\n'
    code += "static noinline notrace void piece(void) { barrier(); }\n"
    (problem,) = problems(build(code + path_with("piece();")))
    assert problem.startswith(f"not NOKPROBE: {part} < {CHAIN} ")
    assert "NOKPROBE_SYMBOL(helper) does not cover this part" in problem


COLD = "if (number) { cold(); number = 7; }"


def test_what_the_compiler_splits_off(build: Compile) -> None:
    """For real: the unlikely half goes to another section, as a function of its own."""
    head = "void __attribute__((cold)) cold(void);\n"
    exits = (Exit("cold", "", "for the test"),)
    (problem,) = problems(build(head + path_with(COLD)), exits=exits)
    assert problem.startswith("not NOKPROBE: helper.cold < helper < middle")
    whole = ("-mrecord-mcount", "-fno-reorder-blocks-and-partition")
    assert problems(build(head + path_with(COLD), *whole), exits=exits) == []


@pytest.mark.parametrize("body", ["elsewhere(); barrier();", "elsewhere();"])
def test_a_call_and_a_tail_jump_out_of_the_module(build: Compile, body: str) -> None:
    path = build(path_with(body))
    assert problems(path) == [f"way out not argued: elsewhere, from {CHAIN}"]
    assert problems(path, exits=(Exit("elsewhere", "helper", ""),)) == []
    assert problems(path, exits=(Exit("elsewhere", "", ""),)) == []
    assert len(problems(path, exits=(Exit("elsewhere", "middle", ""),))) == 1


def test_a_call_into_another_folder(build: Compile) -> None:
    path = build("void bystander(void);\n" + path_with("bystander(); barrier();"))
    found = problems(path)
    assert f"traced: bystander < {CHAIN}" in found
    assert f"not NOKPROBE: bystander < {CHAIN}" in found
    assert any("not in kmod/fault/ but in" in item and "map/map.c" in item for item in found)
    assert f"way out not argued: elsewhere, from bystander < {CHAIN}" in found
    # argued, it is not followed
    assert problems(path, exits=(Exit("bystander", "helper", ""),)) == []


def test_an_address_that_is_taken(build: Compile) -> None:
    text = "void bystander(void);\n" + path_with("pointer = bystander;")
    assert f"traced: bystander < {CHAIN}" in problems(build(text))


def test_an_indirect_call(build: Compile) -> None:
    path = build(path_with("pointer(); barrier();"))
    (problem,) = problems(path)
    assert problem.startswith("indirect branch not argued: ") and "helper" in problem
    assert problems(path, branches=(Argued("helper", "fault.c", "pointer()", ""),)) == []
    assert len(problems(path, branches=(Argued("middle", "fault.c", "pointer()", ""),))) == 1


def test_a_trap(build: Compile) -> None:
    """WARN_ON() and BUG_ON(): the kernel's handler, which prints."""
    (problem,) = problems(build(path_with('__asm__ volatile("ud2");')))
    assert problem == f"way out not argued: ud2, from {CHAIN}"


PATCHED = """__asm__ volatile("1: nop\\n .pushsection SECTION,\\"a\\"\\n"
    ".long 1b - ., bystander - .\\n .byte 0\\n .popsection");"""


@pytest.mark.parametrize("section", ["__jump_table", "__ex_table"])
def test_code_that_is_patched_in_or_fixed_up(build: Compile, section: str) -> None:
    text = path_with(PATCHED.replace("SECTION", section))
    assert f"traced: bystander < {CHAIN}" in problems(build(text))
    assert problems(build(text.replace(section, ".unknown"))) == []


ALTERNATIVE = """__asm__ volatile("1: nop\\n .pushsection .altinstructions,\\"a\\"\\n"
    ".long 1b - ., 2f - .\\n .byte 0, 1, LENGTH\\n .popsection\\n"
    ".pushsection .altinstr_replacement,\\"ax\\"\\n 2: call elsewhere\\n .popsection");"""


def test_alternatives(build: Compile) -> None:
    """Only as much of a replacement as is its own: an empty one is followed by another's."""
    path = build(path_with(ALTERNATIVE.replace("LENGTH", "5")))
    assert problems(path) == [f"way out not argued: elsewhere, from {CHAIN}"]
    assert problems(build(path_with(ALTERNATIVE.replace("LENGTH", "0")))) == []


def test_code_outside_of_functions(build: Compile) -> None:
    code = '__asm__ volatile("jmp 1f\\n .pushsection .aux,\\"ax\\"\\n 1: ud2\\n .popsection");'
    path = build(path_with(code))
    assert problems(path) == [f"way out not argued: .aux+0x0, from {CHAIN}"]
    assert problems(path, exits=(Exit(".aux", "", ""),)) == []


def test_a_check_that_sees_nothing(build: Compile) -> None:
    path = build(path_with())
    assert "there is no iterate(): the check is blind" in problems(path, roots=("probe", "iterate"))
    quiet = OTHER.replace("void bystander", "notrace void bystander")
    assert problems(build(path_with(), other=quiet)) == [
        "no function is traced: the check is blind"
    ]
    found = problems(build(path_with(), folder="stop"))
    assert "nothing is from kmod/fault/: the check is blind" in found
    assert sum("not in kmod/fault/ but in" in item for item in found) == 3


def test_arguments_that_nothing_needs() -> None:
    everything: set[Exit | Argued] = {*outside.EXITS, *outside.BRANCHES}
    assert list(untraced.unneeded(everything)) == []
    assert len(list(untraced.unneeded(set()))) == len(everything)
    assert all(item.why for item in everything)


def test_files_that_are_no_objects(tmp_path: Path) -> None:
    with pytest.raises(ElfError):
        problems(tmp_path / "missing.o")
