"""The record of volumes is lost while the plugin serves: it says so, and goes on by itself once there is one again."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fakes import until

from legacyhost.config import Paths
from legacyhost.errors import NotServing, PluginError
from legacyhost.plugin import Host
from legacyhost.restore import restore
from legacyhost.state import FILE, State, Volume, now
from legacyhost.web import NotServingPlugin

GET = b'{"Name": "data"}'


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A plugin that serves one volume, ``data``."""
    paths = Paths(tmp_path / "etc", tmp_path / "state", tmp_path / "run")
    paths.etc.mkdir()
    (paths.etc / "foo.toml").write_text("[volume]")
    (paths.state / "foo").mkdir(parents=True)
    state = State(paths.state / "foo")
    facts = {"host_key": "SHA256:x", "path": "/srv"}
    state.add(Volume("data", {"sshcmd": "anna@nas:/srv"}, now(), facts))
    state.close()
    host = Host("foo", paths, retry=0.05)
    host.start()
    assert is_serving(host)
    return host


def is_serving(host: Host) -> bool:
    return not isinstance(host.current, NotServingPlugin)


@pytest.mark.parametrize("harm", ["deleted", "replaced"])
@pytest.mark.parametrize("rpc", ["VolumeDriver.Get", "VolumeDriver.List"])
def test_a_lost_record_is_not_served_any_more(host: Host, tmp_path: Path, harm: str, rpc: str) -> None:
    """No answer, which Docker would take for "gone"; the handshake and the status say why, and what to do."""
    record = tmp_path / "state" / "foo" / FILE
    if harm == "deleted":
        record.unlink()
    else:
        (tmp_path / "garbage").write_bytes(b"garbage" * 1000)
        (tmp_path / "garbage").replace(record)
    with pytest.raises(NotServing):
        host.current.call(rpc, GET)
    until(lambda: "legacyhost restore --plugin foo" in host.status)
    assert not is_serving(host)
    with pytest.raises(PluginError, match=r"plugin foo is not serving: .*legacyhost restore --plugin foo"):
        host.current.call("Plugin.Activate", b"")
    restore(record.parent)
    until(lambda: is_serving(host))
    answer = host.current.call("VolumeDriver.Get", GET)["Volume"]
    assert isinstance(answer, dict)
    assert answer["Name"] == "data"


def test_a_change_notices_it_too(host: Host, tmp_path: Path) -> None:
    """A volume that cannot be recorded is an error, and from then on nothing is served until the record is back."""
    record = tmp_path / "state" / "foo" / FILE
    (tmp_path / "kept").write_bytes(b"")
    record.rename(tmp_path / "kept")
    with pytest.raises(PluginError, match="deleted or replaced"):
        host.current.call("VolumeDriver.Remove", GET)
    until(lambda: not is_serving(host))
    (tmp_path / "kept").rename(record)
    until(lambda: is_serving(host))


def test_those_who_ask_at_once_are_told_once(host: Host, tmp_path: Path) -> None:
    """Many calls find it out together: there is one attempt after another, not one for each."""
    (tmp_path / "state" / "foo" / FILE).rename(tmp_path / "kept")
    before = threading.active_count()

    def ask() -> None:
        with pytest.raises(NotServing):
            host.current.call("VolumeDriver.List", b"{}")

    askers = [threading.Thread(target=ask) for _ in range(20)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    until(lambda: threading.active_count() <= before + 1)
    (tmp_path / "kept").rename(tmp_path / "state" / "foo" / FILE)
    until(lambda: is_serving(host))
