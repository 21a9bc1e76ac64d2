"""Certificates for tests, and a client that has one."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import WAIT

from legacyhost import pki
from legacyhost.config import ListenConfig

HOST = "localhost"


def make(directory: Path, *clients: str) -> Path:
    pki.make(directory, "foo", [HOST, "127.0.0.1"], clients or ("docker",))
    return directory


def expired(directory: Path, patch: pytest.MonkeyPatch) -> None:
    """All of its certificates are of yesterday."""
    with patch.context() as changed:
        changed.setattr(pki, "SKEW", timedelta(days=3))
        changed.setattr(pki, "CERTIFICATE", timedelta(days=-1))
        pki.renew(directory, [], pki.clients(directory))


def listen(directory: Path, address: str = "127.0.0.1:0", **more: object) -> ListenConfig:
    """The section [listen] with these certificates."""
    files = (directory / pki.CA, directory / pki.SERVER, directory / pki.SERVER_KEY)
    return ListenConfig(address, *files, **more)  # type: ignore[arg-type]


@dataclass
class Client:
    """``own``: the directory of its certificate and key; without one it shows none."""

    address: tuple[str, int]
    authority: Path
    own: Path | None = None

    def context(self) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(self.authority))
        if self.own is not None:
            made.load_cert_chain(self.own / pki.CERT, self.own / pki.KEY)
        return made

    @contextmanager
    def connected(self, name: str = HOST) -> Iterator[ssl.SSLSocket]:
        raw = socket.create_connection(self.address, WAIT)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as engines have it
        with self.context().wrap_socket(raw, server_hostname=name) as connection:
            yield connection

    def call(self, rpc: str, body: bytes = b"{}") -> tuple[int, dict[str, object]]:
        """The status and the content of the reply. Raises OSError, also where there is none."""
        with self.connected() as connection:
            connection.sendall(request(rpc, body))
            reply = b"".join(iter(lambda: connection.recv(65536), b""))
        if not reply:
            raise ConnectionResetError("no reply")
        head, _, content = reply.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(content)


def request(rpc: str, body: bytes = b"{}", *headers: str) -> bytes:
    """As engines send it over TCP."""
    lines = [f"POST /{rpc} HTTP/1.1", f"Host: {HOST}:7777", "User-Agent: Go-http-client/1.1", *headers]
    lines += [f"Content-Length: {len(body)}", "Accept: application/vnd.docker.plugins.v1.2+json"]
    return "\r\n".join([*lines, "Accept-Encoding: gzip", "", ""]).encode() + body
