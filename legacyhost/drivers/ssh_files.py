"""The files ssh needs to open a host: its configuration and what stands for a secret. Root only, lost at a reboot."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from legacyhost.deadline import Deadline
from legacyhost.mounts.tools import run
from legacyhost.ssh.target import Target, default_identity_files

ASKPASS = Path(__file__).with_name("askpass.sh")
#: In front of the names of the files for a jump host.
JUMP = "jump_"
#: What its connection is made with; the one inside notices silence by itself.
_JUMP_OPTIONS = {"Compression": "no", "ConnectTimeout": "10", "ConnectionAttempts": "1"}


def write_target(
    folder: Path,
    target: Target,
    known_hosts: Mapping[str, Sequence[Path]],
    options: Mapping[str, str],
    *,
    is_passphrase: bool,
) -> tuple[Path, dict[str, str]]:
    """The configuration for ``ssh -F``, and the environment that belongs to it.

    ``known_hosts``: the files for the "target" and for its "jump" host; ``options``: of ssh_config(5), checked;
    ``is_passphrase``: the password opens a key, and no server is ever to see it. Raises OSError.
    """
    proxy: list[str] = []
    environment: dict[str, str] = {}
    if target.jump is not None:
        configuration, environment = _write(
            folder, JUMP, target.jump, known_hosts["jump"], _JUMP_OPTIONS, is_passphrase
        )
        words = ["env", *(f"{name}={value}" for name, value in environment.items()), "ssh", "-F", str(configuration)]
        # A shell reads it after ssh has put the target's name and port in place of what begins with %.
        to = shlex.quote(f"{target.jump.user}@{target.jump.host}")
        proxy = [f"ProxyCommand {shlex.join(words).replace('%', '%%')} -W '[%h]:%p' {to}"]
    configuration, own = _write(folder, "", target, known_hosts["target"], options, is_passphrase, proxy)
    return configuration, {**environment, **own}


def objection(options: Mapping[str, str], deadline: Deadline) -> str:
    """What this host's ssh has against these values of ssh_config(5), empty if nothing: which algorithms it knows."""
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    ran = run(["ssh", "-G", "-F", "none", *words, "localhost"], deadline.left())
    said = ran.stderr.strip().rpartition("\n")[2]
    return said.removeprefix("command-line line 0: ").rstrip(".") or "no reason given" if ran.returncode else ""


def write(path: Path, text: str) -> None:
    """A file only root can read, there with its mode from the first moment. Raises OSError."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    draft.replace(path)


def _write(
    folder: Path,
    prefix: str,
    target: Target,
    known_hosts: Sequence[Path],
    options: Mapping[str, str],
    is_passphrase: bool,
    proxy: Sequence[str] = (),
) -> tuple[Path, dict[str, str]]:
    environment = {}
    if target.password is not None:
        secret = folder / f"{prefix}secret"
        write(secret, target.password.reveal() + "\n")
        environment = {
            "SSH_ASKPASS": str(ASKPASS),
            "SSH_ASKPASS_REQUIRE": "force",
            "LEGACYHOST_SECRET": str(secret),
        }
    configuration = folder / f"{prefix}ssh_config"
    lines = [
        "# Made anew at each mount.",
        "Host *",
        f"Port {target.port}",
        *_login(folder, prefix, target),
        "StrictHostKeyChecking yes",
        "UserKnownHostsFile " + " ".join(_quoted(path) for path in known_hosts),
        "GlobalKnownHostsFile /dev/null",
        "UpdateHostKeys no",
        "ControlMaster no",
        "ControlPath none",
        "ClearAllForwardings yes",
        "ForwardAgent no",
        "ForwardX11 no",
        "PermitLocalCommand no",
        "EscapeChar none",
        "NumberOfPasswordPrompts 1",
        "BatchMode no" if target.password is not None else "BatchMode yes",
        *proxy,
    ]
    if is_passphrase and target.identity_files:
        # No server is ever to see it.
        lines += ["PasswordAuthentication no", "KbdInteractiveAuthentication no"]
    lines += [f"{name} {value}" for name, value in options.items()]
    write(configuration, "\n".join(lines) + "\n")
    return configuration, environment


def _login(folder: Path, prefix: str, target: Target) -> list[str]:
    """Which keys are offered: those named, those of the agent named, or else root's own; never others."""
    if target.agent:
        return [f"IdentityAgent {_quoted(target.agent)}", "IdentityFile none", "IdentitiesOnly no"]
    files: Sequence[object] = target.identity_files
    if target.key is not None:
        identity = folder / f"{prefix}identity"
        write(identity, target.key.reveal())
        if target.certificate:
            write(identity.with_name(f"{identity.name}-cert.pub"), target.certificate.strip() + "\n")
        files = [identity]
    elif not target.names_a_login:
        files = default_identity_files()
    return [
        *(f"IdentityFile {_quoted(file)}" for file in files or ("none",)),
        "IdentitiesOnly yes",
        "IdentityAgent none",
    ]


def _quoted(path: object) -> str:
    """A path for ssh_config(5), where % begins a token."""
    return '"' + str(path).replace("%", "%%") + '"'
