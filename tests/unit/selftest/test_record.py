"""What a result is valid for, which paths a machine exercises, and the file of results."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from livedump.errors import SelfTestError
from livedump.selftest.record import PATHS, Features, Identity, Record, Seen

CPUINFO = """\
processor\t: 0
model name\t: Some CPU @ 3 GHz
flags\t\t: fpu {flags}

processor\t: 1
model name\t: Some CPU @ 3 GHz
flags\t\t: fpu {flags}
"""
DOCS = Path(__file__).parents[3] / "docs" / "untested.md"


def put(root: Path, name: str, text: str) -> None:
    """Write a file below *root*."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with a loaded module."""
    put(tmp_path, "proc/cpuinfo", CPUINFO.format(flags="pcid"))
    put(tmp_path, "proc/cmdline", "quiet\n")
    put(tmp_path, "sys/module/livedump/srcversion", "ABC123\n")
    return tmp_path


def test_identity(root: Path) -> None:
    one = Identity.of(root, "6.1")
    assert one.key.startswith("6.1 | ABC123 | Some CPU @ 3 GHz (")
    assert Identity.of(root, "6.12").key != one.key
    put(root, "proc/cpuinfo", CPUINFO.format(flags="pcid ibt"))
    assert Identity.of(root, "6.1").key != one.key
    put(root, "sys/module/livedump/srcversion", "DEF\n")
    assert Identity.of(root, "6.1").srcversion == "DEF"


def test_identity_of_a_module_that_is_not_loaded(root: Path) -> None:
    (root / "sys/module/livedump/srcversion").unlink()
    module = root / "livedump.ko"
    module.write_bytes(b"\x7fELF\0srcversion=FEED99\0depends=\0")
    assert Identity.of(root, "6.1", module).srcversion == "FEED99"
    module.write_bytes(b"compressed")
    assert Identity.of(root, "6.1", module).srcversion == ""
    assert Identity.of(root, "6.1", root / "missing").srcversion == ""


def test_features_of_nothing(tmp_path: Path) -> None:
    features = Features.of(tmp_path)
    assert not any(features.to_dict().values())


@pytest.mark.parametrize(
    ("feature", "flags"),
    [
        ("ibt", "ibt"),
        ("user_shstk", "user_shstk"),
        ("pcid", "pcid"),
        ("invpcid", "invpcid"),
        ("la57", "la57"),
        ("pdpe1gb", "pdpe1gb"),
        ("fred", "fred"),
        ("hypervisor", "hypervisor"),
    ],
)
def test_features_by_flag(root: Path, feature: str, flags: str) -> None:
    put(root, "proc/cpuinfo", CPUINFO.format(flags=flags))
    features = Features.of(root).to_dict()
    assert [name for name, value in features.items() if value] == [feature, "cpus"]


def test_features_by_file(root: Path) -> None:
    put(root, "proc/cpuinfo", CPUINFO.format(flags="ibt sme"))
    assert Features.of(root).ibt and not Features.of(root).sme
    put(root, "proc/cmdline", "ibt=off mem_encrypt=on\n")
    assert not Features.of(root).ibt and Features.of(root).sme
    put(root, "sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n")
    put(root, "sys/devices/system/clocksource/clocksource0/available_clocksource", "kvm-clock tsc")
    for node in ("node0", "node1", "possible"):
        (root / "sys/devices/system/node" / node).mkdir(parents=True)
    features = Features.of(root)
    assert features.pti and features.kvm_guest
    assert (features.cpus, features.nodes) == (2, 2)
    put(root, "proc/cpuinfo", "model name : QEMU TCG CPU version 2.5+\n")
    assert Features.of(root).emulated


EMULATED = Features(
    emulated=True,
    hypervisor=True,
    kvm_guest=False,
    ibt=False,
    user_shstk=False,
    pcid=False,
    invpcid=False,
    pti=True,
    la57=True,
    pdpe1gb=True,
    sme=False,
    fred=False,
    cpus=2,
    nodes=1,
)


def exercised(features: Features, seen: Seen = Seen()) -> set[str]:
    """The names of the paths that count as exercised."""
    return {path.name for path in PATHS if path.exercised(features, seen)}


def test_an_emulated_machine_exercises_nothing() -> None:
    assert exercised(EMULATED) == set()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"ibt": True}, {"IBT"}),
        ({"user_shstk": True}, {"shadow stack"}),
        ({"sme": True}, {"SME"}),
        ({"fred": True}, {"FRED"}),
        ({"kvm_guest": True}, {"KVM guest"}),
        ({"cpus": 64}, {"many CPUs"}),
        ({"nodes": 2}, {"NUMA"}),
        ({"pcid": True}, set()),
        ({"emulated": False}, {"real TLBs", "paging-structure caches", "hardware A/D bits"}),
    ],
)
def test_what_each_feature_exercises(change: dict[str, bool], names: set[str]) -> None:
    assert exercised(replace(EMULATED, **change)) == names


def test_pcids_need_real_tlbs() -> None:
    assert {"PCID", "PTI with PCID"} <= exercised(replace(EMULATED, emulated=False, pcid=True))


def test_what_rounds_exercise() -> None:
    assert exercised(EMULATED, Seen(nmis_held=1)) == {"PMU NMIs"}
    assert exercised(EMULATED, Seen(leaves_1g=1)) == {"1 GiB leaves"}


def test_the_documentation_has_the_same_paths() -> None:
    headings = re.findall(r"^### (.+)$", DOCS.read_text(), re.MULTILINE)
    assert headings == [path.name for path in PATHS]


# ---- the file ----


def test_results_are_kept_by_identity(root: Path) -> None:
    record = Record(root)
    one, other = Identity.of(root, "6.1"), Identity.of(root, "6.12")
    assert record.find(one) is None
    record.save(one, {"passed": True})
    record.save(other, {"passed": False})
    record.save(one, {"passed": True, "when": "later"})
    found = record.find(one)
    assert found is not None and found["when"] == "later" and found["release"] == "6.1"
    assert (record.find(other) or {})["passed"] is False
    assert record.path.stat().st_mode & 0o777 == 0o600
    assert record.path.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in record.path.parent.iterdir()] == ["selftest.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2, "results": {}}', '{"version": 1, "results": []}']
)
def test_a_damaged_file(root: Path, text: str) -> None:
    record = Record(root)
    put(root, "var/lib/livedump/selftest.json", text)
    with pytest.raises(SelfTestError, match="damaged"):
        record.find(Identity.of(root, "6.1"))
    record.save(Identity.of(root, "6.1"), {"passed": True})
    assert json.loads(record.path.read_text())["version"] == 1


def test_a_folder_that_cannot_be_made(root: Path) -> None:
    put(root, "var/lib", "a file")
    with pytest.raises(SelfTestError, match="keep results"):
        Record(root).save(Identity.of(root, "6.1"), {})
