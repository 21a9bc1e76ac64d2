"""What several of the unit tests have in common."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of a host with one plugin, ``foo``; nothing of this machine's own host is seen."""
    for name in ("etc", "state", "run"):
        monkeypatch.setenv(f"LEGACYHOST_{name.upper()}", str(tmp_path / name))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "foo.toml").touch()
    return tmp_path / "etc"
