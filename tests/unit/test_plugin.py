"""One plugin kept up: what it serves, what it says while it cannot, and what a reload changes."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakes import Logged, until
from namespace import in_own_namespace

from legacyhost.config import Paths, VolumeConfig
from legacyhost.convergence import Convergence
from legacyhost.errors import InvalidRequest, NotServing, PluginError, StateError
from legacyhost.mounts import mountinfo
from legacyhost.parts.volume import build_volumes
from legacyhost.plugin import Host
from legacyhost.state import FILE, State, Volume, now
from legacyhost.web import NotServingPlugin

#: Longer than any test: what happens before that has been caused by something else.
NEVER = 3600.0


@dataclass(frozen=True)
class CountedPaths(Paths):
    """Knows how often the configuration has been looked for: once for each attempt to serve."""

    attempts: list[str] = field(default_factory=list)

    def configuration(self, plugin: str) -> Path:
        self.attempts.append(plugin)
        return super().configuration(plugin)


@pytest.fixture
def paths(tmp_path: Path) -> CountedPaths:
    paths = CountedPaths(tmp_path / "etc", tmp_path / "state", tmp_path / "run", tmp_path / "sockets")
    paths.etc.mkdir()
    write(paths, "[volume]")
    return paths


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """What the log has, at the level of an error or worse."""
    with Logged(logging.ERROR) as kept:
        yield kept.messages


def write(paths: Paths, content: str) -> None:
    """As an editor does it: never half a file under its name."""
    draft = paths.etc / "draft"
    draft.write_text(content)
    draft.replace(paths.etc / "foo.toml")


def ask(host: Host, rpc: str, body: bytes = b"{}") -> object:
    return host.current.call(rpc, body)


def is_serving(host: Host) -> bool:
    return not isinstance(host.current, NotServingPlugin)


def test_a_configured_plugin_serves(paths: Paths) -> None:
    """What the configuration says is advertised and answered; the status says it in words."""
    host = Host("foo", paths)
    with pytest.raises(PluginError, match="plugin foo is not serving: it is starting"):
        ask(host, "Plugin.Activate")
    host.start()
    assert host.status == "serving volumes, driver sshfs, scope local"
    assert ask(host, "Plugin.Activate") == {"Implements": ["VolumeDriver"]}
    assert ask(host, "VolumeDriver.List") == {"Volumes": []}
    assert (paths.state / "foo").stat().st_mode & 0o777 == 0o700
    assert (paths.state / "foo" / FILE).is_file()
    with pytest.raises(InvalidRequest, match=r"did you mean port\?"):
        ask(host, "VolumeDriver.Create", b'{"Name": "data", "Opts": {"prot": "22"}}')


def test_plugins_have_nothing_in_common(paths: Paths) -> None:
    """Each has its own record and its own runtime directory, by its name."""
    first = build_volumes("foo", VolumeConfig("sshfs"), paths)
    build_volumes("bar", VolumeConfig("sshfs"), paths)
    assert sorted(path.name for path in paths.state.iterdir()) == ["bar", "foo"]
    assert sorted(path.name for path in paths.run.iterdir()) == ["bar", "foo"]
    assert first.list().volumes == []


def _no_configuration(paths: Paths) -> Callable[[], object]:
    paths.configuration("foo").unlink()
    return lambda: write(paths, "[volume]")


def _wrong_configuration(paths: Paths) -> Callable[[], object]:
    write(paths, "[volume]\nscope = 'swarm'")
    return lambda: write(paths, "[volume]")


def _wrong_defaults(paths: Paths) -> Callable[[], object]:
    write(paths, "[volume.defaults]\nprot = 22")
    return lambda: write(paths, "[volume.defaults]\nport = 22")


def _unreadable_record(paths: Paths) -> Callable[[], object]:
    (paths.state / "foo").mkdir(parents=True)
    (paths.state / "foo" / FILE).write_text("garbage, but somebody's\n" * 100)
    return (paths.state / "foo" / FILE).unlink


def _no_state_directory(paths: Paths) -> Callable[[], object]:
    paths.state.write_text("in the way")
    return paths.state.unlink


def _no_runtime_directory(paths: Paths) -> Callable[[], object]:
    paths.run.write_text("in the way")
    return paths.run.unlink


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (_no_configuration, "etc/foo.toml"),
        (_wrong_configuration, "etc/foo.toml"),
        (_wrong_defaults, "volume.defaults"),
        (_unreadable_record, f"state/foo/{FILE}"),
        (_no_state_directory, "state/foo cannot be made: Not a directory"),
        (_no_runtime_directory, "run/foo"),
    ],
)
def test_what_cannot_be_read_is_told_and_not_answered(
    paths: CountedPaths, messages: list[str], spoil: Callable[[Paths], Callable[[], object]], place: str
) -> None:
    """The reason for the handshake, the status and, once, the log; nothing else is answered. Mended, it serves."""
    mend = spoil(paths)
    host = Host("foo", paths, retry=0.01)
    host.start()
    assert not is_serving(host)
    assert host.status.startswith("not serving: ")
    assert place in host.status
    with pytest.raises(PluginError, match=r"^plugin foo is not serving: ") as caught:
        ask(host, "Plugin.Activate")
    assert place in caught.value.message
    for rpc in ("VolumeDriver.Get", "VolumeDriver.List", "VolumeDriver.Create"):
        with pytest.raises(NotServing):
            ask(host, rpc, b'{"Name": "data"}')
    until(lambda: len(paths.attempts) > 5)
    mend()
    until(lambda: is_serving(host))
    assert host.status == "serving volumes, driver sshfs, scope local"
    assert [place in message for message in messages] == [True]


def test_a_reload_while_not_serving_tries_at_once(paths: Paths) -> None:
    """Whoever has mended it need not wait for the next attempt; where it is not mended, the new reason is told."""
    mend = _unreadable_record(paths)
    host = Host("foo", paths, retry=NEVER)
    host.start()
    assert FILE in host.status
    mend()
    write(paths, "[volumes]")
    host.reload()
    until(lambda: "did you mean volume?" in host.status)
    assert not is_serving(host)
    write(paths, "[volume]\nscope = 'global'")
    host.reload()
    until(lambda: is_serving(host))
    assert ask(host, "VolumeDriver.Capabilities") == {"Capabilities": {"Scope": "global"}}


def test_between_two_attempts_there_is_a_pause(paths: CountedPaths) -> None:
    """What cannot be read is not tried without end: once at the start, then after the pause or when asked."""
    write(paths, "garbage")
    host = Host("foo", paths, retry=NEVER)
    host.start()
    assert len(paths.attempts) == 1
    host.reload()
    until(lambda: len(paths.attempts) == 2)
    host.reload()
    until(lambda: len(paths.attempts) == 3)
    write(paths, "[volume]")
    host.reload()
    until(lambda: is_serving(host))
    assert len(paths.attempts) == 4


@pytest.mark.parametrize("level", ["debug", "error"])
def test_the_log_level_is_the_configured_one(paths: Paths, messages: list[str], level: str) -> None:
    """From the moment it serves."""
    write(paths, f"log_level = '{level}'\n[volume]")
    Host("foo", paths).start()
    assert logging.getLogger("legacyhost").level == getattr(logging, level.upper())


@pytest.mark.parametrize("is_systemd", [True, False])
@in_own_namespace
def test_what_a_crash_has_left_mounted_is_unmounted_at_the_start(paths: Paths, is_systemd: bool) -> None:
    """By systemd where that is the first process, by this software itself elsewhere."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/usr/sbin"], check=True)
    where = paths.run / "foo" / "mounts" / "data"
    where.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "legacyhost:foo:data:0123abcd", str(where)], check=True)
    if is_systemd:
        Path("/run/systemd/system").mkdir(parents=True)
    for name, text in (("systemctl", f"umount {where}"), ("systemd-run", "printf '\\0end'")):
        Path("/usr/sbin", name).write_text(f"#!/bin/sh\ntouch /run/asked\n{text}\n")
        Path("/usr/sbin", name).chmod(0o755)
    Host("foo", paths).start()
    until(lambda: not [mount for mount in mountinfo.read() if mount.mountpoint == str(where)])
    assert Path("/run/asked").exists() == is_systemd


