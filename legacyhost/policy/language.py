"""The language of a policy: from TOML to rules, with a sentence for everything that is wrong."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from legacyhost.errors import ConfigError
from legacyhost.policy.endpoints import GROUPS, Endpoint
from legacyhost.policy.limits import TABLES, Limits, Setting
from legacyhost.policy.patterns import Patterns
from legacyhost.wire import nearest, printable

NO_CERTIFICATE = "no certificate"
EVERYTHING = "everything"
#: Rules; more than anybody reads, and each is looked at for each request.
MOST_RULES = 500
_METHOD = re.compile(r"[A-Z]+")
_PATH = re.compile(r"/[^\s?#]*")


class PolicyError(ConfigError):
    """A policy that is not one: the sentence names the place in it."""


@dataclass(frozen=True)
class Named:
    """Paths that a rule names itself, with one method or with any ("")."""

    method: str
    paths: Patterns


@dataclass(frozen=True)
class Rule:
    """One rule. ``limits`` is None where it has no conditions; ``who`` is None where it is for everybody."""

    name: str
    allows: bool
    what: Sequence[str]
    who: Sequence[str] | None
    groups: frozenset[str]
    named: Sequence[Named]
    limits: Limits | None
    #: The tables as they were written, for whoever explains the rule.
    tables: Mapping[str, Mapping[str, bool | Sequence[str]]]
    names: Patterns

    def is_for(self, user: str, nameless: bool) -> bool:
        if self.who is None:
            return True
        if nameless:
            return False
        return self.names.fit(user) if user else NO_CERTIFICATE in self.who

    def covers(self, method: str, path: str, endpoint: Endpoint | None) -> bool:
        """Whether it is about such a request, whoever makes it."""
        if EVERYTHING in self.groups or (endpoint is not None and not self.groups.isdisjoint(endpoint.groups)):
            return True
        return self.names_path(method, path)

    def names_path(self, method: str, path: str) -> bool:
        return any(each.method in ("", method) and each.paths.fit(path) for each in self.named)


def read(text: str) -> Sequence[Rule]:
    """The rules of a policy file. Raises PolicyError."""
    try:
        content = tomllib.loads(text.removeprefix("\ufeff"))  # editors of other systems begin a file with that
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"the policy is not TOML: {printable(str(error), 200)}") from error
    except (ValueError, RecursionError) as error:
        raise PolicyError("the policy is not TOML: a value in it is too large or too deep") from error
    return rules(content)


def rules(content: Mapping[str, object]) -> Sequence[Rule]:
    """The rules of a table that has nothing but ``rule``. Raises PolicyError."""
    try:
        _only(content, "", ["rule"])
        given = content.get("rule")
        if not isinstance(given, list) or not given:
            raise ValueError("it has no [[rule]], so it would deny everything")
        if len(given) > MOST_RULES:
            raise ValueError(f"it has more than {MOST_RULES} rules")
        found = [_rule(number, each) for number, each in enumerate(given, 1)]
        names = [rule.name for rule in found]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two rules have the name {printable(twice)}")
        return found
    except ValueError as error:
        raise PolicyError(f"the policy is wrong: {error}") from error


def _rule(number: int, given: object) -> Rule:
    if not isinstance(given, dict):
        raise ValueError(f"rule {number} is no table: begin it with [[rule]]")
    name = given.get("name", f"rule {number}")
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > 80:
        raise ValueError(f"the name of rule {number} has to be a printable text of at most 80 characters")
    where = f"rule {number}" if name == f"rule {number}" else f"rule {number} ({name})"
    _only(given, f"{where}: ", ["name", "who", "allow", "deny", *TABLES])
    if ("allow" in given) is ("deny" in given):
        raise ValueError(f"{where} has to have either allow or deny")
    allows = "allow" in given
    what = _list(given["allow" if allows else "deny"], f"{where}: {'allow' if allows else 'deny'}")
    if not what:
        raise ValueError(f"{where} says nothing about what it {'allows' if allows else 'denies'}")
    tables = {key: _table(where, key, given[key]) for key in given if key in TABLES}
    if tables and not allows:
        raise ValueError(f"{where} denies, and so has no [rule.{next(iter(tables))}]: say what is allowed instead")
    who = _list(given["who"], f"{where}: who") if "who" in given else None
    if who is not None and not who:
        raise ValueError(f"{where} is for nobody: leave who out if it is for everybody")
    groups, named = _what(where, what, allows)
    return Rule(
        name=name,
        allows=allows,
        what=what,
        who=who,
        groups=groups,
        named=named,
        limits=Limits(tables) if tables else None,
        tables=tables,
        names=Patterns([each for each in who or () if each != NO_CERTIFICATE], flat=True),
    )


def _what(where: str, what: Sequence[str], allows: bool) -> tuple[frozenset[str], Sequence[Named]]:
    """Groups, and what is named by its path. Where a rule denies, ``*`` in a path is any number of its parts."""
    groups, named = set(), []
    for entry in what:
        method, _, path = entry.rpartition(" ")
        if entry in GROUPS:
            groups.add(entry)
        elif _PATH.fullmatch(path) and (not method or _METHOD.fullmatch(method)):
            if re.match(r"/v[0-9.]+(/|$)", path):
                raise ValueError(f"{where}: leave the version out of {printable(entry)}")
            if "//" in path or "%" in path or {".", ".."} & set(path.split("/")):
                raise ValueError(f"{where}: no request that Docker answers has a path such as {printable(entry)}")
            named.append(Named(method, Patterns([path], flat=not allows)))
        else:
            near = nearest(entry, GROUPS)
            hint = f"; did you mean {near}?" if near else f": {', '.join(GROUPS)}, or a path such as GET /info"
            raise ValueError(f"{where}: {printable(entry)} is none of the groups{hint}")
    return frozenset(groups), named


def _table(where: str, name: str, given: object) -> Mapping[str, bool | Sequence[str]]:
    if not isinstance(given, dict):
        raise ValueError(f"{where}: {name} has to be a table, [rule.{name}]")
    _only(given, f"{where}: {name}.", list(TABLES[name]))
    return {key: _value(f"{where}: {name}.{key}", TABLES[name][key], value) for key, value in given.items()}


def _value(where: str, setting: Setting, value: object) -> bool | Sequence[str]:
    if isinstance(setting.default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{where} has to be true or false")
        return value
    found = _list(value, where)
    for each in found:
        if setting.choices and each not in (*setting.choices, "*"):
            raise ValueError(f"{where}: {printable(each)} is none of {', '.join(setting.choices)}")
        if where.endswith("container.binds"):
            _bind(where, each)
    return found


def _bind(where: str, entry: str) -> None:
    path = entry.removesuffix(":ro")
    if entry == "*":
        return
    if not path.startswith("/") or {"", ".", ".."} & set(path[1:].split("/") if path != "/" else ()):
        raise ValueError(f"{where}: {printable(entry)} is no absolute path, with or without :ro behind it")
    if "*" in path or ":" in path:
        raise ValueError(
            f"{where}: a path such as {printable(entry)} cannot have * or : in it; all below it is allowed"
        )


def _list(value: object, where: str) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each.isprintable() and each for each in value):
        raise ValueError(f'{where} has to be a list of texts, such as ["…", "…"]')
    return tuple(value)


def _only(given: Mapping[str, object], prefix: str, known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            near = nearest(key, known)
            hint = f"; did you mean {near}?" if near else f" (there are: {', '.join(known)})"
            raise ValueError(f"{prefix}{printable(key)} is unknown{hint}")
