"""Calls a plugin over its socket, as Docker does: for the command line."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from legacyhost.errors import Failed, UnknownMethod

#: Seconds, as Docker gives a Create or Mount.
TIMEOUT = 120.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("plugin.localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(str(self._path))


def call(path: Path, rpc: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """The reply to one RPC. Raises Failed with the plugin's own message, or with why it cannot be reached.

    UnknownMethod is raised, with that message, where the plugin has no such RPC.
    """
    connection = _Connection(path)
    try:
        connection.request("POST", f"/{quote(rpc, errors='replace')}", json.dumps(arguments))
        response = connection.getresponse()
        reply = json.loads(response.read())
    except FileNotFoundError as error:
        unit = f"legacyhost@{path.stem}.socket"
        raise Failed(f"there is no socket {path}; to make it: systemctl enable --now {unit}") from error
    except PermissionError as error:
        raise Failed(f"the socket {path} is for root only; try sudo") from error
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise Failed(
            f"the plugin behind {path} gives no answer; see: systemctl status legacyhost@{path.stem}"
        ) from error
    finally:
        connection.close()
    if not isinstance(reply, dict):
        raise Failed(f"the plugin behind {path} answers with something that is no object")
    if response.status != 200:
        kind = UnknownMethod if response.status == UnknownMethod.status else Failed
        raise kind(str(reply.get("Err") or f"the plugin answered with status {response.status}"))
    return reply
