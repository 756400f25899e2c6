"""``python -m tools.lint.untraced MODULE.ko...``: can the fault path be traced or probed?

A tracer or a kprobe in it writes memory that may be protected, and its fault enters the same code
again, without end. So whatever the roots below reach in the module must be untraced, NOKPROBE, and
come from kmod/fault/; other ways out must be argued in :mod:`tools.lint.outside`. This follows
direct branches, addresses that are taken, static keys, alternatives and exception fixups, and fails
on whatever breaks the rule, and on an argument that nothing needs any more.
"""

from __future__ import annotations

import argparse
import sys
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from livedump.kmod import read_vermagic
from tools.lint import outside
from tools.lint.argued import Argued
from tools.lint.disassembly import Instruction, locate
from tools.lint.elf import ElfError, Place, Relocation, Symbol
from tools.lint.ibt import Code, describe, matches, operands, require_fresh
from tools.lint.outside import Exit
from tools.paths import ROOT

#: The probe, and the tracepoint's iterator: what exc_page_fault() calls of us.
ROOTS = ("ld_fault_probe", "iterate")

#: The folder of kmod/ that all of it must come from.
FOLDER = "fault"

_FENTRY = {"__fentry__", "mcount"}
#: Where tracers patch a function in. With call padding every function has an entry in the second,
#: for the bytes before its start: only entries inside of a function count.
_PATCHED = ("__mcount_loc", "__patchable_function_entries")
#: Pairs of places, side by side: the second may be run in place of the first, or after it.
_PAIRS = ("__jump_table", "__ex_table")
#: The same, with the length of the second in the last byte of an entry.
_ALTERNATIVES = ".altinstructions"
_BLACKLIST = "_kprobe_blacklist"
#: Sections that kprobes stay out of as a whole.
_NO_PROBES = (".kprobes.text", ".noinstr.text")
_TRAP = "ud2"

#: Lines of the listing: what was reached, or an argument and who needs it.
Listing = Counter[str]


@dataclass(frozen=True, order=True)
class Function:
    """A function of the module, or a part of one that the compiler split off."""

    start: Place
    end: int
    name: str


class Pair(NamedTuple):
    """Code that may be run after ``first``, or, so many bytes of it, in its place."""

    first: Place
    second: Place
    length: int | None = None


