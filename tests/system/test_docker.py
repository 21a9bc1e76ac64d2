"""A real dockerd and the volumes of the plugin: what docker does, and what it asks for while doing it."""

from __future__ import annotations

import json
import re

import pytest

from .installed import Installed


def test_a_volume_is_created_written_by_a_container_and_removed_without_its_data(installed: Installed) -> None:
    """The first thing anybody does; removing a volume never removes remote files."""
    name = installed.name()
    installed.create(name)
    assert installed.sh(name, "echo hello >/data/file; cat /data/file").stdout == "hello\n"
    assert installed.on_remote(f"{name}/file") == "hello\n"
    assert name in installed.machine.docker("volume", "ls", "--format", "{{.Driver}} {{.Name}}").stdout
    installed.machine.docker("volume", "rm", name)
    assert installed.on_remote(f"{name}/file") == "hello\n"
    assert name not in installed.machine.docker("volume", "ls", "-q").stdout
    assert name not in installed.mounted()


def test_the_calls_of_a_run_are_the_known_ones(installed: Installed) -> None:
    """moby's own cases: one Create, one Remove, a Mount and an Unmount per container, never a Path."""
    name, mark = installed.name(), installed.mark()
    installed.create(name)
    installed.sh(name, "true")
    installed.machine.docker("volume", "rm", name)
    calls = installed.calls(mark, name)
    assert {rpc: calls[rpc] for rpc in ("Create", "Mount", "Unmount", "Remove", "Path")} == {
        "Create": 1,
        "Mount": 1,
        "Unmount": 1,
        "Remove": 1,
        "Path": 0,
    }


def test_a_listing_is_one_call(installed: Installed) -> None:
    """`docker volume ls` asks each driver once."""
    mark = installed.mark()
    installed.machine.docker("volume", "ls")
    assert installed.calls(mark)["List"] == 1


def test_volume_driver_and_options_on_the_command_line_of_run(installed: Installed) -> None:
    """--mount with volume-driver and volume-opt makes the volume on the way; so does a compose file."""
    name = installed.name()
    options = ",".join(f"volume-opt={key}={value}" for key, value in installed.options(name).items())
    mount = f"type=volume,src={name},dst=/data,volume-driver=sshfs,{options}"
    installed.machine.docker(
        "run", "--rm", "--network", "none", "--mount", mount, "busybox", "sh", "-c", "echo there >/data/file"
    )
    assert installed.on_remote(f"{name}/file") == "there\n"
    installed.machine.docker(
        *("run", "--rm", "--network", "none", "-v", f"{name}:/data", "--volume-driver", "sshfs"),
        *("busybox", "cat", "/data/file"),
    )
    installed.machine.docker("volume", "rm", name)


def test_containers_of_any_user_can_use_a_volume_without_options(installed: Installed) -> None:
    """Access is the remote account's, whoever asks: allow_other without default_permissions."""
    name = installed.name()
    installed.create(name)
    for user in ("0", "1000", "65534"):
        installed.sh(name, f"echo {user} >/data/{user} && cat /data/{user} && mkdir /data/d{user}", "-u", user)
        assert installed.on_remote(f"{name}/{user}") == f"{user}\n"


def test_the_kernel_reads_ahead_of_a_mount(installed: Installed) -> None:
    """A line with a long round trip is kept busy."""
    name = installed.name()
    installed.create(name)
    with_device = f"grep ' /run/legacyhost/sshfs/mounts/{name} ' /proc/self/mountinfo | cut -d' ' -f3"
    installed.start(name, name, "sleep 600")
    shown = installed.machine.run(f"cat /sys/class/bdi/$({with_device})/read_ahead_kb").stdout
    installed.machine.docker("rm", "-f", name)
    assert shown == "2048\n"


def test_two_containers_share_a_volume(installed: Installed) -> None:
    """One mount, held twice; it stays until the second has gone."""
    name, first, second = installed.name(), installed.name("one"), installed.name("two")
    installed.create(name)
    for container in (first, second):
        installed.start(container, name, "sleep 1000")
    installed.machine.docker("exec", first, "sh", "-c", "echo shared >/data/file")
    assert installed.machine.docker("exec", second, "cat", "/data/file").stdout == "shared\n"
    assert installed.holders(name) == 2
    installed.machine.docker("rm", "-f", first)
    assert installed.machine.docker("exec", second, "cat", "/data/file").stdout == "shared\n"
    installed.machine.docker("rm", "-f", second)
    assert name not in installed.mounted()


