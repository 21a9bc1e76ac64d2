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
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn import sock
from gunicorn.config import Config
from gunicorn.glogging import Logger

from legacyhost import postponed
from legacyhost.config import ListenConfig
from legacyhost.errors import ConfigError
from legacyhost.notify import Notifier, watch
from legacyhost.plugin import Host
from legacyhost.web import create_app
from legacyhost.worker import ThreadPerConnection

if TYPE_CHECKING:
    from legacyhost.network import Network

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


@dataclass(frozen=True)
class Inherited:
    """What systemd has handed over: the plugin's socket, and sockets on TCP, if engines elsewhere shall reach it."""

    descriptor: int
    path: str
    tcp: Sequence[socket.socket] = ()


class Server:
    """One plugin on one socket, the inherited one, or ``address`` for development; and on TCP, where that is wanted."""

    def __init__(self, host: Host, address: str, temporary: Path, tcp: Sequence[socket.socket] = ()) -> None:
        self._host = host
        self._tcp = tcp
        self._network: Network | None = None
        self._has_started = False
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
            self._host.finish()
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
        self._worker = worker
        if self._tcp:
            self._open_network()
        self._host.on_listen = self._listen
        self._host.on_status = lambda: self._notifier.status(self._status())
        self._host.start()
        gc.freeze()  # the libraries stay: no garbage is looked for in them
        self._has_started = True
        if self._network is not None:
            self._network.begin()
        watch(self._notifier, self._address, self._status)

    def _reload(self) -> None:
        self._host.reload()
        self._notifier.status(self._status())

    def _status(self) -> str:
        status = self._network.status if self._network is not None else ""
        return f"{self._host.status}; {status}" if status else self._host.status

    def _listen(self, wanted: ListenConfig | None) -> None:
        """What the configuration says of TCP."""
        if wanted is None and self._network is None:
            return
        network = self._open_network()
        network.configure(wanted)
        if self._has_started:
            network.begin()

    def _open_network(self) -> Network:
        if self._network is None:
            postponed.restore("ssl")
            from legacyhost.network import Network

            self._network = Network(self._host.name, lambda: self._host.current, self._worker.accept, self._tcp)
        return self._network


def inherited_sockets() -> Inherited | None:
    """The sockets systemd has handed over; None when there are none (sd_listen_fds(3)).

    Raises ConfigError when they are not exactly one listening unix socket, and any number that listen on TCP.
    """
    count = os.environ.get("LISTEN_FDS", "0") if os.environ.get("LISTEN_PID") == str(os.getpid()) else "0"
    if count == "0":
        return None
    if not count.isdecimal():
        raise ConfigError(f"systemd has handed over {count!r} sockets, which is no number")
    own, tcp = [], []
    with ExitStack() as opened:
        for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)):
            found = opened.enter_context(_listening(descriptor))
            if found.family == socket.AF_UNIX:
                own.append((descriptor, found.getsockname()))
                found.close()
            else:
                tcp.append(found)
        if len(own) != 1:
            raise ConfigError(
                f"systemd has handed over {len(own)} unix sockets; a plugin has one: one ListenStream= with a path in"
                " its unit"
            )
        ((descriptor, address),) = own
        if not isinstance(address, str):
            raise ConfigError(
                "the socket that systemd has handed over has no path: ListenStream= is to be an absolute one"
            )
        opened.pop_all()
    return Inherited(descriptor, address, tcp)


def _listening(descriptor: int) -> socket.socket:
    """What was handed over as that descriptor. Raises ConfigError unless it is something that connections come by."""
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError as error:
        raise ConfigError("systemd has handed over a socket that is not there") from error
    if not is_socket:
        raise ConfigError("what systemd has handed over is not a socket")
    found = socket.socket(fileno=os.dup(descriptor))
    is_listening = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    is_known = found.family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
    if not is_known or found.type != socket.SOCK_STREAM or not is_listening:
        found.close()
        raise ConfigError("a socket that systemd has handed over is not a listening stream socket, unix or TCP")
    return found


def serve(host: Host, path: Path | None, temporary: Path) -> None:
    """Serve until a signal ends it; ``temporary`` is a directory for gunicorn's heartbeat file.

    Raises ConfigError when there is no socket, or more than one.
    """
    inherited = inherited_sockets()
    if inherited is not None and path is not None:
        raise ConfigError("systemd has handed over a socket, so --socket cannot be given")
    if inherited is not None:
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)  # nobody else's
        Server(host, inherited.path, temporary, inherited.tcp).run(inherited.descriptor)
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
