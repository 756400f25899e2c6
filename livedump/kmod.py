"""The kernel module: find it, load it, unload it; each failure with its reason and remedy."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from livedump import syscalls
from livedump.errors import ModuleError

MODULE = "livedump"
ENVIRONMENT = "LIVEDUMP_KO"

#: Where DKMS and `make install` put modules, below /lib/modules/RELEASE.
_INSTALLED = ("updates/dkms", "updates", "extra", "kernel/extra")

_LOAD_REMEDIES: Mapping[int, tuple[str, str]] = {
    errno.EPERM: (
        "not permitted: no CAP_SYS_MODULE, or the kernel is locked down",
        "Run as root; with Secure Boot sign the module, see 'livedump doctor'",
    ),
    errno.EKEYREJECTED: (
        "the kernel requires a signature by a key that it knows",
        "Enrol the key, for DKMS's: mokutil --import /var/lib/dkms/mok.pub, and reboot; "
        "'livedump doctor' says whose key it is",
    ),
    errno.ENOKEY: (
        "the module is signed with a key that this kernel does not know",
        "Enrol the key (mokutil --import) and reboot",
    ),
    errno.ENOEXEC: (
        "the module was built for another kernel, or is damaged",
        "Build it for this kernel: make kmod, or: dkms autoinstall",
    ),
    errno.ENOENT: (
        "the module needs a symbol that this kernel does not export",
        "See the kernel log; build the module for this kernel",
    ),
    errno.EINVAL: ("the module refused its parameters or the kernel", "See the kernel log"),
    errno.EOPNOTSUPP: ("the module refuses this machine", "Run 'livedump doctor'"),
    errno.ENODEV: ("the module refuses this machine", "Run 'livedump doctor'"),
    errno.ENOMEM: ("not enough memory", "Free some memory"),
    errno.EEXIST: ("it is loaded already", ""),
}

#: How insmod's last line ends: its own words for some errors, the C library's for others. None for
#: ENOENT, which it also says of a file that is missing.
_INSMOD_ERRORS: Mapping[str, int] = {
    "Invalid module format": errno.ENOEXEC,
    "Unknown symbol in module": errno.ENOENT,
    "Invalid parameters": errno.EINVAL,
    **{os.strerror(code): code for code in _LOAD_REMEDIES if code != errno.ENOENT},
}

_UNLOAD_REMEDIES: Mapping[int, tuple[str, str]] = {
    errno.ENOENT: ("it is not loaded", ""),
    errno.EBUSY: ("it is busy", "Release the snapshot first: livedump release"),
    errno.EAGAIN: (
        "a snapshot is held, or a program has /proc/livedump open",
        "Release the snapshot (livedump release) and end that program",
    ),
    errno.EPERM: ("not permitted", "Run as root with CAP_SYS_MODULE"),
}


@dataclass(frozen=True)
class ModuleFile:
    """A module on disk.

    :ivar origin: how it was found: ``"argument"``, ``"$LIVEDUMP_KO"`` or ``"installed"``
    :ivar vermagic: what kernel it was built for; empty when the file does not say
    """

    path: Path
    origin: str
    vermagic: str

    @property
    def release(self) -> str:
        """The kernel release it was built for, empty when unknown."""
        return self.vermagic.split(" ", 1)[0]


class Refused(Exception):
    """A program that loads modules failed: its errno, as far as it says, and its last words."""

    def __init__(self, code: int, words: str) -> None:
        self.code = code
        self.words = words
        super().__init__(words)


#: sizeof(struct module_signature)
_SIGNATURE_BYTES = 12
#: DER: the object 2.5.4.3 and a string that is shorter than 128 bytes.
_COMMON_NAME = re.compile(rb"\x06\x03\x55\x04\x03[\x0c\x13]([\x01-\x7f])(.{1,127})", re.DOTALL)


class Kernel(Protocol):
    """The system calls; each returns 0 or an errno. ``load`` may raise :class:`Refused`, too."""

    def load(self, path: Path) -> int: ...

    def unload(self, name: str) -> int: ...

    def log(self) -> KernelLog: ...


class KernelLog:
    """Collects what the kernel logs from now on.

    :param path: /dev/kmsg; a file that cannot be opened collects nothing
    """

    def __init__(self, path: str = "/dev/kmsg") -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            self._fd = -1

    def lines(self, word: str) -> list[str]:
        """The messages since the start that contain *word*; closes the log."""
        if self._fd < 0:
            return []
        lines = []
        try:
            while True:
                record = os.read(self._fd, 8192).decode("utf-8", "replace")
                if not record:
                    break
                text = record.split("\n", 1)[0].partition(";")[2]
                if word in text:
                    lines.append(text.strip())
        except OSError:  # EAGAIN: no more
            pass
        finally:
            os.close(self._fd)
            self._fd = -1
        return lines


class RunningKernel:
    """The kernel we run on."""

    def load(self, path: Path) -> int:
        """finit_module(2), or insmod for a compressed file."""
        if path.suffix != ".ko":
            return _insmod(path)
        with open(path, "rb") as file:
            return _call(syscalls.FINIT_MODULE, file.fileno(), b"", 0)

    def unload(self, name: str) -> int:
        """delete_module(2), never waiting for users to go away."""
        return _call(syscalls.DELETE_MODULE, name.encode(), os.O_NONBLOCK)

    def log(self) -> KernelLog:
        """A log that starts now."""
        return KernelLog()


def _call(number: int, *args: int | bytes) -> int:
    """errno; 0: done."""
    try:
        syscalls.syscall(number, *args)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _insmod(path: Path) -> int:
    """Load exactly this file; modprobe would look for one of its own."""
    environ = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["insmod", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environ,
            check=False,
        )
    except FileNotFoundError:
        raise ModuleError(
            "no insmod on PATH, which a compressed module needs",
            step=f"load {path}",
            remedy="apt-get install kmod",
        ) from None
    if done.returncode == 0:
        return 0
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    words = lines[-1] if lines else f"insmod: exit status {done.returncode}"
    code = next((code for text, code in _INSMOD_ERRORS.items() if words.endswith(text)), 0)
    if code == errno.EEXIST:
        return code
    raise Refused(code, words)


#: Ends a module that is signed.
_SIGNED = b"~Module signature appended~\n"


def read_module(path: Path) -> bytes:
    """The module itself, whether DKMS has compressed the file or not.

    :raises OSError: it cannot be read
    :raises ValueError: it is compressed so that we cannot tell
    """
    data = path.read_bytes()
    try:
        if path.suffix == ".xz":
            return lzma.decompress(data)
        if path.suffix == ".gz":
            return gzip.decompress(data)
        if path.suffix == ".zst":
            done = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True)
            return done.stdout
    except (lzma.LZMAError, EOFError, OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"{path} cannot be decompressed: {error}") from error
    return data


def is_signed(path: Path) -> bool:
    """Whether a signature is appended to the module.

    :raises OSError: it cannot be read
    :raises ValueError: it is compressed so that we cannot tell
    """
    return read_module(path).endswith(_SIGNED)


def signer(path: Path) -> str:
    """Whose key has signed the module: the common name of who has issued its certificate, which is
    its own for keys that are made on the machine; empty: nobody's, or one without.

    :raises OSError: it cannot be read
    :raises ValueError: it is compressed so that we cannot tell
    """
    data = read_module(path)
    if not data.endswith(_SIGNED):
        return ""
    # struct module_signature ends with the length of the PKCS #7 message before it.
    end = len(data) - len(_SIGNED) - _SIGNATURE_BYTES
    length = int.from_bytes(data[end + _SIGNATURE_BYTES - 4 : end + _SIGNATURE_BYTES], "big")
    found = _COMMON_NAME.search(data[max(0, end - length) : end])
    return found[2][: found[1][0]].decode("utf-8", "replace") if found else ""


def read_vermagic(path: Path) -> str:
    """The module's ``vermagic``, e.g. ``6.1.0-56-amd64 SMP preempt mod_unload modversions``."""
    try:
        data = read_module(path)
    except (OSError, ValueError):
        return ""
    begin = data.find(b"\0vermagic=")
    if data[:4] != b"\x7fELF" or begin < 0:
        return ""
    begin += len(b"\0vermagic=")
    return data[begin : data.find(b"\0", begin)].decode("ascii", "replace").strip()


