"""Files on a server: read whole, within bounds."""

from __future__ import annotations

import stat

from legacyhost.errors import Failed
from legacyhost.ssh.directories import octets
from legacyhost.ssh.sftp import Sftp, is_forbidden, is_missing
from legacyhost.ssh.wording import clean, reason


def read(sftp: Sftp, path: str, where: str, limit: int) -> bytes:
    """The content of a file of at most ``limit`` bytes. Raises Failed."""
    shown = f"{clean(path)} on {where}"
    try:
        mode = sftp.stat(octets(path))
        if mode is not None and not stat.S_ISREG(mode):
            raise Failed(f"{shown} is not a file")
        content = sftp.read(octets(path), limit + 1)
    except OSError as error:
        if is_missing(error):
            raise Failed(f"there is no {shown}") from error
        if is_forbidden(error):
            raise Failed(f"{shown} may not be read by the account") from error
        raise Failed(f"{shown} cannot be read: {reason(error)}") from error
    if len(content) > limit:
        raise Failed(f"{shown} has more than {limit} bytes")
    return content
