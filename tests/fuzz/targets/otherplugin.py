"""The state file of the other plugin: what is made of its volumes, and why nothing is made of some."""

from __future__ import annotations

import json

from fuzz.target import Target, judge, scratch
from legacyhost.drivers.sshfs_options import TABLE
from legacyhost.errors import Failed
from legacyhost.names import is_name
from legacyhost.otherplugin import read, translate

#: Shorter ones stand in any sentence by chance.
SHORTEST_SECRET = 6


def check(data: bytes) -> None:
    """A sentence for what cannot be had; what can be is in the normal form, and has its secrets apart."""
    folder = scratch("otherplugin")
    path = folder / "sshfs-state.json"
    path.write_bytes(data)
    try:
        volumes, _ = read(path)
    except Failed as error:
        judge(error.message, data)
        assert str(path) in error.message
        return
    for name, fields in volumes.items():
        found = translate(name, fields, [folder])
        assert found.name == name
        password = _password(fields)
        shown = json.dumps(fields, ensure_ascii=False)
        for text in filter(None, (*found.notes, found.refusal)):
            judge(text, data + json.dumps(volumes, ensure_ascii=False).encode("utf-8", "replace"))
            assert len(password) < SHORTEST_SECRET or shown.count(password) != 1 or password not in text
        if found.refusal:
            assert not found.options
            continue
        assert is_name(name)
        assert TABLE.parse(found.options) == found.options
        assert found.options["create"] == "false"
        assert "password" not in found.options
        if found.password:
            assert found.password.reveal() == password


def _password(fields: object) -> str:
    values = fields.items() if isinstance(fields, dict) else ()
    return next((value for name, value in values if name.lower() == "password" and isinstance(value, str)), "")


TARGET = Target(
    "otherplugin",
    check,
    words=[
        *b'"Sshcmd":~"SSHCmd":~"Port":~"Password":~"Options":~"IdentityFile":~"IDRsa":~"OneTime":~"v":{'.split(b"~"),
        *b'["~"]~","~},~""~null~true~1~[[~NaN~\xff~\\ud800~\\n~StrictHostKeyChecking=no~cache=yes'.split(b"~"),
        *b"ProxyCommand=x~\\\\,~port=~-o~root@nas:/srv~create=true".split(b"~"),
    ],
)
