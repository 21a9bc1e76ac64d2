"""The machine everything is measured in: a booted Debian 12 with Docker's plugins, and an SSH host beside it."""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rivals.subjects import REMOTE, Rclone, RcloneSid, fetched
from system.images import ensure
from system.installed import TOP, Installed, build
from system.machine import Machine
from system.sshd import SshServer

LEGACYHOST, RCLONE, RCLONE_SID = "legacyhost", "rclone-1.60", "rclone-1.75"
SSHFS, SSH, SFTP, LOCAL = "sshfs", "ssh", "sftp", "local"
#: sshfs with legacyhost's cipher, and a process between it and ssh that only copies: what any look at requests costs.
#: (Not cat, which does not expect that ssh makes their socket one that does not wait.)
RELAYED = "sshfs+relay"
#: sshfs that keeps names and sizes no longer than legacyhost does: what it costs to see what others change.
FRESH = "sshfs+fresh"
TIMES = "auto_cache,dcache_timeout=3,ac_attr_timeout=0"
COPY = "vec($in, 0, 1) = 1; while (1) { select($ready = $in, undef, undef, undef);"
COPY += " $got = sysread STDIN, $data, 65536; next if !defined $got; last if !$got; syswrite STDOUT, $data; }"
RELAY = f"#!/bin/sh\nperl -e '{COPY}' | exec ssh \"$@\"\n"
#: A unit with a mount's sandbox in which Python only begins: what a mount takes before sshfs is begun; without one.
UNIT, BARE = "unit", "bare unit"
BY_HAND = (SSHFS, RELAYED, FRESH)
RCLONES = (RCLONE, RCLONE_SID)
INSIDE = "/root/inside"
#: A copy: what measures shares no memory with what is measured.
PYTHON = "/root/python3"
#: Of OpenSSH's default the first that legacyhost asks for; for the limit, which is to have the same.
CIPHER = "aes128-gcm@openssh.com"
#: Ports: of the host; of the same with an account for each mount; of one that says nothing.
PORT, ACCOUNTS, SILENT = 2222, 2300, 2399
#: So many ms, and more packets on the way than any window has.
QDISC = "netem delay {}ms limit 200000"
#: How many Mounts hang.
STUCK = 8


@dataclass(frozen=True)
class Sizes:
    """MiB of the large file, of what is read 10 and 50 ms away, of what is written; files; calls; seconds."""

    read: int = 256
    far: tuple[int, int] = (64, 32)
    write: int = 128
    write_far: int = 32
    small: int = 1000
    narrow: int = 300
    transactions: int = 100
    calls: int = 3000
    idle: int = 40


QUICK = Sizes(
    read=128, far=(32, 32), write=64, write_far=16, small=500, narrow=100, transactions=50, calls=1000, idle=15
)


@dataclass(frozen=True)
class Line:
    """What is between the machine and the host: ms of a round trip, 10^6 bytes a second at most (0: no limit)."""

    delay: int = 0
    rate: int = 0

    @property
    def name(self) -> str:
        return f"far{self.delay}{f'-{self.rate}' if self.rate else ''}"


LOOPBACK = Line()
NARROW = Line(10, 12)


@dataclass(frozen=True)
class End:
    """Where an account of the host can be reached."""

    port: int = PORT
    user: str = "alice"
    host: str = "127.0.0.1"


