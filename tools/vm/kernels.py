"""Debian's kernels: which is the newest of a series, and getting it into the cache folder."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from livedump.tested import is_of
from tools.paths import cache_dir
from tools.vm.errors import VmError
from tools.vm.machines import SERIES
from tools.vm.progress import progress, size


@dataclass(frozen=True)
class Kernel:
    """One stock kernel. Paths are where things will be, whether or not they are there yet."""

    series: str
    release: str

    @property
    def root(self) -> Path:
        return cache_dir() / "kernels" / self.release

    @property
    def image(self) -> Path:
        return self.root / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        return self.root / "lib" / "modules" / self.release

    @property
    def headers(self) -> Path:
        return Path("/usr/src") / f"linux-headers-{self.release}"

    @property
    def common_headers(self) -> Path:
        # Of all flavours: linux-headers-6.1.0-56-common for 6.1.0-56-cloud-amd64, too.
        version = re.sub(r"(-cloud|-rt)?-amd64$", "", self.headers_package)
        return self.headers.with_name(f"{version}-common")

    @property
    def vmlinux(self) -> Path:
        return cache_dir() / "debug" / self.release / "vmlinux"

    @property
    def image_package(self) -> str:
        return f"linux-image-{self.release}"

    @property
    def headers_package(self) -> str:
        return f"linux-headers-{self.release}"

    @property
    def debug_package(self) -> str:
        return f"linux-image-{self.release}-dbg"


def series_of(release: str) -> str:
    """The series of a release: one that is tested here, or its first two numbers."""
    return next((each for each in SERIES if is_of(release, each)), ".".join(release.split(".")[:2]))


def _age(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)]


def newest_first(package_names: Iterable[str], series: str) -> list[str]:
    """Releases of `series` that have both a signed image and headers among the packages.

    The plain amd64 flavour only: no -cloud, -rt, -unsigned or -dbg.
    """
    abi = rf"({re.escape(series)}(?:\.\d+)+(?:-\d+|\+deb\d+)-amd64)"
    images, headers = set(), set()
    for name in package_names:
        if match := re.fullmatch(f"linux-image-{abi}", name):
            images.add(match[1])
        elif match := re.fullmatch(f"linux-headers-{abi}", name):
            headers.add(match[1])
    return sorted(images & headers, key=_age, reverse=True)


def _apt_names(series: str) -> list[str]:
    pattern = rf"^linux-(image|headers)-{re.escape(series)}\."
    try:
        result = subprocess.run(
            ["apt-cache", "search", "--names-only", pattern],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return []
    return [line.split(" ", 1)[0] for line in result.stdout.splitlines()]


def _cached(series: str) -> list[str]:
    folder = cache_dir() / "kernels"
    if not folder.is_dir():
        return []
    found = [path.name for path in folder.iterdir() if is_of(path.name, series)]
    whole = [release for release in found if Kernel(series, release).image.exists()]
    return sorted(whole, key=_age, reverse=True)


def resolve(wanted: str, latest: bool = False) -> Kernel:
    """The kernel for a series ("6.1") or an exact release.

    Of a series: the newest in the cache that has its headers installed. With `latest`, or if
    there is none, the newest that apt knows; offline, the newest in the cache.
    Raises VmError if there is no such kernel.
    """
    if wanted not in SERIES:
        if not re.fullmatch(r"\d+\.\d+\..*-amd64", wanted):
            raise VmError(f"unknown kernel {wanted!r}: give a series ({', '.join(SERIES)})")
        return Kernel(series_of(wanted), wanted)
    cached = [Kernel(wanted, release) for release in _cached(wanted)]
    ready = _ready(cached)
    if ready and not latest:
        return ready[0]
    if releases := newest_first(_apt_names(wanted), wanted):
        return Kernel(wanted, releases[0])
    if ready or cached:
        return (ready or cached)[0]
    raise VmError(
        f"no kernel of series {wanted} in apt's lists or {cache_dir()}: run 'apt-get update'"
    )


def _ready(cached: Iterable[Kernel]) -> list[Kernel]:
    return [kernel for kernel in cached if kernel.headers.exists()]


def known(series: Iterable[str]) -> list[str]:
    """Those of which there is a kernel: ready in the cache, or for apt."""

    def is_known(each: str) -> bool:
        cached = (Kernel(each, release) for release in _cached(each))
        return bool(_ready(cached) or newest_first(_apt_names(each), each))

    return [each for each in series if is_known(each)]


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A scratch folder beside `target`; what `result` in it holds becomes `target` at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tmp-") as scratch:
        yield Path(scratch)
        if target.is_dir():
            shutil.rmtree(target)
        try:
            os.replace(Path(scratch) / "result", target)
        except OSError as error:
            quicker = error.errno in (errno.ENOTEMPTY, errno.EEXIST)  # another process was
            if not (quicker and target.exists()):
                raise VmError(f"cannot put {target} in place: {error.strerror}") from error


def download(package: str) -> Path:
    """The package's .deb in the cache folder, fetched with apt-get if it is not there."""
    debs = cache_dir() / "debs"
    if found := sorted(debs.glob(f"{package}_*.deb")):
        return found[-1]
    debs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=debs, prefix=".tmp-") as scratch:
        os.chmod(scratch, 0o755)
        shown = size(Path(scratch), _download_bytes(package))
        with progress(f"vm: downloading {package}", shown):
            result = _apt_download(package, cwd=scratch)
        got = list(Path(scratch).glob("*.deb"))
        if result.returncode or len(got) != 1:
            raise VmError(f"cannot download {package} with apt-get: {result.stderr.strip()}")
        return got[0].rename(debs / got[0].name)


