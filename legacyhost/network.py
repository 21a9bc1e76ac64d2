"""A plugin on TCP: sockets of systemd's or its own, kept open as the configuration says, in a thread of its own."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from legacyhost import log, tls
from legacyhost.afar import afar
from legacyhost.config import ListenConfig, host_and_port, is_loopback, joined
from legacyhost.errors import ConfigError
from legacyhost.gate import Gate
from legacyhost.remote import Remote, Terms
from legacyhost.web import Callee, NotServingPlugin, create_app

#: Seconds between two attempts to open what could not be opened.
RETRY = 5.0
#: Seconds between two looks while nothing is taken, and after an error.
BREATH = 0.1
#: Refusals that are told one by one in so many seconds; who sends more fills no journal.
TOLD, WINDOW = 20, 10.0


class Listener:
    """What takes connections to one socket; the worker asks it as it asks a socket."""

    def __init__(self, taken: socket.socket, terms: Terms, gate: Gate) -> None:
        self._socket, self._terms, self._gate = taken, terms, gate
        self._name = taken.getsockname()

    def fileno(self) -> int:
        return self._socket.fileno()

    def getsockname(self) -> Any:
        return self._name

    def accept(self) -> tuple[Remote, Any]:
        """Raises OSError: ConnectionAbortedError where the client has gone meanwhile."""
        client, address = self._socket.accept()
        try:
            return Remote(client, shown(address), self._terms, self._gate), address
        except OSError as error:
            client.close()
            raise ConnectionAbortedError(errno.ECONNABORTED, "the client has gone") from error


@dataclass(frozen=True)
class Door:
    """What is open: the sockets, what takes connections to them, and on which terms."""

    sockets: Sequence[socket.socket] = ()
    listeners: Sequence[Listener] = ()
    description: str = ""
    terms: Terms | None = None


@dataclass
class Refusals:
    """The journal's side of a refusal."""

    plugin: str
    _begin: float = -WINDOW
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, peer: str, why: str) -> None:
        with self._lock:
            if time.monotonic() - self._begin > WINDOW:
                if self._number > TOLD:
                    log.event(
                        log.WARNING, f"{self._number - TOLD} further clients were refused", {"PLUGIN": self.plugin}
                    )
                self._begin, self._number = time.monotonic(), 0
            self._number += 1
            if self._number > TOLD:
                return
        # Who only looks whether somebody listens does that all day.
        level = log.INFO if why == tls.GONE else log.WARNING
        log.event(level, f"the client at {peer} is refused: {why}", {"PLUGIN": self.plugin, "PEER": peer})


