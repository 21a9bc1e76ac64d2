"""Which names plugins and volumes may have; checked on every call, since Docker checks none (moby volume/local)."""

from __future__ import annotations

import re

from legacyhost.errors import InvalidRequest
from legacyhost.wire import printable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)
#: Bytes; a directory of that name has to be possible (NAME_MAX).
LIMIT = 255


def is_name(text: str) -> bool:
    return len(text) <= LIMIT and _NAME.fullmatch(text) is not None


def check_volume_name(name: str) -> None:
    """Raises InvalidRequest unless ``name`` can be a volume's."""
    if not is_name(name):
        raise InvalidRequest(
            f"{printable(name)!r} cannot be the name of a volume: letters, digits, '_', '.' and '-', beginning with"
            f" a letter or digit, at most {LIMIT}"
        )
