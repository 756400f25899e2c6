"""``python -m tools.lint.ibt MODULE.ko...``: would it survive a CPU with kernel IBT?

Emulation has no IBT, and most hypervisors do not show it, so this reads the code instead. It fails
on an indirect branch that :mod:`tools.lint.argued` does not argue, on an argument that no branch
needs any more, on a function whose address is taken but that an indirect branch may not enter, and
on an address found by name that is called other than by way of ld_call().
"""

from __future__ import annotations

import argparse
import re
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from livedump.kmod import read_vermagic
from tools.lint import argued
from tools.lint.argued import Argued
from tools.lint.disassembly import Instruction, Site, disassemble, locate
from tools.lint.elf import ElfError, Place, Relocatable, Relocation, read
from tools.paths import ROOT

ENDBR64 = b"\xf3\x0f\x1e\xfa"
THUNK = "ld_call_thunk"

#: A line of the listing: the branch as it is written, and the argument.
Listing = Counter[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """A file with everything that the checks look at."""

    elf: Relocatable
    instructions: list[Instruction]

    @classmethod
    def of(cls, path: Path) -> Code:
        """Read and disassemble *path*.

        :raises ElfError: it cannot be
        """
        return cls(read(path), disassemble(path))


def matches(item: Argued, site: Site) -> bool:
    """*item* argues the branch at *site*."""
    inner = site.inner
    if item.function.endswith("*"):
        named = inner.function.startswith(item.function[:-1])
    else:
        named = inner.function == item.function
    return named and Path(inner.file).name == item.file and item.calls in site.source


def describe(site: Site) -> str:
    """The branch for the user: where, in what, and the source's words."""
    inner = site.inner
    outer = f" in {site.frames[-1].function}" if len(site.frames) > 1 else ""
    place = site.instruction.place
    text = " ".join(site.instruction.text.split("#")[0].split())
    return (
        f"{place.section}+{place.offset:#x}: {inner.function}{outer}, "
        f"{Path(inner.file).name}:{inner.line}: {site.source or text}"
    )


def check_branches(
    code: Code, branches: Sequence[Argued], listing: Listing, used: set[Argued]
) -> Iterator[str]:
    """Every indirect branch is argued, and objtool knows of none that we do not."""
    indirect = [item for item in code.instructions if item.indirect]
    unknown = _retpoline_sites(code.elf) - {item.place for item in indirect}
    for place in sorted(unknown):
        yield f"{place.section}+{place.offset:#x} is in .retpoline_sites, but was not found"
    seen: Counter[tuple[object, ...]] = Counter()
    for site in locate(code.elf.path, indirect):
        variable = _variable(code.elf, site.instruction)
        if variable:
            listing[f"through {variable}", argued.VARIABLES[variable]] += 1
            continue
        found = [item for item in branches if matches(item, site)]
        seen[site.frames] += 1
        if seen[site.frames] > len(found):
            yield f"indirect branch not argued: {describe(site)}"
            continue
        used.update(found)
        listing[_written(site, found[0]), found[0].why] += 1


def _written(site: Site, item: Argued) -> str:
    if not item.calls:
        return f"{site.inner.function}, a macro's"
    return f"{item.file}:{site.inner.line} {site.inner.function}: {site.source}"


def _variable(elf: Relocatable, instruction: Instruction) -> str:
    """The kernel variable that a branch reads its target from, if it is one of those argued."""
    if instruction.thunk:
        return ""
    names = re.findall(r"R_X86_64_\w+\t(\w+)[+-]0x", instruction.text)
    return next((name for name in names if name in argued.VARIABLES), "")


def _retpoline_sites(elf: Relocatable) -> set[Place]:
    """What objtool says: the places of all calls of retpolines."""
    return {
        Place(item.symbol.section, item.symbol.offset + item.addend)
        for item in elf.relocations_in(".retpoline_sites")
    }


def taken(code: Code) -> dict[Place, str]:
    """Places in code whose address is taken, and where."""
    found: dict[Place, str] = {}
    elf = code.elf
    for item in elf.relocations:
        home = elf.sections[item.place.section]
        if home.code or home.name in argued.METADATA:
            continue
        target = Place(item.symbol.section, item.symbol.offset + item.addend)
        if target.section and elf.sections[target.section].code:
            found.setdefault(target, f"{item.place.section}+{item.place.offset:#x}")
    for instruction, item in operands(code):
        if instruction.direct or instruction.indirect or instruction.returns:
            continue
        if item.target.section and elf.sections[item.target.section].code:
            place = instruction.place
            found.setdefault(item.target, f"{place.section}+{place.offset:#x}")
    return found


def operands(code: Code) -> Iterator[tuple[Instruction, Relocation]]:
    """Every relocation in code, with its instruction."""
    by_section: dict[str, list[Instruction]] = {}
    for instruction in code.instructions:
        by_section.setdefault(instruction.place.section, []).append(instruction)
    for section, instructions in by_section.items():
        offsets = [instruction.place.offset for instruction in instructions]
        for item in code.elf.relocations_in(section):
            yield instructions[bisect_right(offsets, item.place.offset) - 1], item


def check_taken(code: Code) -> Iterator[str]:
    """Indirect branches may enter every function whose address is taken."""
    functions = code.elf.functions()
    sealed = {
        Place(item.symbol.section, item.symbol.offset + item.addend)
        for item in code.elf.relocations_in(".ibt_endbr_seal")
    }
    found = 0
    for target, where in sorted(taken(code).items()):
        name = functions.get(target)
        if name is None:
            yield from _check_label(code, target, where)
            continue
        if name.startswith(argued.TRAMPOLINES) or name in argued.RETURNED:
            continue
        found += 1
        if code.elf.bytes_at(target, len(ENDBR64)) != ENDBR64:
            yield f"{name}() does not begin with endbr64, but its address is taken at {where}"
        elif target in sealed:
            yield f"the kernel seals {name}(), but its address is taken at {where}"
    if not found:
        yield "no function's address is taken: the check is blind"


def _check_label(code: Code, target: Place, where: str) -> Iterator[str]:
    places = [item for item in code.instructions if item.place == target]
    functions = {frame.function for site in locate(code.elf.path, places) for frame in site.frames}
    if not functions & argued.LABELS.keys():
        name = f"{target.section}+{target.offset:#x}"
        yield f"the address of {name}, no function's start, is taken at {where}"


def check_thunk(code: Code) -> Iterator[str]:
    """ld_call() pushes its target and returns into it: returns are not tracked."""
    starts = [place for place, name in code.elf.functions().items() if name == THUNK]
    if len(starts) != 1:
        yield f"there is no {THUNK}()"
        return
    body = [
        item
        for item in code.instructions
        if item.place.section == starts[0].section and item.place.offset >= starts[0].offset
    ]
    for instruction in body:
        if instruction.returns:
            return
        if instruction.direct or instruction.indirect:
            break
    yield f"{THUNK}() does not end in a return"


def sources(folder: Path) -> dict[str, str]:
    """Name -> text of the module's C files, comments left out."""
    return {
        path.name: re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        for path in sorted(folder.rglob("*.[ch]"))
    }


def check_names(
    texts: Mapping[str, str],
    functions: Mapping[str, str] = argued.KERNEL_FUNCTIONS,
    data: frozenset[str] | set[str] = frozenset(argued.KERNEL_DATA),
) -> Iterator[str]:
    """Kernel functions that were found by name are called by way of ld_call() only."""
    asked = {
        name
        for text in texts.values()
        for name in re.findall(r'\b(?:lookup|required|probe_address)\(\s*"(\w+)"', text)
    }
    for name in sorted(asked - functions.keys() - data):
        yield f"{name} is looked up: say in tools/lint/argued.py whether it is a function"
    for name in sorted((functions.keys() | data) - asked):
        yield f"{name} is not looked up any more: remove it from tools/lint/argued.py"
    for variable in functions.values():
        for file, text in texts.items():
            yield from _check_uses(variable, file, text)


def check_returned(
    texts: Mapping[str, str], returned: Mapping[str, str] = argued.RETURNED
) -> Iterator[str]:
    """The address of a function that is only returned into is used for nothing else."""
    for name, giver in returned.items():
        uses = 0
        for file, text in texts.items():
            for match in re.finditer(rf"[^\n]*\b{giver}\(\)[^\n]*", text):
                uses += 1
                if match[0].strip() != f"regs->ip = {giver}();":
                    yield f"{file}: {giver}() is used other than for regs->ip: {match[0].strip()}"
        if not uses:
            yield f"nothing returns into {name}() any more: remove it from tools/lint/argued.py"


def _check_uses(variable: str, file: str, text: str) -> Iterator[str]:
    """Set it, test it, hand it to ld_call(): nothing else."""
    name = re.escape(variable)
    good = (
        rf"\bld_call\(\s*{name}\s*,",
        rf'\brequired\(\s*"\w+",\s*&{name}\)',
        rf"\b{name} = (?:probe_address|lookup)\(",
        rf"!{name}\b",
        rf"\bstatic unsigned long {name};",
    )
    rest = re.sub("|".join(good), "", text)
    for match in re.finditer(rf"[^\n]*\b{name}\b[^\n]*", rest):
        yield f"{file}: {variable} is used other than by ld_call(): {match[0].strip()}"


def has_ibt(release: str, modules: Path = Path("/lib/modules")) -> bool:
    """True when that kernel was built with IBT.

    :raises ElfError: its configuration is not here
    """
    config = modules / release / "build/.config"
    try:
        return "\nCONFIG_X86_KERNEL_IBT=y\n" in config.read_text()
    except OSError as error:
        raise ElfError(f"{config}: {error.strerror}: install linux-headers-{release}") from error


def check(
    path: Path,
    *,
    ibt: bool,
    branches: Sequence[Argued] = argued.BRANCHES,
    listing: Listing,
    used: set[Argued],
) -> list[str]:
    """Everything about one file; the problems found.

    :raises ElfError: it cannot be read
    """
    code = Code.of(path)
    problems = list(check_branches(code, branches, listing, used))
    problems += check_thunk(code)
    if ibt:
        problems += check_taken(code)
    return problems


#: Not part of the module that is checked.
TEST_BUILD_ONLY = "test.c"


def require_fresh(path: Path, folder: Path) -> None:
    """The source must be what the module was built from: arguments are matched with its lines.

    :raises ElfError: it is newer
    """
    built = path.stat().st_mtime
    files = (file for file in sorted(folder.rglob("*.[ch]")) if file.name != TEST_BUILD_ONLY)
    newer = [file.name for file in files if file.stat().st_mtime > built]
    if newer:
        raise ElfError(f"{path} is older than {', '.join(newer)}: make kmod")


def main(argv: Sequence[str] | None = None) -> int:
    """Check modules, given by path; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.lint.ibt", description=__doc__)
    parser.add_argument("modules", nargs="+", type=Path, metavar="MODULE.ko")
    parser.add_argument("--list", action="store_true", help="every branch and its argument")
    options = parser.parse_args(argv)
    used: set[Argued] = set()
    texts = sources(ROOT / "kmod")
    problems = [*check_names(texts), *check_returned(texts)]
    for path in options.modules:
        require_fresh(path, ROOT / "kmod")
        release = read_vermagic(path).split(" ", 1)[0]
        ibt = has_ibt(release)
        listing: Listing = Counter()
        found = check(path, ibt=ibt, listing=listing, used=used)
        problems += [f"{release}: {problem}" for problem in found]
        _report(release, ibt, listing, options.list)
    for item in argued.BRANCHES:
        if item not in used:
            problems.append(f"no branch needs the argument for {item.calls} in {item.function}()")
    for problem in problems:
        print(f"check-ibt: error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _report(release: str, ibt: bool, listing: Listing, full: bool) -> None:
    what = "targets checked" if ibt else "the kernel has no IBT, targets not checked"
    print(f"{release}: {sum(listing.values())} indirect branches argued, {what}")
    reasons: dict[str, list[str]] = {}
    for (branch, why), count in listing.items() if full else ():
        reasons.setdefault(why, []).append(f"{count} x {branch}")
    for why, lines in reasons.items():
        print(f"  {why}:", *lines, sep="\n    ")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ElfError as error:
        print(f"check-ibt: error: {error}", file=sys.stderr)
        sys.exit(1)
