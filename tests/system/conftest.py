"""Fixtures of the system tests: which Debian, its image, a booted machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .images import SUITES, ensure
from .installed import deb, fresh, installed
from .machine import Machine

__all__ = ["deb", "fresh", "installed"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --suite."""
    text = f"Debian release for the system tests: {', '.join(SUITES)} (default: $LEGACYHOST_TEST_SUITE or bookworm)"
    parser.addoption("--suite", choices=SUITES, default=None, help=text)


def missing() -> str | None:
    """Why machines cannot be booted here; None if they can."""
    if os.geteuid() != 0:
        return "they need root"
    if not Path("/dev/fuse").exists():
        return "/dev/fuse is missing"
    for tool, package in (("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux")):
        if shutil.which(tool) is None:
            return f"{tool} is missing (apt-get install {package})"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork", "true"],
        capture_output=True,
        text=True,
    )
    return f"namespaces cannot be made: {tried.stderr.strip()}" if tried.returncode else None


@pytest.fixture(scope="session")
def suite(request: pytest.FixtureRequest) -> str:
    """The Debian release the machines run."""
    chosen = request.config.getoption("--suite", default=None)
    return str(chosen or os.environ.get("LEGACYHOST_TEST_SUITE") or "bookworm")


@pytest.fixture(scope="session")
def image(suite: str) -> Path:
    """The root tree of that release. Skips where machines cannot be booted, but fails there if CI is set."""
    if reason := missing():
        text = f"system tests cannot run: {reason}"
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    return ensure(suite)


def _booted(image: Path) -> Iterator[Machine]:
    with Machine(image) as made:
        failed = made.boot()
        assert not failed, f"units failed at boot: {', '.join(failed)}"
        made.import_image("busybox")
        yield made


@pytest.fixture(scope="session")
def machine(image: Path) -> Iterator[Machine]:
    """One booted machine for all tests, with the container image `busybox` in Docker and Podman."""
    yield from _booted(image)


@pytest.fixture
def fresh_machine(image: Path) -> Iterator[Machine]:
    """A booted machine of the test's own, with the same container image; for reboots and anything that stays."""
    yield from _booted(image)
