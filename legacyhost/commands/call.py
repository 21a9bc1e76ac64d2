"""``legacyhost call``: one RPC, as Docker would make it."""

from __future__ import annotations

import argparse
import json
import sys

from legacyhost.commands import Commands, ask
from legacyhost.errors import InvalidRequest, UnknownMethod
from legacyhost.wire import nearest, printable

EXAMPLES = """\
legacyhost call VolumeDriver.List
legacyhost call VolumeDriver.Get '{"Name": "data"}'
legacyhost call VolumeDriver.Create - < create.json"""


def add(commands: Commands) -> None:
    call = commands.add("call", "call a plugin as Docker does, and print the reply", EXAMPLES, _call, plugin=True)
    call.add_argument("rpc", metavar="RPC", help="what is called; VolumeDriver.List has the volumes")
    call.add_argument(
        "json", metavar="JSON", nargs="?", default="{}", help="the arguments, an object; - reads them (default: {})"
    )


def rpcs() -> list[str]:
    """The names of all RPCs that are served here."""
    from legacyhost.rpc import ACTIVATE
    from legacyhost.surfaces import authz, volume

    surfaces = (volume.SURFACE, authz.SURFACE)
    return [ACTIVATE, *(f"{surface.prefix}.{method}" for surface in surfaces for method in surface.methods)]


def _call(options: argparse.Namespace) -> int:
    arguments = _arguments(options.json)
    try:
        reply = ask(options.plugin, options.rpc, arguments)
    except UnknownMethod as error:
        near = _nearest(options.rpc)
        raise UnknownMethod(error.message + (f"; did you mean {near}?" if near else "")) from error
    print(json.dumps(reply, indent=2, ensure_ascii=False))
    return 0


def _arguments(given: str) -> dict[str, object]:
    """Raises InvalidRequest."""
    text: str | bytes = given
    what = printable(given)
    if given == "-":
        text = sys.stdin.buffer.read()
        what = "standard input"
    try:
        arguments = json.loads(text)
    except json.JSONDecodeError as error:
        why = f"{error.msg.removesuffix(' at')} at character {error.pos + 1}"
        raise InvalidRequest(f"this is not JSON: {what} ({why})") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"this is not JSON: {what}") from error
    if not isinstance(arguments, dict):
        raise InvalidRequest("the arguments of an RPC are a JSON object")
    return arguments


def _nearest(rpc: str) -> str | None:
    """The RPC that was meant, whatever its case, and without what stands before the dot too."""
    names = {key.lower(): name for name in rpcs() for key in (name, name.partition(".")[2])}
    near = names.get(nearest(rpc.lower(), names) or "")
    return near if near != rpc else None