class World:
    """Everything that is compared, running; ``close()`` ends all of it."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self._serial = itertools.count(1)
        self._ends = {LOOPBACK: End()}
        self._mounted: dict[tuple[str, str], str] = {}
        self._made: set[str] = set()
        #: What one measurement has found for the next row.
        self.kept: dict[object, float] = {}
        deb = build()
        self.machine = Machine(ensure("bookworm"))
        try:
            self._set_up(deb)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.machine.close()

    def _set_up(self, deb: Path) -> None:
        self.machine.boot()
        self.installed = Installed(self.machine, deb)
        self.machine.run("sed -i 's/^log_level.*/#&/' /etc/legacyhost/sshfs.toml; systemctl restart legacyhost@sshfs")
        self.remote = self.installed.remote
        self.home = str(self.remote.home)
        self.machine.put(Path(__file__).with_name("inside"), INSIDE)
        self.machine.run(f"cp $(readlink -f /usr/bin/python3) {PYTHON}")
        self.machine.put(Path(__file__).with_name("delay.py"), "/root/delay.py")
        self.machine.write("/root/relay", RELAY, 0o755)
        SshServer(self.machine, ACCOUNTS, config="AllowUsers fresh*")
        self._accept_key(ACCOUNTS)
        self._trust(End(ACCOUNTS))
        for kind, key in ((Rclone, RCLONE), (RcloneSid, RCLONE_SID)):
            with tempfile.TemporaryDirectory() as unpacked:
                subprocess.run(["dpkg-deb", "-x", str(kind.package()), unpacked], check=True)
                self.machine.put(Path(unpacked, "usr/bin/rclone"), f"/opt/{key}")
            self.machine.write(f"/opt/{key}.conf", REMOTE.format(remote=self.remote), 0o600)
            self._serve_rclone(key, key)
        self._fill()

    def _serve_rclone(self, key: str, name: str) -> None:
        """An instance of that name, with the units' own arguments and directories of its own."""
        base, cache = f"/mnt/{name}", f"/var/cache/{name}"
        serve = [f"/opt/{name}", "serve", "docker", f"--config=/opt/{key}.conf", f"--base-dir={base}"]
        serve += [f"--cache-dir={cache}", f"--socket-addr={self.socket(name)}", "--allow-other"]
        self.machine.run(["mkdir", "-p", base])
        if name != key:
            self.machine.run(["cp", "--update", f"/opt/{key}", f"/opt/{name}"])
        self.machine.run(["systemd-run", "--quiet", "--collect", f"--unit={name}", *serve])
        self.machine.wait_for(["test", "-S", self.socket(name)], 60)

    def _fill(self) -> None:
        """What is read: made where it lies, by its owner."""
        script = f"""
            mkdir -p data/small && cd data
            head -c {self.sizes.read << 20} /dev/urandom >big
            n=0; while [ $n -lt {self.sizes.small} ]; do echo "content of file $n" >small/$n; n=$((n+1)); done
            n=0; while [ $n -lt 600 ]; do
                d=tree/$((n % 20))/$((n % 7)); mkdir -p $d; head -c 3000 /dev/urandom >$d/$n; n=$((n+1)); done
            tar cf tree.tar tree
        """
        self.machine.run(["runuser", "-u", "alice", "--", "sh", "-ec", f"cd {self.home}\n{script}"], timeout=120)
        self.machine.run(["cp", f"{self.home}/data/tree.tar", "/root/tree.tar"])
        for path in fetched("bookworm", "git"):
            self.machine.put(path, f"/root/git/{path.name}")
        self.machine.run("dpkg -i --force-depends /root/git/*.deb >/dev/null 2>&1", timeout=120)
        self.machine.run(
            f"""git config --global safe.directory '*'
            mkdir /root/repository && cd /root/repository && git init -q && cp -r {self.home}/data/tree .
            git add . && git -c user.name=x -c user.email=x@example.org commit -qm x"""
        )

    def versions(self) -> dict[str, str]:
        """Of everything that is compared, and of what it runs on."""
        packages = ["legacyhost", "sshfs", "openssh-client", "systemd", "python3", "gunicorn", "python3-falcon", "git"]
        asked = self.machine.run(["dpkg-query", "-W", "-f", "${Package}=${Version}\\n", *packages]).stdout
        found = dict(line.split("=", 1) for line in asked.split())
        for key in RCLONES:
            found[key] = self.machine.run([f"/opt/{key}", "version"]).stdout.split("\n")[0]
        model = self.machine.run("sed -n 's/^model name.*: //p' /proc/cpuinfo | uniq -c").stdout.strip()
        return {**found, "kernel": self.machine.run(["uname", "-r"]).stdout.strip(), "processors": model}

    def probe(self, name: str, *arguments: object) -> float:
        """Run one measurement inside the machine."""
        return self.probes(name, *arguments)[0]

    def probes(self, name: str, *arguments: object) -> list[float]:
        """The same, of one that finds several numbers."""
        done = self.machine.run([PYTHON, INSIDE, name, *map(str, arguments)], timeout=300)
        return [float(number) for number in done.stdout.strip().splitlines()[-1].split()]

    def name(self, prefix: str) -> str:
        """A name nothing has had."""
        return f"{prefix}{next(self._serial)}"

    def is_first(self, what: str) -> bool:
        """Whether this has not been asked before."""
        is_new = what not in self._made
        self._made.add(what)
        return is_new

    def account(self) -> End:
        """An account of the host nobody has a connection to."""
        user = self.name("fresh")
        self.machine.run(f"useradd --create-home {user} && usermod --password '*' {user}")
        return End(ACCOUNTS, user)

    def end(self, line: Line = LOOPBACK) -> End:
        """The host at the other end of that line."""
        if line not in self._ends:
            cable = self._delayed_cable if self._has_netem() and not line.rate else self._proxy
            self._ends[line] = cable(line, 3000 + len(self._ends))
            self._trust(self._ends[line])
        return self._ends[line]

    def _has_netem(self) -> bool:
        """Whether this kernel can delay what goes through a network interface."""
        test = "ip link add probing type veth peer name probed && tc qdisc add dev probing root netem delay 1ms"
        answer = self.machine.run(test, check=False)
        self.machine.run(["ip", "link", "del", "probing"])
        return answer.returncode == 0

    def _proxy(self, line: Line, port: int) -> End:
        argv = [PYTHON, "/root/delay.py", str(port), str(PORT), str(line.delay / 2), str(line.rate)]
        self.machine.run(["systemd-run", "--quiet", f"--unit=delay-{line.name}", *argv])
        self.machine.wait_for(f"grep -q ':{port:04X} ' /proc/net/tcp")
        return End(port)

    def _delayed_cable(self, line: Line, port: int) -> End:
        """The same host in a network namespace of its own, at the end of a cable with that delay in each direction."""
        space, link, first = line.name, f"near{line.delay}", 4 * len(self._ends)
        near, far = (f"192.0.2.{first + number}" for number in (1, 2))
        self.machine.run(
            f"""set -e
            ip netns add {space}
            ip link add {link} type veth peer name far netns {space}
            ip addr add {near}/30 dev {link}
            ip link set {link} up
            ip -n {space} addr add {far}/30 dev far
            ip -n {space} link set far up
            tc qdisc add dev {link} root {QDISC.format(line.delay / 2)}
            tc -n {space} qdisc add dev far root {QDISC.format(line.delay / 2)}"""
        )
        SshServer(self.machine, port, host="0.0.0.0", network=f"NetworkNamespacePath=/run/netns/{space}")
        self._accept_key(port)
        return End(port, host=far)

    def _accept_key(self, port: int) -> None:
        """By another sshd the key of the first."""
        self.machine.run(["cp", f"{self.remote.key}.pub", f"/etc/test-sshd/{port}/authorized_keys"])

    def _trust(self, end: End) -> None:
        own = f"/etc/test-sshd/{end.port}/host_key"
        key = own if self.machine.path(own).exists() else f"/etc/test-sshd/{PORT}/host_key"
        fingerprint = self.machine.run(["ssh-keygen", "-l", "-f", key]).stdout.split()[1]
        self.machine.run(["legacyhost", "trust", f"{end.host}:{end.port}", "--fingerprint", fingerprint])

    def sshfs(self, directory: str, end: End) -> list[str]:
        """The command of somebody who mounts by hand; the mountpoint comes last."""
        login = f"IdentityFile={self.remote.key},UserKnownHostsFile=/etc/legacyhost/known_hosts"
        return ["sshfs", "-p", str(end.port), "-o", f"allow_other,{login}", f"{end.user}@{end.host}:{directory}"]

    def ssh(self, subject: str, command: str) -> str:
        """ssh or sftp with the cipher legacyhost asks for first, over a connection that is there already."""
        control, target = "/run/bench-control", f"alice@{End().host}"
        if self.machine.run(["test", "-S", control], check=False).returncode:
            options = [f"IdentityFile={self.remote.key}", "UserKnownHostsFile=/etc/legacyhost/known_hosts"]
            options += [f"Ciphers={CIPHER}", f"ControlPath={control}", "ControlMaster=yes", f"Port={PORT}"]
            words = [word for option in options for word in ("-o", option)]
            self.machine.run(["systemd-run", "--quiet", "--unit=bench-ssh", "ssh", "-N", *words, target])
            self.machine.wait_for(["test", "-S", control])
        argv = [subject, "-o", f"ControlPath={control}", target]
        if subject == SFTP:
            return f"printf '%s\\n' {shlex.quote(command)} | {shlex.join([SFTP, '-b', '-', *argv[1:]])}"
        return shlex.join([*argv, command])

    def cat(self, path: str, end: End) -> str:
        """ssh with that cipher, over a connection of its own."""
        options = [f"IdentityFile={self.remote.key}", "UserKnownHostsFile=/etc/legacyhost/known_hosts"]
        words = [word for option in (*options, f"Ciphers={CIPHER}", f"Port={end.port}") for word in ("-o", option)]
        return shlex.join(["exec", "ssh", *words, f"{end.user}@{end.host}", "cat", path])

    def socket(self, plugin: str) -> str:
        return f"/run/docker/plugins/{'sshfs' if plugin == LEGACYHOST else plugin}.sock"

    def guard(self) -> str:
        """A plugin that authorizes by the policy the package brings as an example."""
        if self.is_first("guard"):
            policy = TOP / "packaging" / "policies" / "policy.toml"
            self.machine.write("/etc/legacyhost/policies/guard.toml", policy.read_text("utf-8"), 0o600)
            self.machine.write("/etc/legacyhost/guard.toml", '[authz]\npolicy = "policies/guard.toml"\n', 0o600)
            self.machine.run(["systemctl", "start", "legacyhost@guard.socket", "legacyhost@guard.service"])
        return "guard"

    def options(self, subject: str, directory: str, end: End, *, full: bool = False) -> dict[str, str]:
        """Those that name the directory; for rclone's ``full`` the one without which most programs fail on it."""
        if subject == LEGACYHOST:
            given = {"sshcmd": f"{end.user}@{end.host}:{directory}", "port": str(end.port)}
            return {**given, "IdentityFile": self.remote.key}
        login = f"host={end.host},port={end.port},user={end.user},key_file={self.remote.key}"
        return {"remote": f":sftp,{login}:{directory}", **({"vfs-cache-mode": "full"} if full else {})}

    def create(self, subject: str, name: str, end: End, *, full: bool = False) -> float:
        """Milliseconds of the call."""
        options = json.dumps(self.options(subject, "data", end, full=full))
        return self.probe("calls.create", self.socket(subject), name, options)

    def place(self, subject: str, line: Line = LOOPBACK, *, full: bool = False, second: bool = False) -> str:
        """Where the subject has the data mounted over that line, once or a second time; mounted when first asked."""
        name = self._volume(subject, line, full=full, second=second)
        if (subject, name) in self._mounted:
            return self._mounted[subject, name]
        if subject == LOCAL:
            where = f"{self.home}/data"
        elif subject in BY_HAND:
            where = f"/mnt/{subject}-{name}"
            self.machine.run(["mkdir", "-p", where])
            more = {RELAYED: ["-o", f"Ciphers={CIPHER},ssh_command=/root/relay"], FRESH: ["-o", TIMES]}.get(subject, [])
            self.machine.run([*self.sshfs("data", self.end(line)), *more, where])
        else:
            if self.is_first(f"{subject} {name}"):
                self.create(subject, name, self.end(line), full=full)
            self.probe("calls.mount", self.socket(subject), name)
            where = f"/run/legacyhost/sshfs/mounts/{name}" if subject == LEGACYHOST else f"/mnt/{subject}/{name}"
        self.machine.run(["mountpoint", "-q", where] if subject != LOCAL else ["test", "-d", where])
        if subject == LEGACYHOST:  # which has a connection of its own a second after the mount; see "mount-read"
            record = f"/run/legacyhost/sshfs/volumes/{name}/connection.*"
            self.machine.wait_for(f"grep -q '^connections=[2-9]' {record}")
        self._mounted[subject, name] = where
        return where

    def cold(self, subject: str, line: Line = LOOPBACK, *, full: bool = False, second: bool = False) -> str:
        """The same, mounted anew: neither the kernel nor a cache of the mount's program knows anything."""
        self._unmount(subject, self._volume(subject, line, full=full, second=second))
        return self.place(subject, line, full=full, second=second)

    def _volume(self, subject: str, line: Line, *, full: bool, second: bool) -> str:
        return line.name + "-full" * (full and subject in RCLONES) + "-second" * second

    def _unmount(self, subject: str, name: str) -> None:
        where = self._mounted.pop((subject, name), None)
        if where and subject in BY_HAND:
            self.machine.wait_for(["umount", where])
        elif where and subject != LOCAL:
            self.probe("calls.unmount", self.socket(subject), name)

    def plugin(self, subject: str, count: int, stuck: int = 0) -> str:
        """The name of another instance that knows so many volumes, ``v0`` and so on; running."""
        name = f"{subject}-{count}"
        if self.is_first(name):
            if subject == LEGACYHOST:
                self.place(LEGACYHOST)  # whose record is the model of the others
                arguments = ["/var/lib/legacyhost/sshfs/volumes.db", "far0", stuck, SILENT]
                self.probe("populate.legacyhost", f"/var/lib/legacyhost/{name}", count, *arguments)
                self.machine.run(["cp", "/etc/legacyhost/sshfs.toml", f"/etc/legacyhost/{name}.toml"])
                self.machine.run(["systemctl", "start", f"legacyhost@{name}.socket", f"legacyhost@{name}.service"])
            else:
                self.probe("populate.rclone", f"/var/cache/{name}/docker-plugin.state", count, f"/mnt/{name}")
                self._serve_rclone(subject, name)
        return name

    @contextmanager
    def alone(self, subject: str) -> Iterator[str]:
        """The unit of an instance with one volume that has answered a call since it was started just now.

        Nothing else runs of what it runs of: of memory that is shared each would be counted a part only. (rclone's
        instance has a copy of the program, and so have the probes and the proxies, of Python.)
        """
        name = self.plugin(subject, 1)
        running = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active", "legacyhost@*.service"]
        services = [line.split()[0] for line in self.machine.run(running).stdout.splitlines()]
        if subject == LEGACYHOST:
            for mounted in [key for key in self._mounted if key[0] == LEGACYHOST]:
                self._unmount(*mounted)
            self.machine.run(["systemctl", "stop", *services, "legacyhost-shared:*.service"])
            self.machine.run(["systemctl", "start", f"legacyhost@{name}.service"])
        else:
            self.machine.run(["systemctl", "stop", f"{name}.service"])
            self._serve_rclone(subject, name)
        self.probe("calls.use", self.socket(name), "v0", 6)
        try:
            yield f"legacyhost@{name}.service" if subject == LEGACYHOST else f"{name}.service"
        finally:
            self.machine.run(["systemctl", "start", *services])

    def command(self, subject: str, count: int) -> list[str]:
        """What starts a plugin that knows so many volumes and nobody has asked anything."""
        name = f"start-{count}"
        if subject in RCLONES:
            if count:
                state = f"/var/cache/{name}-{subject}/docker-plugin.state"
                self.probe("populate.rclone", state, count, f"/mnt/{name}")
            argv = [f"/opt/{subject}", "serve", "docker", "--config=/dev/null", f"--base-dir=/mnt/{name}"]
            return [*argv, f"--cache-dir=/var/cache/{name}-{subject}"]
        if self.is_first(name):
            if count:
                source = f"/var/lib/legacyhost/{self.plugin(LEGACYHOST, count)}"
                self.machine.run(["cp", "-r", source, f"/var/lib/legacyhost/{name}"])
            else:
                self.machine.run(["mkdir", "-p", f"/var/lib/legacyhost/{name}"])
            self.machine.run(["cp", "/etc/legacyhost/sshfs.toml", f"/etc/legacyhost/{name}.toml"])
        return ["/usr/bin/legacyhost", "serve", name]
