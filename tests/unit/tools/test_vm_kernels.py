"""Which kernel a series stands for."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from livedump.tested import is_of
from tools.vm import VmError, kernels, progress
from tools.vm.kernels import Kernel, newest_first, resolve, series_of

# As `apt-cache search --names-only` names them, in its order.
NAMES = """\
linux-image-6.1.0-47-amd64-unsigned
linux-image-6.1.0-9-amd64
linux-image-6.1.0-54-amd64
linux-image-6.1.0-55-amd64
linux-image-6.1.0-55-amd64-dbg
linux-image-6.1.0-55-cloud-amd64
linux-image-6.1.0-56-amd64-unsigned
linux-image-6.1.0-56-rt-amd64
linux-image-6.12.9+deb12-amd64
linux-image-6.12.117+deb12-amd64
linux-headers-6.1.0-9-amd64
linux-headers-6.1.0-54-amd64
linux-headers-6.1.0-56-amd64
linux-headers-6.12.9+deb12-amd64
linux-headers-6.12.117+deb12-amd64
linux-headers-6.12-amd64
linux-image-7.2.12+deb13-amd64
linux-image-7.3.4+deb13-amd64
linux-image-7.3.4+deb13-amd64-dbg
linux-headers-7.2.12+deb13-amd64
linux-headers-7.3.4+deb13-amd64
""".split()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, no apt, no headers."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels, "_apt_names", lambda series: [])
    monkeypatch.setattr(Kernel, "headers", tmp_path / "headers")
    return tmp_path / "livedump"


def put(cache: Path, release: str) -> None:
    boot = cache / "kernels" / release / "boot"
    boot.mkdir(parents=True)
    (boot / f"vmlinuz-{release}").touch()


def test_newest_has_image_and_headers_and_is_the_plain_flavour() -> None:
    assert newest_first(NAMES, "6.1") == ["6.1.0-54-amd64", "6.1.0-9-amd64"]


def test_numbers_are_not_compared_as_text() -> None:
    assert newest_first(NAMES, "6.12") == ["6.12.117+deb12-amd64", "6.12.9+deb12-amd64"]


def test_a_series_may_be_wider() -> None:
    """Debian's backports go from one series to the next."""
    assert newest_first(NAMES, "7") == ["7.3.4+deb13-amd64", "7.2.12+deb13-amd64"]
    assert newest_first(NAMES, "7.2") == ["7.2.12+deb13-amd64"]
    assert is_of("7.3.4+deb13-amd64", "7") and not is_of("6.12.9-amd64", "6.1")


def test_image_and_modules_may_be_packages_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ["linux-binary-7.3.4+deb13-amd64", "linux-modules-7.3.4+deb13-amd64"]
    monkeypatch.setattr(kernels, "offered", parts.__contains__)
    assert kernels.image_packages(Kernel("7", "7.3.4+deb13-amd64")) == parts
    assert kernels.image_packages(Kernel("6.1", "6.1.0-9-amd64")) == ["linux-image-6.1.0-9-amd64"]


def test_settled_as_in_debian_12(tmp_path: Path) -> None:
    kernel = Kernel("7", "7.3.4+deb13-amd64")
    modules = tmp_path / "usr" / "lib" / "modules" / kernel.release
    modules.mkdir(parents=True)
    (modules / "vmlinuz").write_text("image")
    kernels._settle(tmp_path, kernel)
    assert (tmp_path / "boot" / kernel.image.name).read_text() == "image"
    assert (tmp_path / "lib" / "modules" / kernel.release).is_dir()


def test_from_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_apt_names", lambda series: NAMES)
    assert resolve("6.12").release == "6.12.117+deb12-amd64"


