"""./build-deb: from any state of the checkout, the same package."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from .conftest import DEBIAN, TOP, built, run


def copy_checkout(target: Path, top: Path = TOP) -> Path:
    """The files a checkout has, without git."""
    for name in ("legacyhost", "packaging", "pyproject.toml", "README.md", "CHANGELOG.md", "build-deb"):
        source = top / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


def test_the_same_bytes_from_another_place(tmp_path: Path) -> None:
    """Without git, from an unclean tree with other modes and times, under another environment."""
    deb = built(copy_checkout(tmp_path / "checkout"))
    checkout = copy_checkout(tmp_path / "a copy", tmp_path / "checkout")
    (checkout / "legacyhost/__pycache__").mkdir()
    (checkout / "legacyhost/__pycache__/cli.cpython-311.pyc").write_bytes(b"old")
    (checkout / "build/lib/legacyhost").mkdir(parents=True)
    (checkout / "build/lib/legacyhost/stale.py").write_text("stale = True\n")
    (checkout / "legacyhost.egg-info").mkdir()
    (checkout / "legacyhost.egg-info/SOURCES.txt").write_text("stale\n")
    (checkout / "debian").mkdir()
    (checkout / "notes.txt").write_text("not for the package\n")
    for path in checkout.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        if path.is_file() and path.name != "build-deb":
            path.chmod(0o600)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
        "PYTHONPATH": str(tmp_path),
        "DEB_BUILD_OPTIONS": "noautodbgsym terse",
        "SOURCE_DATE_EPOCH": "1",
    }
    other = built(checkout, cwd="/", env=environment, umask=0o077)
    assert other == checkout / "dist" / deb.name
    assert other.read_bytes() == deb.read_bytes()


def test_leaves_nothing_but_the_package(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    before = {path.relative_to(checkout) for path in checkout.rglob("*")}
    deb = built(checkout, env={**os.environ, "TMPDIR": str(temporary)})
    after = {path.relative_to(checkout) for path in checkout.rglob("*")}
    assert after - before == {Path("dist"), Path("dist") / deb.name}
    assert not before - after
    assert not list(temporary.iterdir())


def test_versions_have_to_agree(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    (checkout / "legacyhost/__init__.py").write_text('__version__ = "9.8.7"\n')
    done = run(checkout / "build-deb", check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"build-deb: .*'9\.8\.7'.*changelog.*\n", done.stdout)
    assert not (checkout / "dist").exists()


def test_a_failing_build_shows_why(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("this is no TOML")
    done = run(checkout / "build-deb", check=False)
    assert done.returncode == 1
    assert "toml" in done.stdout.lower()
    assert "build-deb: this failed: " in done.stdout.splitlines()[-1]
    assert not (checkout / "dist").exists()


def test_brings_what_the_build_needs() -> None:
    """What ./build-deb installs is what debian/control asks for, by the packages' own names."""
    names = {"debhelper-compat": "debhelper", "dh-sequence-python3": "dh-python"}
    control = re.search(r"^Build-Depends:((?:\n .*)+)", (DEBIAN / "control").read_text(), re.MULTILINE)
    needs = re.search(r'^needs="(.*)"$', (TOP / "build-deb").read_text(), re.MULTILINE)
    assert control and needs
    wanted = [line.strip(" ,").partition(" ")[0] for line in control[1].splitlines() if line.strip()]
    assert {names.get(name, name) for name in wanted} | {"dpkg-dev"} == set(needs[1].split())


@pytest.mark.parametrize(
    "script",
    [
        "build-deb",
        *(f"packaging/debian/{name}" for name in ("postinst", "prerm", "postrm", "tests/smoke", "tests/volume")),
    ],
)
def test_shellcheck(script: str) -> None:
    run("shellcheck", TOP / script)
