"""What ``docker volume inspect`` shows of a volume's state: which states there are, since when, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from legacyhost.drivers import Connection
from legacyhost.history import Past

NOT_MOUNTED = "not mounted"
MOUNTING = "being mounted"
MOUNTED = "mounted"
#: Mounted, and the connection is away: operations wait, and fail when that has lasted too long.
RECONNECTING = "connection lost"
#: Mounted, and whoever asks waits.
SILENT = "not answering"
#: Held and not mounted: it was unmounted by hand, or its program was killed.
LOST = "lost"
#: Something else is mounted on top.
COVERED = "covered"
#: What to do about it.
HINTS = {
    RECONNECTING: "operations wait, and fail if that lasts; it is made again by itself",
    SILENT: "if that lasts: legacyhost unstick VOLUME",
    LOST: "it was unmounted by hand or its program was killed: restart the containers that have it",
    COVERED: "something else is mounted on its mountpoint: unmount that",
}


def status(state: str, past: Past, connection: Connection | None) -> Mapping[str, object]:
    """Texts, and one number; ``state`` is what mountinfo and the holds say now."""
    shown: dict[str, object] = {"state": state}
    since, error, error_at = past.since if past.state == state else "", past.error, past.error_at
    if state == MOUNTED and past.state == SILENT:
        shown["state"], since = SILENT, past.since
    if connection is not None:
        if state == MOUNTED and not connection.is_up:
            shown["state"], since = RECONNECTING, _text(connection.since)
        if connection.error_at is not None and _text(connection.error_at) > error_at:
            error, error_at = connection.error, _text(connection.error_at)
    if since:
        shown["since"] = since
    if shown["state"] in HINTS:
        shown["hint"] = HINTS[str(shown["state"])]
    if connection is not None:
        shown["reconnects"] = connection.reconnects
    if error:
        shown["last error"], shown["last error at"] = error, error_at
    return shown


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
