"""Every BPF program compiles against the headers of every kernel installed here.

Compiling needs no kernel of that series: in a mount namespace of its own, BCC finds the other
kernel's headers, and tracepoint formats made from kmod/trace.h. Loading is tested in the guest.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from livedump.trace.probe import loader, missed
from livedump.trace.probe.filters import Filter
from livedump.trace.probe.options import Options, Stacks
from livedump.trace.probe.points import NEEDS, Attach, Plan, Probe
from tools.vm.kernels import series_of
from tools.vm.machines import SERIES

ROOT = Path(__file__).resolve().parents[4]
MODULES = Path("/lib/modules")
KERNELS = sorted(path.name for path in MODULES.glob("6.*") if (path / "source").is_dir())

COMPILE = """
import ctypes, json, sys
from bcc import lib
text, flags = json.load(sys.stdin)
array = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
module = lib.bpf_module_create_c_from_string(text.encode(), 0, array, len(flags), True, None)
functions = range(lib.bpf_num_functions(module)) if module else ()
print(json.dumps([lib.bpf_function_name(module, number).decode() for number in functions]))
"""

#: $1: other kernel's release, $2: folder with tracing/events.
NAMESPACE = """
set -e
source=$(readlink -f /lib/modules/$1/source)
build=$(readlink -f /lib/modules/$1/build)
mount -t tmpfs none /sys/kernel/debug
cp -r "$2/tracing" /sys/kernel/debug/
mount -t tmpfs none /lib/modules
mkdir "/lib/modules/$(uname -r)"
ln -s "$build" "/lib/modules/$(uname -r)/build"
ln -s "$source" "/lib/modules/$(uname -r)/source"
shift 2
exec "$@"
"""

HEADER = """name: {name}
ID: 1
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

"""


def write_formats(folder: Path) -> None:
    """Tracepoint formats, as tracefs would show them."""
    events = {
        f"exceptions/page_fault_{mode}": [
            ("unsigned long", name, 8) for name in ("address", "ip", "error_code")
        ]
        for mode in ("user", "kernel")
    }
    header = (ROOT / "kmod" / "trace.h").read_text()
    for name, body in re.findall(r"TRACE_EVENT\((\w+),(.*?)TP_fast_assign", header, re.DOTALL):
        events[f"livedump/{name}"] = [
            (kind, field, int(kind[1:]) // 8)
            for kind, field in re.findall(r"__field\((u\d+), (\w+)\)", body)
        ]
    for path, fields in events.items():
        text, offset = HEADER.format(name=path), 8
        for kind, field, size in fields:
            text += f"\tfield:{kind} {field};\toffset:{offset};\tsize:{size};\tsigned:0;\n"
            offset += size
        file = folder / "tracing" / "events" / path / "format"
        file.parent.mkdir(parents=True)
        file.write_text(f'{text}\nprint fmt: "x"\n')


def full_plan() -> Plan:
    """Everything, by its first candidate."""
    probes = [Probe(n.name, n.question, n.attach, n.candidates[0].point, "") for n in NEEDS]
    return Plan(tuple(dict.fromkeys(probe.question for probe in probes)), tuple(probes))


def compile_for(release: str, text: str, flags: list[str], folder: Path) -> tuple[list[str], str]:
    """Names of the compiled functions, empty when it failed, and what the compiler said."""
    write_formats(folder)
    done = subprocess.run(
        [*namespace(), "sh", "-c", NAMESPACE, "sh", release, str(folder)]
        + [sys.executable, "-c", COMPILE],
        input=json.dumps([text, flags]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@cache
def namespace() -> tuple[str, ...]:
    """A command prefix that gives a mount namespace of its own: root's, else a user's.

    Skips where neither is to be had and root would help; fails where root has neither.
    """
    tries = (("unshare", "-m"), ("unshare", "-r", "-m"))
    failed = []
    for prefix in tries:
        trial = [*prefix, "mount", "-t", "tmpfs", "none", "/sys/kernel/debug"]
        done = subprocess.run(trial, capture_output=True, text=True)
        if done.returncode == 0:
            return prefix
        failed.append(done.stderr.strip())
    if os.geteuid() != 0:
        pytest.skip(f"no mount namespace ({'; '.join(failed)}): run as root")
    pytest.fail(f"root has no mount namespace ({'; '.join(failed)}): give it CAP_SYS_ADMIN")


@pytest.mark.parametrize("release", KERNELS)
@pytest.mark.parametrize(
    "options",
    [
        Options(limits={"pages": 128}),
        Options(stacks=Stacks.NONE),
        Options(
            Filter((1,), "name", Path("/")),
            slice_ns=1_000_000,
            events=True,
            stacks=Stacks.ALL,
            user_stacks=True,
        ),
    ],
)
def test_everything_compiles(release: str, options: Options, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: BCC makes the maps, even to compile only")
    plan = full_plan()
    source = loader.source_dir()
    flags = loader.compiler_flags(plan, options, source)
    found, said = compile_for(release, loader.program_text(plan.questions, source), flags, tmp_path)
    expected = {
        f"tracepoint__{probe.point.replace(':', '__')}"
        for probe in plan.probes
        if probe.attach is Attach.TRACEPOINT
    }
    expected |= {
        f"raw_tracepoint__{probe.point.partition(':')[2]}"
        for probe in plan.probes
        if probe.attach is Attach.RAW_TRACEPOINT
    }
    expected.add(missed.REFUSED.decode())
    for entry, exit_, _ in loader._KPROBES.values():
        expected |= {entry, exit_}
    assert set(found) == expected, said
    assert "error:" not in said
    # Warnings about the version come from this test's trick.
    assert not re.search(r"\.(c|h):\d+:\d+: warning", said), said


@pytest.mark.parametrize("release", KERNELS)
def test_constants_are_the_kernel_s(release: str, tmp_path: Path) -> None:
    """bpf/kernel.h against linux/mm_types.h; and a wrong one is noticed."""
    names = re.findall(
        r"#define LD_((?:FAULT_FLAG|VM_FAULT)_\w+)", (ROOT / "bpf/kernel.h").read_text()
    )
    assert len(names) == 4
    text = (
        '#include <linux/mm_types.h>\n#include "kernel.h"\nint nothing(void *ctx) { return 0; }\n'
    )
    text += "".join(f'_Static_assert({name} == LD_{name}, "{name}");\n' for name in names)
    flags = [f"-I{ROOT / 'bpf'}", *loader._QUIET]
    found, said = compile_for(release, text, flags, tmp_path / "right")
    assert found == ["nothing"], said
    found, said = compile_for(release, text.replace(" == ", " == 1 + "), flags, tmp_path / "wrong")
    assert found == [] and "FAULT_FLAG_USER" in said


@pytest.mark.parametrize("release", KERNELS[:1])
def test_errors_name_file_and_line(release: str, tmp_path: Path) -> None:
    text = loader.program_text(("kernel",), loader.source_dir()).replace(
        "error_code =", "error_code ! ="
    )
    found, said = compile_for(release, text, [f"-I{loader.source_dir()}", *loader._QUIET], tmp_path)
    assert found == []
    assert re.search(r"kernel_fault\.c:\d+:\d+: error", said), said


def test_kernels_are_there() -> None:
    """Without them, the tests above would be none at all."""
    assert {series_of(release) for release in KERNELS} >= set(
        SERIES
    ), f"kernel headers are missing, found only {KERNELS}: make setup"


def test_bcc_is_there() -> None:
    found = subprocess.run([sys.executable, "-c", "import bcc; bcc.BPF"], capture_output=True)
    assert found.returncode == 0, f"{found.stderr.decode()}make setup"
