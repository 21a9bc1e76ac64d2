"""Options of the soak, and its machine."""

from __future__ import annotations

import contextlib
import random

import pytest
from system.conftest import fresh_machine, image, suite
from system.conftest import pytest_addoption as add_suite
from system.installed import deb, fresh

from .soak import Plan

__all__ = ["deb", "fresh", "fresh_machine", "image", "suite"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --seed, --steps, --minutes and --leaks; and --suite, unless the system tests have done so."""
    with contextlib.suppress(ValueError):
        add_suite(parser)
    parser.addoption("--seed", default=None, help="seed of the soak (default: a random one, which is printed)")
    parser.addoption("--steps", type=int, default=None, help="operations of all clients together (default: 160)")
    parser.addoption("--minutes", type=float, default=None, help="go on for so long instead")
    parser.addoption(
        "--leaks",
        choices=["fail", "report"],
        default="fail",
        help="what it means if a mount, hold or unit that nobody uses stays: a failure, or a line in the output",
    )


@pytest.fixture
def plan(request: pytest.FixtureRequest) -> Plan:
    """What the command line asks for."""
    option = request.config.getoption
    seed = option("--seed", default=None) or str(random.randrange(1_000_000))
    minutes = option("--minutes", default=None)
    steps = None if minutes else option("--steps", default=None) or 160
    return Plan(seed, steps, minutes, option("--leaks", default="fail") == "fail")
