"""How options are declared and read, for any kind of storage."""

from __future__ import annotations

import pytest

from legacyhost.errors import InvalidRequest
from legacyhost.options import VALUE_LIMIT, Check, Option, Options, flag, matching, number, octal, one_of

SECRET = "hunter2"
TABLE = Options(
    (
        Option("port", number(1, 65535), "a port", "22"),
        Option("IdentityFile", matching(r"/.+", "has to be an absolute path"), "a file"),
        Option("read_only", flag, "a switch"),
        Option("password", matching(r"[a-z0-9]+", "has to be letters and digits"), "a secret", is_secret=True),
        Option("free", str, "anything"),
    ),
    {"ProxyCommand": "it can run a program", "F": "it can read a file"},
)


def refusal(given: dict[str, str]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        TABLE.parse(given)
    assert caught.value.message.isprintable()
    assert SECRET not in caught.value.message
    return caught.value.message


def test_values_come_out_in_their_normal_form() -> None:
    """What means the same becomes the same, so that a Create can be compared with an earlier one."""
    assert TABLE.parse({"port": "0022", "read_only": "", "IdentityFile": "/k"}) == {
        "port": "22",
        "read_only": "true",
        "IdentityFile": "/k",
    }
    assert TABLE.parse({}) == {}


@pytest.mark.parametrize("name", ["IdentityFile", "identityfile", "IDENTITYFILE", "identityFile"])
def test_names_are_matched_without_regard_to_case(name: str) -> None:
    """As in ssh_config(5); what comes out has the declared name."""
    assert TABLE.parse({name: "/k"}) == {"IdentityFile": "/k"}


def test_the_same_option_twice_is_refused() -> None:
    """Two spellings of one option are two values for it: neither is preferred in silence."""
    assert refusal({"port": "22", "Port": "23"}) == "option port is given twice"


@pytest.mark.parametrize("name", ["ProxyCommand", "proxycommand", "PROXYCOMMAND", "F", "f"])
def test_a_refused_option_says_why(name: str) -> None:
    """In any case of letters, with the reason and whatever the value."""
    assert refusal({name: "x"}).startswith(f"option {name} is refused: it can ")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("prot", "unknown option prot; did you mean port?"),
        ("identity_file", "unknown option identity_file; did you mean IdentityFile?"),
        ("passwort", "unknown option passwort; did you mean password?"),
        ("zzz", "unknown option zzz"),
        ("", "unknown option "),
        ("a\n\x1b[2Jb", "unknown option a??[2Jb"),
        ("port ", "unknown option port ; did you mean port?"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest_name(name: str, sentence: str) -> None:
    """Never ignored; the value, which may be a secret under a misspelt name, is not repeated."""
    assert refusal({name: SECRET}) == " ".join(sentence.split())


@pytest.mark.parametrize("name", ["free", "password", "IdentityFile"])
@pytest.mark.parametrize("character", ["\n", "\r", "\0"])
def test_no_value_breaks_a_line(name: str, character: str) -> None:
    """A line break or NUL would end the line of a configuration file, or the argument of a program."""
    assert refusal({name: f"/a{character}b"}) == f"the value of option {name} has a line break or a NUL in it"


@pytest.mark.parametrize("value", ["/\ud800", "\udc80", "a\udfff"])
@pytest.mark.parametrize("name", ["free", "password", "IdentityFile"])
def test_no_value_has_half_a_character(name: str, value: str) -> None:
    """JSON can carry a lone surrogate, which no file name, password or argument can be made of."""
    assert refusal({name: value}) == f"the value of option {name} has half a character in it"


def test_a_value_has_a_limit() -> None:
    """So that a record stays small; the limit itself is allowed."""
    assert TABLE.parse({"free": "x" * VALUE_LIMIT})
    assert (
        refusal({"free": "x" * (VALUE_LIMIT + 1)}) == f"the value of option free has more than {VALUE_LIMIT} characters"
    )


def test_a_wrong_value_is_shown_unless_it_is_secret() -> None:
    """The sentence names the option, the rule and what was given; of a secret never the value."""
    assert refusal({"port": "x\x1b"}) == "option port has to be a whole number from 1 to 65535 (it is 'x?')"
    assert refusal({"password": f"{SECRET}!"}) == "option password has to be letters and digits"
    assert refusal({"IdentityFile": ""}) == "option IdentityFile has to be an absolute path"


@pytest.mark.parametrize(
    ("check", "value", "normal"),
    [
        *((flag, value, "true") for value in ("", "true", "True", "yes", "1", "on", "ON")),
        *((flag, value, "false") for value in ("false", "FALSE", "no", "0", "off")),
        (number(0, 10), "0", "0"),
        (number(0, 10), "10", "10"),
        (number(0, 10), "007", "7"),
        (octal, "22", "022"),
        (octal, "022", "022"),
        (octal, "0022", "022"),
        (octal, "0", "000"),
        (octal, "777", "777"),
        (one_of("keep", "purge"), "purge", "purge"),
        (matching("[a-z]+", "x"), "abc", "abc"),
    ],
)
def test_what_a_check_accepts(check: Check, value: str, normal: str) -> None:
    """Each check gives the one normal form of what it accepts, and accepts that again."""
    assert check(value) == normal
    assert check(normal) == normal


@pytest.mark.parametrize(
    ("check", "value"),
    [
        *((flag, value) for value in ("maybe", "2", " true", "y", "ja")),
        *((number(1, 10), value) for value in ("0", "11", "-1", "+1", "1.0", "", " 1", "1_0", "٣", "²", "9" * 5000)),
        *((octal, value) for value in ("8", "", "0o22", "1777", "-1", "00022", "u=rwx")),
        *((one_of("keep", "purge"), value) for value in ("Keep", "", "keep ", "keeppurge", "keep or purge")),
        *((matching("[a-z]+", "x"), value) for value in ("", "a1", "abc\n", "Abc")),
    ],
)
def test_what_a_check_refuses(check: Check, value: str) -> None:
    """Anything else is a ValueError that ends the sentence "option NAME …", whatever alphabet it is written in."""
    with pytest.raises(ValueError, match=r"^(is|has|x)"):
        check(value)