class Network:
    """Never raises: what cannot be opened is told, shown in ``status``, and tried again."""

    def __init__(
        self,
        name: str,
        current: Callable[[], Callee],
        accept: Callable[[Listener], None],
        inherited: Sequence[socket.socket],
    ) -> None:
        """``accept`` takes a connection that waits, as the worker does."""
        self._name, self._current, self._accept = name, current, accept
        self._inherited = inherited
        self._refusals = Refusals(name)
        self._gate = Gate()
        self._lock = threading.Lock()
        self._wanted: ListenConfig | None = None
        self._door = Door()
        #: Why it is not as the configuration wants it; empty if it is.
        self._problem = "the configuration has not been read"
        self._next = 0.0
        self._woken, self._waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for each in inherited:
            each.setblocking(False)
        self._is_begun = False

    def begin(self) -> None:
        """Take connections from now on; until then they wait. What is not open turns them away."""
        if not self._is_begun:
            self._is_begun = True
            threading.Thread(target=self._run, name="network", daemon=True).start()

    @property
    def status(self) -> str:
        """For systemd; empty where there is nothing to say."""
        open_now = self._door.description
        if not self._problem:
            return open_now
        return f"{open_now}, as before: {self._problem}" if open_now else f"not on TCP: {self._problem}"

    def configure(self, wanted: ListenConfig | None) -> None:
        """Take over what the configuration says now. What is open stays open where the new cannot be."""
        with self._lock:
            self._wanted = wanted
            self._try()
        os.write(self._waking, b".")

    def _try(self) -> None:
        """Who calls has the lock."""
        wanted, before, problem = self._wanted, self._door, ""
        try:
            if wanted is not None:
                self._door = self._open(wanted)
            else:
                self._door = Door()
                if self._inherited:
                    which = ", ".join(shown(each.getsockname()) for each in self._inherited)
                    problem = f"systemd has handed over {which}, and {self._name}.toml has no section [listen]"
        except ConfigError as error:
            problem = error.message
        self._close_all_but(self._door, before)
        if before.terms is not None and before.terms is not self._door.terms:
            before.terms.are_over.set()
        if problem and problem != self._problem:
            log.event(log.ERROR, f"plugin {self._name} is not reached over TCP as it should be: {problem}")
        if not problem and self._door.description not in ("", before.description):
            log.event(log.INFO, f"plugin {self._name} is serving {self._door.description}")
        self._problem, self._next = problem, time.monotonic() + RETRY

    def _close_all_but(self, now: Door, before: Door) -> None:
        for each in before.sockets:
            if each not in now.sockets and each not in self._inherited:
                _close(each)

    def _open(self, wanted: ListenConfig) -> Door:
        """Raises ConfigError."""
        context = None if wanted.plain else tls.context(wanted)
        sockets = self._inherited or [self._bound(wanted.address)]
        addresses = [each.getsockname() for each in sockets]
        if wanted.plain and not all(is_loopback(address[0]) for address in addresses):
            raise ConfigError(
                "listen.plain is for loopback addresses, and systemd has handed over"
                f" {', '.join(map(shown, addresses))}"
            )
        app = create_app(self._current if wanted.mounts else afar(self._current))

        def stranger(why: str) -> Any:
            return create_app(lambda: NotServingPlugin(self._name, why))

        terms = Terms(wanted, context, app, stranger, self._refusals.tell)
        listeners = [Listener(each, terms, self._gate) for each in sockets]
        how = "without TLS" if wanted.plain else "with TLS"
        return Door(sockets, listeners, f"on TCP {', '.join(map(shown, addresses))} {how}", terms)

    def _bound(self, address: str) -> socket.socket:
        if not address:
            raise ConfigError("there is no listen.address, and systemd has handed over no TCP socket")
        host, port = host_and_port(address)
        for each in self._door.sockets:
            if each.getsockname()[:2] == (host, port):
                return each
            if each.getsockname()[1] == port:
                _close(each)  # it would be in the way
                self._door = Door()
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            made = socket.create_server((host, port), family=family, backlog=socket.SOMAXCONN)
        except OSError as error:
            hint = ""
            if error.errno == errno.EACCES:
                hint = "; a port below 1024 is systemd's to open: ListenStream= in a drop-in of the socket's unit"
            raise ConfigError(f"{address} cannot be listened on: {os.strerror(error.errno or 0)}{hint}") from error
        made.setblocking(False)
        return made

    def _run(self) -> None:
        while True:
            served, unserved = self._open_now()
            for number in self._ready([*served, *unserved], RETRY if self._problem else None):
                served, unserved = self._open_now()  # it may be otherwise by now
                if number in served:
                    self._take(number)
                elif number in unserved:
                    self._turn_away(unserved[number])
            with self._lock:
                if self._problem and self._wanted is not None and time.monotonic() > self._next:
                    self._try()

    def _open_now(self) -> tuple[dict[int, Listener], dict[int, socket.socket]]:
        """By descriptor: what is served, and what is handed over and is not."""
        with self._lock:
            served = {each.fileno(): each for each in self._door.listeners}
        return served, {} if served else {each.fileno(): each for each in self._inherited}

    def _ready(self, numbers: Sequence[int], seconds: float | None) -> list[int]:
        """Which have a connection waiting; nothing else for so long, or when there is something new."""
        waiting = select.poll()
        for number in (*numbers, self._woken):
            if number >= 0:
                waiting.register(number, select.POLLIN)
        found = [number for number, _ in waiting.poll(None if seconds is None else seconds * 1000)]
        if self._woken in found:
            os.read(self._woken, 4096)
        return [number for number in found if number != self._woken]

    def _take(self, number: int) -> None:
        self._gate.wait()
        served, _ = self._open_now()  # that may have taken its time
        if number not in served:
            return
        try:
            self._accept(served[number])
        except ConnectionAbortedError:
            return
        except OSError:
            time.sleep(BREATH)  # nobody is taken while the process ends; or it has just been closed

    def _turn_away(self, inherited: socket.socket) -> None:
        try:
            client, address = inherited.accept()
        except OSError:
            time.sleep(BREATH)
            return
        client.close()
        self._refusals.tell(shown(address), self._problem)


def _close(listening: socket.socket) -> None:
    """At once: while another thread waits for connections to it, it would stay open."""
    with suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def shown(address: Any) -> str:
    """As it is written in listen.address."""
    host = str(address[0]).removeprefix("::ffff:") if "." in str(address[0]) else str(address[0])
    return joined(host, address[1])
