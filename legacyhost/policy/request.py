"""A request as far as Docker shows it to a plugin, and its body read as dockerd reads it.

Go's decoder takes a key in any case, of two the later one, and puts an object that comes twice together from both. So
what is read here keeps the members of an object as they were sent, and refuses what could be read in two ways.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NoReturn

from legacyhost.policy.target import Unclear, query
from legacyhost.wire import printable

#: Entries of a list or map that is looked at, and values in a body: more than any request has, and all are looked at.
MOST, MOST_VALUES = 1000, 50_000
_HALF = re.compile("[\ud800-\udfff]")


class Refusal(Exception):
    """A restricting rule does not allow it; the text is what follows the rule's name, and begins with a verb."""


@dataclass(frozen=True)
class Question:
    """What Docker asks. ``user`` is the common name of the client's certificate, "" where there is none.

    ``body`` is None where Docker has left it out: it was empty, too large or not JSON. ``nameless`` is a client that
    has a certificate without a common name, which must not pass for one without a certificate.
    """

    user: str
    method: str
    uri: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    nameless: bool = False


class Members(list[tuple[str, object]]):
    """A JSON object: its members, in order, with what may be there twice."""


class Request:
    """What a check looks at; everything is read when it is first asked for, and once."""

    def __init__(self, question: Question, path: str, raw_query: str) -> None:
        self.question = question
        self.path = path
        self.raw_query = raw_query

    @cached_property
    def is_bare(self) -> bool:
        """Whether it has certainly no body. Go deletes the header where a body comes in chunks."""
        return self.question.body in (None, b"") and self.question.headers.get("Content-Length") == "0"

    @property
    def length(self) -> int:
        """Bytes of the body, as dockerd knows before it has read it: one that comes in chunks may be as long as any."""
        told = self.question.headers.get("Content-Length")
        return len(self.question.body or b"") if told is not None else sys.maxsize

    @cached_property
    def members(self) -> Members:
        """The object in the body. Raises Refusal."""
        body = self.question.body
        if not body:
            raise Refusal(
                "needs to see the body of this request, and Docker has not shown it (it is empty, larger than Docker's"
                " limit, or not sent as application/json)"
            )
        return members(body)

    @cached_property
    def parameters(self) -> Mapping[str, Sequence[str]]:
        """The parameters of the query. Raises Refusal, also where a form in the body could have others."""
        if not self.is_bare and self.question.body is None:
            raise Refusal(
                "needs to know all parameters of this request, and its body, which Docker does not show, may have more:"
                " it has to come with Content-Length: 0"
            )
        return self.query

    @cached_property
    def query(self) -> Mapping[str, Sequence[str]]:
        """The parameters in the path's query, whatever is in the body. Raises Refusal."""
        try:
            return query(self.raw_query)
        except Unclear as error:
            raise Refusal(f"does not allow a query that {error}") from error

    def only(self, known: Mapping[str, object] | Sequence[str]) -> None:
        """Raises Refusal for a parameter that is not known and has a value, or is there twice."""
        for name, values in self.query.items():
            if name not in known and any(values):
                raise Refusal(f"does not allow the parameter {printable(name)}, which it does not know")
            if len(values) > 1 and name not in ("t", "extrahosts", "changes", "platform", "names"):
                raise Refusal(f"does not allow the parameter {printable(name)} twice")


def members(body: bytes) -> Members:
    """The one object that a body is. Raises Refusal.

    Each value but the first is behind one of these characters, and takes a hundred bytes where it has two in the body.
    """
    if sum(body.count(mark) for mark in (b",", b"[", b"{", b":")) > 2 * MOST_VALUES:
        raise Refusal(f"does not allow a body with more than {MOST_VALUES} values")
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=Members, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refusal("does not allow a body that is not plain JSON") from error
    if not isinstance(value, Members):
        raise Refusal("does not allow a body that is no JSON object")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


#: What looks at the value of a field; None for a field that can do no harm, whatever is in it.
Check = Callable[[object], None] | None


def harmless(names: str) -> dict[str, Check]:
    """Fields that nothing looks at, by their names in lower case."""
    return dict.fromkeys(names.split())


def look(value: object, where: str, checks: Mapping[str, Check]) -> None:
    """Each field of an object by its check. ``where`` is what stands before a field's name. Raises Refusal.

    The names in ``checks`` are in lower case. Go compares keys by Unicode's simple folding, in which three characters
    beyond ASCII are letters of ASCII's; ``casefold`` knows these and more.
    """
    if value is None:
        return
    if not isinstance(value, Members):
        raise Refusal(f"does not allow that {where or 'the body'} is no object")
    seen = set()
    for key, inner in value:
        name = key.casefold()
        shown = f"{where}.{printable(key)}" if where else printable(key)
        if name in seen:
            raise Refusal(f"does not allow the field {shown} twice, in whatever case")
        seen.add(name)
        if name not in checks and inner is not None:
            raise Refusal(f"does not allow the field {shown}, which it does not know")
        check = checks.get(name)
        if check is not None and inner is not None:
            check(inner)


def text(value: object, where: str) -> str:
    """A string that is one for Go too. Raises Refusal."""
    if not isinstance(value, str):
        raise Refusal(f"does not allow that {where} is no string")
    if _HALF.search(value):
        raise Refusal(f"does not allow half a character in {where}")
    return value


def texts(value: object, where: str) -> Sequence[str]:
    """A list of strings. Raises Refusal."""
    return [text(each, f"an entry of {where}") for each in items(value, where) if each is not None]


def items(value: object, where: str) -> Sequence[object]:
    if value is None:
        return ()
    if not isinstance(value, list) or isinstance(value, Members):
        raise Refusal(f"does not allow that {where} is no list")
    if len(value) > MOST:
        raise Refusal(f"does not allow more than {MOST} entries in {where}")
    return value


def pairs(value: object, where: str) -> Mapping[str, object]:
    """A map, whose keys mean what they are, without two that are the same. Raises Refusal."""
    if value is None:
        return {}
    if not isinstance(value, Members):
        raise Refusal(f"does not allow that {where} is no object")
    if len(value) > MOST:
        raise Refusal(f"does not allow more than {MOST} entries in {where}")
    found = {text(key, f"a key of {where}"): inner for key, inner in value}
    if len(found) != len(value):
        raise Refusal(f"does not allow the same key twice in {where}")
    return found
