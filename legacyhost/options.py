"""How options are declared: one table serves parsing, the refusal of what is unknown, and the documentation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from legacyhost.errors import InvalidRequest
from legacyhost.wire import nearest, printable

Check = Callable[[str], str]
#: Longer than any sensible value, a key on one line included.
VALUE_LIMIT = 4096


@dataclass(frozen=True)
class Option:
    """One option of a kind of volume.

    ``check`` turns what the user gave into its normal form and raises ValueError with the end of the sentence
    "option NAME …". ``is_secret`` keeps the value out of every message and listing.
    """

    name: str
    check: Check
    help: str
    default: str = ""
    is_secret: bool = False


class Options:
    """The options a kind of volume has. Names are matched without regard to case, as ssh does (ssh_config(5))."""

    def __init__(self, options: Sequence[Option], refused: Mapping[str, str]) -> None:
        self.all = {option.name: option for option in options}
        self._by_key = {option.name.lower(): option for option in options}
        self._refused = {name.lower(): reason for name, reason in refused.items()}

    def parse(self, given: Mapping[str, str]) -> dict[str, str]:
        """The options in their normal form. Raises InvalidRequest, with one sentence that names the option."""
        result: dict[str, str] = {}
        for name, value in given.items():
            option = self._find(name)
            if option.name in result:
                raise InvalidRequest(f"option {option.name} is given twice")
            if len(value) > VALUE_LIMIT:
                raise InvalidRequest(f"the value of option {option.name} has more than {VALUE_LIMIT} characters")
            if any(c in value for c in "\0\n\r"):
                raise InvalidRequest(f"the value of option {option.name} has a line break or a NUL in it")
            if any("\ud800" <= c <= "\udfff" for c in value):
                raise InvalidRequest(f"the value of option {option.name} has half a character in it")
            try:
                result[option.name] = option.check(value)
            except ValueError as error:
                shown = "" if option.is_secret or not value else f" (it is {printable(value)!r})"
                raise InvalidRequest(f"option {option.name} {error}{shown}") from error
        return result

    def _find(self, name: str) -> Option:
        key = name.lower()
        if key in self._by_key:
            return self._by_key[key]
        if key in self._refused:
            raise InvalidRequest(f"option {printable(name)} is refused: {self._refused[key]}")
        near = nearest(key, self._by_key)
        hint = f"; did you mean {self._by_key[near].name}?" if near else ""
        raise InvalidRequest(f"unknown option {printable(name)}{hint}")


def flag(value: str) -> str:
    """A switch: "true" or "false". The bare name, as in ``-o allow_other``, means true."""
    if value.lower() in ("", "true", "yes", "1", "on"):
        return "true"
    if value.lower() in ("false", "no", "0", "off"):
        return "false"
    raise ValueError("is a switch: true or false")


def number(low: int, high: int) -> Check:
    """A whole number within bounds."""

    def check(value: str) -> str:
        if not re.fullmatch(r"[0-9]{1,10}", value) or not low <= int(value) <= high:
            raise ValueError(f"has to be a whole number from {low} to {high}")
        return str(int(value))

    return check


def octal(value: str) -> str:
    """A umask."""
    if not re.fullmatch(r"0?[0-7]{1,3}", value):
        raise ValueError("has to be an octal number such as 022")
    return value.lstrip("0").rjust(3, "0")


def one_of(*words: str) -> Check:
    def check(value: str) -> str:
        if value not in words:
            raise ValueError(f"has to be {' or '.join(words)}")
        return value

    return check


def matching(pattern: str, rule: str) -> Check:
    """A value that fits the pattern as a whole; ``rule`` ends the sentence "option NAME …"."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(rule)
        return value

    return check
