"""What systemd is told (sd_notify(3)), and how it is known to be true: the only door to sdnotify."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

import sdnotify

from legacyhost import log

#: Seconds between two looks at the server while it is starting.
EAGER = 0.02
#: Seconds within which a healthy server answers a health check.
PATIENCE = 10.0


class Notifier:
    """Says things to systemd, or to nobody where there is no systemd."""

    def __init__(self) -> None:
        """Takes NOTIFY_SOCKET out of the environment: what is started from here has nothing to say."""
        self._systemd = sdnotify.SystemdNotifier()
        os.environ.pop("NOTIFY_SOCKET", None)
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        os.environ.pop("WATCHDOG_PID", None)
        #: Seconds between two signs of life, a third of what systemd allows.
        self.interval = int(microseconds) / 3e6 if microseconds.isdigit() else 10.0

    def ready(self, status: str) -> None:
        self._say(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        self._say(f"STATUS={text}")

    def stopping(self) -> None:
        self._systemd.notify("STOPPING=1\nSTATUS=finishing the calls in flight")

    def alive(self) -> None:
        self._systemd.notify("WATCHDOG=1")

    def _say(self, state: str) -> None:
        """sdnotify sends Latin-1, and nothing at all where that does not do; systemd takes UTF-8, and nothing else."""
        self._systemd.notify(state.encode("utf-8", "replace").decode("latin-1"))


def watch(notifier: Notifier, address: str, status: Callable[[], str]) -> None:
    """From a thread of the worker: ready once a call comes through from outside, alive as long as calls do."""

    def run() -> None:
        is_ready = False
        pause = threading.Event()
        while True:
            answer = probe(address)
            if answer == 200 and not is_ready:
                is_ready = True
                notifier.ready(status())
            elif answer is not None:
                notifier.status(status())
            else:
                log.event(log.ERROR, f"no answer from the socket {address} within {PATIENCE:g} s")
            if answer is not None:
                notifier.alive()
            pause.wait(notifier.interval if is_ready else EAGER if answer is None else 1.0)

    threading.Thread(target=run, name="watch", daemon=True).start()


def probe(address: str) -> int | None:
    """The status of a health check over the plugin's own socket; None when there is no answer."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(address)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            head = connection.recv(64).split(b" ")
    except OSError:
        return None
    return int(head[1]) if len(head) > 1 and head[1].isdigit() else None
