"""The suite's option."""

from __future__ import annotations

import contextlib

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --minutes, unless the soak has done so."""
    with contextlib.suppress(ValueError):
        parser.addoption("--minutes", type=float, default=None, help="try other inputs each time, for so long in all")


@pytest.fixture
def minutes(request: pytest.FixtureRequest) -> float | None:
    """For how long all targets together; None for the short run."""
    given: float | None = request.config.getoption("--minutes")
    return given
