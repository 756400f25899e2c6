"""Loading the programs, without a kernel that would take them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from livedump.trace.errors import TraceError
from livedump.trace.probe import loader


def test_package_of_another_bcc_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """PyPI's is something else, and may be found first."""
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").touch()
    monkeypatch.setitem(sys.modules, "bcc", None)
    with pytest.raises(TraceError, match="cannot import bcc: .*apt-get install python3-bpfcc"):
        loader.import_bcc()
    monkeypatch.delitem(sys.modules, "bcc")
    monkeypatch.syspath_prepend(tmp_path)
    words = f"{tmp_path}/bcc/__init__.py is not the BPF Compiler Collection"
    with pytest.raises(TraceError, match=words) as caught:
        loader.import_bcc()
    assert caught.value.remedy.startswith("pip uninstall bcc; apt-get install python3-bpfcc")
