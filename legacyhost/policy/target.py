"""What a request is about: its path as dockerd's router sees it, and its query as dockerd's handlers do.

The router (gorilla/mux, as dockerd sets it up) decodes a path once, answers one that is not clean (``//``, ``/./``,
``/../``) with a redirect before anything else happens, and takes ``/v1.41`` off. So a path that is not clean is not one
that can do anything, and is denied here; there is nothing to be guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

#: Characters. Nothing a client sends to dockerd has as many; filters and labels of a build come closest.
LONGEST = 64 * 1024
#: Of the path alone.
LONGEST_PATH = 4096
_VERSION = re.compile(r"/v[0-9.]+(?=/)")
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


class Unclear(Exception):
    """It could mean several things, or nothing; the text ends a sentence that begins with "the path" or "the query"."""


def split(uri: str) -> tuple[str, str]:
    """The path, decoded and without the version, and the query as it was sent. Raises Unclear."""
    return _split_cached(uri) if len(uri) <= 200 else _split(uri)


def _split(uri: str) -> tuple[str, str]:
    if len(uri) > LONGEST:
        raise Unclear("is too long")
    rest = uri[found.end() :] if (found := _AUTHORITY.match(uri)) else uri
    if "#" in rest:
        raise Unclear("has a # in it")
    raw, _, query = rest.partition("?")
    if len(raw) > LONGEST_PATH:
        raise Unclear("is too long")
    path = raw if raw.isascii() and "%" not in raw else decoded(raw)
    if not path.startswith("/"):
        raise Unclear("does not begin with /")
    if not path.isprintable():
        raise Unclear("has characters in it that cannot be printed")
    if "//" in path or any(part in (".", "..") for part in path.split("/")):
        raise Unclear("is not clean: it has an empty part, . or .. in it, and Docker would redirect it")
    if found := _VERSION.match(path):
        path = path[found.end() :]
    return path, query


def is_before(uri: str, *version: int) -> bool:
    """Whether a request asks for an older version of the API than that, or for one that cannot be read.

    Without a version it asks for the newest.
    """
    try:
        raw = decoded((uri[found.end() :] if (found := _AUTHORITY.match(uri)) else uri).partition("?")[0])
        asked = _VERSION.match(raw)
        return asked is not None and tuple(map(int, asked[0][2:].split("."))) < version
    except ValueError:
        return True


#: The same text means the same at all times, and most requests are few texts.
_split_cached = lru_cache(maxsize=512)(_split)


def decoded(text: str, *, plus: bool = False) -> str:
    """What percent signs stand for, once. Raises Unclear."""
    if plus:
        text = text.replace("+", " ")
    try:
        data = text.encode("utf-8")
        if data.count(b"%") != len(_ESCAPE.findall(data)):
            raise Unclear("has a % in it that is no code of a character")
        return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), data).decode("utf-8")
    except UnicodeError as error:
        raise Unclear("is not UTF-8") from error


def query(text: str) -> Mapping[str, Sequence[str]]:
    """The parameters of a query, each with its values. Raises Unclear where versions of Go differ."""
    found: dict[str, list[str]] = {}
    if ";" in text:
        raise Unclear("has a semicolon in it, which separates parameters for some Dockers and not for others")
    for piece in text.split("&"):
        if piece:
            name, _, value = piece.partition("=")
            found.setdefault(decoded(name, plus=True), []).append(decoded(value, plus=True))
    return found