def find_module(
    path: str | os.PathLike[str] | None = None,
    *,
    release: str | None = None,
    root: Path = Path("/"),
    environ: Mapping[str, str] | None = None,
) -> ModuleFile:
    """The module file to load: *path*, then ``$LIVEDUMP_KO``, then what is installed for this
    kernel.

    :param path: a file, or a folder that holds livedump.ko; ``$LIVEDUMP_KO`` likewise
    :param release: of the kernel, default the running one
    :raises ModuleError: there is none
    """
    release = release or platform.release()
    environ = os.environ if environ is None else environ
    step = "find module"
    named = ((path, "argument"), (environ.get(ENVIRONMENT) or None, f"${ENVIRONMENT}"))
    for place, origin in named:
        if place is None:
            continue
        file = Path(place)
        file = file / f"{MODULE}.ko" if file.is_dir() else file
        if not file.is_file():
            raise ModuleError(
                f"no {file} (given by {origin})",
                step=step,
                remedy="Build it with 'make kmod', or give another --module",
                errno=errno.ENOENT,
            )
        return ModuleFile(file, origin, read_vermagic(file))
    base = root / "lib/modules" / release
    for folder in _INSTALLED:
        for file in sorted((base / folder).glob(f"{MODULE}.ko*")):
            return ModuleFile(file, "installed", read_vermagic(file))
    raise ModuleError(
        f"no {MODULE}.ko for kernel {release} below {base}",
        step=step,
        remedy="Install it ('make install'), or build it ('make kmod') and give --module PATH",
        errno=errno.ENOENT,
    )


