"""The other plugin as Docker sees it, vieux/sshfs without its mounts: what runs in its container.

It serves the volumes its state file has when it starts, and none if that is not there.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

STATE = Path("/mnt/state/sshfs-state.json")
SOCKET = Path("/run/docker/plugins/sshfs.sock")
VOLUMES = json.loads(STATE.read_text()) if STATE.exists() else {}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        status, reply = answer(self.path.rpartition(".")[2], request.get("Name", ""))
        body = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "docker"


def answer(method: str, name: str) -> tuple[int, dict[str, object]]:
    volumes = {key: {"Name": key, "Mountpoint": f"/mnt/volumes/{key}"} for key in VOLUMES}
    replies: dict[str, dict[str, object]] = {
        "Activate": {"Implements": ["VolumeDriver"]},
        "Capabilities": {"Capabilities": {"Scope": "local"}},
        "List": {"Volumes": list(volumes.values())},
    }
    if method in replies:
        return 200, replies[method]
    if method == "Get" and name in volumes:
        return 200, {"Volume": volumes[name]}
    return 500, {"Err": f"volume {name} not found"}


SOCKET.unlink(missing_ok=True)
UnixStreamServer(str(SOCKET), Handler).serve_forever()
