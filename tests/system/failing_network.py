"""What can be wrong on the way to a host, up to its host key."""

from __future__ import annotations

from .failing import KNOWN_HOSTS, Arranged, Volume, World, fails, odd, on, reconfigured
from .far import FarHost
from .sshd import SshServer


@fails("there is no host of the name {host}: check the spelling and DNS")
def no_such_name(world: World) -> Arranged:
    server, host = world.server(is_known=False), "gone.test"
    world.add("/etc/hosts", f"127.0.0.1 {host}")
    world.add(KNOWN_HOSTS, f"[{host}]:{server.port} {server.host_key}")
    options = {**on(server).options, "sshcmd": f"alice@{host}:"}
    yield Volume(options, {"host": host})
    world.drop("/etc/hosts", f"127.0.0.1 {host}")
    yield None


@fails("the name {host} cannot be looked up now: no name server answers", is_alone=True)
def no_name_server(world: World) -> Arranged:
    server, host = world.server(is_known=False), "unknown.test"
    world.add("/etc/hosts", f"127.0.0.1 {host}")
    world.add(KNOWN_HOSTS, f"[{host}]:{server.port} {server.host_key}")
    yield Volume({**on(server).options, "sshcmd": f"alice@{host}:"}, {"host": host})
    world.drop("/etc/hosts", f"127.0.0.1 {host}")
    world.odd_servers.tell("dns off")
    yield None
    world.odd_servers.tell("dns on")


@fails("{where} refused the connection: is an SSH server running there, on that port?")
def connection_refused(world: World) -> Arranged:
    server = world.server()
    yield on(server)
    server.stop()
    yield None


@fails("{where} did not answer within {*} s: is it up, and not behind a firewall?")
def packets_dropped(world: World) -> Arranged:
    far = FarHost(world.machine)
    yield Volume(far.options("data"), {"where": f"far.test:{far.server.port}"})
    world.machine.run("ip -n far route add blackhole 192.0.2.1/32")
    yield None
    far.close()


@fails("{where} cannot be reached: there is no route to it from here")
def no_route(world: World) -> Arranged:
    world.machine.run("ip addr add 198.51.100.7/32 dev lo")
    server = world.server(host="198.51.100.7")
    yield on(server)
    world.machine.run("ip addr del 198.51.100.7/32 dev lo && ip route add unreachable 198.51.100.7/32")
    yield None


@fails('{where} is not an SSH server, or does not want to be one now: it says "HTTP/1.1 400 Bad Request {*}"')
def a_web_server(world: World) -> Arranged:
    return odd(world, "http")


@fails(
    '{where} accepts no connection from this host for now (it says "Not allowed at this time"), as after failed logins:'
    " wait some minutes (PerSourcePenalties in its sshd_config)"
)
def penalised(world: World) -> Arranged:
    return odd(world, "penalty")


@fails('{where} is not an SSH server, or does not want to be one now: it says "Exceeded MaxStartups"')
def overloaded(world: World) -> Arranged:
    return odd(world, "too-many")


@fails(
    "{where} closed the connection without a word: no SSH server, one that is overloaded,"
    " or one that refuses this host's address"
)
def closed_at_once(world: World) -> Arranged:
    return odd(world, "nothing")


@fails("{where} did not answer within 12 s (waiting for the greeting of an SSH server)")
def accepted_and_silent(world: World) -> Arranged:
    return odd(world, "silence", timeout="12")


@fails("{where} did not answer within 12 s (waiting for the key exchange)")
def greeted_and_silent(world: World) -> Arranged:
    return odd(world, "greeting", timeout="12")


@fails("the key exchange with {where} failed: it sent something that is not SSH")
def nonsense_after_the_greeting(world: World) -> Arranged:
    return odd(world, "nonsense")


@fails("{where} and this host have no protocol version in common: its SSH server is too old")
def ssh_1(world: World) -> Arranged:
    return odd(world, "ssh-1")


@fails(
    "{where} and this host have no key exchange in common: its SSH server is too old, or restricted too far by"
    " KexAlgorithms in its sshd_config"
)
def no_common_key_exchange(world: World) -> Arranged:
    return reconfigured(world, "KexAlgorithms diffie-hellman-group14-sha1", world.server())


