"""JSON as Docker and Podman send it: read field by field, so that an error names the field.

Nothing behind this module sees JSON, null or a missing key.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property

from legacyhost.errors import InvalidRequest

#: Bytes of a request's body. A Create with every option at its longest has a few kilobytes.
BODY_LIMIT = 1 << 20
_ENCODER = json.JSONEncoder(separators=(",", ":"))
LOST_REQUEST = (
    "the request arrived without its content (the repetition of a call whose first attempt was cut off);"
    " nothing was done, please try again"
)


class Fields:
    """The fields of one request. Values are checked when they are asked for."""

    def __init__(self, values: Mapping[str, object], *, is_empty: bool = False) -> None:
        self._values = values
        self.is_empty = is_empty

    def text(self, key: str) -> str:
        """A string that has to be there and not to be empty."""
        if self.is_empty:
            raise InvalidRequest(LOST_REQUEST)
        value = self.optional_text(key)
        if not value:
            raise InvalidRequest(f'the request has no "{key}"')
        return value

    def optional_text(self, key: str) -> str:
        """A string; absent and null are the empty one (Docker before 1.12 sends no ID)."""
        value = self._values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise InvalidRequest(f'"{key}" in the request is {_kind(value)}, not a string')
        return value

    def texts(self, key: str) -> dict[str, str]:
        """An object of strings; absent and null are the empty one."""
        value = self._values.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidRequest(f'"{key}" in the request is {_kind(value)}, not an object')
        for name, item in value.items():
            if not isinstance(item, str):
                raise InvalidRequest(f'"{printable(name)}" in "{key}" is {_kind(item)}, not a string')
        return dict(value)


def parse(body: bytes) -> Fields:
    """The fields of a request body.

    An empty body is what Docker sends where a call has no arguments, and also when it repeats a call whose
    connection broke (moby pkg/plugins/client.go: the reader is used up); ``null`` is Docker 1.7 to 1.9.
    """
    if not body.strip():
        return Fields({}, is_empty=True)
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the body of the request is not JSON") from error
    if value is None:
        return Fields({}, is_empty=True)
    if not isinstance(value, dict):
        raise InvalidRequest(f"the body of the request is {_kind(value)}, not an object")
    return Fields(value)


class Kept(dict[str, object]):
    """A reply that is given again and again, and not changed: it is rendered once."""

    @cached_property
    def rendered(self) -> bytes:
        return _rendered(self)


def render(value: Mapping[str, object]) -> bytes:
    """A reply body. Non-ASCII is escaped, so that no surrogate from a request can break the encoding."""
    return value.rendered if isinstance(value, Kept) else _rendered(value)


def _rendered(value: Mapping[str, object]) -> bytes:
    return _ENCODER.encode(value).encode("ascii") + b"\n"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The one of the known that is most like a word that is none of them; None where none is."""
    import difflib  # a plugin hardly ever needs it

    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def printable(text: str, limit: int = 80) -> str:
    """What somebody sent, fit for a message: one line, bounded, nothing a terminal would act on."""
    cleaned = "".join(c if c.isprintable() else "?" for c in text[:limit])
    return cleaned if len(text) <= limit else cleaned + "…"


def _kind(value: object) -> str:
    names = {bool: "a boolean", dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"}
    return names.get(type(value), "null")