def load(module: ModuleFile, *, kernel: Kernel | None = None, release: str | None = None) -> bool:
    """Load *module*; False when a module of that name was loaded already.

    :raises ModuleError: the kernel refused it, with the kernel's own words when it logged any
    """
    kernel = kernel or RunningKernel()
    release = release or platform.release()
    step = f"load {module.path}"
    if module.release and module.release != release:
        raise ModuleError(
            f"it was built for kernel {module.release}, this is {release}",
            step=step,
            remedy="Build it for this kernel: make kmod, or: dkms autoinstall",
            errno=errno.ENOEXEC,
        )
    log = kernel.log()
    try:
        code = kernel.load(module.path)
    except OSError as error:
        raise ModuleError(str(error.strerror), step=step, errno=error.errno or 0) from error
    except Refused as error:
        raise _module_error(error.code, _LOAD_REMEDIES, step, log, error.words) from error
    if code == errno.EEXIST:
        return False
    if code:
        raise _module_error(code, _LOAD_REMEDIES, step, log)
    return True


def unload(*, kernel: Kernel | None = None) -> None:
    """Unload the module.

    :raises ModuleError: a snapshot is held, or it is not loaded
    """
    kernel = kernel or RunningKernel()
    log = kernel.log()
    code = kernel.unload(MODULE)
    if code:
        raise _module_error(code, _UNLOAD_REMEDIES, "unload module", log)


def _module_error(
    code: int,
    remedies: Mapping[int, tuple[str, str]],
    step: str,
    log: KernelLog,
    words: str = "",
) -> ModuleError:
    cause, remedy = remedies.get(code, (os.strerror(code), "See the kernel log: dmesg"))
    cause = words or cause
    logged = log.lines(MODULE)
    if logged:
        cause = f"{cause}; the kernel says: {logged[-1]}"
    return ModuleError(cause, step=step, remedy=remedy, errno=code)
