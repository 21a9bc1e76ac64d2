"""What can be wrong with a jump host, and with what is kept on this host to log in with."""

from __future__ import annotations

from .failing import ALL, KNOWN_HOSTS, Arranged, Volume, World, fails
from .odd_server import PASSWORD
from .sshd import SshServer

CREDENTIALS = "/etc/legacyhost/credentials"


@fails(
    "on the way to {where} by its jump host: {jump} refused the connection: is an SSH server running there, on that"
    " port?"
)
def jump_host_down(world: World) -> Arranged:
    jump, volume = _by_way_of_a_jump_host(world, "jutta")
    yield volume
    jump.stop()
    yield None


@fails(
    "on the way to {where} by its jump host: host key of {jump} is not known (ED25519 {fingerprint}); if that is right:"
    " legacyhost trust {jump}"
)
def jump_host_unknown(world: World) -> Arranged:
    jump, volume = _by_way_of_a_jump_host(world, "julia")
    yield volume
    world.drop(KNOWN_HOSTS, jump.known_hosts_line)
    yield None


@fails(
    "on the way to {where} by its jump host: {jump} refused the login of {user} (tried: key {key}; the server accepts:"
    " publickey): is one of these keys in authorized_keys there, and the account not locked?"
)
def jump_host_refuses_the_login(world: World) -> Arranged:
    jump, volume = _by_way_of_a_jump_host(world, "jonas")
    yield volume
    world.reconfigure(jump, "AuthorizedKeysFile none")
    yield None


@fails(
    "the jump host {jump} does not let {user} connect to {where} (it says: {*}); in its sshd_config, AllowTcpForwarding"
    " and PermitOpen decide that"
)
def jump_host_forwards_nothing(world: World) -> Arranged:
    jump, volume = _by_way_of_a_jump_host(world, "jette")
    yield volume
    world.reconfigure(jump, "AllowTcpForwarding no")
    yield None


@fails("the jump host {jump} cannot connect to {where} (it says: {*}); is an SSH server running there, on that port?")
def down_behind_a_jump_host(world: World) -> Arranged:
    server = world.server(ALL)
    _, volume = _by_way_of_a_jump_host(world, "jakob", server)
    yield volume
    server.stop()
    yield None


@fails("there is no credential {name}; to make it: legacyhost credential add {name}")
def credential_missing(world: World) -> Arranged:
    yield _with_credential(world, "clara")
    world.machine.run(f"rm {CREDENTIALS}/clara")
    yield None


@fails(
    "credential {name} cannot be decrypted on this machine ({*}); to give it again: legacyhost credential add --replace"
    " {name}"
)
def credential_of_another_machine(world: World) -> Arranged:
    yield _with_credential(world, "carl")
    # What the key of this host does not open.
    world.machine.run(
        f"cd {CREDENTIALS} && base64 -d carl >/root/carl && truncate -s -16 /root/carl &&"
        " head -c 16 /dev/zero >>/root/carl && base64 /root/carl >carl"
    )
    yield None


@fails("credential {name} is open to others: chmod 600 {file}")
def credential_open_to_others(world: World) -> Arranged:
    yield _with_credential(world, "cora")
    world.machine.run(f"chmod 644 {CREDENTIALS}/cora")
    yield None


@fails(
    "{where} refused the login of {user} (tried: password; the server accepts: publickey, password):"
    " is the password right, and the account not locked?"
)
def credential_out_of_date(world: World) -> Arranged:
    yield _with_credential(world, "cleo")
    world.machine.run("echo cleo:another | chpasswd")
    yield None


def _by_way_of_a_jump_host(world: World, name: str, server: SshServer | None = None) -> tuple[SshServer, Volume]:
    """The jump host, which lets all accounts in as the server behind it does, and a volume."""
    jump = world.server(ALL)
    at_jump = f"127.0.0.1:{jump.port}"
    volume = world.account(name, server=server).volume(jump=at_jump)
    return jump, Volume(volume.options, {**volume.parts, "jump": at_jump, "fingerprint": jump.fingerprint})


def _with_credential(world: World, name: str) -> Volume:
    """A volume of the account of that name, with its password as a credential of that name."""
    account = world.account(name)
    world.machine.run(f"echo {name}:{PASSWORD} | chpasswd")
    world.machine.run(["legacyhost", "credential", "add", name, "--password"], input=f"{PASSWORD}\n")
    volume = account.volume(IdentityFile="", credential=name)
    return Volume(volume.options, {**volume.parts, "name": name, "file": f"{CREDENTIALS}/{name}"})
