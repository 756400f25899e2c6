"""Finding, loading and unloading the module; each refusal has its remedy."""

from __future__ import annotations

import errno
import gzip
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from livedump import kmod
from livedump.errors import ModuleError

RELEASE = "6.1.0-56-amd64"


def ko(path: Path, release: str = RELEASE) -> Path:
    """A file that looks like a module."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF" + bytes(60) + f"\0vermagic={release} SMP mod_unload\0".encode())
    return path


class FakeKernel:
    """Answers with an errno, and logs."""

    def __init__(self, code: int = 0, words: str = "", kmsg: Path | None = None) -> None:
        self.code = code
        self.words = words
        self.kmsg = kmsg
        self.loaded: list[Path] = []

    def load(self, path: Path) -> int:
        self.loaded.append(path)
        if self.kmsg is not None:
            with open(self.kmsg, "a") as file:
                file.write(self.words)
        return self.code

    def unload(self, name: str) -> int:
        assert name == "livedump"
        return self.code

    def log(self) -> kmod.KernelLog:
        return kmod.KernelLog(str(self.kmsg or "/absent"))


def test_order_of_places(tmp_path: Path) -> None:
    given = ko(tmp_path / "given/livedump.ko")
    environ = {"LIVEDUMP_KO": str(ko(tmp_path / "env/livedump.ko").parent)}
    ko(tmp_path / f"lib/modules/{RELEASE}/updates/dkms/livedump.ko")

    def find(path: Path | None, env: dict[str, str]) -> kmod.ModuleFile:
        return kmod.find_module(path, release=RELEASE, root=tmp_path, environ=env)

    assert find(given, environ).path == given
    assert find(given.parent, environ).origin == "argument"
    assert find(None, environ).origin == "$LIVEDUMP_KO"
    found = find(None, {})
    assert found.origin == "installed" and found.release == RELEASE


def test_compressed_module(tmp_path: Path) -> None:
    path = tmp_path / f"lib/modules/{RELEASE}/extra/livedump.ko.xz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xfd7zXZ")
    found = kmod.find_module(release=RELEASE, root=tmp_path, environ={})
    assert found.path == path and found.vermagic == ""


@pytest.mark.parametrize(
    ("path", "environ", "words"),
    [
        ("absent.ko", {}, "no absent.ko .given by argument.*make kmod"),
        (None, {"LIVEDUMP_KO": "/absent"}, r"no /absent .given by \$LIVEDUMP_KO"),
        (None, {}, "no livedump.ko for kernel 6.1.0-56-amd64.*make install"),
    ],
)
def test_not_found(tmp_path: Path, path: str | None, environ: dict[str, str], words: str) -> None:
    with pytest.raises(ModuleError, match=words) as caught:
        kmod.find_module(path, release=RELEASE, root=tmp_path, environ=environ)
    assert caught.value.errno == errno.ENOENT


def module(tmp_path: Path, release: str = RELEASE) -> kmod.ModuleFile:
    path = ko(tmp_path / "livedump.ko", release)
    return kmod.ModuleFile(path, "argument", kmod.read_vermagic(path))


def test_load(tmp_path: Path) -> None:
    assert kmod.load(module(tmp_path), kernel=FakeKernel(), release=RELEASE)
    assert not kmod.load(module(tmp_path), kernel=FakeKernel(errno.EEXIST), release=RELEASE)


def test_wrong_kernel_is_not_even_tried(tmp_path: Path) -> None:
    kernel = FakeKernel()
    with pytest.raises(ModuleError, match="built for kernel 6.12.1, this is 6.1.0-56-amd64"):
        kmod.load(module(tmp_path, "6.12.1"), kernel=kernel, release=RELEASE)
    assert kernel.loaded == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EPERM, "locked down. Run as root; with Secure Boot sign"),
        (errno.EKEYREJECTED, "requires a signature by a key that it knows.*mokutil --import"),
        (errno.ENOKEY, "does not know. Enrol the key"),
        (errno.ENOEXEC, "another kernel.*dkms autoinstall"),
        (errno.ENOENT, "a symbol that this kernel does not export"),
        (errno.EOPNOTSUPP, "refuses this machine. Run 'livedump doctor'"),
        (errno.EIO, "Input/output error. See the kernel log"),
    ],
)
def test_load_refused(tmp_path: Path, code: int, words: str) -> None:
    with pytest.raises(ModuleError, match=words) as caught:
        kmod.load(module(tmp_path), kernel=FakeKernel(code), release=RELEASE)
    assert caught.value.errno == code and "livedump.ko" in caught.value.step


def test_the_kernels_words_are_kept(tmp_path: Path) -> None:
    kmsg = tmp_path / "kmsg"
    kmsg.write_text("6,1,1,-;livedump: an old message\n")
    kernel = FakeKernel(errno.EOPNOTSUPP, "3,2,2,-;livedump: Xen PV owns the tables\n", kmsg)
    with pytest.raises(ModuleError, match="the kernel says: livedump: Xen PV owns the tables"):
        kmod.load(module(tmp_path), kernel=kernel, release=RELEASE)


def fake_insmod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """An insmod on PATH; returns the file with the arguments that it was given."""
    program = tmp_path / "bin/insmod"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return tmp_path / "arguments"


def compressed(tmp_path: Path) -> kmod.ModuleFile:
    path = tmp_path / "mine/livedump.ko.xz"
    path.parent.mkdir()
    path.write_bytes(b"\xfd7zXZ")
    return kmod.find_module(path, release=RELEASE, root=tmp_path, environ={})


def test_a_compressed_module_is_loaded_from_its_own_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = fake_insmod(tmp_path, monkeypatch, "exit 0")
    module = compressed(tmp_path)
    assert kmod.load(module, release=RELEASE)
    assert arguments.read_text() == f"{module.path}\n"


INSMOD = "insmod: ERROR: could not insert module livedump.ko.xz: "


@pytest.mark.parametrize(
    ("words", "code", "remedy"),
    [
        ("Invalid module format", errno.ENOEXEC, "dkms autoinstall"),
        ("Unknown symbol in module", errno.ENOENT, "kernel log"),
        ("Operation not permitted", errno.EPERM, "Run as root"),
        ("Key was rejected by service", errno.EKEYREJECTED, "mokutil"),
        ("Function not implemented", 0, "dmesg"),
        ("No such file or directory", 0, "dmesg"),
    ],
)
def test_insmods_words_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, code: int, remedy: str
) -> None:
    script = f"echo first >&2; echo '{INSMOD}{words}' >&2; exit 1"
    fake_insmod(tmp_path, monkeypatch, script)
    with pytest.raises(ModuleError, match=f"xz: {INSMOD}{words}[.;].*{remedy}") as caught:
        kmod.load(compressed(tmp_path), release=RELEASE)
    assert caught.value.errno == code


def test_insmod_without_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = compressed(tmp_path)
    fake_insmod(tmp_path, monkeypatch, "exit 7")
    with pytest.raises(ModuleError, match="insmod: exit status 7"):
        kmod.load(module, release=RELEASE)
    fake_insmod(tmp_path, monkeypatch, f"echo '{INSMOD}File exists' >&2; exit 1")
    assert not kmod.load(module, release=RELEASE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModuleError, match="no insmod on PATH.*apt-get install kmod"):
        kmod.load(module, release=RELEASE)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOENT, "unload module: it is not loaded"),
        (errno.EAGAIN, "a snapshot is held.*livedump release"),
        (errno.EBUSY, "busy. Release the snapshot"),
        (errno.EPERM, "Run as root"),
    ],
)
def test_unload_refused(code: int, words: str) -> None:
    with pytest.raises(ModuleError, match=words):
        kmod.unload(kernel=FakeKernel(code))


def test_unload() -> None:
    kmod.unload(kernel=FakeKernel())


def zstd(data: bytes) -> bytes:
    """Python 3.11 has none of its own."""
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("suffix", ["", ".xz", ".gz", ".zst"])
@pytest.mark.parametrize("signed", [True, False])
def test_a_compressed_module_says_as_much(tmp_path: Path, suffix: str, signed: bool) -> None:
    """DKMS signs first, and compresses then."""
    data = ko(tmp_path / "plain").read_bytes()
    data += b"PKCS7~Module signature appended~\n" if signed else b""
    path = tmp_path / f"livedump.ko{suffix}"
    compress: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        ".xz": lzma.compress,
        ".gz": gzip.compress,
        ".zst": zstd,
    }
    compressed = compress[suffix](data)
    path.write_bytes(compressed)
    assert kmod.is_signed(path) == signed
    assert kmod.read_vermagic(path).startswith(RELEASE)
    path.write_bytes(compressed[:-9] if suffix else b"")
    if suffix:
        with pytest.raises(ValueError, match="cannot be decompressed"):
            kmod.is_signed(path)
    assert kmod.read_vermagic(path) == ""


def test_vermagic_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no elf at all")
    assert kmod.read_vermagic(tmp_path / "x") == ""
    assert kmod.read_vermagic(tmp_path / "absent") == ""
