"""The machines of the attacks that need one: the same as the system tests'."""

from __future__ import annotations

import pytest
import system.conftest
from system.conftest import fresh_machine, image, machine, suite
from system.installed import deb, fresh, installed

__all__ = ["deb", "fresh", "fresh_machine", "image", "installed", "machine", "suite"]


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add --suite where the system tests' own conftest has not."""
    if not pluginmanager.has_plugin(system.conftest.__file__):
        system.conftest.pytest_addoption(parser)
