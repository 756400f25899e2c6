"""``python3 -m tools.package.assets``: fetch the HTML report's pinned files from npm's registry.

livedump/analysis/assets.json says which packages, which file of each, and its hash. Packages are
kept in the cache folder; the files end up in build/assets/, from where setup.cfg installs them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.paths import BUILD, ROOT, cache_dir
from tools.setup.steps import SetupError, step

MANIFEST = ROOT / "livedump" / "analysis" / "assets.json"
TARGET = BUILD / "assets"


class AssetError(SetupError):
    """A file could not be fetched, or is not the one that was pinned."""


@dataclass(frozen=True)
class Asset:
    """One file of an npm package.

    :param package: name and exact version of the package
    :param member: path inside the package
    :param sha256: of the file
    """

    package: str
    version: str
    member: str
    file: str
    sha256: str

    @property
    def tarball(self) -> str:
        """Name that ``npm pack`` gives the package."""
        return f"{self.package.lstrip('@').replace('/', '-')}-{self.version}.tgz"


def load_manifest(path: Path = MANIFEST) -> list[Asset]:
    """The pinned files."""
    return [Asset(**entry) for entry in json.loads(path.read_text())["assets"]]


def fetch(assets: list[Asset], target: Path = TARGET, cache: Path | None = None) -> list[Path]:
    """Make sure that every asset is in *target*; returns the files that were written.

    :raises AssetError: a package cannot be had, or a hash differs
    """
    cache = cache if cache is not None else cache_dir() / "npm"
    written = []
    for asset in lacking(assets, target):
        content = _extract(_package(asset, cache), asset)
        target.mkdir(parents=True, exist_ok=True)
        _write(target / asset.file, content)
        written.append(target / asset.file)
    return written


def lacking(assets: list[Asset], target: Path = TARGET) -> list[Asset]:
    """Those that are not in *target*, or not as pinned."""

    def whole(asset: Asset) -> bool:
        file = target / asset.file
        return file.is_file() and _sha256(file.read_bytes()) == asset.sha256

    return [asset for asset in assets if not whole(asset)]


def _package(asset: Asset, cache: Path) -> Path:
    """The package's tarball in the cache, fetched when it is not there."""
    tarball = cache / asset.tarball
    if tarball.is_file():
        return tarball
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = ["npm", "pack", f"{asset.package}@{asset.version}", "--silent"]
        try:
            done = subprocess.run(
                [*command, "--pack-destination", folder],
                cwd=folder,
                capture_output=True,
                text=True,
            )
        except FileNotFoundError as error:
            raise AssetError("npm is missing: apt-get install npm") from error
        if done.returncode:
            raise AssetError(f"{' '.join(command)}: {done.stderr.strip() or 'failed'}")
        os.replace(Path(folder) / asset.tarball, tarball)
    return tarball


def _extract(tarball: Path, asset: Asset) -> bytes:
    """The asset's bytes, checked. A tarball that does not hold them is removed from the cache."""
    try:
        with tarfile.open(fileobj=io.BytesIO(tarball.read_bytes())) as archive:
            member = archive.extractfile(asset.member)
            content = member.read() if member is not None else b""
    except (tarfile.TarError, KeyError, OSError, EOFError) as error:
        tarball.unlink()
        raise AssetError(f"{tarball} is damaged, removed: {error}") from error
    found = _sha256(content)
    if found != asset.sha256:
        tarball.unlink()
        raise AssetError(
            f"{asset.member} of {asset.package}@{asset.version} has sha256 {found}, "
            f"pinned is {asset.sha256}"
        )
    return content


def _write(file: Path, content: bytes) -> None:
    partial = file.with_name(f".{file.name}.partial-{os.getpid()}")
    partial.write_bytes(content)
    os.replace(partial, file)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def ensure() -> list[Path]:
    """Fetch what is missing of the pinned files; returns what was written.

    :raises AssetError: a file cannot be had
    """
    if not lacking(load_manifest()):
        return []
    with step("fetching the report's assets from npm"):
        return fetch(load_manifest())


def main() -> int:
    """Fetch what is missing; 0 when everything is there."""
    try:
        for file in ensure():
            print(f"assets: {file.relative_to(ROOT)}", file=sys.stderr)
    except AssetError as error:
        print(f"assets: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