def test_cached_with_headers_comes_before_apt(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_apt_names", lambda series: NAMES)
    put(cache, "6.1.0-9-amd64")
    assert resolve("6.1").release == "6.1.0-54-amd64"
    (cache.parent / "headers").mkdir()
    assert resolve("6.1").release == "6.1.0-9-amd64"
    assert resolve("6.1", latest=True).release == "6.1.0-54-amd64"


def test_offline_takes_the_newest_in_the_cache(cache: Path) -> None:
    for release in ("6.1.0-9-amd64", "6.1.0-54-amd64", "6.12.9+deb12-amd64"):
        put(cache, release)
    (cache / "kernels" / "6.1.0-99-amd64").mkdir()  # no image: left by an interrupted run
    assert resolve("6.1", latest=True).release == "6.1.0-54-amd64"


def test_known_is_what_is_ready_or_offered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the cache without headers is of another release of Debian, as like as not."""
    put(cache, "7.3.4+deb13-amd64")
    assert kernels.known(["6.1", "7"]) == []
    (cache.parent / "headers").mkdir()
    assert kernels.known(["6.1", "7", "5.10"]) == ["7"]
    monkeypatch.setattr(kernels, "_apt_names", lambda series: NAMES)
    assert kernels.known(["6.1", "7", "5.10"]) == ["6.1", "7"]


def test_nothing_anywhere() -> None:
    with pytest.raises(VmError, match="run 'apt-get update'"):
        resolve("6.1")


def test_unknown_series() -> None:
    with pytest.raises(VmError, match="give a series"):
        resolve("5.10")


def test_exact_release() -> None:
    assert resolve("6.1.0-9-amd64") == Kernel("6.1", "6.1.0-9-amd64")
    assert series_of("6.12.117+deb12-amd64") == "6.12"


def test_interrupted_replacement_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "cache" / "thing"
    with pytest.raises(KeyboardInterrupt):
        with kernels.replacing(target) as scratch:
            (scratch / "result").mkdir()
            raise KeyboardInterrupt
    assert list(target.parent.iterdir()) == []


def test_quicker_process_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def too_late(source: Path, target: Path) -> None:
        (target / "theirs").mkdir(parents=True)
        replace(source, target)

    monkeypatch.setattr(os, "replace", too_late)
    with kernels.replacing(tmp_path / "thing") as scratch:
        (scratch / "result").mkdir()
    assert [path.name for path in (tmp_path / "thing").iterdir()] == ["theirs"]


@pytest.mark.parametrize(
    "number, there", [(errno.EACCES, False), (errno.EACCES, True), (errno.ENOTEMPTY, False)]
)
def test_failed_replacement_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, there: bool
) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    if there:
        (tmp_path / "thing").touch()
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(VmError, match=f"thing in place: {os.strerror(number)}"):
        with kernels.replacing(tmp_path / "thing"):
            pass


def test_download_shows_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    def apt_download(*arguments: str, cwd: str = "/") -> subprocess.CompletedProcess[str]:
        said = "'http://x/p_1.deb' p_1.deb 8000000 SHA256:00\n"
        if "--print-uris" not in arguments:
            (Path(cwd) / "p_1.deb").write_bytes(b"x" * 2_000_000)
            time.sleep(0.5)
        return subprocess.CompletedProcess([], 0, said, "")

    monkeypatch.setattr(kernels, "_apt_download", apt_download)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.05)
    assert kernels.download("p") == cache / "debs" / "p_1.deb"
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "vm: downloading p ..."
    assert "vm: downloading p: 0 s, 2 of 8 MB" in said
    assert said[-1].startswith("vm: downloading p: ")


def test_progress_ends_with_a_step_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), progress.progress("t", lambda: "state"):
        raise KeyboardInterrupt
    assert threading.active_count() == threads
    assert capsys.readouterr().err == "t ...\nt: 0 s\n"


def test_size_of_what_is_there(tmp_path: Path) -> None:
    state = progress.size(tmp_path / "file")
    assert state() == "0 MB"
    (tmp_path / "file").write_bytes(b"x" * 1_600_000)
    assert state() == "2 MB"


@pytest.mark.parametrize(
    ("release", "common"),
    [
        ("6.1.0-56-amd64", "linux-headers-6.1.0-56-common"),
        ("6.1.0-56-cloud-amd64", "linux-headers-6.1.0-56-common"),
        ("7.3.4+deb13-cloud-amd64", "linux-headers-7.3.4+deb13-common"),
    ],
)
def test_headers_that_all_flavours_share(release: str, common: str) -> None:
    assert kernels.Kernel("any", release).common_headers.name == common
