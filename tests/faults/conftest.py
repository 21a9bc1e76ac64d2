"""The machines of the fault tests, and the seed that what is random in them comes from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import system.conftest
from system.conftest import fresh_machine, image, machine, suite
from system.installed import Installed, deb, fresh, installed
from system.machine import Machine

__all__ = ["deb", "fresh", "fresh_machine", "image", "installed", "machine", "suite"]

SEED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add --seed, and --suite where the system tests' own conftest has not."""
    if not pluginmanager.has_plugin(system.conftest.__file__):
        system.conftest.pytest_addoption(parser)
    text = "number that what is random in the fault tests comes from (default: another one each time)"
    parser.addoption("--seed", type=int, default=None, help=text)


def pytest_configure(config: pytest.Config) -> None:
    given = config.getoption("--seed")
    config.stash[SEED] = random.SystemRandom().randrange(10**6) if given is None else given


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults: --seed {config.stash[SEED]}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Say below each failure how to repeat it."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed and "seed" in getattr(item, "fixturenames", ()):
        command = f"./run-tests faults -k '{item.name}' --seed {item.config.stash[SEED]}"
        report.sections.append(("to repeat this case", command))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """What the test's own random numbers come from: the same for a test that runs alone."""
    return f"{request.config.stash[SEED]} {request.node.name}"


@pytest.fixture(scope="session")
def rebooted(image: Path, deb: Path) -> Iterator[Installed]:
    """A second machine with the package, for tests that switch it off and on; they leave it on, without containers."""
    with Machine(image) as made:
        failed = made.boot()
        assert not failed, f"units failed at boot: {', '.join(failed)}"
        made.import_image("busybox")
        yield Installed(made, deb)
