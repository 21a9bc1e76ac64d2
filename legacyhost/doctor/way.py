"""The way to a volume's directory, stage by stage: done, or the place where it stops, and what mends that."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from legacyhost.deadline import Deadline
from legacyhost.doctor import Finding, error, ok
from legacyhost.doctor.host import Host
from legacyhost.doctor.volume import OnSsh, command_in
from legacyhost.drivers import Driver
from legacyhost.drivers.sshfs_options import SSH_VALUES
from legacyhost.errors import Failed, PluginError
from legacyhost.mounts import tools
from legacyhost.ssh.attempt import Stage, traced
from legacyhost.ssh.target import Target
from legacyhost.ssh.wording import clean, place
from legacyhost.state import Volume

#: What ssh/ calls its stages, in order: a short name, and what has been reached when one is over.
STAGES = {
    "the agent": ("agent", "the agent answers"),
    "the look-up of its name": ("name", "the name has an address"),
    "the TCP connection": ("tcp", "the port takes connections"),
    "the greeting of an SSH server": ("greeting", "an SSH server answers"),
    "the key exchange": ("key exchange", "keys are exchanged"),
    "the check of its host key": ("host key", "the host key is the one that is known"),
    "the login": ("login", "the account is open"),
    "the start of SFTP": ("sftp", "SFTP is there"),
    "an SFTP request": ("directory", "the directory is there"),
}
#: Where the end of a sentence is never a server's.
OURS = ("the check of its host key", "the agent")
#: How the stage begins that leads from a jump host on.
ONWARD = "a connection from "
WHY = "the volume cannot be mounted until that is mended"
WHY_NOT_WRITTEN = "containers can read the volume, and get an error when they write"


class Way:
    """The way to one volume. ``defaults`` are the options of the plugin's configuration."""

    def __init__(
        self, host: Host, plugin: str, driver: Driver, volume: Volume, target: Target, defaults: Mapping[str, str]
    ) -> None:
        self._host = host
        self._driver = driver
        self._plugin = plugin
        self._volume = volume
        self._target = target
        options = {**defaults, **volume.options}
        self._writes = "true" not in (options.get("read_only"), options.get("ro"))

    def walk(self, deadline: Deadline) -> Iterator[Finding]:
        """The findings, in order, to the first problem."""
        problem, done = None, ""
        with traced() as stages:
            try:
                done = self._look(deadline)
            except PluginError as stopped:
                problem = stopped
        passed = stages if problem is None else stages[:-1]
        for is_at_jump, stage in self._once(passed):
            short, text = _shown(stage.name)
            detail = f": {stage.detail}" if stage.detail else ""
            what = done if problem is None and short == "directory" else f"{text}{detail}"
            yield ok(self._check(short, is_at_jump), what)
        if problem is not None:
            name = stages[-1].name if stages else "the login"
            short = _shown(name)[0]
            is_at_jump = self._target.jump is not None and not any(stage.name.startswith(ONWARD) for stage in stages)
            message = problem.message
            # Of other stages, the sentence may end in words of the server's.
            ours = command_in(message) if name in OURS or not stages else ""
            mend = ours or self._mend(short, self._target.jump if is_at_jump else None)
            why = WHY_NOT_WRITTEN if short == "directory" and " write to " in message else WHY
            yield error(self._check(short, is_at_jump), message, why, mend)
            return
        yield from self._by_ssh(deadline)

    def _by_ssh(self, deadline: Deadline) -> Iterator[Finding]:
        """The same way as a mount goes it: what came before was paramiko's, which has no part in that."""
        check, run = self._check("ssh", False), self._host.paths.run
        with TemporaryDirectory(prefix="doctor-", dir=run if run.is_dir() else None) as folder:
            command = self._driver.command(self._volume, Path("/"), Path(folder))
            account = f"{self._target.user}@{self._target.host}"
            argv = ["ssh", "-F", f"{folder}/ssh_config", "-s", account, "sftp"]
            ran = tools.run(argv, max(1.0, deadline.left()), command.variables("doctor:check"))
        if ran.returncode == 0:
            yield ok(check, "OpenSSH goes the same way")
            return
        said = clean(ran.stderr.strip().rpartition("\n")[2]) or "it says nothing"
        what = f"ssh does not take that way: {said}"
        own = sorted(self._volume.options.keys() & SSH_VALUES.keys())
        options = f"; the volume has its options {', '.join(own)}" if own else ""
        yield error(check, f"{what}{options}", WHY)

    def _look(self, deadline: Deadline) -> str:
        """What has been found at the end of the way. Raises PluginError where it stops."""
        from legacyhost.ssh.remote import Remote

        path, user, where = self._target.path, clean(self._target.user), place(self._target.host, self._target.port)
        with Remote.connect(self._target, self._host.paths.known_hosts(), deadline) as remote:
            remote.ensure_directory(path, create=False)
            space = remote.free_space(path)
            shown = clean(path) or "the home directory"
            if self._writes and space is not None and space.free_bytes == 0:
                raise Failed(f"cannot write to {shown} on {where}: no space left there")
            if self._writes and not remote.is_writable(path):
                raise Failed(f"{user} may not write to {shown} on {where}")
        can = "can be read and written" if self._writes else "can be read"
        room = "" if space is None else f", {space.free_bytes / 2**30:.1f} GiB are free"
        return f"{shown} {can}{room}"

    def _once(self, stages: Sequence[Stage]) -> list[tuple[bool, Stage]]:
        """Each stage once, the last of its kind, with whether it was at the jump host: some connect several times."""
        is_at_jump = self._target.jump is not None
        found: dict[tuple[bool, str], Stage] = {}
        for stage in stages:
            is_at_jump = is_at_jump and not stage.name.startswith(ONWARD)
            found[is_at_jump, stage.name] = stage
        return [(at_jump, stage) for (at_jump, _), stage in found.items()]

    def _check(self, short: str, is_at_jump: bool) -> str:
        return f"volume {self._volume.name}: {'jump host, ' if is_at_jump else ''}{short}"

    def _mend(self, short: str, jump: Target | None) -> str:
        """What shows or mends it, where the sentence has no command itself."""
        target = jump or self._target
        host, path = shlex.quote(target.host), self._target.path
        if short == "name":
            return f"getent hosts {host} || cat /etc/resolv.conf"
        if short == "login":
            return self._other_login(target)
        ssh = " ".join(self._ssh(target))
        if short != "directory":
            return f"{ssh} -v true"
        home = shlex.quote(path) if path else "."
        return f"{ssh} {shlex.quote(f'mkdir -p {home}; ls -ld {home}; df {home}')}"

    def _other_login(self, target: Target) -> str:
        """Other credentials for the same volume."""
        if target.credential:
            return f"legacyhost credential add --replace {shlex.quote(target.credential)}"
        if target.identity_files:
            key = shlex.quote(target.identity_files[0])
            account = shlex.quote(f"{target.user}@{target.host}")
            known = shlex.quote(str(self._host.paths.known_hosts()[0]))
            return f"ssh-copy-id -f -i {key} -p {target.port} -o UserKnownHostsFile={known} {account}"
        if self._volume.options.get("on_remove") == "purge":
            return ""  # a command that removes the volume would delete its data
        name = shlex.quote(self._volume.name)
        kept = {**self._volume.options, "credential": self._volume.name}
        options = " ".join(f"-o {shlex.quote(f'{key}={value}')}" for key, value in kept.items() if key != "password")
        return (
            f"legacyhost credential add {name} && docker volume rm {name} &&"
            f" docker volume create -d {self._plugin} {options} {name}"
        )

    def _ssh(self, target: Target) -> list[str]:
        known = self._host.paths.known_hosts()[0]
        words = ["ssh", "-p", str(target.port), "-o", f"UserKnownHostsFile={known}"]
        words += [word for file in target.identity_files for word in ("-i", file)]
        jump = target.jump
        words += ["-J", f"{jump.user}@{jump.host}:{jump.port}"] if jump else []
        return [shlex.quote(word) for word in [*words, f"{target.user}@{target.host}"]]


def _shown(stage: str) -> tuple[str, str]:
    if stage.startswith(ONWARD):
        return "onward", "the jump host leads on to it"
    return STAGES.get(stage, (stage, f"{stage} is over"))


def way(host: Host, plugin: str, driver: Driver, volume: Volume, defaults: Mapping[str, str]) -> Iterator[Finding]:
    """Goes there as a mount would."""
    if not isinstance(driver, OnSsh):
        return
    try:
        target = driver.target(volume)
    except PluginError:
        return  # said already, without the network
    deadline = Deadline.after(driver.timeout(volume.options))
    yield from Way(host, plugin, driver, volume, target, defaults).walk(deadline)
