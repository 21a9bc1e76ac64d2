"""``legacyhost call``: one RPC, as Docker would make it."""

from __future__ import annotations

import argparse
import json

from legacyhost.commands import Commands, socket_of
from legacyhost.errors import InvalidRequest
from legacyhost.wire import printable


def add(commands: Commands) -> None:
    call = commands.add(
        "call",
        "call a plugin as Docker does",
        """legacyhost call VolumeDriver.Get '{"Name": "data"}'""",
        _call,
        plugin=True,
    )
    call.add_argument("rpc", metavar="RPC")
    call.add_argument("json", metavar="JSON", nargs="?", default="{}")


def _call(options: argparse.Namespace) -> int:
    from legacyhost.client import call

    try:
        arguments = json.loads(options.json)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"this is not JSON: {printable(options.json)}") from error
    if not isinstance(arguments, dict):
        raise InvalidRequest("the arguments of an RPC are a JSON object")
    print(json.dumps(call(socket_of(options.plugin), options.rpc, arguments), indent=2, ensure_ascii=False))
    return 0