def _apt_download(*arguments: str, cwd: str = "/") -> subprocess.CompletedProcess[str]:
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=", "download", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def _download_bytes(package: str) -> int | None:
    """How big the package's .deb is, if apt knows: 'URI' NAME BYTES HASH."""
    match = re.fullmatch(
        r"'.*' \S+ (\d+) .*", _apt_download("--print-uris", package).stdout.strip()
    )
    return int(match[1]) if match else None


def _step(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise VmError(f"{command[0]} failed: {result.stderr.strip()}")


def is_fetched(kernel: Kernel) -> bool:
    """Whether the kernel is in the cache folder, whole."""
    parts = (kernel.image, kernel.modules / "modules.dep", kernel.modules / "source")
    return all(os.path.lexists(part) for part in parts)


def fetch(kernel: Kernel) -> Kernel:
    """Put a kernel and its modules into the cache folder; instant when they are there."""
    if is_fetched(kernel):
        return kernel
    debs = [download(package) for package in image_packages(kernel)]
    with replacing(kernel.root) as scratch:
        result = scratch / "result"
        for deb in debs:
            _step(["dpkg", "-x", str(deb), str(result)])
        _settle(result, kernel)
        _step(["/sbin/depmod", "-b", str(result), kernel.release])
        # BCC looks for headers below both.
        for name, target in (("build", kernel.headers), ("source", kernel.common_headers)):
            link = result / "lib" / "modules" / kernel.release / name
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    if not kernel.image.exists():
        raise VmError(f"{' and '.join(deb.name for deb in debs)}: no {kernel.image.name} in there")
    for deb in debs:
        deb.unlink(missing_ok=True)
    return kernel


def image_packages(kernel: Kernel) -> list[str]:
    """The packages that hold the image and the modules: since Debian's 7.1 it is one each."""
    parts = [f"linux-{part}-{kernel.release}" for part in ("binary", "modules")]
    return parts if offered(parts[0]) else [kernel.image_package]


def offered(package: str) -> bool:
    """Whether an archive has it."""
    found = subprocess.run(["apt-cache", "show", package], capture_output=True, check=False)
    return found.returncode == 0 and bool(found.stdout)


def _settle(root: Path, kernel: Kernel) -> None:
    """Have everything where Debian 12 has it: modules in /lib, the image in /boot."""
    if (root / "usr" / "lib" / "modules").is_dir():
        (root / "lib").mkdir(exist_ok=True)
        (root / "usr" / "lib" / "modules").rename(root / "lib" / "modules")
    image = root / "lib" / "modules" / kernel.release / "vmlinuz"  # there since Debian's 7.1
    if image.exists():
        (root / "boot").mkdir(exist_ok=True)
        image.rename(root / "boot" / kernel.image.name)


def fetch_debug(kernel: Kernel) -> Path:
    """Debian's vmlinux with debug information, in the cache folder (about 1 GB download)."""
    if kernel.vmlinux.exists():
        return kernel.vmlinux
    deb = download(kernel.debug_package)
    # With packages of their own for image and modules, a link is where the file was.
    whole = len(image_packages(kernel)) == 1
    place = f"boot/vmlinux-{kernel.release}" if whole else f"lib/modules/{kernel.release}/vmlinux"
    member = f"./usr/lib/debug/{place}"
    with replacing(kernel.vmlinux) as scratch:
        result = scratch / "result"
        shown = progress(f"vm: extracting {member[2:]}", size(result))
        with shown, open(result, "wb") as out:
            # One member, then stop reading: 6 s instead of 98 for the whole archive.
            with subprocess.Popen(
                ["dpkg-deb", "--fsys-tarfile", str(deb)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as unpack:
                tar = subprocess.run(
                    ["tar", "-xO", "--occurrence=1", member],
                    stdin=unpack.stdout,
                    stdout=out,
                    stderr=subprocess.PIPE,
                    check=False,
                )
                unpack.terminate()
        if tar.returncode:
            raise VmError(f"{deb.name}: cannot extract {member}: {tar.stderr.decode().strip()}")
    deb.unlink(missing_ok=True)
    return kernel.vmlinux


def require_headers(kernel: Kernel) -> None:
    """Raise VmError, naming the package, unless the kernel's headers are installed."""
    if not (kernel.headers / "Makefile").exists():
        raise VmError(
            f"headers of {kernel.release} are missing: run 'make setup' as root, "
            f"or 'apt-get install {kernel.headers_package}'"
        )


def find_tool(name: str, package: str) -> str:
    """Full path of a program; VmError naming its Debian package if it is not there."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        raise VmError(
            f"{name} is missing: run 'make setup' as root, or 'apt-get install {package}'"
        )
    return path
