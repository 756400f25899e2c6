"""The check of indirect branches, on objects compiled on the spot."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.lint import argued, ibt
from tools.lint.argued import Argued
from tools.lint.elf import ElfError
from tools.paths import ROOT

THUNK = """
__asm__(".type ld_call_thunk, @function\\n"
        "ld_call_thunk: push %rdi\\n mov %rsi, %rdi\\n ret\\n"
        ".size ld_call_thunk, . - ld_call_thunk\\n");
"""
DIRECT = """
void other(void (*fn)(void));
static void callee(void) { __asm__ volatile(""); }
void caller(void) { other(callee); }
"""
INDIRECT = """
extern void (*pointer)(long);
void caller(long n) { pointer(n); __asm__ volatile(""); }
"""
ARGUED = Argued("caller", "a.c", "pointer(", "for the test")

Compile = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Compile:
    """Compile C to an object, as the kernel is but for *options*."""

    def compile_(text: str, *options: str, thunk: str = THUNK) -> Path:
        source = tmp_path / "a.c"
        source.write_text(text + thunk)
        target = tmp_path / "a.o"
        command = ["gcc", "-c", "-g", "-O2", "-mcmodel=kernel", "-fno-pic", "-fno-pie"]
        command += ["-fno-asynchronous-unwind-tables"]
        command += options or ["-fcf-protection=branch"]
        subprocess.run([*command, "-o", str(target), str(source)], check=True)
        return target

    return compile_


def problems(path: Path, *, branches: tuple[Argued, ...] = (), endbr: bool = True) -> list[str]:
    """What the check finds in one file."""
    return ibt.check(path, ibt=endbr, branches=branches, listing=Counter(), used=set())


def test_an_object_without_indirect_branches(build: Compile) -> None:
    assert problems(build(DIRECT)) == []


@pytest.mark.parametrize("option", ["-mindirect-branch=keep", "-mindirect-branch=thunk-extern"])
def test_an_indirect_call(build: Compile, option: str) -> None:
    """Plain, and by way of a retpoline, which the kernel may patch to a plain one."""
    path = build(INDIRECT, option)
    (problem,) = problems(path, endbr=False)
    assert "indirect branch not argued" in problem
    assert "caller, a.c:3: void caller(long n) { pointer(n);" in problem
    assert problems(path, branches=(ARGUED,), endbr=False) == []


def test_an_indirect_tail_call_and_a_jump_table(build: Compile) -> None:
    tail = "extern void (*pointer)(long);\nvoid caller(long n) { pointer(n); }\n"
    assert len(problems(build(tail), endbr=False)) == 1
    assert len(problems(build(tail, "-mindirect-branch=thunk-extern"), endbr=False)) == 1
    cases = "".join(f"case {n}: f{n}(); break;" for n in range(9))
    calls = "".join(f"void f{n}(void);" for n in range(9))
    table = f"{calls}void caller(int n) {{ switch (n) {{ {cases} }} }}"
    assert len(problems(build(table), endbr=False)) == 1


@pytest.mark.parametrize(
    "item",
    [
        Argued("another", "a.c", "pointer(", ""),
        Argued("caller", "b.c", "pointer(", ""),
        Argued("caller", "a.c", "pointer_two(", ""),
    ],
)
def test_an_argument_for_something_else(build: Compile, item: Argued) -> None:
    assert len(problems(build(INDIRECT), branches=(item,), endbr=False)) == 1


def test_two_branches_in_one_line_need_two_arguments(build: Compile) -> None:
    text = INDIRECT + "extern long (*more)(void);\nvoid two(void) { pointer(more()); }\n"
    branches: tuple[Argued, ...] = (ARGUED, Argued("two", "a.c", "pointer(", ""))
    (problem,) = problems(build(text), branches=branches, endbr=False)
    assert "two, a.c" in problem
    branches = (*branches, Argued("two", "a.c", "more()", ""))
    assert problems(build(text), branches=branches, endbr=False) == []


def test_paravirt_calls_are_known_by_their_variable(build: Compile) -> None:
    text = "extern struct { void *a; void (*b)(void); } NAME;\n"
    text += 'void caller(void) { NAME.b(); __asm__ volatile(""); }\n'
    assert problems(build(text.replace("NAME", "pv_ops")), endbr=False) == []
    assert len(problems(build(text.replace("NAME", "my_ops")), endbr=False)) == 1


def test_a_target_without_endbr(build: Compile) -> None:
    path = build(DIRECT, "-fcf-protection=none")
    assert problems(path, endbr=False) == []
    (problem,) = problems(path)
    assert problem.startswith("callee() does not begin with endbr64")


def test_a_target_in_a_table(build: Compile) -> None:
    text = 'static void callee(void) { __asm__ volatile(""); }\n'
    text += "void (*const table[])(void) = {callee};\n"
    assert problems(build(text)) == []
    (problem,) = problems(build(text, "-fcf-protection=none"))
    assert "is taken at .rodata+0x0" in problem


def test_a_sealed_target(build: Compile) -> None:
    seal = (
        '__asm__(".pushsection .ibt_endbr_seal,\\"a\\"\\n .long NAME - .\\n .popsection\\n");'
        "void quiet(void) {}\n"
    )
    assert problems(build(DIRECT + seal.replace("NAME", "quiet"))) == []
    (problem,) = problems(build(DIRECT + seal.replace("NAME", "callee")))
    assert problem.startswith("the kernel seals callee()")


def test_a_label_whose_address_is_taken(build: Compile) -> None:
    text = DIRECT + "void *here(void) { label: return &&label; }\n"
    (problem,) = problems(build(text))
    assert "no function's start" in problem


def test_nothing_whose_address_is_taken(build: Compile) -> None:
    """A check that sees nothing proves nothing."""
    (problem,) = problems(build("void other(void);\nvoid caller(void) { other(); }\n"))
    assert "blind" in problem


def test_what_objtool_lists_must_be_found(build: Compile) -> None:
    site = '__asm__(".pushsection .retpoline_sites,\\"a\\"\\n .long caller - .\\n .popsection\\n");'
    (problem,) = problems(build(DIRECT + site))
    assert "in .retpoline_sites, but was not found" in problem


@pytest.mark.parametrize(
    "code", ["push %rdi\\n jmp *%rsi", "push %rdi\\n call other\\n ret", "jmp other\\n ret"]
)
def test_a_thunk_that_does_not_return(build: Compile, code: str) -> None:
    thunk = '__asm__(".type ld_call_thunk, @function\\nld_call_thunk: CODE\\n");'
    found = problems(build(DIRECT, thunk=thunk.replace("CODE", code)))
    assert "ld_call_thunk() does not end in a return" in found


def test_no_thunk(build: Compile) -> None:
    assert problems(build(DIRECT, thunk="")) == ["there is no ld_call_thunk()"]


def test_the_return_thunk_is_a_return(build: Compile) -> None:
    thunk = THUNK.replace(" ret", " jmp __x86_return_thunk")
    assert problems(build(DIRECT, thunk=thunk)) == []


def test_files_that_are_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.o"
    for data in (b"", b"\x7fELF\x02\x01\x01", Path("/bin/true").read_bytes()):
        path.write_bytes(data)
        with pytest.raises(ElfError):
            problems(path)
    with pytest.raises(ElfError):
        problems(tmp_path / "missing.o")


# ---- names ----

COMPAT = """
static unsigned long lookup_name;
/* lookup_name = something in a comment */
int init(void)
{
    lookup_name = probe_address("kallsyms_lookup_name");
    if (!lookup_name || required("idle_task", &ld_syms.idle_task) ||
        required("init_mm", &mm))
        return -1;
    ld_call(ld_syms.idle_task, cpu, 0);
    return ld_call(lookup_name, 0, 0);
}
"""
FUNCTIONS = {"kallsyms_lookup_name": "lookup_name", "idle_task": "ld_syms.idle_task"}


def names(text: str, data: frozenset[str] = frozenset({"init_mm"})) -> list[str]:
    """What the check of looked-up names finds in *text*."""
    texts = {"compat.c": text}
    return list(ibt.check_names(texts, FUNCTIONS, data))


def test_names(tmp_path: Path) -> None:
    (tmp_path / "compat.c").write_text(COMPAT)
    text = ibt.sources(tmp_path)["compat.c"]
    assert names(text) == []
    (problem,) = names(text, frozenset())
    assert "init_mm is looked up: say" in problem
    (problem,) = names(text, frozenset({"init_mm", "old"}))
    assert "old is not looked up any more" in problem


@pytest.mark.parametrize(
    "use",
    [
        "((void (*)(void))ld_syms.idle_task)();",
        "kthread_run((void *)lookup_name, 0, 0);",
        "unsigned long copy = ld_syms.idle_task;",
    ],
)
def test_an_address_that_escapes(use: str) -> None:
    text = COMPAT.replace("/* lookup_name = something in a comment */", "")
    (problem,) = names(text.replace("return -1;", use))
    assert use in problem and "other than by ld_call()" in problem


RETURNED = {"thunk": "just_return"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("    regs->ip = just_return();\n", ""),
        ("unsigned long just_return(void)\n{\n}\n", "nothing returns into thunk()"),
        ("    ((fn)just_return())();\n", "other than for regs->ip: ((fn)just_return())();"),
    ],
)
def test_an_address_that_is_returned_into(text: str, words: str) -> None:
    found = list(ibt.check_returned({"hooks.c": text}, RETURNED))
    assert [words in problem for problem in found] == ([True] if words else [])


def test_a_target_that_is_only_returned_into_needs_no_endbr(
    build: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = 'static void second(void) { __asm__ volatile(""); }\n'
    second += "void (*const more[])(void) = {second};\n"
    path = build(DIRECT + second, "-fcf-protection=none")
    assert len(problems(path)) == 2
    monkeypatch.setattr(argued, "RETURNED", {"callee": "just_return"})
    (problem,) = problems(path)
    assert problem.startswith("second() does not begin with endbr64")


def test_the_module_as_it_is() -> None:
    """Needs no build: the other half runs in `make check-ibt`."""
    texts = ibt.sources(ROOT / "kmod")
    assert list(ibt.check_names(texts)) == []
    assert list(ibt.check_returned(texts)) == []
    assert all(item.why for item in argued.BRANCHES)


def test_kernels_say_whether_they_have_ibt(tmp_path: Path) -> None:
    config = tmp_path / "6.12/build/.config"
    config.parent.mkdir(parents=True)
    config.write_text("CONFIG_X=y\nCONFIG_X86_KERNEL_IBT=y\nCONFIG_Y=y\n")
    assert ibt.has_ibt("6.12", tmp_path)
    config.write_text("CONFIG_X=y\n# CONFIG_X86_KERNEL_IBT is not set\n")
    assert not ibt.has_ibt("6.12", tmp_path)
    with pytest.raises(ElfError, match="install linux-headers-6.1"):
        ibt.has_ibt("6.1", tmp_path)


def test_a_module_older_than_its_source(tmp_path: Path) -> None:
    module, source = tmp_path / "livedump.ko", tmp_path / "a.c"
    source.write_text("")
    module.write_text("")
    ibt.require_fresh(module, tmp_path)
    os.utime(module, (1, 1))
    with pytest.raises(ElfError, match="older than a.c: make kmod"):
        ibt.require_fresh(module, tmp_path)