class Module:
    """Code, by function."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.functions = sorted(_functions(code))
        self._starts = [function.start for function in self.functions]
        self._places = [item.place for item in code.instructions]
        self._by_place = sorted(code.instructions, key=lambda item: item.place)
        self._places.sort()
        self._operands: dict[Place, list[Relocation]] = {}
        for instruction, item in operands(code):
            self._operands.setdefault(instruction.place, []).append(item)
        self._after = _after(code)
        self.patched = {place for name in _PATCHED for place in self._listed(name)}
        self.unprobed = set(self._listed(_BLACKLIST))

    def _listed(self, section: str) -> Iterator[Place]:
        for item in self.code.elf.relocations_in(section):
            yield _meant(item)

    def at(self, place: Place) -> Function | None:
        """The function that *place* is in."""
        number = bisect_right(self._starts, place) - 1
        if number < 0:
            return None
        found = self.functions[number]
        inside = found.start.section == place.section and place.offset < found.end
        return found if inside else None

    def traced(self, function: Function) -> bool:
        """A tracer may be called in it: a place that is patched, or the call itself."""
        first = function.start
        if any(first <= place < Place(first.section, function.end) for place in self.patched):
            return True
        branches = (item for item in self._between(first, function.end) if item.direct)
        return any(
            operand.symbol.name in _FENTRY
            for item in branches
            for operand in self._operands.get(item.place, [])
        )

    def body(self, function: Function) -> Iterator[Instruction]:
        """Its instructions, and those that alternatives put in their place."""
        yield from self._between(function.start, function.end)
        for pair in self._elsewhere(function):
            if pair.length is not None:
                yield from self._between(pair.second, pair.second.offset + pair.length)

    def leads(self, function: Function) -> Iterator[Place | str]:
        """Places in code that it may go to, and names of what is in other files."""
        for pair in self._elsewhere(function):
            if pair.length is None:
                yield pair.second
        for instruction in self.body(function):
            if instruction.text.split(maxsplit=1)[:1] == [_TRAP]:
                yield _TRAP
            if not instruction.thunk:
                yield from self._targets(instruction)

    def _targets(self, instruction: Instruction) -> Iterator[Place | str]:
        found = self._operands.get(instruction.place, [])
        for operand in found:
            section = operand.target.section
            if section and self.code.elf.sections[section].code:
                yield operand.target
            elif instruction.direct:
                yield operand.symbol.name
        if instruction.direct and not found:
            target = instruction.text.split("#")[0].split("<")[0].split()[-1]
            yield Place(instruction.place.section, int(target, 16))

    def _between(self, first: Place, end: int) -> Sequence[Instruction]:
        low = bisect_left(self._places, first)
        return self._by_place[low : bisect_left(self._places, Place(first.section, end))]

    def _elsewhere(self, function: Function) -> Iterator[Pair]:
        for pair in self._after:
            if function.start <= pair.first < Place(function.start.section, function.end):
                yield pair


def _functions(code: Code) -> Iterator[Function]:
    """All of them; those of assembly that state no size reach up to the next."""
    found: dict[Place, Symbol] = {}
    for symbol in code.elf.symbols:
        if symbol.function and symbol.section and not symbol.name.startswith("__pfx_"):
            found[Place(symbol.section, symbol.offset)] = symbol
    starts = sorted(found)
    for number, start in enumerate(starts):
        symbol = found[start]
        if symbol.size:
            end = start.offset + symbol.size
        elif number + 1 < len(starts) and starts[number + 1].section == start.section:
            end = starts[number + 1].offset
        else:
            end = sys.maxsize
        yield Function(start, end, symbol.name)


def _meant(item: Relocation) -> Place:
    return Place(item.symbol.section, item.symbol.offset + item.addend)


def _after(code: Code) -> list[Pair]:
    elf = code.elf
    found = [Pair(first, second) for name in _PAIRS for _, first, second in _pairs(code, name)]
    entries = list(_pairs(code, _ALTERNATIVES))
    if entries:
        data = elf.sections[_ALTERNATIVES].data
        size = len(data) // len(entries)
        for offset, first, second in entries:
            if len(data) % len(entries) or offset % size:
                raise ElfError(f"{elf.path}: {_ALTERNATIVES} has entries of another form")
            found.append(Pair(first, second, data[offset + size - 1]))
    return found


def _pairs(code: Code, section: str) -> Iterator[tuple[int, Place, Place]]:
    """Whatever the rest of an entry is on this kernel, the two stand in its first 8 bytes."""
    items = {item.place.offset: _meant(item) for item in code.elf.relocations_in(section)}
    sections = code.elf.sections
    for offset, first in items.items():
        second = items.get(offset + 4)
        if second and all(at.section and sections[at.section].code for at in (first, second)):
            yield offset, first, second


@dataclass
class Walk:
    """What is reached from the roots.

    :ivar via: function -> what it was reached from
    :ivar problems: ways out that are not argued
    """

    module: Module
    exits: Sequence[Exit]
    branches: Sequence[Argued]
    via: dict[Function, Function | None]
    problems: list[str]
    used: set[Exit | Argued]

    def run(self, roots: Iterable[str]) -> None:
        """Follow everything."""
        for name in roots:
            found = [item for item in self.module.functions if item.name == name]
            self.via.update(dict.fromkeys(found))
            if not found:
                self.problems.append(f"there is no {name}(): the check is blind")
        queue = deque(self.via)
        while queue:
            function = queue.popleft()
            for after in self._follow(function):
                if after not in self.via:
                    self.via[after] = function
                    queue.append(after)
            self._indirect(function)

    def chain(self, function: Function) -> str:
        """How it is reached."""
        names = []
        at: Function | None = function
        while at:
            names.append(at.name)
            at = self.via[at]
        return " < ".join(names)

    def _follow(self, function: Function) -> Iterator[Function]:
        for lead in dict.fromkeys(self.module.leads(function)):
            found = self.module.at(lead) if isinstance(lead, Place) else None
            if found == function:
                continue
            if found:
                name = found.name
            else:
                name = lead if isinstance(lead, str) else lead.section
            if name in _FENTRY or self._argued(function, name):
                continue
            if found:
                yield found
                continue
            where = f"{lead.section}+{lead.offset:#x}" if isinstance(lead, Place) else lead
            self.problems.append(f"way out not argued: {where}, from {self.chain(function)}")

    def _argued(self, function: Function, name: str) -> bool:
        found = [item for item in self.exits if item.to == name]
        found = [item for item in found if item.within in ("", function.name)]
        self.used.update(found)
        return bool(found)

    def _indirect(self, function: Function) -> None:
        indirect = [item for item in self.module.body(function) if item.indirect]
        for site in locate(self.module.code.elf.path, indirect):
            found = [item for item in self.branches if matches(item, site)]
            self.used.update(found)
            if not found:
                self.problems.append(f"indirect branch not argued: {describe(site)}")


def files(module: Module) -> dict[Function, Path]:
    """Where the source of each function is, as the debug information says."""
    first = {function.start: function for function in module.functions}
    entries = [item for item in module.code.instructions if item.place in first]
    return {
        first[site.instruction.place]: Path(site.frames[-1].file if site.frames else "?")
        for site in locate(module.code.elf.path, entries)
    }


def check_function(module: Module, function: Function, file: Path, chain: str) -> Iterator[str]:
    """One that is reached; *chain* says how."""
    if module.traced(function):
        yield f"traced: {chain}"
    unprobed = module.unprobed
    if function.start not in unprobed and not function.start.section.startswith(_NO_PROBES):
        parent = function.name.split(".")[0]
        starts = {item.start for item in module.functions if item.name == parent}
        hint = f" (NOKPROBE_SYMBOL({parent}) does not cover this part of it)"
        yield f"not NOKPROBE: {chain}{hint if starts & unprobed else ''}"
    if file.parent.name != FOLDER:
        yield f"not in kmod/{FOLDER}/ but in {file}: {chain}"


def check_folder(module: Module, sources: dict[Function, Path]) -> Iterator[str]:
    """Nothing of the folder is traced, reached or not; something else is."""
    mine = [function for function, file in sources.items() if file.parent.name == FOLDER]
    if not mine:
        yield f"nothing is from kmod/{FOLDER}/: the check is blind"
    for function in mine:
        if module.traced(function):
            yield f"traced, and in kmod/{FOLDER}/: {function.name}"
    if not any(map(module.traced, module.functions)):
        yield "no function is traced: the check is blind"


def check(
    path: Path,
    *,
    exits: Sequence[Exit] = outside.EXITS,
    branches: Sequence[Argued] = outside.BRANCHES,
    roots: Sequence[str] = ROOTS,
    listing: Listing,
    used: set[Exit | Argued],
) -> list[str]:
    """Everything about one file; the problems found.

    :raises ElfError: it cannot be read
    """
    module = Module(Code.of(path))
    walk = Walk(module, exits, branches, {}, [], used)
    walk.run(roots)
    sources = files(module)
    problems = walk.problems
    for function in walk.via:
        chain = walk.chain(function)
        listing[chain] += 1
        problems += check_function(module, function, sources.get(function, Path("?")), chain)
    problems += check_folder(module, sources)
    return problems


def main(argv: Sequence[str] | None = None) -> int:
    """Check modules, given by path; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.lint.untraced", description=__doc__)
    parser.add_argument("modules", nargs="+", type=Path, metavar="MODULE.ko")
    parser.add_argument("--list", action="store_true", help="every function, and every argument")
    options = parser.parse_args(argv)
    used: set[Exit | Argued] = set()
    problems = []
    for path in options.modules:
        require_fresh(path, ROOT / "kmod")
        release = read_vermagic(path).split(" ", 1)[0]
        listing: Listing = Counter()
        problems += [f"{release}: {item}" for item in check(path, listing=listing, used=used)]
        print(f"{release}: {len(listing)} functions reached from the probe of page faults")
        for chain in listing if options.list else ():
            print(f"  {chain}")
    problems += unneeded(used)
    if options.list:
        print("ways out argued:", *_arguments(), sep="\n  ")
    for problem in problems:
        print(f"check-untraced: error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def unneeded(used: set[Exit | Argued]) -> Iterator[str]:
    """Arguments that no module needed."""
    for way in outside.EXITS:
        if way not in used:
            yield f"nothing needs the argument for {way.to}"
    for branch in outside.BRANCHES:
        if branch not in used:
            yield f"no branch needs the argument for {branch.calls} in {branch.function}()"


def _arguments() -> Iterator[str]:
    for way in outside.EXITS:
        yield f"{way.to} from {way.within or 'anywhere'}: {way.why}"
    for branch in outside.BRANCHES:
        yield f"{branch.calls} from {branch.function}: {branch.why}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ElfError as error:
        print(f"check-untraced: error: {error}", file=sys.stderr)
        sys.exit(1)
