"""The file of a credential, as it stands on the disk when it is not encrypted."""

from __future__ import annotations

import json

from fuzz.target import Target, judge, scratch
from legacyhost.credentials import Store
from legacyhost.errors import Failed, PluginError
from legacyhost.ssh import keys


def check(data: bytes) -> None:
    """What was kept, or a sentence without any of it; then the same of the key in it."""
    folder = scratch("credentials")
    path = folder / "nas"
    # Anything else is for systemd-creds, which another target would have to be made of.
    text = data if data.lstrip().startswith(b"{") else b"{" + data
    path.write_bytes(text)
    path.chmod(0o600)
    store = Store(folder)
    assert store.names() == ["nas"]
    try:
        found = store.read("nas")
    except Failed as error:
        judge(error.message, b"")
        assert "credential nas in" in error.message
        return
    finally:
        assert path.read_bytes() == text
    kept = json.loads(text)
    assert found.password is None or found.password.reveal() == kept["password"]
    assert found.key is None or found.key.reveal() == kept["key"]
    assert isinstance(found.certificate, str)
    assert isinstance(found.created, str)
    if found.key is None:
        return
    try:
        if found.certificate:
            keys.certified(found.key, found.certificate, "the certificate")
        else:
            keys.of_text(found.key)
    except PluginError as error:
        judge(error.message, b"")


TARGET = Target(
    "credentials",
    check,
    words=[
        *b'"password":~"key":~"certificate":~"created":~""~"x"~null~1~[~{~}~,~\\n~\\ud800~\\u0000~NaN'.split(b"~"),
        *b"-----BEGIN OPENSSH PRIVATE KEY-----~-----END OPENSSH PRIVATE KEY-----~\xff~\xef\xbb\xbf".split(b"~"),
        *(b"[" * 2000, b"1" * 4400, b"ssh-ed25519-cert-v01@openssh.com AAAA"),
    ],
)