def test_two_volumes_on_one_remote_directory_are_two_mounts(installed: Installed) -> None:
    """Unmounting one does nothing to the other (another plugin lost data over this)."""
    one, two = installed.name(), installed.name()
    installed.create(one, "same")
    installed.create(two, "same")
    container = installed.name("holder")
    installed.start(container, one, "sleep 1000")
    installed.sh(two, "echo both >/data/file")
    installed.machine.docker("volume", "rm", two)
    assert installed.machine.docker("exec", container, "cat", "/data/file").stdout == "both\n"
    installed.machine.docker("rm", "-f", container)


def test_the_same_volume_twice_in_one_container(installed: Installed) -> None:
    """Docker mounts it once for each place, each with an ID of its own."""
    name = installed.name()
    installed.create(name)
    installed.sh(name, "echo x >/data/file; cat /other/file", "-v", f"{name}:/other")
    assert name not in installed.mounted()


def test_docker_cp_does_not_unmount_under_a_running_container(installed: Installed) -> None:
    """`docker cp` repeats the mount ID of the running container (moby#34665): counts, not sets."""
    name, container = installed.name(), installed.name("copied")
    installed.create(name)
    installed.start(container, name, "echo x >/data/file; sleep 1000")
    installed.machine.wait_for(["cat", f"{installed.remote.home}/{name}/file"])
    mark = installed.mark()
    installed.machine.docker("cp", f"{container}:/data/file", "/root/copied")
    assert installed.machine.read("/root/copied") == "x\n"
    assert installed.calls(mark, name)["Unmount"] == 1
    assert installed.machine.docker("exec", container, "cat", "/data/file").stdout == "x\n"
    installed.machine.docker("rm", "-f", container)
    assert name not in installed.mounted()


def test_copy_up_where_the_remote_account_may_chown(installed: Installed) -> None:
    """Docker fills an empty volume with the image's directory, chown included, under an ID of its own."""
    machine = installed.machine
    machine.import_image("filled", {"data/from-image": "content\n"})
    root = machine.ssh_server(port=2223, user="root")
    machine.run(["legacyhost", "trust", "127.0.0.1:2223", "--fingerprint", root.fingerprint])
    name = installed.name()
    words = ["-o", f"sshcmd=root@127.0.0.1:/srv/{name}", "-o", "port=2223", "-o", f"IdentityFile={root.key}"]
    machine.docker("volume", "create", "-d", "sshfs", *words, name)
    shown = machine.docker(
        "run", "--rm", "--network", "none", "-v", f"{name}:/data", "filled", "cat", "/data/from-image"
    )
    assert shown.stdout == "content\n"
    assert machine.read(f"/srv/{name}/from-image") == "content\n"
    assert name not in installed.mounted()


def test_copy_up_where_a_refused_chown_is_an_error(installed: Installed) -> None:
    """Docker says so and leaves no mount behind; with nocopy the volume works."""
    installed.machine.import_image("filled", {"data/from-image": "content\n"})
    name = installed.name()
    installed.create(name, chown="strict")
    words = ["run", "--rm", "--network", "none", "-v"]
    failed = installed.machine.docker(*words, f"{name}:/data", "filled", "ls", "/data", check=False)
    assert failed.returncode != 0
    assert name not in installed.mounted()
    installed.machine.docker(*words, f"{name}:/data:nocopy", "filled", "sh", "-c", "echo x >/data/file")
    assert installed.on_remote(f"{name}/file") == "x\n"


def test_a_read_only_volume(installed: Installed) -> None:
    """read_only, and its older name ro, are enforced for root too."""
    for option in ("read_only", "ro"):
        name = installed.name()
        installed.create(name, **{option: "true"})
        failed = installed.sh(name, "echo x >/data/file", check=False)
        assert "Read-only file system" in failed.stderr


def test_ownership_options_are_what_containers_see(installed: Installed) -> None:
    """uid, gid and umask say what files look like."""
    name = installed.name()
    installed.create(name, uid="1234", gid="2345", umask="077")
    assert installed.sh(name, "touch /data/f; stat -c '%u %g %a' /data/f").stdout == "1234 2345 700\n"


