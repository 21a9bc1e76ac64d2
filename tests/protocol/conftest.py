"""Which plugin is asked: legacyhost's own server and the reference, or any other that is named by its socket.

    python3 -m pytest tests/protocol --plugin-socket /run/docker/plugins/NAME.sock --plugin-opt sshcmd=me@nas:/d

Cases marked ``promise`` ask for more than the engines do (which names and options are refused, for example);
``-m "not promise"`` leaves them out. ``-k reference`` needs no SSH server.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sshd import Sshd

from .case import Case, Plugin
from .ownserver import OwnServer, serving_legacyhost
from .reference import Reference, serving

OWN, REFERENCE, GIVEN = "legacyhost", "reference", "given"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("plugin under test")
    group.addoption("--plugin-socket", type=Path, metavar="PATH", help="the plugin to ask, by its socket")
    group.addoption(
        "--plugin-opt", action="append", default=[], metavar="K=V",
        help="an option of Create with which that plugin makes a volume that can be mounted (repeat as needed)",
    )  # fmt: skip
    group.addoption(
        "--plugin-data", type=Path, metavar="DIR", help="the directory of this machine that such a volume shows"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "promise: more than the engines need; legacyhost's own promise")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    given = metafunc.config.getoption("--plugin-socket", default=None)
    if "plugin" in metafunc.fixturenames:
        names = [GIVEN] if given else [OWN, REFERENCE]
        metafunc.parametrize("plugin", names, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With somebody's own plugin, only the cases that ask it something."""
    if config.getoption("--plugin-socket", default=None):
        items[:] = [item for item in items if "plugin" in getattr(item, "fixturenames", ()) or not _is_ours(item)]


def _is_ours(item: pytest.Item) -> bool:
    return Path(__file__).parent in item.path.parents


@pytest.fixture(scope="session")
def plugin(request: pytest.FixtureRequest) -> Iterator[Plugin]:
    config = request.config
    if request.param == GIVEN:
        opts = dict(text.partition("=")[::2] for text in config.getoption("--plugin-opt"))
        yield Plugin(GIVEN, config.getoption("--plugin-socket"), opts, config.getoption("--plugin-data"))
        return
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    with home_directory() as home:
        if request.param == REFERENCE:
            yield from reference_plugin(home)
        else:
            with serving_legacyhost(home, request.getfixturevalue("sshd")) as server:
                yield server.plugin


@contextmanager
def home_directory() -> Iterator[Path]:
    """A directory with a short name: the path of a socket has 107 bytes at most (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="lh-", dir="/tmp", ignore_cleanup_errors=True) as home:
        yield Path(home)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """The remote host of all of legacyhost's volumes."""
    with Sshd(tmp_path_factory.mktemp("sshd"), kinds=("ed25519",)) as running:
        yield running


@pytest.fixture
def server(sshd: Sshd) -> Iterator[OwnServer]:
    """A server of the test's own, to be stopped, killed and started again."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    with home_directory() as home, serving_legacyhost(home, sshd) as running:
        yield running


def reference_plugin(home: Path) -> Iterator[Plugin]:
    data, mounts, socket = home / "data", home / "mounts", home / "reference.sock"
    data.mkdir()
    mounts.mkdir()
    with serving(Reference(mounts), socket):
        yield Plugin(REFERENCE, socket, {"dir": str(data)}, data=data, home=home)


@pytest.fixture
def case(plugin: Plugin) -> Iterator[Case]:
    """One test's dealings with the plugin; whatever it made is gone afterwards."""
    case = Case(plugin)
    try:
        yield case
    finally:
        case.clean()
