"""gunicorn around the application: the only door to it.

One process, because holds and turns are shared: gunicorn's worker without its master, whose work is systemd's: it keeps
the socket, starts the service again when it has ended, and ends it when it does not answer (WatchdogSec=). In it is a
thread for each call (worker.py), because a Mount may wait for a remote host while everything else goes on. Each reply
closes its connection: a restart then never meets a request that came in on a connection about to be closed, which
Docker would repeat without its content (moby pkg/plugins/client.go).
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gunicorn import sock
from gunicorn.config import Config
from gunicorn.glogging import Logger

from legacyhost.errors import ConfigError
from legacyhost.notify import Notifier, watch
from legacyhost.plugin import Host
from legacyhost.web import create_app
from legacyhost.worker import ThreadPerConnection

#: Seconds a stop waits for calls in flight; the longest is a Mount with timeout=100 whose failure is explained.
GRACE = 120
FIRST_DESCRIPTOR = 3
#: Bytes (unix(7)).
LONGEST_PATH = 107
#: Of gunicorn's master: an upgrade is a restart of the service, and there is no other process.
MEANINGLESS = (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)


class _Quiet(Logger):  # type: ignore[misc]
    """gunicorn's messages by way of legacyhost.log, which has set the loggers up already."""

    def setup(self, cfg: Any) -> None:
        self.access_log.propagate = False


class Server:
    """One plugin on one socket: the inherited one, or ``path`` for development."""

    def __init__(self, host: Host, address: str, temporary: Path) -> None:
        self._host = host
        self._address = address
        self._notifier = Notifier()
        self._settings = Config()
        settings = {
            "bind": f"unix:{address}",
            "backlog": 4096,  # gunicorn sets it on an inherited socket too; the kernel's own limit is below
            "graceful_timeout": GRACE,
            "umask": 0o077,
            "worker_tmp_dir": str(temporary),  # /tmp is read-only to the service
            "post_worker_init": self._started,
        }
        for name, value in settings.items():
            self._settings.set(name, value)

    def run(self, descriptor: int | None) -> None:
        """Serve until a signal ends it: on the socket with that descriptor, or on one that is made at the address."""
        log = _Quiet(self._settings)
        listeners = sock.create_sockets(self._settings, log, [] if descriptor is None else [descriptor])
        try:
            parent, pause = os.getppid(), self._settings.timeout
            ThreadPerConnection(1, parent, listeners, self, pause, self._settings, log).init_process()
        finally:
            sock.close_sockets(listeners, unlink=descriptor is None)

    def wsgi(self) -> Callable[..., Any]:
        """What the worker asks for when it begins."""
        app: Callable[..., Any] = create_app(lambda: self._host.current)
        return app

    def body_limit(self, path: str) -> int:
        """Bytes of a request's body that are read."""
        return self._host.current.body_limit(path.lstrip("/"))

    def _started(self, worker: Any) -> None:
        """The worker has taken the signals; some mean something else here, and all do before anything is begun."""

        def stop(number: int, frame: object) -> None:
            self._notifier.stopping()
            worker.handle_exit(number, frame)

        # In a thread: the signal arrives in the loop that accepts connections, which must not wait for a file.
        def reload(*_: object) -> None:
            threading.Thread(target=self._host.reload, name="reload", daemon=True).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGHUP, reload)
        signal.signal(signal.SIGABRT, signal.SIG_DFL)  # the watchdog's: whoever does not answer shall end at once
        for number in MEANINGLESS:
            signal.signal(number, lambda *_: None)  # not SIG_IGN, which what is started from here would inherit
        self._host.on_status = lambda: self._notifier.status(self._host.status)
        self._host.start()
        gc.freeze()  # the libraries stay: no garbage is looked for in them
        watch(self._notifier, self._address, lambda: self._host.status)


def inherited_socket() -> str | None:
    """The path of the one socket systemd has handed over; None when there is none (sd_listen_fds(3)).

    Raises ConfigError when it is not exactly one listening unix socket.
    """
    count = os.environ.get("LISTEN_FDS", "0") if os.environ.get("LISTEN_PID") == str(os.getpid()) else "0"
    if count == "0":
        return None
    if count != "1":
        raise ConfigError(f"systemd has handed over {count} sockets; a plugin has one: one ListenStream= in its unit")
    try:
        is_socket = stat.S_ISSOCK(os.fstat(FIRST_DESCRIPTOR).st_mode)
    except OSError as error:
        raise ConfigError("systemd has handed over a socket that is not there") from error
    if not is_socket:
        raise ConfigError("what systemd has handed over is not a socket")
    with socket.socket(fileno=os.dup(FIRST_DESCRIPTOR)) as inherited:
        address = inherited.getsockname()
        is_listening = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if inherited.family != socket.AF_UNIX or inherited.type != socket.SOCK_STREAM or not is_listening:
            raise ConfigError("the socket that systemd has handed over is not a listening unix stream socket")
    if not isinstance(address, str):
        raise ConfigError("the socket that systemd has handed over has no path: ListenStream= is to be an absolute one")
    return address


def serve(host: Host, path: Path | None, temporary: Path) -> None:
    """Serve until a signal ends it; ``temporary`` is a directory for gunicorn's heartbeat file.

    Raises ConfigError when there is no socket, or more than one.
    """
    inherited = inherited_socket()
    if inherited is not None and path is not None:
        raise ConfigError("systemd has handed over a socket, so --socket cannot be given")
    if inherited is not None:
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)  # nobody else's
        Server(host, inherited, temporary).run(FIRST_DESCRIPTOR)
    elif path is not None:
        _refuse_if_served(path)
        Server(host, str(path.absolute()), temporary).run(None)
    else:
        raise ConfigError(
            "no socket: this is started by systemd through legacyhost@NAME.socket (systemctl enable --now"
            " legacyhost@NAME.socket); for development give --socket PATH"
        )


def _refuse_if_served(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"there is no directory {path.absolute().parent} for the socket")
    if len(os.fsencode(path.absolute())) > LONGEST_PATH:
        raise ConfigError(f"the path of a socket has at most {LONGEST_PATH} bytes, {path.absolute()} has more")
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(path))
    except OSError:
        if path.exists() and not path.is_socket():
            raise ConfigError(f"{path} exists and is not a socket") from None
        return
    raise ConfigError(f"something is serving {path} already")
