"""One name, several surfaces: what is advertised, and that each is slow or broken without the other."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import WAIT, until

from legacyhost.advertised import FILE
from legacyhost.afar import afar
from legacyhost.config import Paths
from legacyhost.errors import NotServing, PluginError
from legacyhost.plugin import Host
from legacyhost.state import FILE as RECORD
from legacyhost.web import NotServingPlugin

RULES = '[[authz.rule]]\nname = "any"\nallow = ["everything"]\n'
AUTHZ = f"[authz]\n{RULES}"
BOTH = f"[volume]\n{AUTHZ}"
PING = json.dumps({"RequestMethod": "GET", "RequestUri": "/_ping"}).encode()
NEVER = 3600.0


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path / "etc", tmp_path / "state", tmp_path / "run")
    made.etc.mkdir()
    return made


def write(paths: Paths, content: str) -> None:
    draft = paths.etc / "draft"
    draft.write_text(content)
    draft.replace(paths.etc / "foo.toml")


def started(paths: Paths, content: str, retry: float = NEVER) -> Host:
    write(paths, content)
    host = Host("foo", paths, retry=retry)
    host.start()
    return host


def advertised(host: Host) -> object:
    """As a daemon asks."""
    implements = host.current.call("Plugin.Activate", b"")["Implements"]
    host.current.activated()
    return implements


def allows(host: Host) -> object:
    return host.current.call("AuthZPlugin.AuthZReq", PING)["Allow"]


def reason(host: Host) -> str:
    answer = host.current.call("AuthZPlugin.AuthZReq", PING)
    assert answer["Allow"] is False
    return str(answer["Msg"])


def spoil_record(paths: Paths) -> Path:
    record = paths.state / "foo" / RECORD
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("garbage, but somebody's\n" * 100)
    return record


def test_what_the_configuration_has_is_advertised(paths: Paths) -> None:
    """Each section is a surface; one without volumes has no record of any."""
    host = started(paths, AUTHZ)
    assert advertised(host) == ["authz"]
    assert allows(host)
    assert host.status == f"authorizing by {paths.etc}/foo.toml"
    assert not (paths.state / "foo" / RECORD).exists()
    host = started(paths, BOTH)
    assert advertised(host) == ["VolumeDriver", "authz"]
    assert host.current.call("VolumeDriver.List", b"{}") == {"Volumes": []}
    assert host.status.startswith("serving volumes, driver sshfs, scope local; authorizing by ")


def test_volumes_may_be_broken_beside_authz(paths: Paths) -> None:
    """Both are advertised; calls of volumes have no answer, and are served as soon as the record is mended."""
    record = spoil_record(paths)
    host = started(paths, BOTH, retry=0.01)
    assert advertised(host) == ["VolumeDriver", "authz"]
    with pytest.raises(NotServing):
        host.current.call("VolumeDriver.Get", b'{"Name": "x"}')
    assert allows(host)
    assert host.status.startswith("no volumes: ")
    before = host.current
    record.unlink()
    until(lambda: host.status.startswith("serving volumes") and host.current is not before)
    assert host.current.call("VolumeDriver.List", b"{}") == {"Volumes": []}
    assert allows(host)


def test_authz_may_be_broken_beside_volumes(paths: Paths) -> None:
    """Without a policy it denies; nothing of the volumes' is held up."""
    host = started(paths, "[volume]\n[authz]\npolicy = 'none.toml'\n")
    assert advertised(host) == ["VolumeDriver", "authz"]
    assert "there is no policy" in reason(host)
    assert host.current.call("VolumeDriver.List", b"{}") == {"Volumes": []}


def test_rules_that_are_mended_are_taken_over_without_a_reload(paths: Paths) -> None:
    """Nobody may be able to: Docker denies everything."""
    host = started(paths, "[authz]\n", retry=0.01)
    assert "foo.toml" in reason(host)
    write(paths, "[authz]\npolicy = 'none.toml'\n")
    until(lambda: "none.toml" in reason(host))
    write(paths, AUTHZ)
    until(lambda: allows(host) is True)


def test_what_was_advertised_is_advertised_with_a_configuration_that_is_broken(paths: Paths) -> None:
    """Docker would not start otherwise. All is denied with the reason, volumes have no answer, until it is mended."""
    assert advertised(started(paths, BOTH)) == ["VolumeDriver", "authz"]
    kept = paths.state / "foo" / FILE
    assert kept.stat().st_mode & 0o777 == 0o600
    host = started(paths, "[authz", retry=0.01)
    assert advertised(host) == ["VolumeDriver", "authz"]
    assert "foo.toml cannot be read" in reason(host)
    assert host.status.startswith("not serving: ")
    assert "foo.toml cannot be read" in host.status
    with pytest.raises(NotServing):
        host.current.call("VolumeDriver.Get", b'{"Name": "x"}')
    write(paths, BOTH)
    until(lambda: allows(host) is True)
    assert advertised(host) == ["VolumeDriver", "authz"]
    paths.configuration("foo").unlink()
    assert "there is no" in reason(started_without(paths))


