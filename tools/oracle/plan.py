"""Which runs there are: the matrix, and the mutants that prove that the judge can say no."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from livedump.control import DEFAULT_STRATEGY
from tools.vm.machines import FULL, LA57

#: Busy waits in microseconds at the points of kmod/test.h: copied, published, read, demote.
NO_DELAY = (0, 0, 0, 0)
ALL_DELAYS = (200, 200, 20, 200)
#: A page is not written when it is allocated: it is saved when somebody else writes it first.
NOT_ZEROED = ("init_on_alloc=0",)
PREEMPT_FULL = ("preempt=full",)


@dataclass(frozen=True)
class Mutant:
    """A build that leaves out one thing, and the strategies that have it."""

    name: str
    strategies: tuple[str, ...]


MUTANTS = (
    Mutant("flush", ("eager", "lazy")),
    Mutant("publish", ("eager", "lazy")),
    Mutant("recheck", ("eager", "lazy")),
    # eager copies nothing before the stop, and protects every entry on its own
    Mutant("recopy", ("lazy",)),
    Mutant("neighbours", ("lazy",)),
)


@dataclass(frozen=True)
class Case:
    """One run. With a mutant it must be caught, else it must be clean."""

    kernel: str = FULL
    la57: bool = True
    strategy: str = DEFAULT_STRATEGY
    mutant: str = ""
    delays_us: tuple[int, int, int, int] = NO_DELAY
    #: Kernel arguments.
    append: tuple[str, ...] = ()
    #: The host takes free pages, and memory is freed while the snapshot is held.
    balloon: bool = False

    @property
    def name(self) -> str:
        """A folder's name."""
        parts = [self.kernel, f"{self.levels}level", *self.append]
        parts += ["balloon"] if self.balloon else []
        parts += [self.strategy, self.mutant]
        parts += ["delays"] if self.delays_us != NO_DELAY and not self.mutant else []
        return "-".join(part for part in parts if part)

    @property
    def levels(self) -> int:
        """Of page tables."""
        return 5 if self.la57 else 4

    @property
    def tests(self) -> bool:
        """Needs the module's test build."""
        return bool(self.parameters())

    def parameters(self) -> list[str]:
        """Of the module, as insmod takes them."""
        found = [f"mutant={self.mutant}"] if self.mutant else []
        if self.delays_us != NO_DELAY:
            found.append("delay_us=" + ",".join(map(str, self.delays_us)))
        return found


def matrix(kernels: Sequence[str], strategies: Sequence[str]) -> Iterator[Case]:
    """Every kernel with both kinds of page tables, with pages that come unwritten, or go,
    and with tasks that are preempted in the kernel's own code."""
    for strategy in strategies:
        for kernel in kernels:
            for la57 in LA57:
                yield Case(kernel, la57, strategy)
            yield Case(kernel, strategy=strategy, append=NOT_ZEROED)
            yield Case(kernel, strategy=strategy, balloon=True)
            yield Case(kernel, strategy=strategy, append=PREEMPT_FULL)


def mutants(kernel: str, strategies: Sequence[str]) -> Iterator[Case]:
    """Each mutant on one kernel; and delays and ambush without a mutant, which must be clean."""
    for strategy in strategies:
        yield Case(kernel, strategy=strategy, delays_us=ALL_DELAYS)
        for mutant in MUTANTS:
            if strategy in mutant.strategies:
                yield Case(kernel, strategy=strategy, mutant=mutant.name)
