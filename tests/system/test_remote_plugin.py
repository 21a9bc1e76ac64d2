"""A plugin on one side of a network, Docker on the other: certificates, refusals, and what makes sense there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest

from legacyhost import pki

from .engine import ADDRESS, NAME, PLUGINS, SOCKET, Engine
from .installed import Installed


@pytest.fixture(scope="module")
def engine(installed: Installed) -> Iterator[Engine]:
    machine = installed.machine
    made = Engine(machine)
    serve(installed, "afar", f'[listen]\naddress = "{ADDRESS}:7777"\n', "ListenStream=7777")
    machine.run(["legacyhost", "pki", "afar", "--host", NAME, "--host", ADDRESS])
    machine.run("systemctl start legacyhost@afar.socket")
    machine.run(f"legacyhost spec afar | tar -x -C {PLUGINS}")
    yield made
    made.close()
    for plugin in ("afar", "stale", "near", "bare", "guard"):
        unit = f"legacyhost@{plugin}"
        machine.run(f"systemctl stop {unit}.socket {unit}.service; rm -rf /etc/systemd/system/{unit}.socket.d")
        machine.run(f"rm -rf /etc/legacyhost/{plugin}.toml /etc/legacyhost/pki/{plugin} /var/lib/legacyhost/{plugin}")
    # The machine's own Docker, which doctor has asked, has seen them too.
    machine.run("systemctl daemon-reload; systemctl restart docker", timeout=120)


def serve(installed: Installed, plugin: str, listen: str, socket: str = "") -> None:
    """A plugin's configuration, and what is to be added to the unit of its socket; it is not started."""
    machine = installed.machine
    machine.write(f"/etc/legacyhost/{plugin}.toml", f'log_level = "debug"\n[volume]\n{listen}')
    if socket:
        machine.write(f"/etc/systemd/system/legacyhost@{plugin}.socket.d/tcp.conf", f"[Socket]\n{socket}\n")
        machine.run("systemctl daemon-reload")


def create(installed: Installed, engine: Engine, plugin: str, volume: str) -> None:
    words = [word for key, value in installed.options(volume).items() for word in ("-o", f"{key}={value}")]
    engine.docker("volume", "create", "-d", plugin, *words, volume)


def test_volumes_are_made_listed_and_removed_from_elsewhere(installed: Installed, engine: Engine) -> None:
    """By the files that ``legacyhost spec`` has written; the plugin is started by the first call, and loses none."""
    volume = installed.name("afar")
    create(installed, engine, "afar", volume)
    assert volume in engine.docker("volume", "ls", "-q").stdout
    assert engine.docker("volume", "inspect", "-f", "{{.Driver}}", volume).stdout == "afar\n"
    engine.docker("volume", "rm", volume)
    assert volume not in engine.docker("volume", "ls", "-q").stdout
    assert "refused" not in installed.machine.journal("legacyhost@afar.service")
    status = installed.machine.run("systemctl show -p StatusText --value legacyhost@afar").stdout
    assert status.endswith("; on TCP [::]:7777 with TLS\n")
    found = json.loads(installed.machine.run("legacyhost doctor --json --plugin afar", check=False).stdout)
    levels = {each["check"]: each["level"] for each in found if each["check"] in ("network", "certificates")}
    assert levels == {"network": "ok", "certificates": "ok"}


def test_a_container_gets_a_volume_only_where_its_engine_sees_the_mounts(installed: Installed, engine: Engine) -> None:
    """Which is said in the configuration; otherwise the reason is the container's."""
    volume = installed.name("afar")
    create(installed, engine, "afar", volume)
    run = ("run", "--rm", "--network=none", "-v", f"{volume}:/data", "busybox", "sh", "-c", "echo here >/data/file")
    refused = engine.docker(*run, check=False).stderr
    assert "VolumeDriver.Mount: the plugin afar is reached over the network: its volumes can be made" in refused
    configure(installed, "mounts = true")
    engine.docker(*run)
    assert installed.on_remote(f"{volume}/file") == "here\n"
    engine.docker("volume", "rm", volume)
    configure(installed)


def configure(installed: Installed, *lines: str) -> None:
    """The section [listen] of the plugin afar, taken over."""
    text = "".join(f"{line}\n" for line in (f'[listen]\naddress = "{ADDRESS}:7777"', *lines))
    serve(installed, "afar", text)
    mark = installed.mark()
    installed.machine.run("systemctl reload legacyhost@afar")
    taken = f"journalctl -u legacyhost@afar --after-cursor='{mark}' | grep -q 'is taken over'"
    installed.machine.wait_for(taken)