def started_without(paths: Paths) -> Host:
    host = Host("foo", paths, retry=NEVER)
    host.start()
    return host


@pytest.mark.parametrize(
    "record", [None, "", "[]", "{}", '["VolumeDriver"]', "3", "[" * 100_000, "\xff", '[3, ["authz"]]']
)
def test_without_such_a_record_the_handshake_says_what_is_wrong(paths: Paths, record: str | None) -> None:
    """As ever: an engine asks again next time."""
    if record is not None:
        (paths.state / "foo").mkdir(parents=True)
        (paths.state / "foo" / FILE).write_text(record, "latin-1")
    host = started(paths, "[authz")
    with pytest.raises(PluginError, match=r"^plugin foo is not serving: .*cannot be read"):
        advertised(host)
    with pytest.raises(NotServing):
        host.current.call("AuthZPlugin.AuthZReq", PING)


def test_a_section_that_is_gone_denies_until_docker_has_started_again(paths: Paths) -> None:
    """It still asks; then it is told that there is none, and that is remembered."""
    host = started(paths, BOTH)
    advertised(host)
    write(paths, "[volume]")
    host.reload()
    assert "foo.toml has no section for this any more" in reason(host)
    assert "foo.toml has no section for this any more" in reason(started(paths, "[volume]"))
    assert advertised(host) == ["VolumeDriver"]
    assert not (paths.state / "foo" / FILE).exists()


def test_volumes_whose_section_is_gone_have_no_answer(paths: Paths) -> None:
    """An error would make Docker forget them."""
    host = started(paths, BOTH)
    advertised(host)
    write(paths, AUTHZ)
    host.reload()
    with pytest.raises(NotServing):
        host.current.call("VolumeDriver.Get", b'{"Name": "x"}')
    assert allows(host)


def test_volumes_that_became_authorization_have_no_answer(paths: Paths) -> None:
    """Docker knows them by that name, from a time when nothing else was advertised; after a restart, too."""
    host = started(paths, "[volume]")
    write(paths, AUTHZ)
    host.reload()
    for now in (host, started(paths, AUTHZ)):
        assert advertised(now) == ["authz"]
        with pytest.raises(NotServing):
            now.current.call("VolumeDriver.Get", b'{"Name": "x"}')


def test_a_plugin_of_volumes_alone_leaves_no_record_of_that(paths: Paths) -> None:
    """Nothing has changed for it."""
    assert advertised(started(paths, "[volume]")) == ["VolumeDriver"]
    assert not (paths.state / "foo" / FILE).exists()


def test_a_record_that_cannot_be_written_keeps_nobody_from_starting(paths: Paths) -> None:
    """The handshake is more important."""
    host = started(paths, AUTHZ)
    (paths.state / "foo" / f".{FILE}.new").mkdir(parents=True)
    assert advertised(host) == ["authz"]


def test_a_reload_takes_over_one_and_keeps_the_other(paths: Paths) -> None:
    """A mistake in one section is no reason to leave the other as it was."""
    host = started(paths, BOTH)
    before = host.current
    write(paths, f"[volume]\ndriver = 'nfs'\n[authz]\n{RULES.replace('allow', 'deny')}")
    host.reload()
    assert "the rule 'any'" in reason(host)
    assert "with the old configuration: there is no driver 'nfs'" in host.status
    assert host.current is before
    write(paths, "[authz")
    host.reload()
    assert "the rule 'any'" in reason(host)
    assert "with the old configuration: " in host.status