def test_volumes_from_another_container(installed: Installed) -> None:
    """moby V4: the second container's mount keeps the volume when the first is gone."""
    name, first = installed.name(), installed.name("first")
    installed.create(name)
    mark = installed.mark()
    installed.start(first, name, "sleep 1000")
    words = ["run", "-d", "--network", "none", "--volumes-from", first, "--name", f"{first}-b"]
    installed.machine.docker(*words, "busybox", "sleep", "1000")
    installed.machine.docker("rm", "-fv", first)
    installed.machine.docker("exec", f"{first}-b", "sh", "-c", "echo x >/data/file")
    installed.machine.docker("rm", "-fv", f"{first}-b")
    calls = installed.calls(mark, name)
    assert (calls["Mount"], calls["Unmount"], calls["Remove"]) == (2, 2, 0)
    assert installed.on_remote(f"{name}/file") == "x\n"


def test_a_volume_in_use_is_not_removed(installed: Installed) -> None:
    """Docker itself refuses; the plugin is not even asked."""
    name, container = installed.name(), installed.name("user")
    installed.create(name)
    installed.start(container, name, "sleep 1000")
    mark = installed.mark()
    refused = installed.machine.docker("volume", "rm", name, check=False)
    assert "in use" in refused.stderr
    assert installed.calls(mark, name)["Remove"] == 0
    installed.machine.docker("rm", "-f", container)


def test_a_failed_start_leaves_no_mount(installed: Installed) -> None:
    """A command that is not there: Docker mounts and unmounts."""
    name = installed.name()
    installed.create(name)
    words = ["run", "--rm", "--network", "none", "-v", f"{name}:/data"]
    assert installed.machine.docker(*words, "busybox", "/nothing", check=False).returncode != 0
    installed.machine.wait_for(lambda: name not in installed.mounted())


def test_inspect_shows_what_the_plugin_knows(installed: Installed) -> None:
    """Scope, a creation time, the remote, the host key, the state; a mountpoint while mounted."""
    name, container = installed.name(), installed.name("shown")
    installed.create(name)
    shown = installed.inspect(name)
    assert str(shown["Scope"]) == "local"
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(shown["CreatedAt"]))
    status = shown["Status"]
    assert status["state"] == "not mounted"
    assert f"alice@127.0.0.1:{name}" in str(status["remote"])
    assert status["host key"] == installed.remote.fingerprint
    installed.start(container, name, "sleep 1000")
    shown = installed.inspect(name)
    assert shown["Status"]["state"] == "mounted"
    assert str(shown["Mountpoint"]) == f"/run/legacyhost/sshfs/mounts/{name}"
    installed.machine.docker("rm", "-f", container)


def test_an_unknown_volume_is_asked_for_once(installed: Installed) -> None:
    """moby V10: one Get, and the user reads "no such volume"."""
    mark = installed.mark()
    failed = installed.machine.docker("volume", "inspect", "nothing-of-that-name", check=False)
    assert "no such volume" in failed.stderr.lower()
    assert installed.calls(mark, "nothing-of-that-name") == {"Get": 1}


def test_a_name_belongs_to_one_driver(installed: Installed) -> None:
    """moby V1: the same name under another driver is refused while the volume exists."""
    name = installed.name()
    installed.create(name)
    failed = installed.machine.docker("volume", "create", "-d", "local", name, check=False)
    assert "must be unique" in failed.stderr
    installed.create(name)
    installed.machine.docker("volume", "rm", name)
    installed.machine.docker("volume", "create", "-d", "local", name)
    installed.machine.docker("volume", "rm", name)


def test_a_volume_removed_behind_dockers_back_can_be_made_again(installed: Installed) -> None:
    """moby V16: out-of-band removal, then the same name with other options."""
    name = installed.name()
    installed.create(name)
    installed.machine.run(["legacyhost", "call", "VolumeDriver.Remove", json.dumps({"Name": name})])
    installed.create(name, "elsewhere", uid="1234")
    assert installed.inspect(name)["Options"]["uid"] == "1234"
    assert "1234" in installed.sh(name, "stat -c %u /data").stdout


def test_docker_knows_the_driver_after_its_restart(installed: Installed) -> None:
    """moby V11: after a restart of dockerd the volume is used without naming its driver."""
    name = installed.name()
    installed.create(name)
    installed.machine.run("systemctl restart docker")
    installed.sh(name, "echo x >/data/file")
    assert installed.on_remote(f"{name}/file") == "x\n"


