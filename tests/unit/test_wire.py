"""Request bodies, field by field: whatever somebody sends, the answer is a value or a sentence that names the field."""

from __future__ import annotations

import json

import pytest

from legacyhost.errors import InvalidRequest
from legacyhost.wire import LOST_REQUEST, Kept, parse, printable, render

#: A value of every JSON type, and how messages call it.
KINDS = [
    (True, "a boolean"),
    (0, "a number"),
    (1.5, "a number"),
    ("x", "a string"),
    (["x"], "a list"),
    ({"x": "y"}, "an object"),
    (None, "null"),
]


def refusal(body: bytes, key: str = "Name") -> str:
    with pytest.raises(InvalidRequest) as caught:
        parse(body).text(key)
    assert "\n" not in caught.value.message
    assert caught.value.status == 400
    return caught.value.message


@pytest.mark.parametrize(("value", "kind"), [pair for pair in KINDS if pair[1] not in ("a string", "null")])
def test_a_string_field_of_another_type_is_named(value: object, kind: str) -> None:
    """Where a string is wanted, any other type is refused, naming the field and what it is instead."""
    body = json.dumps({"Name": value}).encode()
    assert refusal(body) == f'"Name" in the request is {kind}, not a string'
    with pytest.raises(InvalidRequest, match=f'"Name" in the request is {kind}'):
        parse(body).optional_text("Name")


@pytest.mark.parametrize(("value", "kind"), [pair for pair in KINDS if pair[1] not in ("an object", "null")])
def test_an_object_field_of_another_type_is_named(value: object, kind: str) -> None:
    """Where an object of strings is wanted, any other type is refused, naming the field and what it is instead."""
    with pytest.raises(InvalidRequest, match=f'^"Opts" in the request is {kind}, not an object$'):
        parse(json.dumps({"Opts": value}).encode()).texts("Opts")


@pytest.mark.parametrize(("value", "kind"), [pair for pair in KINDS if pair[1] != "a string"])
def test_an_item_of_an_object_that_is_no_string_is_named(value: object, kind: str) -> None:
    """An item that is no string is refused, naming the item and the field; the values beside it do not matter."""
    body = json.dumps({"Opts": {"fine": "1", "port": value}}).encode()
    with pytest.raises(InvalidRequest, match=f'^"port" in "Opts" is {kind}, not a string$'):
        parse(body).texts("Opts")


@pytest.mark.parametrize(("value", "kind"), [pair for pair in KINDS if pair[1] not in ("an object", "null")])
def test_a_body_that_is_no_object_says_what_it_is(value: object, kind: str) -> None:
    """A body has to be an object; another JSON value is refused by its type."""
    assert refusal(json.dumps(value).encode()) == f"the body of the request is {kind}, not an object"


@pytest.mark.parametrize("body", [b"{}", b'{"name": "data"}', b'{"Name": null}', b'{"Name": ""}', b'{"ID": "1"}'])
def test_a_missing_field_is_named(body: bytes) -> None:
    """A string that has to be there is refused when absent, null or empty; keys are case-sensitive."""
    assert refusal(body) == 'the request has no "Name"'


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n", b"null", b" null\n"])
def test_an_empty_body_is_a_lost_request_where_a_field_is_needed(body: bytes) -> None:
    """An empty body is Docker's repetition of a broken call: never acted upon, and told so (moby client.go)."""
    assert refusal(body) == LOST_REQUEST
    fields = parse(body)
    assert fields.optional_text("ID") == ""
    assert fields.texts("Opts") == {}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"Name=data",
        b"<xml/>",
        b'{"Name": "data"',
        b'{"Name": "data"} trailing',
        b"{'Name': 'data'}",
        b"\xff\xfe\x00",
        b'{"Name": "\xff"}',
        b'{"Name": "a\nb"}',
        b"\x00" * 64,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    """Garbage, half an object, invalid UTF-8, bottomless nesting, endless numbers: one sentence, never a defect."""
    assert refusal(body) == "the body of the request is not JSON"


def test_what_docker_and_podman_send_is_read() -> None:
    """The bodies of both engines: escaped as Go does it, Opts null (Docker) or absent (Podman), unknown keys."""
    fields = parse(b'{"Name":"data","Opts":{"sshcmd":"a\\u0026b@h:\\u003cx\\u003e"},"New":[1]}\n')
    assert fields.text("Name") == "data"
    assert fields.texts("Opts") == {"sshcmd": "a&b@h:<x>"}
    assert parse(b'{"Name":"data","Opts":null}\n').texts("Opts") == {}
    assert parse(b'{"Name":"data"}').texts("Opts") == {}
    assert parse('{"Name":"é ☃"}'.encode()).text("Name") == "é ☃"


def test_texts_hands_out_a_copy() -> None:
    """Whoever changes the options it was given does not change the request."""
    fields = parse(b'{"Opts": {"a": "1"}}')
    fields.texts("Opts").clear()
    assert fields.texts("Opts") == {"a": "1"}


def test_a_lone_surrogate_is_a_value_and_never_breaks_a_reply() -> None:
    """JSON can carry half a character: it arrives, is shown as '?', and goes out escaped in valid ASCII."""
    text = parse(b'{"Name": "a\\ud800"}').text("Name")
    assert printable(text) == "a?"
    assert render({"Err": text}) == b'{"Err":"a\\ud800"}\n'


@pytest.mark.parametrize("body", [b'{"Name": "a\xed\xa0\x80"}', '{"Name": "a"}'.encode("utf-16"), b'{"Name": "\xff"}'])
def test_json_is_utf_8_and_nothing_else(body: bytes) -> None:
    """As RFC 8259 has it, and as Go, on the other side, does: no guessing of UTF-16, no surrogates in bytes."""
    with pytest.raises(InvalidRequest, match="is not JSON"):
        parse(body)


def test_the_name_of_a_bad_item_is_shown_printable() -> None:
    """Even a hostile key stays on one bounded line in the message."""
    with pytest.raises(InvalidRequest) as caught:
        parse(json.dumps({"Opts": {"\x1b[31m\n" + "x" * 500: 1}}).encode()).texts("Opts")
    assert caught.value.message.startswith('"?[31m?xxx')
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 150


def test_a_reply_is_one_compact_line() -> None:
    """Replies look like Go's: compact, with a line break at the end."""
    assert render({"Mountpoint": "/a b", "Err": ""}) == b'{"Mountpoint":"/a b","Err":""}\n'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("data", "data"),
        ("sp ace é", "sp ace é"),
        ("a\nb\r\0\x1b[2J\x7f", "a?b???[2J?"),
        ("\u2028\u202e\x85", "???"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 80 + "…"),
    ],
)
def test_printable_shows_one_bounded_line(text: str, shown: str) -> None:
    """Nothing a terminal would act on, nothing that breaks a line or turns its direction, nothing endless."""
    assert printable(text) == shown


def test_what_is_kept_is_rendered_once() -> None:
    """And looks like any other reply."""
    kept = Kept({"Volumes": [{"Name": "é"}]})
    assert render(kept) == render({"Volumes": [{"Name": "é"}]})
    assert render(kept) is render(kept)
