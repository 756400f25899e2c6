"""The report's libraries: only the pinned bytes get in."""

from __future__ import annotations

import configparser
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest

from livedump.analysis import assets as report
from livedump.analysis.html import LIBRARIES
from tools.package.assets import TARGET, Asset, AssetError, fetch, lacking, load_manifest
from tools.paths import ROOT

CONTENT = b"var x = 1;"


def asset(**changes: str) -> Asset:
    """An asset, as pinned."""
    fields = {
        "package": "@scope/thing",
        "version": "1.2.3",
        "member": "package/dist/thing.js",
        "file": "thing.js",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    return Asset(**{**fields, **changes})


def cached(cache: Path, content: bytes = CONTENT) -> Path:
    """A cache that holds the package."""
    cache.mkdir(exist_ok=True)
    tarball = cache / asset().tarball
    with tarfile.open(tarball, "w:gz") as archive:
        info = tarfile.TarInfo("package/dist/thing.js")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return tarball


def test_pinned_file_is_extracted_once(tmp_path: Path) -> None:
    tarball = cached(tmp_path / "cache")
    assert tarball.name == "scope-thing-1.2.3.tgz"
    target = tmp_path / "target"
    assert fetch([asset()], target, tmp_path / "cache") == [target / "thing.js"]
    assert (target / "thing.js").read_bytes() == CONTENT
    tarball.unlink()
    assert fetch([asset()], target, tmp_path / "cache") == []


@pytest.mark.parametrize(
    "change", [{"sha256": "0" * 64}, {"member": "package/other.js"}], ids=["hash", "member"]
)
def test_other_bytes_are_refused(tmp_path: Path, change: dict[str, str]) -> None:
    tarball = cached(tmp_path / "cache")
    with pytest.raises(AssetError):
        fetch([asset(**change)], tmp_path / "target", tmp_path / "cache")
    assert not tarball.exists(), "a bad package stays in the cache"
    assert not (tmp_path / "target" / "thing.js").exists()


def test_damaged_file_and_package(tmp_path: Path) -> None:
    cached(tmp_path / "cache")
    target = tmp_path / "target"
    target.mkdir()
    (target / "thing.js").write_text("half")
    assert fetch([asset()], target, tmp_path / "cache") == [target / "thing.js"]
    (target / "thing.js").unlink()
    (tmp_path / "cache" / asset().tarball).write_bytes(b"not a tarball")
    with pytest.raises(AssetError, match="damaged"):
        fetch([asset()], target, tmp_path / "cache")


def test_manifest_is_whole() -> None:
    found = load_manifest()
    assert {one.file for one in found} == {*LIBRARIES, "speedscope-schema.json", "axe.js"}
    assert all(len(one.sha256) == 64 and one.version[0].isdigit() for one in found)


def test_only_what_differs_is_lacking(tmp_path: Path) -> None:
    assert lacking([asset()], tmp_path) == [asset()]
    (tmp_path / "thing.js").write_bytes(CONTENT)
    assert lacking([asset()], tmp_path) == []
    assert lacking([asset(sha256="0" * 64)], tmp_path) != []


def test_report_finds_them_in_the_checkout_and_then_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report.PLACES[0] == TARGET
    monkeypatch.setattr(report, "PLACES", (tmp_path / "checkout", tmp_path / "share"))
    with pytest.raises(report.AssetMissingError, match="tools.package.assets"):
        report.text("a.js")
    for place in reversed(report.PLACES):
        place.mkdir()
        (place / "a.js").write_text(place.name)
        assert report.text("a.js") == place.name


def test_setup_cfg_installs_them() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    installed = setup["options.data_files"]["share/livedump/assets"].split()
    assert installed == [f"{TARGET.relative_to(ROOT)}/*.min.js"]
    assert report.PLACES[1] == Path(sys.prefix) / "share" / "livedump" / "assets"
    assert all(name.endswith(".min.js") for name in LIBRARIES)