def test_no_call_is_lost_while_the_plugin_is_restarted(installed: Installed, engine: Engine) -> None:
    """The socket is systemd's."""
    volume = installed.name("afar")
    create(installed, engine, "afar", volume)
    asking = f"i=0; while [ -e /run/asking ]; do docker -H {SOCKET} volume inspect {volume} >/dev/null || exit 1; done"
    installed.machine.write("/run/asking", "")
    background = [installed.machine.popen(asking) for _ in range(3)]
    for _ in range(3):
        installed.machine.run("systemctl restart legacyhost@afar")
    installed.machine.run("rm /run/asking")
    assert [each.wait(60) for each in background] == [0, 0, 0]
    engine.docker("volume", "rm", volume)


def test_requests_are_authorized_from_elsewhere(installed: Installed, engine: Engine) -> None:
    """Those of an engine on another host, by a policy on this one; and it is told what is wrong with that."""
    machine = installed.machine
    policy = '[authz]\n[[authz.rule]]\nname = "readers"\nallow = ["ping", "read-only"]\n'
    listen = f'[listen]\naddress = "{ADDRESS}:7779"\n'
    serve(installed, "guard", "", "ListenStream=7779")
    machine.write("/etc/legacyhost/guard.toml", policy + listen)
    machine.run(["legacyhost", "pki", "guard", "--host", NAME, "--host", ADDRESS])
    machine.run("systemctl start legacyhost@guard.socket")
    machine.run(f"legacyhost spec guard | tar -x -C {PLUGINS}")
    engine.asks("guard")
    try:
        engine.docker("volume", "ls")
        refused = engine.docker("volume", "create", "denied", check=False).stderr
        assert "authorization denied by plugin guard: no rule allows" in refused
        machine.write("/etc/legacyhost/guard.toml", policy.replace("read-only", "reed-only") + listen)
        machine.run("systemctl restart legacyhost@guard")
        assert "reed-only" in engine.docker("volume", "ls", check=False).stderr
    finally:
        engine.asks()
    engine.docker("volume", "create", "allowed")


