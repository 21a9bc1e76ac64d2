"""Where a bind source leads, and what a policy says of that: links, dots, mounts that nobody may touch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from legacyhost import policy
from legacyhost.policy import places
from legacyhost.policy.places import Place, Unsettled, resolve


@pytest.fixture
def srv(tmp_path: Path) -> Path:
    """A directory with links of all kinds; nothing above it is one."""
    top = Path(os.path.realpath(tmp_path))
    for name in ("ci/data", "secret", "nas/data"):
        (top / name).mkdir(parents=True)
    for name, target in {
        "ci/out": "../secret",
        "ci/abs": str(top / "secret"),
        "ci/in": "data",
        "ci/deep": "in/../out/x",
        "ci/loop": "loop",
        "ci/far": str(top / "nas/data"),
        "ci/root": "/",
        "here": "ci",
    }.items():
        (top / name).symlink_to(target)
    (top / "ci/file").touch()
    return top


@pytest.mark.parametrize(
    ("source", "leads_to"),
    [
        ("ci/data", "ci/data"),
        ("ci/out", "secret"),
        ("ci/abs/x", "secret/x"),
        ("ci/in/", "ci/data"),
        ("ci//./data", "ci/data"),
        ("ci/deep", "secret/x"),
        ("here/data", "ci/data"),
        ("ci/out/../ci/data", "ci/ci/data"),  # dockerd settles .. first, so out is never looked at
        ("ci/none/at/all", "ci/none/at/all"),
        ("ci/file/below", "ci/file/below"),
        ("../../../../../../../../../..", None),
        ("ci/root", None),
    ],
)
def test_links_are_followed_as_the_kernel_does(srv: Path, source: str, leads_to: str | None) -> None:
    """Once dots are settled as dockerd does; what is not there is what it says."""
    assert resolve(f"{srv}/{source}") == Place(str(srv / leads_to) if leads_to else "/")


@pytest.mark.parametrize("source", ["", "ci", "\\etc", "./ci", "a\0b"])
def test_what_is_no_absolute_path_leads_nowhere(source: str) -> None:
    with pytest.raises(Unsettled, match="no absolute path"):
        resolve(source)


def test_links_without_end_lead_nowhere(srv: Path) -> None:
    """Nor do names that are too long."""
    with pytest.raises(Unsettled, match="too many"):
        resolve(f"{srv}/ci/loop")
    with pytest.raises(Unsettled, match="cannot be looked at"):
        resolve("/" + "a" * 300)


def test_what_nobody_may_look_at_leads_nowhere(srv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service has no more rights than a user who owns nothing."""

    def denied(path: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("legacyhost.policy.places.os.lstat", denied)
    with pytest.raises(Unsettled, match="may not look at /"):
        resolve(str(srv))


def test_nothing_on_another_file_system_is_touched(srv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even its mountpoint: a look at a dead one never comes back. The way ends there."""
    nas = str(srv / "nas")
    looked: list[str] = []
    link = places._link

    def watched(path: str) -> str | None:
        looked.append(path)
        return link(path)

    monkeypatch.setattr(places, "_link", watched)
    for kind in ("nfs4", "fuse.sshfs", "cifs", "autofs", "9p", "something-new"):
        kinds = {nas: kind}
        for source in ("nas", "nas/data/../data", "ci/far"):
            found = resolve(f"{srv}/{source}", lambda path, kinds=kinds: kinds.get(path, ""))  # type: ignore[misc]
            assert found.mount == nas
            assert found.path == nas + ("" if source == "nas" else "/data")
    assert not [path for path in looked if places.is_within(path, nas)]
    assert resolve("/proc/self/root").mount == "/proc"
    assert resolve("/dev/shm/x") == Place("/dev/shm/x", "/dev")
    assert resolve("/a", lambda _: "nfs4") == Place("/a", "/")


def decided(binds: list[str], source: str, mode: str = "") -> policy.Decision:
    text = f'[[rule]]\nallow = ["containers"]\n[rule.container]\nbinds = {json.dumps(binds)}\n'
    host = {"Binds": [f"{source}:/x{mode}"]}
    as_mount = {"Mounts": [{"Type": "bind", "Source": source, "Target": "/x", "ReadOnly": ":ro" in mode}]}
    read = policy.load(text)
    decisions = [
        read.decide(policy.Question("", "POST", "/containers/create", {}, json.dumps({"HostConfig": each}).encode()))
        for each in (host, as_mount)
    ]
    assert "z" in mode or decisions[0].allowed is decisions[1].allowed  # a mount has no labels
    return decisions[0]


@pytest.mark.parametrize(
    ("source", "allowed", "words"),
    [
        ("ci", True, ""),
        ("ci/data/x", True, ""),
        ("ci/in", True, ""),
        ("here", True, ""),
        ("ci/out", False, "ci/out (that is "),
        ("ci/abs/x", False, "secret/x)"),
        ("ci/root", False, "(that is /)"),
        ("ci/deep", False, "secret/x)"),
        ("cia", False, "binds in [rule.container] allows"),
        ("", False, "binds in"),
    ],
)
def test_a_source_is_what_it_leads_to(srv: Path, source: str, allowed: bool, words: str) -> None:
    """As a bind and as a mount; the reason says what it is without links."""
    decision = decided([str(srv / "ci")], str(srv / source))
    assert decision.allowed is allowed
    assert not words or words in decision.reason


def test_read_only_is_read_only(srv: Path) -> None:
    """Unless another entry allows more."""
    ci = str(srv / "ci")
    assert decided([f"{ci}:ro"], ci, ":ro").allowed
    assert "labels on the host" in decided([f"{ci}:ro", f"{ci}/data"], ci, ":ro,z").reason
    assert decided([f"{ci}:ro", f"{ci}/data"], f"{ci}/data", ":ro,z").allowed
    assert "read-only" in decided([f"{ci}:ro"], ci).reason
    assert decided([f"{ci}:ro", f"{ci}/data"], f"{ci}/data").allowed
    assert not decided([f"{ci}:ro", f"{ci}/data"], ci).allowed


def test_another_file_system_has_to_be_named(srv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What contains it is not enough: where links behind it lead, nobody knows."""
    nas = str(srv / "nas")
    monkeypatch.setattr(places, "_kind", lambda path: "nfs4" if path == nas else "")
    assert "has to" not in decided([str(srv)], str(srv / "ci")).reason
    assert "lead cannot be settled" in decided([str(srv)], f"{nas}/data").reason
    assert "lead cannot be settled" in decided([f"{nas}/data"], f"{nas}/data").reason
    assert "binds in" in decided([str(srv / "ci")], nas).reason
    assert decided([nas], f"{nas}/data").allowed
    assert decided([str(srv), nas], nas).allowed
    assert decided(["*"], f"{nas}/data").allowed


@pytest.mark.parametrize(
    ("binds", "source", "allowed"),
    [
        (["/run"], "/run/docker.sock", False),
        (["/run"], "/run", False),
        (["/"], "/", False),
        (["/etc"], "/etc/legacyhost", False),
        (["/etc"], "/etc/legacyhost/policies/a.toml", False),
        (["/etc"], "/etc/hostname", True),
        (["/var/lib"], "/var/lib/docker/volumes/a/_data", False),
        (["/var/lib/docker/volumes"], "/var/lib/docker/volumes/a/_data", True),
        (["/run/docker.sock"], "/run/docker.sock", True),
        (["/run/docker.sock"], "/run/docker.sock/", True),
        (["*"], "/run/docker.sock", True),
    ],
)
def test_what_has_the_host_has_to_be_named(
    binds: list[str], source: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's socket, plugins and data, and the policy itself, are in no other directory."""
    monkeypatch.setattr(places, "_link", lambda _: None)
    monkeypatch.setattr(places, "_kind", lambda _: "")
    decision = decided(binds, source)
    assert decision.allowed is allowed
    assert allowed or "would have to name that itself" in decision.reason


def test_what_has_the_host_is_found_behind_a_link(srv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's data on another disk, where it is a link that tells."""
    (srv / "docker").symlink_to("secret")
    monkeypatch.setattr(places, "DANGEROUS", (f"{srv}/docker",))
    for source, binds, allowed in (
        ("secret/volumes", ["."], False),
        ("docker/volumes", ["."], False),
        (".", ["."], False),
        ("ci", ["."], True),
        ("secret/volumes", ["secret"], True),
    ):
        named = [str(srv if name == "." else srv / name) for name in binds]
        decision = decided(named, str(srv / source))
        assert decision.allowed is allowed, source
        assert allowed or "because of " in decision.reason


def test_a_device_is_what_it_leads_to(srv: Path) -> None:
    """A link that somebody may make is not the device it is named like."""
    text = '[[rule]]\nallow = ["containers"]\n[rule.container]\ndevices = ["/dev/null", "/dev/tty*", "c 1:3 r"]\n'
    read = policy.load(text)
    (srv / "null").symlink_to("/dev/null")
    for host, allowed in (
        ({"Devices": [{"PathOnHost": "/dev/null"}]}, True),
        ({"Devices": [{"PathOnHost": f"{srv}/null", "CgroupPermissions": "rwm"}]}, True),
        ({"Devices": [{"PathOnHost": "/dev/tty9"}]}, True),
        ({"Devices": [{"PathOnHost": "/dev/tty/../sda"}]}, False),
        ({"Devices": [{"PathOnHost": "/dev"}]}, False),
        ({"Devices": [{"PathOnHost": "null"}]}, False),
        ({"DeviceCgroupRules": ["c 1:3 r"]}, True),
        ({"DeviceCgroupRules": ["c 1:3 rwm"]}, False),
    ):
        body = json.dumps({"HostConfig": host}).encode()
        assert read.decide(policy.Question("", "POST", "/containers/create", {}, body)).allowed is allowed, host
