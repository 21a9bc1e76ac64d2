"""The package, built once with ./build-deb, and taken apart."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parents[2]
DEBIAN = TOP / "packaging/debian"
MAN = TOP / "packaging/man"


def run(*argv: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end, output together as text; the assertion shows it."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [str(word) for word in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    assert not check or done.returncode == 0, f"{argv}: status {done.returncode}\n{done.stdout}"
    return done


def built(checkout: Path, **options: Any) -> Path:
    """What ./build-deb prints last."""
    return Path(run(checkout / "build-deb", **options).stdout.splitlines()[-1])


@dataclass(frozen=True)
class Deb:
    """A package taken apart: ``tree`` is what it installs, ``control`` its scripts and fields."""

    path: Path
    tree: Path
    control: Path
    members: Sequence[tarfile.TarInfo]

    @property
    def fields(self) -> Message:
        return Parser().parsestr((self.control / "control").read_text("utf-8"))


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Deb:
    path = built(TOP)
    folder = tmp_path_factory.mktemp("deb")
    run("dpkg-deb", "--raw-extract", path, folder / "all")
    control = (folder / "all/DEBIAN").rename(folder / "control")
    listing = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(listing)) as tar:
        return Deb(path, folder / "all", control, tar.getmembers())
