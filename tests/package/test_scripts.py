"""The maintainer scripts on a root directory of their own; on a booted machine: test_lifecycle.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import DEBIAN, run

SYSTEM = Path("etc/systemd/system")


def script(name: str, action: str, root: Path, before: str = "true") -> str:
    """Run a script as dpkg --root does, in namespaces of its own where ``before`` may mount things."""
    command = f'{before} && exec sh "$1" "$2"'
    done = run(
        "unshare", "--map-root-user", "--mount", "sh", "-c", command, "sh", DEBIAN / name, action,
        env={"DPKG_ROOT": str(root), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with what an administrator and the plugins leave behind."""
    for name in ("etc/legacyhost/credentials/nas", "etc/legacyhost/known_hosts", "var/lib/legacyhost/sshfs/volumes.db"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    links = {
        "sockets.target.wants/legacyhost@sshfs.socket": "/usr/lib/systemd/system/legacyhost@.socket",
        "sockets.target.wants/legacyhost@foo.socket": "/lib/systemd/system/legacyhost@.socket",
        "multi-user.target.wants/legacyhost@foo.service": "/usr/lib/systemd/system/legacyhost@.service",
        "docker.service.requires/legacyhost@foo.socket": "../legacyhost@.socket",
        "volumes.socket": "/usr/lib/systemd/system/legacyhost@.socket",
        "legacyhost@masked.socket": "/dev/null",
        "multi-user.target.wants/legacyhost.target": "/usr/lib/systemd/system/legacyhost.target",
        "multi-user.target.wants/other@legacyhost.service": "/usr/lib/systemd/system/other@.service",
    }
    for name, target in links.items():
        path = tmp_path / SYSTEM / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    drop_in = tmp_path / SYSTEM / "legacyhost@sshfs.service.d/more.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\n")
    return tmp_path


def content(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}


def test_removal_disables_every_instance(root: Path) -> None:
    """Links to the templates go, whoever made them; masks, drop-ins, other units and the target's link do not."""
    before = content(root)
    assert script("prerm", "remove", root) == ""
    gone = {str(Path(name).relative_to(SYSTEM)) for name in before - content(root)}
    assert gone == {
        "sockets.target.wants/legacyhost@sshfs.socket",
        "sockets.target.wants/legacyhost@foo.socket",
        "multi-user.target.wants/legacyhost@foo.service",
        "docker.service.requires/legacyhost@foo.socket",
        "volumes.socket",
    }


@pytest.mark.parametrize("action", ["upgrade", "deconfigure", "failed-upgrade"])
def test_nothing_is_done_before_an_upgrade(root: Path, action: str) -> None:
    before = content(root)
    assert script("prerm", action, root) == ""
    assert content(root) == before


@pytest.mark.parametrize("action", ["remove", "upgrade", "abort-install", "disappear"])
def test_only_purging_deletes(root: Path, action: str) -> None:
    before = content(root)
    assert script("postrm", action, root) == ""
    assert content(root) == before


def test_purging_deletes_configuration_and_state(root: Path) -> None:
    assert script("postrm", "purge", root) == ""
    assert not (root / "etc/legacyhost").exists()
    assert not (root / "var/lib/legacyhost").exists()
    assert (root / SYSTEM).is_dir()
    assert script("postrm", "purge", root) == "", "and a second time"


@pytest.mark.parametrize("where", ["var/lib/legacyhost", "var/lib/legacyhost/sshfs/deep/er"])
@pytest.mark.parametrize("mount", ["mount --bind", "mount -t tmpfs"])
def test_purging_keeps_what_is_mounted(root: Path, where: str, mount: str) -> None:
    """A bind mount of the same file system is the case that rm --one-file-system does not see."""
    data = root / "srv/data"
    data.mkdir(parents=True)
    (data / "precious").write_text("remote data")
    (root / where).mkdir(parents=True, exist_ok=True)
    said = script("postrm", "purge", root, f"{mount} {data} {root / where}")
    assert said.startswith(f"legacyhost: {root}/var/lib/legacyhost is kept, because something is")
    assert (data / "precious").exists()
    assert (root / "var/lib/legacyhost/sshfs/volumes.db").exists()
    assert not (root / "etc/legacyhost").exists()


def test_purging_deletes_a_link_and_not_what_it_leads_to(root: Path) -> None:
    (root / "var/lib/legacyhost").rename(root / "elsewhere")
    (root / "var/lib/legacyhost").symlink_to(root / "elsewhere")
    assert script("postrm", "purge", root) == ""
    assert not (root / "var/lib/legacyhost").is_symlink()
    assert (root / "elsewhere/sshfs/volumes.db").exists()


def test_purging_a_link_into_a_mount_keeps_it(root: Path) -> None:
    """Where a directory above is a link, mountinfo shows another path."""
    (root / "var").rename(root / "real")
    (root / "var").symlink_to("real")
    data = root / "data"
    data.mkdir()
    (data / "precious").write_text("remote data")
    said = script("postrm", "purge", root, f"mount --bind {data} {root}/var/lib/legacyhost/sshfs")
    assert "is kept" in said
    assert (data / "precious").exists()


def test_purging_without_proc_keeps_everything(root: Path) -> None:
    """Nothing is known about mounts then."""
    before = content(root)
    said = script("postrm", "purge", root, "mount -t tmpfs none /proc")
    assert said.count("is kept") == 2
    assert content(root) == before
