"""Which kernel a series stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.vm import VmError, kernels
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
