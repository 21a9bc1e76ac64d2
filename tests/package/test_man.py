"""The manual pages have all there is, and nothing else."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from pathlib import Path

import pytest

from legacyhost.cli import parser as whole_parser
from legacyhost.config import AuthzConfig, Config, ListenConfig, Paths, VolumeConfig
from legacyhost.drivers import sshfs, sshfs_options
from legacyhost.policy.endpoints import GROUPS
from legacyhost.policy.limits import TABLES
from legacyhost.policy.places import DANGEROUS

from .conftest import MAN, run

PAGES = sorted(MAN.iterdir())
COMMAND = (MAN / "legacyhost.1").read_text("utf-8")
TOML = (MAN / "legacyhost.toml.5").read_text("utf-8")
POLICY = (MAN / "legacyhost-policy.5").read_text("utf-8")
SETTINGS, _, OPTIONS = TOML.partition(".Sh OPTIONS OF A VOLUME\n")
SETTINGS, _, AUTHORIZING = SETTINGS.partition(".Sh AUTHORIZING REQUESTS\n")


def entries(page: str) -> dict[str, str]:
    """The entries of the lists in an mdoc page that are about a word to be typed (.It Cm), with their text."""
    found: dict[str, str] = {}
    for entry in re.split(r"^\.(?=It |El|Sh |Ss )", page, flags=re.MULTILINE):
        head, _, text = entry.partition("\n")
        if head.startswith("It Cm "):
            for name in re.findall(r"(?:^It|,) Cm (\S+)", head):
                assert name not in found, f"{name} is there twice"
                found[name] = text
    return found


def commands() -> dict[str, list[argparse.ArgumentParser]]:
    """Each command, with the parsers of its own commands."""
    return {name: [parser, *subcommands(parser).values()] for name, parser in subcommands(whole_parser()).items()}


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: below
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, below in action.choices.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_format(page: Path) -> None:
    """man and mandoc have nothing to complain about, whatever the width of the terminal."""
    for width in ("60", "80", "140"):
        environment = {**os.environ, "MANWIDTH": width}
        assert run("sh", "-c", 'man --warnings -l "$1" 2>&1 >/dev/null', "sh", page, env=environment).stdout == ""
    lint = run("mandoc", "-T", "lint", "-W", "style", page, check=False).stdout.splitlines()
    assert [line for line in lint if "mandoc.db" not in line and "referenced manual not found" not in line] == []


def test_every_command_is_documented() -> None:
    assert set(entries(COMMAND)) == set(commands())
    synopsis = COMMAND.partition(".Sh SYNOPSIS\n")[2].partition(".Sh DESCRIPTION\n")[0]
    found = re.findall(r"^\.Cm (\w+)(?: (\w+))?$", synopsis, re.MULTILINE)
    below = {(name, inner) for name, (parser, *_) in commands().items() for inner in subcommands(parser) or [""]}
    assert set(found) == below


def test_every_option_of_a_command_is_documented() -> None:
    flags: dict[str, set[str]] = {}
    whole: argparse.ArgumentParser = whole_parser()
    for name, parsers in {"": [whole], **commands()}.items():
        for flag in (flag for parser in parsers for flag in parser._option_string_actions if flag.startswith("--")):
            flags.setdefault(flag, set()).update({name} - {""})
    documented: dict[str, set[str]] = {}
    for flag, text in re.findall(r"^\.It (?:Fl h , )?Fl Fl ([\w-]+).*\n((?:\.Pq Cm .*\n)?)", COMMAND, re.MULTILINE):
        documented[f"--{flag}"] = set(re.findall(r"\w+", text)) - {"Pq", "Cm"}
    assert set(documented) == set(flags)
    for flag, of_commands in documented.items():
        assert of_commands == (set() if flag == "--help" else flags[flag]), flag


def test_directories_are_the_real_ones() -> None:
    for path in (Paths.from_environment().sockets, *Paths.from_environment().known_hosts()):
        assert f"Pa {path}" in COMMAND
    for name in ("ETC", "STATE", "RUN"):
        assert f".It Ev LEGACYHOST_{name}\n" in COMMAND


def test_every_setting_is_documented() -> None:
    fields = [*dataclasses.fields(Config), *dataclasses.fields(VolumeConfig), *dataclasses.fields(ListenConfig)]
    assert set(entries(SETTINGS)) == {field.name for field in fields}
    names = {field.name for field in dataclasses.fields(AuthzConfig)} - {"rules", "account"}
    assert set(entries(AUTHORIZING)) == {*names, "credential", "host_key", "jump"}


def test_every_option_of_a_volume_is_documented() -> None:
    assert set(entries(OPTIONS)) == set(sshfs_options.TABLE.all)


def test_every_default_is_documented() -> None:
    defaults = {name: option.default for name, option in sshfs_options.TABLE.all.items() if option.default}
    texts = entries(OPTIONS)
    for name, value in {**defaults, **sshfs.SSH_DEFAULTS, **sshfs.FUSE_DEFAULTS}.items():
        text = texts[name].replace("\\:\\c\n", "").replace("\\:", "").replace("\n", " ")
        assert f"(default: {value}" in text, name


def test_every_refused_option_is_documented() -> None:
    refused = OPTIONS.partition(".Ss Refused\n")[2].partition(".Sh ")[0]
    assert set(sshfs_options.REFUSED) <= set(re.findall(r"\w+", refused))


def test_every_group_of_a_policy_is_documented() -> None:
    assert set(entries(below(POLICY, "Groups"))) == set(GROUPS)


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_of_a_rule_is_documented_with_its_default(table: str) -> None:
    texts = entries(below(POLICY, f"The table rule.{table}"))
    assert set(texts) == set(TABLES[table])
    for name, setting in TABLES[table].items():
        default = setting.default
        shown = str(default).lower() if isinstance(default, bool) else ", ".join(default) or "none"
        assert f"(default: {shown}" in texts[name].replace("\n", " "), name


def test_every_dangerous_place_is_documented() -> None:
    named = re.findall(r"/[\w./]+", POLICY.partition(".Sh BIND MOUNTS\n")[2].partition(".Sh ")[0])
    assert set(DANGEROUS) <= set(named)


def below(page: str, title: str) -> str:
    """A subsection of a page."""
    return re.split(r"^\.S[sh] ", page.partition(f".Ss {title}\n")[2], flags=re.MULTILINE)[0]
