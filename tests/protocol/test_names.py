"""Names of volumes. Docker does not look at them before it hands them to a plugin: ``../../etc/x`` arrives as it is."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import mountinfo
from .case import PREFIX, Case, good, new_id, refused
from .dialect import METHODS

#: In each of the bad names that would leave a trace: what to look for on the disk.
TOKEN = f"{PREFIX}{secrets.token_hex(4)}"

BAD_NAMES = {
    "empty": "",
    "dot": ".",
    "dots": "..",
    "parent": f"../{TOKEN}",
    "far-parent": f"../../../../../../../../tmp/{TOKEN}",
    "absolute": f"/tmp/{TOKEN}",
    "slash": f"{TOKEN}/b",
    "slash-at-end": f"{TOKEN}/",
    "dots-inside": f"{TOKEN}/../b",
    "backslash": f"{TOKEN}\\b",
    "nul": f"{TOKEN}\0b",
    "line-feed": f"{TOKEN}\nb",
    "line-feed-at-end": f"{TOKEN}\n",
    "escape": f"{TOKEN}\x1b[31mb",
    "blank": f"{TOKEN} b",
    "blank-first": f" {TOKEN}",
    "option": f"-{TOKEN}",
    "options": f"--{TOKEN}=b",
    "hidden": f".{TOKEN}",
    "remote": f"user@host:/{TOKEN}",
    "unicode": f"{TOKEN}é",
    "unicode-digit": f"{TOKEN}٣",
    "surrogate": f"{TOKEN}\ud800",
    "markup": f"{TOKEN}&<b>",
    "percent": f"{TOKEN}%2fb",
    "comma": f"{TOKEN},b",
    "256-bytes": TOKEN + "a" * (256 - len(TOKEN)),
    "64-KiB": TOKEN + "a" * 65536,
}  # fmt: skip
DANGEROUS = frozenset({"empty", "dot", "dots", "parent", "far-parent", "absolute", "dots-inside", "nul"})


def marked() -> Iterator[object]:
    """Every bad name; those that no plugin may take, and those that only legacyhost promises to refuse."""
    for key, name in BAD_NAMES.items():
        yield pytest.param(name, id=key, marks=() if key in DANGEROUS else pytest.mark.promise)


def traces(case: Case) -> list[Path]:
    """Files and directories that have the token in their names, where a careless plugin would put them."""
    found = [path for place in ("/", "/tmp", "/etc", "/run", "/var/lib") for path in Path(place).glob(f"*{TOKEN}*")]
    if case.plugin.home is not None:
        mounts = set(mountinfo.below(case.plugin.home))
        for place, directories, files in os.walk(case.plugin.home):
            directories[:] = [name for name in directories if os.path.join(place, name) not in mounts]  # noqa: PTH118
            found += [Path(place) / name for name in (*directories, *files) if TOKEN in name]
    return found


@pytest.mark.parametrize("name", [*marked()])
def test_a_bad_name_is_refused_by_every_call(case: Case, name: str) -> None:
    """A name that is no plain file name is an error in each call, and nothing is made anywhere."""
    case.owned(name)
    before = good(case.docker.list())["Volumes"]
    for method in ("Get", "Create", "Get", "Mount", "Path", "Remove"):
        message: dict[str, object] = {"Name": name}
        if method == "Create":
            message["Opts"] = dict(case.plugin.opts)
        if method == "Mount":
            message["ID"] = new_id()
        refused(case.docker.ask(method, message))
        refused(case.podman.ask(method, message))
    assert good(case.docker.list())["Volumes"] == before
    assert traces(case) == []


@pytest.mark.promise
@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_bad_name_is_refused_by_unmount_too(case: Case, name: str) -> None:
    """A good name that is unknown unmounts successfully; a bad one is an error here as everywhere."""
    refused(case.docker.ask("Unmount", {"Name": name, "ID": new_id()}))


@pytest.mark.parametrize("name", [None, 5, 1.5, True, ["a"], {"a": "b"}], ids=str)
@pytest.mark.parametrize("method", sorted(METHODS - {"List", "Capabilities"}))
def test_a_name_that_is_no_string_is_refused(case: Case, method: str, name: object) -> None:
    """``Name`` is a string; null and absent are no name."""
    refused(case.docker.ask(method, {"Name": name, "ID": new_id(), "Opts": dict(case.plugin.opts)}))
    assert case.names_listed() == []


def test_a_name_of_255_bytes_is_a_name_like_any_other(case: Case) -> None:
    """255 bytes are what a file name may have; whatever the plugin appends to it has to fit as well."""
    name = case.name("-" + "n" * (255 - len(PREFIX) - len("-0123456789-")))
    assert len(name) == 255
    good(case.docker.create(name, case.plugin.opts))
    assert case.names_listed() == [name]
    mount_id = case.id(name)
    path = case.mount(name, mount_id)
    assert good(case.docker.path(name))["Mountpoint"] == path
    good(case.docker.unmount(name, mount_id))
    assert mountinfo.count(path) == 0
    good(case.docker.remove(name))
    refused(case.docker.get(name))


def test_names_that_begin_alike_are_different_volumes(case: Case) -> None:
    """Neither shortened nor looked up by their beginning: two names of 255 bytes that differ in the last one."""
    stem = case.name("-" + "n" * (254 - len(PREFIX) - len("-0123456789-")))
    one, other = case.owned(stem + "1"), case.owned(stem + "2")
    good(case.docker.create(one, case.plugin.opts))
    refused(case.docker.get(other))
    good(case.docker.create(other, case.plugin.opts))
    assert case.mount(one) != case.mount(other)
    good(case.docker.remove(one))
    assert case.names_listed() == [other]
