"""What can be wrong with the remote directory, and with this host."""

from __future__ import annotations

from .failing import Arranged, Volume, World, fails, on, reconfigured

#: Of mounts, and of those alone.
FILES = "/run/legacyhost/sshfs/volumes"
#: What only the mount's own program can say, after the same login with paramiko has worked.
IN_ORDER = (
    "volume {volume} cannot be mounted although the remote host is in order: %s; try legacyhost doctor {volume}, or see"
    " journalctl -u {*}"
)


@fails("{where} has no directory data: make it there (with create=true that is done when a volume is created)")
def directory_missing(world: World) -> Arranged:
    return world.account("dora").broken_by("rmdir data", create="false")


@fails(None, "{where} has no directory data: make it there (with create=true that is done when a volume is created)")
def directory_missing_at_mount(world: World) -> Arranged:
    return world.account("dieter").broken_by("rmdir data")


@fails("data on {where} is not a directory")
def directory_is_a_file(world: World) -> Arranged:
    return world.account("frank").broken_by("rmdir data && touch data")


@fails("data on {where} is a symbolic link that leads nowhere")
def directory_is_a_broken_link(world: World) -> Arranged:
    return world.account("lena").broken_by("rmdir data && ln -s none data")


@fails("data on {where} is a symbolic link that leads nowhere")
def directory_is_a_loop_of_links(world: World) -> Arranged:
    return world.account("lars").broken_by("rmdir data && ln -s data data")


@fails("{user} may not look at outer/data on {where}: permission denied by a directory above it")
def directory_out_of_reach(world: World) -> Arranged:
    account = world.account("rita")
    account.run("mkdir -p outer/data && chmod 755 outer")
    yield account.volume("outer/data")
    account.run("chown root: outer && chmod 700 outer")
    yield None


@fails("{user} may not read data on {where}: permission denied", None)
def directory_not_readable(world: World) -> Arranged:
    return world.account("rudi").broken_by("chown root: data && chmod 711 data", create="false")


@fails("{user} may not make there/data on {where}: no permission to write in there", None)
def directory_cannot_be_made(world: World) -> Arranged:
    return world.account("maja").broken_by("mkdir there", "there/data")


@fails("cannot make there/data on {where}: no space left there", None)
def disk_full(world: World) -> Arranged:
    return world.account("diana").broken_by(
        "mkdir there && mount -t tmpfs -o nr_inodes=1,mode=777 tmpfs there", "there/data", mended_by="umount there"
    )


@fails("cannot make there/data on {where}: the file system there is read-only", None)
def disk_read_only(world: World) -> Arranged:
    return world.account("remo").broken_by(
        "mkdir there && mount -t tmpfs -o ro,mode=777 tmpfs there", "there/data", mended_by="umount there"
    )


@fails("cannot look at {long} on {where}: a name in it has more than 255 bytes", None)
def name_too_long(world: World) -> Arranged:
    account = world.account("nadia")
    volume = account.volume("x" * 300)
    yield Volume(volume.options, {**volume.parts, "long": "x" * 159 + "…"})
    yield None


@fails(
    "{where} has no directory {home}/data (where accounts are confined, ChrootDirectory, paths begin there): make it"
    " there (with create=true that is done when a volume is created)"
)
def confined_to_a_directory(world: World) -> Arranged:
    server = world.server()
    home = world.crowd.home
    volume = on(server, sshcmd=f"alice@127.0.0.1:{home}/data", create="false")
    world.machine.run(f"mkdir -p {home}/data")
    yield Volume(volume.options, {**volume.parts, "home": home})
    world.machine.run("mkdir -p /srv/confined/data")
    world.reconfigure(server, "ChrootDirectory /srv/confined\nForceCommand internal-sftp")
    yield None


@fails(None, IN_ORDER % "sshfs is not installed on this host: apt install sshfs", is_alone=True)
def no_sshfs(world: World) -> Arranged:
    return world.account("simon").broken_by(
        "mv /usr/bin/sshfs /usr/bin/sshfs-away", mended_by="mv /usr/bin/sshfs-away /usr/bin/sshfs"
    )


@fails(None, IN_ORDER % "ssh is not installed on this host: apt install openssh-client", is_alone=True)
def no_ssh(world: World) -> Arranged:
    return world.account("silke").broken_by(
        "mv /usr/bin/ssh /usr/bin/ssh-away", mended_by="mv /usr/bin/ssh-away /usr/bin/ssh"
    )


@fails(None, IN_ORDER % "fuse: {*}", is_alone=True)
def no_fuse(world: World) -> Arranged:
    return world.account("fabian").broken_by(
        "umount /dev/fuse; rm /dev/fuse", mended_by="mknod -m 666 /dev/fuse c 10 229"
    )


@fails(None, "the files for mounting volume {volume} cannot be written in {*}: No space left on device", is_alone=True)
def no_room_here(world: World) -> Arranged:
    return world.account("ronja").broken_by(
        f"mkdir -p {FILES}; mount -t tmpfs -o size=4k,mode=700 tmpfs {FILES}; dd if=/dev/zero of={FILES}/full; true",
        mended_by=f"umount {FILES}",
    )


@fails(
    None,
    IN_ORDER % "{*}",
)
def address_this_host_has_not(world: World) -> Arranged:
    return world.account("bodo").broken_by("true", BindAddress="203.0.113.5")


@fails(
    None, IN_ORDER % "Unable to negotiate with 127.0.0.1 port {*}: no matching cipher found. Their offer: aes128-ctr"
)
def ciphers_option_the_server_has_none_of(world: World) -> Arranged:
    return reconfigured(world, "Ciphers aes128-ctr", world.server(), Ciphers="aes256-gcm@openssh.com")
