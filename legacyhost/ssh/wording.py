"""How hosts, paths and what a server says are shown to people: one line, printable, bounded."""

from __future__ import annotations

import errno
import os

_LONGEST = 160


def clean(text: str | bytes, limit: int = _LONGEST) -> str:
    """``text`` without control, format and line-breaking characters, cut to ``limit`` characters.

    For everything a server sent: a terminal and a log are no place for its escape sequences.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    shown = "".join(char if char.isprintable() else " " for char in text[: 8 * limit])
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def place(host: str, port: int) -> str:
    """``host``, or ``host:port`` where the port is not 22: what ``legacyhost trust`` takes."""
    host = clean(host)
    if port == 22:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reason(error: OSError) -> str:
    """What the operating system says about an error, in its own lower-case words."""
    if error.errno is None:
        return clean(str(error)) or "unknown error"
    return os.strerror(error.errno).lower() if error.errno in errno.errorcode else clean(str(error))
