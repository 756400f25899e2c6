"""What objdump and addr2line of binutils say about a file's code."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tools.lint.elf import ElfError, Place

_SECTION = re.compile(r"Disassembly of section (\S+):$")
_INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\t(.*)$")
_LINE = re.compile(r"(.*):(\d+|\?)(?: \(discriminator \d+\))?$")

_PREFIXES = r"(?:(?:bnd|notrack|cs|ds|es|ss|fs|gs|data16|rex\S*|addr32)\s+)*"
#: A branch whose target is in a register or in memory; far ones, too.
_INDIRECT = re.compile(_PREFIXES + r"l?(?:call|jmp)[qlw]?\s+\*")
_DIRECT = re.compile(_PREFIXES + r"(?:call|j[a-z]+)[qlw]?\s+(?![*\s])")
_THUNK = re.compile(r"\b__x86_indirect_(?:call_|jump_)?thunk_\w+")
_RETURN = re.compile(_PREFIXES + r"(?:ret[qlw]?\b|jmp\S*\s.*\b__x86_return_thunk\b)")


class Instruction(NamedTuple):
    """One line of objdump: the instruction and, after a tab, its relocations."""

    place: Place
    text: str

    @property
    def thunk(self) -> bool:
        """A branch to a retpoline, which the kernel may patch to an indirect one."""
        return bool(_THUNK.search(self.text))

    @property
    def indirect(self) -> bool:
        """Branches to where a register or memory says."""
        return bool(_INDIRECT.match(self.text)) or self.thunk

    @property
    def direct(self) -> bool:
        """Branches to a place that stands in the instruction."""
        return bool(_DIRECT.match(self.text))

    @property
    def returns(self) -> bool:
        """A return, or a jump to the kernel's return thunk."""
        return bool(_RETURN.match(self.text))


class Frame(NamedTuple):
    """A function of the source, and the line in it."""

    function: str
    file: str
    line: int


@dataclass(frozen=True)
class Site:
    """An instruction and its source: the innermost function first, then what it is inlined in."""

    instruction: Instruction
    frames: tuple[Frame, ...]
    source: str = field(default="")

    @property
    def inner(self) -> Frame:
        """Where the branch is written."""
        return self.frames[0] if self.frames else Frame("?", "?", 0)


def _run(command: list[str], stdin: str | None = None) -> str:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ElfError(f"no {command[0]} on PATH: apt-get install binutils") from error
    if done.returncode:
        raise ElfError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def disassemble(path: Path) -> list[Instruction]:
    """Every instruction of every section with code, in the order of the file."""
    output = _run(["objdump", "-drw", "--no-show-raw-insn", str(path)])
    found: list[Instruction] = []
    section = ""
    for line in output.splitlines():
        if match := _SECTION.match(line):
            section = match[1]
        elif match := _INSTRUCTION.match(line):
            found.append(Instruction(Place(section, int(match[1], 16)), match[2]))
    return found


def locate(path: Path, instructions: Iterable[Instruction]) -> list[Site]:
    """Where each instruction stands in the source, as the debug information says."""
    by_section: dict[str, list[Instruction]] = {}
    for instruction in instructions:
        by_section.setdefault(instruction.place.section, []).append(instruction)
    return [site for section, items in by_section.items() for site in _locate(path, section, items)]


def _locate(path: Path, section: str, instructions: list[Instruction]) -> list[Site]:
    addresses = "".join(f"{item.place.offset:#x}\n" for item in instructions)
    output = _run(["addr2line", "-a", "-f", "-i", "-j", section, "-e", str(path)], addresses)
    blocks = re.split(r"^0x[0-9a-f]+\n", output, flags=re.MULTILINE)[1:]
    if len(blocks) != len(instructions):
        raise ElfError(f"addr2line answered {len(blocks)} of {len(instructions)} questions")
    return [
        Site(item, frames := _frames(block), _source_line(frames))
        for item, block in zip(instructions, blocks, strict=True)
    ]


def _frames(block: str) -> tuple[Frame, ...]:
    lines = block.splitlines()
    frames = []
    for function, where in zip(lines[::2], lines[1::2], strict=True):
        match = _LINE.match(where)
        file, line = (match[1], match[2]) if match else (where, "?")
        frames.append(Frame(function, file, int(line) if line.isdigit() else 0))
    return tuple(frames)


def _source_line(frames: tuple[Frame, ...]) -> str:
    """The text of the innermost line; empty when the source is not at hand."""
    if not frames or not frames[0].line:
        return ""
    try:
        lines = Path(frames[0].file).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[frames[0].line - 1].strip() if frames[0].line <= len(lines) else ""