def test_a_mount_that_fails_is_not_followed_by_an_unmount(installed: Installed) -> None:
    """moby V17; and it leaves neither mount nor hold nor directory."""
    name = installed.name()
    installed.create(name)
    mark = installed.mark()
    installed.remote.stop()
    try:
        failed = installed.sh(name, "true", "-w", "/data", check=False)
    finally:
        installed.remote.start()
    assert "refused the connection" in failed.stderr or "connection" in failed.stderr, failed.stderr
    calls = installed.calls(mark, name)
    assert (calls["Mount"], calls["Unmount"]) == (1, 0)
    assert name not in installed.mounted()
    assert installed.holders(name) == 0
    assert installed.machine.run(f"ls /run/legacyhost/sshfs/bare | grep -x {name}", check=False).returncode == 1
    installed.sh(name, "true")


def test_capabilities_are_asked_for_once(installed: Installed) -> None:
    """moby V15: once per dockerd, however often the driver is used."""
    installed.machine.run("systemctl restart docker")
    name = installed.name()
    installed.create(name)
    mark = installed.mark()
    for _ in range(3):
        installed.inspect(name)
        installed.create(installed.name())
    assert installed.calls(mark)["Capabilities"] == 0


def test_a_plugin_that_comes_later_is_found(installed: Installed) -> None:
    """moby V7: docker polls for a while for a plugin that is not there yet."""
    machine = installed.machine
    machine.run("cp /etc/legacyhost/sshfs.toml /etc/legacyhost/late.toml")
    options = ",".join(f"volume-opt={key}={value}" for key, value in installed.options("late").items())
    mount = f"type=volume,src=late,dst=/data,volume-driver=late,{options}"
    words = ["docker", "run", "--rm", "--network", "none", "--mount", mount, "busybox", "touch", "/data/file"]
    running = machine.popen(words)
    machine.run("sleep 2; systemctl start legacyhost@late.socket")
    assert running.wait(60) == 0, running.communicate()[1]
    assert installed.on_remote("late/file") == ""
    machine.docker("volume", "rm", "late")
    machine.run("systemctl stop legacyhost@late.socket legacyhost@late.service; rm /etc/legacyhost/late.toml")
    machine.run("systemctl restart docker")


@pytest.mark.parametrize("scope", ["global"])
def test_a_second_plugin_beside_the_first(installed: Installed, scope: str) -> None:
    """A copy of the configuration is another plugin; with a default for sshcmd volumes need no option, even the
    anonymous ones (moby V3), and scope can be global (V15)."""
    machine = installed.machine
    remote = installed.remote
    machine.write(
        "/etc/legacyhost/foo.toml",
        f"""\
[volume]
scope = "{scope}"
[volume.defaults]
sshcmd = "alice@127.0.0.1:foo/{{volume}}"
port = {remote.port}
IdentityFile = "{remote.key}"
""",
    )
    machine.run("systemctl enable --quiet --now legacyhost@foo.socket")
    words = ["run", "--rm", "--network", "none", "--volume-driver", "foo"]
    machine.docker(*words, "-v", "data:/data", "busybox", "sh", "-c", "echo foo >/data/file")
    assert installed.on_remote("foo/data/file") == "foo\n"
    machine.docker(*words, "-v", "/anonymous", "busybox", "sh", "-c", "echo anonymous >/anonymous/file")
    made = machine.run(f"ls {remote.home}/foo").stdout.split()
    assert len(made) == 2, "the anonymous volume is gone, its data is not"
    anonymous = next(name for name in made if name != "data")
    assert installed.on_remote(f"foo/{anonymous}/file") == "anonymous\n"
    assert anonymous not in machine.docker("volume", "ls", "-q").stdout
    assert str(installed.inspect("data")["Scope"]) == scope
    assert "plugin foo is serving" in machine.journal("legacyhost@foo.service")
    name = installed.name()
    installed.create(name)
    installed.sh(name, "true")
    machine.docker("volume", "rm", "data")
    machine.run("systemctl disable --quiet --now legacyhost@foo.socket; systemctl stop legacyhost@foo.service")
    # dockerd would go on asking a plugin it has met for 15 s at a time.
    machine.run("rm /etc/legacyhost/foo.toml; systemctl restart docker")
