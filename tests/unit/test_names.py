"""Which names volumes and plugins may have."""

from __future__ import annotations

import pytest

from legacyhost.errors import InvalidRequest
from legacyhost.names import check_volume_name, is_name

GOOD = ["a", "0", "data", "Data-1.2_3", "x" * 255, "a..b", "a-", "a.", "64" * 32]
BAD = [
    "",
    ".",
    "..",
    "...",
    "-a",
    ".a",
    "_a",
    "a/b",
    "/abs",
    "../../etc/x",
    "a/../b",
    "a\\b",
    "a b",
    "a\n",
    "\na",
    "a\0",
    "a:b",
    "user@host:/path",
    "é",
    "a\u0301",
    "٣",
    "x" * 256,
    "a%2fb",
    "a*",
    "a$b",
    "\ud800",
]


@pytest.mark.parametrize("name", GOOD)
def test_names_a_directory_and_a_unit_can_have(name: str) -> None:
    """Letters, digits, '_', '.' and '-', beginning with a letter or digit, up to 255 of them."""
    assert is_name(name)
    check_volume_name(name)


@pytest.mark.parametrize("name", BAD)
def test_any_other_name_is_refused_in_one_printable_line(name: str) -> None:
    """Nothing that leaves a directory, that a shell or systemd takes for more than a name, or that is not ASCII."""
    assert not is_name(name)
    with pytest.raises(InvalidRequest) as caught:
        check_volume_name(name)
    assert "cannot be the name of a volume" in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300