class Pause(threading.Event):
    """Ends when the test says so; ``then`` happens once just before the attempt that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.over, self.then = threading.Event(), list[Callable[[], object]]()

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set() or not self.over.wait(WAIT)

    def clear(self) -> None:
        super().clear()
        while self.then:
            self.then.pop()()


def test_a_reload_just_before_an_attempt_is_not_taken_for_that(paths: Paths) -> None:
    """What serves is taken over anew, too, and not only what did not."""
    write(paths, "[volume]\n[authz]\npolicy = 'none.toml'\n")
    host = Host("foo", paths)
    host._is_mended = pause = Pause()
    host.start()
    write(paths, f"[volume]\nscope = 'global'\n{AUTHZ}")
    pause.then.append(host.reload)
    pause.over.set()
    until(lambda: allows(host) is True)
    until(lambda: "scope global" in host.status)


def test_whoever_shows_the_status_is_told_of_another_one(paths: Paths) -> None:
    """systemd shows what it was told last."""
    write(paths, "[authz]\n")
    host, shown = Host("foo", paths, retry=0.01), list[str]()
    host.on_status = lambda: shown.append(host.status)
    host.start()
    assert shown[-1].startswith("authorizing nothing: ")
    write(paths, AUTHZ)
    until(lambda: shown[-1] == f"authorizing by {paths.etc}/foo.toml")


@pytest.mark.parametrize(
    ("content", "not_loaded"),
    [
        (
            "[volume]",
            {"legacyhost.policy", "legacyhost.policies", "legacyhost.authorizer", "legacyhost.surfaces.authz"},
        ),
        (AUTHZ, {"legacyhost.volumes", "legacyhost.drivers", "legacyhost.state"}),
    ],
)
def test_what_a_configuration_does_not_need_is_not_loaded(paths: Paths, content: str, not_loaded: set[str]) -> None:
    """Memory, and the time of the start."""
    write(paths, content)
    program = (
        "import sys; from pathlib import Path\n"
        "from legacyhost.config import Paths; from legacyhost.plugin import Host\n"
        f"h = Host('foo', Paths(*map(Path, {[str(p) for p in (paths.etc, paths.state, paths.run)]})))\n"
        "h.start(); print('STATUS', h.status); print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    status, modules = ran.stdout.splitlines()
    assert "not serving" not in status
    assert not not_loaded & {*modules.split()}


def test_who_is_out_altogether_is_said_to_be(paths: Paths) -> None:
    """One that has volumes alone."""
    spoil_record(paths)
    host = started(paths, "[volume]")
    assert isinstance(host.current, NotServingPlugin)


@pytest.mark.parametrize(
    ("create", "allowed"),
    [
        ({"Image": "x"}, True),
        ({"Image": "x", "HostConfig": {"Binds": ["/srv/ci/x:/x"]}}, False),
        ({"Image": "x", "HostConfig": {"Binds": ["/dev/../srv/ci/x:/x"]}}, False),
        ({"Image": "x", "HostConfig": {"Mounts": [{"Type": "bind", "Source": "/srv/ci", "Target": "/x"}]}}, False),
        ({"Image": "x", "HostConfig": {"Devices": [{"PathOnHost": "/srv/ci/x"}]}}, False),
        ({"Image": "x", "HostConfig": {"Devices": [{"PathOnHost": "/dev/fuse"}]}}, True),
    ],
)
def test_where_paths_lead_on_another_host_is_not_looked_up_on_this_one(
    paths: Paths, create: object, allowed: bool
) -> None:
    """A link over there is none here; an engine that sees this host's files is asked for as ever."""
    limits = 'devices = ["/dev/fuse", "/srv/ci/x"]\nbinds = ["/srv/ci"]\nimages = ["*"]\n'
    host = started(
        paths, f'[authz]\n[[authz.rule]]\nname = "ci"\nallow = ["containers"]\n[authz.rule.container]\n{limits}'
    )
    body = base64.b64encode(json.dumps(create).encode()).decode()
    asked = {"RequestMethod": "POST", "RequestUri": "/containers/create", "RequestBody": body}
    content = json.dumps(asked | {"RequestHeaders": {"Content-Type": "application/json"}}).encode()
    assert host.current.call("AuthZPlugin.AuthZReq", content)["Allow"] is True
    answer = afar(lambda: host.current)().call("AuthZPlugin.AuthZReq", content)
    assert answer["Allow"] is allowed
    assert allowed or "this Docker is on another host than the plugin" in str(answer["Msg"])
    assert host.current.call("AuthZPlugin.AuthZReq", content)["Allow"] is True


def test_engines_elsewhere_are_remembered_too(paths: Paths) -> None:
    """Requests of theirs are denied, not left without an answer; bodies as long as Docker's are read for them."""
    host = started(paths, BOTH)
    distant = afar(lambda: host.current)()
    assert distant.call("Plugin.Activate", b"") == {"Implements": ["VolumeDriver", "authz"]}
    assert distant.body_limit("AuthZPlugin.AuthZReq") == host.current.body_limit("AuthZPlugin.AuthZReq") > 1 << 22
    assert distant.is_quiet("VolumeDriver.Get")
    distant.activated()
    assert advertised(started(paths, "[authz")) == ["VolumeDriver", "authz"]
