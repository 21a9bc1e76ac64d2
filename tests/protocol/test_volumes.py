"""Create, Get, List and Remove: what a volume is, beyond what every engine asks in test_engines.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from . import mountinfo
from .case import Case, good, new_id, refused
from .dialect import PODMAN_ID


def other_opts(case: Case) -> dict[str, str]:
    """Options that are not those of the volumes made here."""
    opts = dict(case.plugin.opts)
    key = next(iter(opts), "lhtest-option")
    return {**opts, key: opts.get(key, "") + "-other"}


@pytest.mark.parametrize("form", [{}, {"Opts": None}, {"Opts": {}}], ids=["absent", "null", "empty"])
def test_a_known_volume_is_created_again_with_any_form_of_no_options(case: Case, form: dict[str, Any]) -> None:
    """No options are absent (Docker 1.7, podman), null (Docker) or empty: for a known volume all mean "as it is"."""
    name = case.volume()
    good(case.docker.ask("Create", {"Name": name, **form}))
    assert case.names_listed() == [name]


def test_a_known_volume_is_created_again_with_its_own_options(case: Case) -> None:
    """Docker sends Create whenever Get gave it nothing, be it for a hiccup: the same again succeeds
    (moby volume/service/store.go)."""
    name = case.volume()
    good(case.docker.create(name, case.plugin.opts))
    good(case.podman.create(name, case.plugin.opts))
    assert case.names_listed() == [name]


def test_a_mounted_volume_is_created_again_and_stays_mounted(case: Case) -> None:
    """Creating a known volume again touches neither its mount nor who holds it."""
    name = case.volume()
    mount_id = case.id(name)
    path = case.mount(name, mount_id)
    good(case.docker.create(name))
    good(case.docker.create(name, case.plugin.opts))
    assert mountinfo.count(path) == 1
    good(case.docker.unmount(name, mount_id))
    assert mountinfo.count(path) == 0


@pytest.mark.promise
def test_a_known_volume_is_not_created_again_with_other_options(case: Case) -> None:
    """Other options than the volume's own are an error, never ignored and never taken over."""
    name = case.volume()
    refused(case.docker.create(name, other_opts(case)))
    refused(case.podman.create(name, other_opts(case)))
    good(case.docker.create(name, case.plugin.opts))


@pytest.mark.promise
def test_an_unknown_option_is_refused_by_its_name(case: Case) -> None:
    """A misspelt option is an error that names it, and makes no volume."""
    name = case.name()
    assert "lhtestoption" in refused(case.docker.create(name, {**case.plugin.opts, "lhtestoption": "1"}))
    assert case.names_listed() == []
    refused(case.docker.get(name))


@pytest.mark.parametrize("value", [22, 1.5, True, None, ["a"], {"a": "b"}], ids=str)
def test_an_option_that_is_no_string_is_refused(case: Case, value: object) -> None:
    """Options are strings on every engine; anything else is an error and makes no volume."""
    name = case.name()
    refused(case.docker.ask("Create", {"Name": name, "Opts": {**case.plugin.opts, "port": value}}))
    assert case.names_listed() == []


@pytest.mark.parametrize("opts", [[], [["a", "b"]], "a=b", 5, True], ids=str)
def test_options_that_are_no_object_are_refused(case: Case, opts: object) -> None:
    """``Opts`` is an object, null or absent."""
    name = case.name()
    refused(case.docker.ask("Create", {"Name": name, "Opts": opts}))
    assert case.names_listed() == []


def test_a_field_of_tomorrow_does_no_harm(case: Case) -> None:
    """Engines add fields (Opts came with 1.9, ID with 1.12): a plugin that does not know one goes on without it."""
    name = case.name()
    message = {"Name": name, "Opts": dict(case.plugin.opts), "Labels": {"a": "b"}, "Unheard": [1, {"of": None}]}
    good(case.docker.ask("Create", message))
    good(case.docker.ask("Get", {"Name": name, "Unheard": 1}))


def test_volumes_whose_names_differ_in_case_are_two(case: Case) -> None:
    """A volume's name is exactly that name."""
    lower, upper = case.volume("-x"), case.name()
    case.owned(lower.replace("-x", "-X"))
    refused(case.docker.get(lower.replace("-x", "-X")))
    refused(case.docker.get(upper))