@fails(
    "{where} and this host have no cipher in common: its SSH server is too old, or restricted too far by Ciphers in its"
    " sshd_config"
)
def no_common_cipher(world: World) -> Arranged:
    return reconfigured(world, "Ciphers aes128-cbc", world.server())


@fails(
    "{where} and this host have no MAC in common: its SSH server is too old, or restricted too far by MACs in its"
    " sshd_config"
)
def no_common_mac(world: World) -> Arranged:
    return reconfigured(world, "Ciphers aes128-ctr\nMACs hmac-md5", world.server())


@fails("{where} has no host key of a kind in use today (ED25519, ECDSA, or RSA with SHA-2)")
def no_host_key_of_today(world: World) -> Arranged:
    return reconfigured(world, "HostKeyAlgorithms ssh-rsa", world.server(key_type="rsa"))


@fails("host key of {where} is not known (ED25519 {fingerprint}); if that is right: legacyhost trust {where}")
def unknown_host_key(world: World) -> Arranged:
    server = world.server()
    yield on(server)
    world.drop(KNOWN_HOSTS, server.known_hosts_line)
    yield None


@fails(
    "host key of {where} has changed: known is ED25519 {fingerprint}, offered is ED25519 {*}; somebody may be in"
    " between, do not go on unless the change was expected;"
    " if it was: ssh-keygen -R '[127.0.0.1]:{port}' -f /etc/legacyhost/known_hosts && legacyhost trust {where}"
)
def changed_host_key(world: World) -> Arranged:
    server = world.server()
    yield on(server)
    _new_host_key(world, server)
    yield None


@fails(
    "host key of {where} is revoked (ED25519 {fingerprint}) in /etc/legacyhost/known_hosts; no connection is made with"
    " it, the host needs a new one"
)
def revoked_host_key(world: World) -> Arranged:
    server = world.server()
    yield on(server)
    world.add(KNOWN_HOSTS, f"@revoked {server.known_hosts_line}")
    yield None


@fails("host key of {where} is not known (ED25519 {fingerprint}); if that is right: legacyhost trust {where}")
def certificate_of_an_authority_that_is_not_known(world: World) -> Arranged:
    server = _certified(world)
    yield on(server)
    world.machine.run(f"cd {_directory(server)} && ssh-keygen -q -t ed25519 -N '' -f other")
    _sign(world, server, "other")
    yield None


@fails(
    "the certificate of {where} has expired on {*}, and its host key is not known (ED25519 {fingerprint});"
    " if that is right: legacyhost trust {where}"
)
def certificate_expired(world: World) -> Arranged:
    server = _certified(world)
    yield on(server)
    _sign(world, server, "authority", "20200101000000:20210101000000")
    yield None


@fails(
    "host key of {where} is not the one of host_key= ({fingerprint}): the server has ED25519 {*};"
    " do not go on unless you know why (then make the volume anew, with the new host_key=)"
)
def another_than_the_pinned_host_key(world: World) -> Arranged:
    server = world.server(is_known=False)
    yield on(server, host_key=server.fingerprint)
    _new_host_key(world, server)
    yield None


def _certified(world: World) -> SshServer:
    """A server that is known by the authority of its certificate alone."""
    server = world.server(is_known=False)
    world.machine.run(f"cd {_directory(server)} && ssh-keygen -q -t ed25519 -N '' -f authority")
    authority = " ".join(world.machine.read(f"{_directory(server)}/authority.pub").split()[:2])
    world.add(KNOWN_HOSTS, f"@cert-authority [127.0.0.1]:{server.port} {authority}")
    world.reconfigure(server, f"HostCertificate {_directory(server)}/host_key-cert.pub")
    _sign(world, server, "authority")
    return server


def _sign(world: World, server: SshServer, authority: str, validity: str = "always:forever") -> None:
    words = f"-q -s {authority} -h -I it -n 127.0.0.1 -V {validity} host_key.pub"
    world.machine.run(f"cd {_directory(server)} && ssh-keygen {words} && systemctl restart {server.unit}")


def _directory(server: SshServer) -> str:
    return f"/etc/test-sshd/{server.port}"


def _new_host_key(world: World, server: SshServer) -> None:
    world.machine.run(f"cd {_directory(server)} && rm host_key* && ssh-keygen -q -t ed25519 -N '' -f host_key")
    world.machine.run(["systemctl", "restart", server.unit])