def test_what_calls_come_across_reaches_who_looks_after_it(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start and when an engine has started everything is looked at; else what is asked about."""
    asked: list[tuple[str, str | None]] = []
    monkeypatch.setattr(Convergence, "doubt", lambda _, name: asked.append(("doubt", name)))
    monkeypatch.setattr(Convergence, "probe", lambda _, name: asked.append(("probe", name)))
    host = Host("foo", paths)
    host.start()
    State(paths.state / "foo").add(Volume("data", {"sshcmd": "anna@nas:/srv"}, now()))
    ask(host, "Plugin.Activate")
    host.current.activated()
    ask(host, "VolumeDriver.Unmount", b'{"Name": "data", "ID": "1"}')
    ask(host, "VolumeDriver.Get", b'{"Name": "data"}')
    assert asked == [("doubt", None), ("doubt", None), ("doubt", "data"), ("probe", "data")]


def test_a_reload_takes_over_what_has_changed(paths: Paths) -> None:
    """Scope, options and log level, from the next call on; the plugin that answers stays the same."""
    host = Host("foo", paths)
    host.start()
    before = host.current
    write(paths, "log_level = 'error'\n[volume]\nscope = 'global'\n[volume.defaults]\nsshcmd = '-x:{volume}'")
    host.reload()
    assert "with the old configuration" in host.status
    write(paths, "log_level = 'error'\n[volume]\nscope = 'global'")
    host.reload()
    assert host.current is before
    assert host.status == "serving volumes, driver sshfs, scope global"
    assert ask(host, "VolumeDriver.Capabilities") == {"Capabilities": {"Scope": "global"}}
    assert logging.getLogger("legacyhost").level == logging.ERROR
    logging.getLogger("legacyhost").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no "),
        ("[volume]\nscope = 'swarm'", "volume.scope has to be local or global"),
        ("[volume]\ndriver = 'nfs'", "there is no driver 'nfs'"),
        ("[volume.defaults]\nProxyCommand = 'x'", "ProxyCommand is refused"),
        ("garbage", "cannot be read"),
    ],
)
def test_a_broken_configuration_keeps_the_old_one(
    paths: Paths, messages: list[str], content: str | None, reason: str
) -> None:
    """A plugin that serves goes on serving; the status and the log say why nothing was taken over."""
    write(paths, "[volume]\nscope = 'global'")
    host = Host("foo", paths)
    host.start()
    write(paths, content) if content is not None else paths.configuration("foo").unlink()
    host.reload()
    assert host.status.startswith("serving foo with the old configuration: ")
    assert reason in host.status
    assert ask(host, "VolumeDriver.Capabilities") == {"Capabilities": {"Scope": "global"}}
    assert [reason in message for message in messages] == [True]
    write(paths, "[volume]")
    host.reload()
    assert host.status == "serving volumes, driver sshfs, scope local"


def test_a_record_of_another_version_is_not_served(paths: Paths) -> None:
    """build_volumes lets the state's own error through: nothing is made in its place."""
    _unreadable_record(paths)
    with pytest.raises(StateError, match=FILE):
        build_volumes("foo", VolumeConfig("sshfs"), paths)
    assert (paths.state / "foo" / FILE).read_text().startswith("garbage, but somebody's")
