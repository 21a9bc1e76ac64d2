"""An SshfsDriver as the plugin ``sshfs`` has it, with no credentials unless a test gives it some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from legacyhost.credentials import Store
from legacyhost.drivers.accounts import Accounts
from legacyhost.drivers.sshfs import SshfsDriver

NONE = Path("/nonexistent/credentials")


def sshfs_driver(
    known_hosts: Sequence[Path] = (),
    defaults: Mapping[str, str] | None = None,
    credentials: Path = NONE,
    remotes: Mapping[str, Mapping[str, str]] | None = None,
) -> SshfsDriver:
    return SshfsDriver(known_hosts, defaults or {}, Accounts(Store(credentials), "sshfs", remotes or {}))
