"""The machine everything is measured in: a booted Debian 12 with Docker's plugins, and an SSH host beside it."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from rivals.subjects import REMOTE, Rclone, RcloneSid, fetched
from system.images import ensure
from system.installed import Installed, build
from system.machine import Machine

LEGACYHOST, RCLONE, RCLONE_SID, SSHFS, SSH, LOCAL = "legacyhost", "rclone-1.60", "rclone-1.75", "sshfs", "ssh", "local"
SOCKETS = {LEGACYHOST: "sshfs", RCLONE: "rclone", RCLONE_SID: "rclone-sid"}
PROBE = "/root/probe.py"
#: Of OpenSSH's default the first that legacyhost asks for; for the limit, which is to have the same.
CIPHER = "aes128-gcm@openssh.com"
#: MiB of the large file and of the one that is read from far away; small files in one directory; files in a tree.
BIG, FAR, SMALL, TREE = 256, 16, 1000, 600


class World:
    """Everything that is compared, running; ``close()`` ends all of it."""

    def __init__(self) -> None:
        deb = build()
        self._made: set[tuple[str, str]] = set()
        self._places: dict[tuple[str, int], str] = {}
        self._ports = {0: 2222}
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
        self.machine.put(Path(__file__).with_name("probe.py"), PROBE)
        self._set_up_rclone()
        self.home = str(self.remote.home)
        self._fill()

    def _set_up_rclone(self) -> None:
        for kind, key in ((Rclone, RCLONE), (RcloneSid, RCLONE_SID)):
            with tempfile.TemporaryDirectory() as unpacked:
                subprocess.run(["dpkg-deb", "-x", str(kind.package()), unpacked], check=True)
                self.machine.put(Path(unpacked, "usr/bin/rclone"), f"/opt/{key}")
            self.machine.run(["chmod", "755", f"/opt/{key}"])
            self.machine.write(f"/opt/{key}.conf", REMOTE.format(remote=self.remote), 0o600)
            serve = [f"/opt/{key}", "serve", "docker", f"--config=/opt/{key}.conf", f"--base-dir=/mnt/{key}"]
            serve += [f"--cache-dir=/var/cache/{key}", f"--socket-addr={self.socket(key)}", "--allow-other"]
            self.machine.run(["mkdir", "-p", f"/mnt/{key}"])
            self.machine.run(["systemd-run", "--quiet", f"--unit={key}", *serve])
            self.machine.wait_for(["test", "-S", self.socket(key)])

    def _fill(self) -> None:
        """What is read: made where it lies, by its owner."""
        script = f"""
            mkdir -p data/small data/looked && cd data
            head -c {BIG << 20} /dev/urandom >big
            head -c {FAR << 20} /dev/urandom >medium
            n=0; while [ $n -lt {SMALL} ]; do echo "content of file $n" >small/$n; : >looked/$n; n=$((n+1)); done
            n=0; while [ $n -lt {TREE} ]; do
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

    def socket(self, subject: str) -> str:
        return f"/run/docker/plugins/{SOCKETS[subject]}.sock"

    def probe(self, name: str, *arguments: object, timeout: float = 300) -> float:
        """Run one measurement inside the machine."""
        done = self.machine.run(["python3", PROBE, name, *map(str, arguments)], timeout=timeout)
        return float(done.stdout.strip().splitlines()[-1])

    def forget(self) -> None:
        """Drop what the kernel keeps of files; it is one kernel for all."""
        self.machine.run("sync", timeout=120)
        Path("/proc/sys/vm/drop_caches").write_text("3", "ascii")

    def options(self, subject: str, directory: str, port: int) -> dict[str, str]:
        """Those that name the directory, and no others."""
        if subject == LEGACYHOST:
            return {**self.installed.options(directory), "port": str(port)}
        return {"remote": f":sftp,host=127.0.0.1,port={port},user=alice,key_file={self.remote.key}:{directory}"}

    def create(self, subject: str, name: str, directory: str, port: int = 2222) -> None:
        options = [f"{key}={value}" for key, value in self.options(subject, directory, port).items()]
        self.probe("volume", self.socket(subject), name, *options)

    def versions(self) -> dict[str, str]:
        """Of everything that is compared."""
        packages = ("legacyhost", "sshfs", "openssh-client", "systemd", "python3", "python3-gunicorn", "python3-falcon")
        asked = self.machine.run(["dpkg-query", "-W", "-f", "${Package}=${Version}\\n", *packages]).stdout
        found = dict(line.split("=", 1) for line in asked.split())
        for key in (RCLONE, RCLONE_SID):
            found[key] = self.machine.run([f"/opt/{key}", "version"]).stdout.split("\n")[0]
        return {**found, "kernel": self.machine.run(["uname", "-r"]).stdout.strip()}

    def create_once(self, subject: str, name: str) -> None:
        """A volume on the data, which stays."""
        if (subject, name) not in self._made:
            self.create(subject, name, "data")
            self._made.add((subject, name))

    def place(self, subject: str, distance: int = 0) -> str:
        """Where the subject has the data mounted, with so many ms between it and the host; mounted when first asked."""
        if (subject, distance) not in self._places:
            if distance not in self._ports:
                self._ports[distance] = self._far(distance)
            self._places[subject, distance] = self.mount(subject, "data", self._ports[distance])
        return self._places[subject, distance]

    def sshfs(self, directory: str, port: int = 2222, *more: str) -> list[str]:
        """The command of somebody who mounts by hand; the mountpoint comes last."""
        login = f"IdentityFile={self.remote.key},UserKnownHostsFile=/etc/legacyhost/known_hosts"
        return ["sshfs", "-p", str(port), "-o", f"allow_other,{login}", *more, f"alice@127.0.0.1:{directory}"]

    def ssh(self, *command: str) -> list[str]:
        """ssh with the cipher legacyhost asks for first."""
        options = [f"IdentityFile={self.remote.key}", "UserKnownHostsFile=/etc/legacyhost/known_hosts"]
        words = [word for option in (*options, f"Ciphers={CIPHER}") for word in ("-o", option)]
        return ["ssh", "-p", "2222", *words, "alice@127.0.0.1", *command]

    def mount(self, subject: str, directory: str, port: int = 2222) -> str:
        """Have the directory mounted as that subject does it; where."""
        if subject == LOCAL:
            return f"{self.home}/{directory}"
        name = f"{directory}-{port}"
        if subject == SSHFS:
            point = f"/mnt/{name}"
            self.machine.run(["mkdir", "-p", point])
            self.machine.run([*self.sshfs(directory, port), point])
            return point
        self.create(subject, name, directory, port)
        self.probe("mount", self.socket(subject), name)
        return str(self.path(subject, name))

    def path(self, subject: str, name: str) -> str:
        return f"/run/legacyhost/sshfs/mounts/{name}" if subject == LEGACYHOST else f"/mnt/{subject}/{name}"

    def _far(self, milliseconds: int) -> int:
        """The port of a proxy behind which the host is so far away (round trip)."""
        port = 3000 + milliseconds
        self.machine.put(Path(__file__).with_name("delay.py"), "/root/delay.py")
        argv = ["python3", "/root/delay.py", str(port), "2222", str(milliseconds / 2)]
        self.machine.run(["systemd-run", "--quiet", f"--unit=delay-{milliseconds}", *argv])
        self.machine.wait_for(f"grep -q ':{port:04X} ' /proc/net/tcp")
        self.machine.run(f"sed -n 's/:2222/:{port}/p' /etc/legacyhost/known_hosts >>/etc/legacyhost/known_hosts.far")
        self.machine.run(
            "cat /etc/legacyhost/known_hosts.far >>/etc/legacyhost/known_hosts; rm /etc/legacyhost/known_hosts.far"
        )
        time.sleep(0.2)
        return port
