"""Every target with its seeds and with examples made of them; and each shown to find what is broken on purpose."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from legacyhost import config, options, otherplugin, record, wire
from legacyhost.authorizer import Authorizer
from legacyhost.credentials import Store
from legacyhost.drivers import ssh_files, sshfs
from legacyhost.errors import PluginError
from legacyhost.holds import Holds
from legacyhost.policy import Decision, containers, request
from legacyhost.ssh import certificates, hostkeys, sftp, wording
from legacyhost.transport import frames
from legacyhost.transport.record import Record

from .engine import ENGINES, Broken, has_atheris, some
from .target import CORPUS
from .targets import TARGETS

SEEDS = [(name, seed) for name in TARGETS for seed in TARGETS[name].seeds()]


@pytest.mark.parametrize(("name", "seed"), SEEDS)
def test_a_seed_breaks_nothing(name: str, seed: str) -> None:
    """What is usual, and what has been found."""
    TARGETS[name].check(TARGETS[name].seeds()[seed])


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(name: str, minutes: float | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Some hundred inputs, the same each time; with --minutes as many others as there is time for."""
    target = TARGETS[name]
    if minutes is None:
        assert some(target, target.examples) >= target.examples // 2
        return
    engine = "atheris" if has_atheris() else "hypothesis"
    try:
        tried = ENGINES[engine](target, minutes * 60 / len(TARGETS), Path.cwd())
    except Broken as error:
        pytest.fail(error.keep(Path.cwd()))
    with capsys.disabled():
        print(f"\n{name}: {tried} inputs with {engine}: nothing found")


def test_each_target_has_seeds_and_no_seed_is_left_over() -> None:
    """A folder of a target that is not there any more would never be read."""
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert {name for name, _ in SEEDS} == set(TARGETS)


def _as_it_is(text: str, *_: object) -> str:
    return text


def _raw(error: BaseException) -> str:
    return repr(error)


def _looks_exactly(value: object, where: str, checks: Mapping[str, request.Check]) -> None:
    """As encoding/json would read them if it minded the case: what is spelt otherwise is nothing."""
    for key, inner in value if isinstance(value, request.Members) else ():
        if key[:1].isupper() and not key.isupper() and (check := checks.get(key.casefold())):
            check(inner)


#: What a defect would be: the target that has to find it, what is replaced, and by what.
DEFECTS: dict[str, tuple[str, object, str, object]] = {
    "control characters in messages": ("wire", wire, "printable", _as_it_is),
    "any status": ("wire", PluginError, "status", 418),
    "no limit to what is JSON": ("wire", wire, "_kind", lambda value: type(value).__mro__),
    "values of any form": ("options", options.Options, "parse", lambda self, given: dict(given)),
    "files without quotes": ("options", ssh_files, "_quoted", str),
    "a list of options without check": ("options", sshfs, "_fuse_options", lambda *_: ["allow_other", "modules=x"]),
    "revoked keys": ("hostkeys", hostkeys.Known, "revocation", lambda self, *keys: None),
    "signatures nobody looks at": ("certificates", certificates, "_check", lambda *_: lambda *_: None),
    "hashes of names": ("hostkeys", hostkeys, "_is_about", lambda hosts, name: name in hosts),
    "owners are handed on": ("transport", frames, "OWNER", 3),
    "links are forgotten": ("transport", frames, "SYMLINK", 21),
    "rows of any kind": ("record", record, "fields", lambda row: row),
    "SQLite's own words": ("record", record, "reason", _raw),
    "a count that is off by one": ("holds", Holds, "of", lambda self, name: {"a": 1}),
    "a record that is anything": ("connection", Record, "read", classmethod(lambda cls, path: 1 / 0)),
    "settings of any kind": ("config", config, "_option", lambda name, value: value),
    "passwords of any kind": ("credentials", Store, "names", lambda self: []),
    "names as they are": ("otherplugin", otherplugin, "check_volume_name", _as_it_is),
    "keys in one case only": ("policy", containers, "look", _looks_exactly),
    "whatever is asked is allowed": ("authz", Authorizer, "_decide", lambda *_: Decision(True, "", "", "/")),
    "what a server says": ("sftp", wording, "clean", _as_it_is),
    "names with a slash": (
        "sftp",
        sftp,
        "Listed",
        lambda name, *_: SimpleNamespace(name=b"../" + name, is_directory=False),
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_what_is_broken_is_found(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that cannot fail says nothing."""
    name, owner, attribute, replacement = DEFECTS[defect]
    monkeypatch.setattr(owner, attribute, replacement)
    with pytest.raises(Broken):
        some(TARGETS[name], TARGETS[name].examples, smallest=False)


def test_what_is_tried_for_a_long_time_by_hand(tmp_path: Path) -> None:
    """The command of the package's description does what it says, with the engine that is there."""
    ran = _fuzz("holds", "--minutes", "0.02", "--keep", str(tmp_path))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "nothing found" in ran.stdout
    seed = CORPUS / "holds" / "two"
    assert "breaks nothing" in _fuzz("holds", "--replay", str(seed)).stdout
    assert _fuzz().stdout.split() == [*TARGETS]


def _fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuzz", *arguments]
    return subprocess.run(command, cwd=CORPUS.parents[1], capture_output=True, text=True, timeout=300)