@pytest.mark.any_debian
def test_who_does_not_fit_is_refused_and_both_sides_say_why(
    installed: Installed, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker tries for 15 seconds, so all of them at a time."""
    machine, own = installed.machine, f"{PLUGINS}/afar"
    pki.make(tmp_path / "foreign", "foreign", [NAME], ["docker"])
    monkeypatch.setattr(pki, "SKEW", timedelta(days=3))
    monkeypatch.setattr(pki, "CERTIFICATE", timedelta(days=-1))
    machine.run("cp -r /etc/legacyhost/pki/afar /root/late")
    late = machine.path("/root/late")
    pki.renew(late, [], ["docker"])
    machine.put(tmp_path / "foreign", f"{PLUGINS}/../foreign")
    machine.run(f"mv /root/late {PLUGINS}/../late && cp -r {PLUGINS}/../late /etc/legacyhost/pki/stale")
    serve(installed, "stale", f'[listen]\naddress = "{ADDRESS}:7778"\n', "ListenStream=7778")
    machine.run("systemctl start legacyhost@stale.socket")
    base = str(PurePosixPath(PLUGINS).parent)
    foreign, expired = f"{base}/foreign/clients/docker", f"{base}/late/clients/docker"
    ca, pair = f"{own}/ca.pem", (f"{own}/cert.pem", f"{own}/key.pem")
    there = f"https://{NAME}:7777"
    cases = {
        "nocert": (there, ca, "", "", "certificate required", "it has shown no certificate"),
        "alien": (there, ca, f"{foreign}/cert.pem", f"{foreign}/key.pem", "unknown certificate authority",
                  "its certificate is not of the authority /etc/legacyhost/pki/afar/ca.pem"),
        "expired": (there, ca, f"{expired}/cert.pem", f"{expired}/key.pem", "expired certificate",
                    "its certificate has expired"),
        "wrongca": (there, f"{base}/foreign/ca.pem", *pair, "x509: certificate signed by unknown authority",
                    "it does not accept the certificate of this host"),
        "wrongname": ("https://other.test:7777", ca, *pair, "x509: certificate is valid for nas.test, not other.test",
                      "it does not accept the certificate of this host"),
        "notls": (f"http://{NAME}:7777", "", "", "", "EOF|reset|malformed", "it speaks HTTP without TLS"),
        "oldserver": (f"https://{NAME}:7778", ca, *pair, "x509: certificate has expired",
                      "it does not accept the certificate of this host (bad certificate): /etc/legacyhost"),
    }  # fmt: skip
    for name, (address, authority, certificate, key, *_) in cases.items():
        engine.knows(name, address, CAFile=authority, CertFile=certificate, KeyFile=key)
    with ThreadPoolExecutor(len(cases)) as threads:
        said = threads.map(lambda name: engine.docker("volume", "create", "-d", name, name, check=False).stderr, cases)
        docker = dict(zip(cases, said, strict=True))
    machine.run(["rm", *(f"{PLUGINS}/{name}.json" for name in cases)])
    journal = machine.journal("legacyhost@afar.service") + machine.journal("legacyhost@stale.service")
    for name, (*_, theirs, ours) in cases.items():
        assert re.search(theirs, docker[name]), f"{name}: {docker[name]}"
        assert re.search(rf"the client at 192\.0\.2\.18:\d+ is refused: {re.escape(ours)}", journal), (
            f"{name}: {journal}"
        )


def test_a_client_that_is_not_named_is_told_so(installed: Installed, engine: Engine) -> None:
    """At the handshake, which Docker passes on at once."""
    machine = installed.machine
    machine.run("legacyhost pki afar --client other")
    configure(installed, 'clients = ["docker"]')
    machine.run("legacyhost pki afar --renew --client other")
    other = "/etc/legacyhost/pki/afar/clients/other"
    engine.knows("unnamed", f"https://{NAME}:7777", CAFile=f"{PLUGINS}/afar/ca.pem", CertFile=f"{other}/cert.pem",
                 KeyFile=f"{other}/key.pem")  # fmt: skip
    said = engine.docker("volume", "create", "-d", "unnamed", "x", check=False).stderr
    machine.run(f"rm {PLUGINS}/unnamed.json")
    assert "its certificate is of other, who is not in listen.clients" in said
    assert engine.docker("volume", "ls", "-q", "-f", "driver=afar").returncode == 0
    configure(installed)


def test_a_loopback_is_reached_without_tls(installed: Installed, engine: Engine) -> None:
    """By a .spec; here it is the engine's loopback, and systemd's socket is in there."""
    machine = installed.machine
    serve(installed, "near", '[listen]\naddress = "127.0.0.1:7779"\nplain = true\n',
          "ListenStream=127.0.0.1:7779\nNetworkNamespacePath=/run/netns/engine")  # fmt: skip
    machine.run("systemctl start legacyhost@near.socket")
    machine.run(f"legacyhost spec near | tar -x -C {PLUGINS}")
    assert machine.read(f"{PLUGINS}/near/near.spec") == "tcp://127.0.0.1:7779\n"
    volume = installed.name("near")
    create(installed, engine, "near", volume)
    engine.docker("volume", "rm", volume)


def test_what_systemd_hands_over_is_never_served_in_clear(installed: Installed, engine: Engine) -> None:
    """Without [listen], or in clear where others can come; the plugin's own socket works, and the status says why."""
    machine = installed.machine
    for plugin, listen, why in (
        ("bare", "", "systemd has handed over [::]:7780, and bare.toml has no section [listen]"),
        (
            "bare",
            "[listen]\nplain = true",
            "listen.plain is for loopback addresses, and systemd has handed over [::]:7780",
        ),
    ):
        serve(installed, plugin, listen, "ListenStream=7780")
        machine.run(f"systemctl stop legacyhost@{plugin}.service; systemctl restart legacyhost@{plugin}.socket")
        machine.run(["legacyhost", "call", "--plugin", plugin, "Plugin.Activate"])
        status = machine.run(f"systemctl show -p StatusText --value legacyhost@{plugin}").stdout
        assert status == f"serving volumes, driver sshfs, scope local; not on TCP: {why}\n"
        asked = "printf 'POST /Plugin.Activate HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n'"
        assert machine.run(f'bash -c "exec 3<>/dev/tcp/{ADDRESS}/7780; {asked} >&3; cat <&3"', check=False).stdout == ""
        assert f"is refused: {why}" in machine.journal(f"legacyhost@{plugin}.service")
    machine.run("systemctl stop legacyhost@bare.socket legacyhost@bare.service")