def test_get_tells_when_a_volume_was_created(case: Case) -> None:
    """CreatedAt, if there is one, is RFC 3339 with T and Z or +hh:mm (else Docker fails the whole Get), and stays
    the same."""
    before = datetime.now(UTC) - timedelta(seconds=2)
    name = case.volume()
    created = good(case.docker.get(name))["Volume"].get("CreatedAt")
    if created is None:
        pytest.skip("this plugin does not tell (which Docker allows)")
    assert before <= datetime.fromisoformat(created) <= datetime.now(UTC) + timedelta(seconds=2)
    case.mount(name)
    assert good(case.docker.get(name))["Volume"]["CreatedAt"] == created


def test_the_status_of_a_volume_is_an_object(case: Case) -> None:
    """Status is an object, null or absent (a list fails the whole Get); docker volume inspect shows it."""
    name = case.volume()
    for _ in range(2):
        assert isinstance(good(case.docker.get(name))["Volume"].get("Status", {}), dict)
        case.mount(name)


@pytest.mark.promise
def test_the_status_of_a_volume_says_something(case: Case) -> None:
    """docker volume inspect is where a user looks, so it is not left empty."""
    assert good(case.docker.get(case.volume()))["Volume"]["Status"]


def test_an_unknown_volume_stays_unknown_while_another_is_mounted(case: Case) -> None:
    """Docker asks every volume plugin for names it does not know; a positive answer takes somebody else's volume."""
    name = case.volume()
    path = case.mount(name)
    for unknown in (case.name(), name + "x", name[:-1], name.upper(), "a" * 64, new_id(), PODMAN_ID, "x", "nope"):
        refused(case.docker.get(unknown))
        refused(case.podman.get(unknown))
        refused(case.docker.path(unknown))
    assert mountinfo.count(path) == 1


@pytest.mark.parametrize("name", ["x", "0", "a" * 64, "A.b_c-d", "lhtest.dots..and--dashes__"])
def test_names_as_engines_make_them(case: Case, name: str) -> None:
    """One letter, 64 hexadecimal digits (anonymous volumes), and all that podman allows in a name."""
    if case.docker.get(name).ok:
        pytest.skip(f"there is a volume called {name} already")
    case.owned(name)
    good(case.docker.create(name, case.plugin.opts))
    assert good(case.docker.get(name))["Volume"]["Name"] == name
    case.mount(name)
    good(case.docker.remove(name))


def test_the_mountpoint_of_a_mounted_volume(case: Case) -> None:
    """While mounted, Get, List and Path give the path that Mount gave."""
    name = case.volume()
    path = case.mount(name)
    listed = {volume["Name"]: volume for volume in good(case.docker.list())["Volumes"]}
    assert good(case.docker.get(name))["Volume"].get("Mountpoint") in (path, "", None)
    assert listed[name].get("Mountpoint") in (path, "", None)
    assert good(case.docker.path(name))["Mountpoint"] == path


@pytest.mark.promise
def test_an_unmounted_volume_has_no_mountpoint(case: Case) -> None:
    """A path where nothing is mounted leads a user to write into a bare local directory."""
    name = case.volume()
    mount_id = case.id(name)
    for _ in range(2):
        listed = {volume["Name"]: volume for volume in good(case.docker.list())["Volumes"]}
        assert good(case.docker.get(name))["Volume"]["Mountpoint"] == ""
        assert listed[name]["Mountpoint"] == ""
        assert good(case.docker.path(name))["Mountpoint"] == ""
        case.mount(name, mount_id)
        good(case.docker.unmount(name, mount_id))


def test_after_remove_the_name_is_free(case: Case) -> None:
    """The same name can be created again, mounted, removed: nothing of the first volume is in the way."""
    name = case.volume()
    for _ in range(3):
        case.mount(name)
        good(case.docker.remove(name))
        refused(case.docker.get(name))
        refused(case.docker.remove(name))
        good(case.docker.create(name, case.plugin.opts))


def test_a_refused_create_leaves_nothing(case: Case) -> None:
    """A Create that failed made no volume: Get and List do not know it, and the name is free."""
    name = case.name()
    refused(case.docker.ask("Create", {"Name": name, "Opts": 5}))
    refused(case.docker.get(name))
    assert case.names_listed() == []
    good(case.docker.create(name, case.plugin.opts))
