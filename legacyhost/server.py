"""gunicorn around the application: the only door to it.

One worker process, because holds and turns are shared; in it a thread for each call (worker.py), because a Mount may
wait for a remote host while everything else goes on. Each reply closes its connection: a restart then never meets a
request that came in on a connection about to be closed, which Docker would repeat without its content (moby
pkg/plugins/client.go).
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from legacyhost.errors import ConfigError
from legacyhost.notify import Notifier, watch
from legacyhost.plugin import Host
from legacyhost.web import create_app

#: Seconds a stop waits for calls in flight; the longest is a Mount with timeout=100 whose failure is explained.
GRACE = 120
FIRST_DESCRIPTOR = 3
#: Bytes (unix(7)).
LONGEST_PATH = 107
PR_SET_PDEATHSIG = 1


class _Quiet(Logger):  # type: ignore[misc]
    """gunicorn's messages by way of legacyhost.log, which has set the loggers up already."""

    def setup(self, cfg: Any) -> None:
        self.access_log.propagate = False


class _Master(Arbiter):  # type: ignore[misc]
    """gunicorn's master without what would change the number of workers or replace them while calls are at work."""

    def handle_hup(self) -> None:
        self.kill_workers(signal.SIGHUP)

    def handle_ttin(self) -> None:
        """One worker, always."""

    def handle_ttou(self) -> None:
        """One worker, always."""

    def handle_usr2(self) -> None:
        """An upgrade is a restart of the service; systemd keeps the socket."""

    def handle_winch(self) -> None:
        """Never without a worker."""

    def stop(self, graceful: bool = True) -> None:
        self.app.notifier.stopping()
        super().stop(graceful)


class Server(BaseApplication):  # type: ignore[misc]
    """One plugin on one socket: the inherited one, or ``path`` for development."""

    def __init__(self, host: Host, address: str, bind: str, temporary: Path) -> None:
        self._temporary = temporary
        self.notifier = Notifier()
        self._host = host
        self._address = address
        self._bind = bind
        super().__init__()

    def load_config(self) -> None:
        settings = {
            "bind": self._bind,
            "workers": 1,
            "worker_class": "legacyhost.worker.ThreadPerConnection",
            "backlog": 4096,  # gunicorn sets it on an inherited socket too; the kernel's own limit is below
            "timeout": 60,
            "graceful_timeout": GRACE,
            "umask": 0o077,
            "chdir": "/",
            "worker_tmp_dir": str(self._temporary),  # /tmp is read-only to the service
            "proc_name": "legacyhost",
            "logger_class": _Quiet,
            "pre_fork": _settle,
            "post_worker_init": self._start_worker,
            "control_socket_disable": True,  # gunicorn 25 and later would make a socket of its own
        }
        for name, value in settings.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Callable[..., Any]:
        self._host.start()
        app: Callable[..., Any] = create_app(lambda: self._host.current)
        return app

    def run(self) -> None:
        _Master(self).run()

    def _start_worker(self, worker: Any) -> None:
        _die_with_parent(worker.ppid)

        # In a thread: the signal arrives in the loop that accepts connections, which must not wait for a file.
        def reload(*_: object) -> None:
            threading.Thread(target=self._reload, name="reload", daemon=True).start()

        signal.signal(signal.SIGHUP, reload)
        watch(self.notifier, self._address, lambda: self._host.status)

    def _reload(self) -> None:
        self._host.reload()
        self.notifier.status(self._host.status)


def _settle(_master: Any, _worker: Any) -> None:
    """What is there now stays: where no garbage is looked for in it, the worker's memory is the master's too."""
    gc.collect()
    gc.freeze()


def _die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies: two workers must never be at work (prctl(2))."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


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
        Server(host, inherited, f"unix:{inherited}", temporary).run()
    elif path is not None:
        _refuse_if_served(path)
        Server(host, str(path.absolute()), f"unix:{path.absolute()}", temporary).run()
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
