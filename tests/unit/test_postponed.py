"""Modules that are not loaded before something of them is wanted."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import WAIT

from legacyhost.postponed import postpone, restore


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of one that leaves a trace when it is loaded."""
    package = tmp_path / "heavy_package"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('loaded').open('a').write('x')\nVALUE = 7\n"
        "def double(number): return 2 * number\n"
    )
    (package / "inner.py").write_text("VALUE = 8\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("heavy_package", "heavy_package.inner"):
        monkeypatch.setitem(sys.modules, name, None)  # put back afterwards, whatever is there then
        del sys.modules[name]
    return package.name


def test_it_is_loaded_when_something_of_it_is_wanted(module: str, tmp_path: Path) -> None:
    """Whoever has imported it before has what it offers, and whoever imports it then has the real one."""
    postpone(module)
    import heavy_package  # type: ignore[import-not-found]

    loaded = tmp_path / module / "loaded"
    assert not loaded.exists()
    assert heavy_package.VALUE == 7
    assert loaded.exists()
    assert heavy_package.VALUE == 7
    assert sys.modules[module].__file__ == str(tmp_path / module / "__init__.py")


def test_a_part_of_it_is_found(module: str) -> None:
    """Of a package."""
    postpone(module, is_package=True)
    from heavy_package.inner import VALUE  # type: ignore[import-not-found]

    assert VALUE == 8


def test_a_function_of_it_may_be_taken_beforehand(module: str, tmp_path: Path) -> None:
    """As libraries do for an alias; the module is loaded when it is called, once."""
    postpone(module, ["double"])
    import heavy_package

    double = heavy_package.double
    assert not (tmp_path / module / "loaded").exists()
    assert [double(2), double(number=3)] == [4, 6]
    assert (tmp_path / module / "loaded").read_text() == "x"
    assert heavy_package.VALUE == 7


def test_what_is_given_is_had_without(module: str, tmp_path: Path) -> None:
    """Also by "from it import", as long as nothing else is wanted."""
    postpone(module, ["double"], VALUE=9)
    from heavy_package import VALUE, double

    assert VALUE == 9
    assert not (tmp_path / module / "loaded").exists()
    assert double(2) == 4
    assert (tmp_path / module / "loaded").exists()


def test_a_part_may_be_what_is_postponed(module: str, tmp_path: Path) -> None:
    """In every form in which it may be imported."""
    postpone(f"{module}.inner")
    (tmp_path / module / "inner.py").write_text("open(__file__ + '.loaded', 'w')\nVALUE = 8\n")
    import heavy_package
    import heavy_package.inner as alias
    from heavy_package import inner

    assert not (tmp_path / module / "inner.py.loaded").exists()
    assert [heavy_package.inner.VALUE, alias.VALUE, inner.VALUE] == [8, 8, 8]
    assert (tmp_path / module / "inner.py.loaded").exists()
    assert sys.modules[f"{module}.inner"].__file__ == heavy_package.inner.__file__


def test_what_is_loaded_stays(module: str) -> None:
    """It has its users."""
    import heavy_package

    postpone(module)
    assert sys.modules[module] is heavy_package


def test_two_threads_may_want_it_first(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is loaded once, and both have it, also where both find it postponed before either has changed that."""
    meeting = threading.Barrier(2)

    class Modules:
        def get(self, name: str) -> object:
            found = sys.modules.get(name)
            with suppress(threading.BrokenBarrierError):
                meeting.wait(0.5)  # of two that may not be here together the other does not come
            return found

        def __delitem__(self, name: str) -> None:
            del sys.modules[name]

    postpone(module)
    import heavy_package

    monkeypatch.setattr("legacyhost.postponed.sys", SimpleNamespace(modules=Modules()))
    with ThreadPoolExecutor(2) as threads:
        wanted = [threads.submit(lambda: heavy_package.double) for _ in range(2)]
        first, second = (each.result(WAIT) for each in wanted)
    assert first is second
    assert (tmp_path / module / "loaded").read_text() == "x"


def test_the_real_one_can_be_had_back(module: str, tmp_path: Path) -> None:
    """With what was given in its place; whoever has the stand-in keeps it."""
    postpone(module, VALUE=9)
    import heavy_package as before

    restore(module)
    restore(module)
    import heavy_package

    assert (before.VALUE, heavy_package.VALUE) == (9, 7)
    assert before.double(4) == 8
    assert (tmp_path / module / "loaded").read_text() == "x"


def test_what_is_not_there_is_said_when_it_is_wanted(module: str) -> None:
    """As ever, only later; and an attribute that it has not."""
    postpone("heavy_nothing")
    import heavy_nothing  # type: ignore[import-not-found]

    with pytest.raises(ModuleNotFoundError):
        _ = heavy_nothing.VALUE
    postpone(module)
    import heavy_package

    with pytest.raises(AttributeError):
        _ = heavy_package.OTHER


def test_a_plugin_starts_without_what_it_never_uses(tmp_path: Path) -> None:
    """Nothing of the network's before the network is used, nothing of the libraries' that is for others."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "legacyhost", "serve", "x"],
        env={"LEGACYHOST_ETC": str(tmp_path), "LEGACYHOST_STATE": str(tmp_path), "LEGACYHOST_RUN": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    assert {"legacyhost.server", "gunicorn", "falcon"} <= loaded
    assert not loaded & {"paramiko", "cryptography", "pkg_resources", "cgi", "html.entities"}
    assert not loaded & {"_ssl", "_hashlib", "logging.handlers", "xml.etree.ElementPath", "asyncio.events"}
    assert not loaded & {"gunicorn.arbiter", "legacyhost.doctor", "legacyhost.commands.volumes"}
    assert "no socket" in ran.stderr
