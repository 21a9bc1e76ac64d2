"""A real dockerd that asks the plugin about every request: what it allows, and that it denies whatever goes wrong."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .inside import Done
from .installed import Installed
from .machine import Machine

NAME = "guard"
CONFIGURATION, POLICY = f"/etc/legacyhost/{NAME}.toml", f"/etc/legacyhost/policies/{NAME}.toml"
STATE = f"/var/lib/legacyhost/{NAME}"
SERVICE, SOCKET = f"legacyhost@{NAME}.service", f"legacyhost@{NAME}.socket"
DAEMON = "/etc/docker/daemon.json"
DENIED = f"authorization denied by plugin {NAME}: "
ANY = '[[rule]]\nname = "any"\nallow = ["everything"]\n'
READS = '[[rule]]\nname = "reads"\nallow = ["ping", "read-only"]\n'
BY_FILE = f'log_level = "debug"\n[authz]\npolicy = "policies/{NAME}.toml"\nlog = "all"\n'
TLS, ASK = "/etc/docker/tls", "/root/ask.py"
JSON = "Content-Type: application/json"
#: One request to dockerd's own socket: METHOD PATH BODY HEADER...; or one after the other until a file is there.
ASKING = """
import contextlib, os, socket, sys
method, path, body, *headers = sys.argv[1:]
body = open(body[1:]).read() if body[:1] == "@" else body
more = "".join(f"{header}\\r\\n" for header in headers if not header.startswith("until="))
more += f"Content-Length: {len(body)}\\r\\nHost: docker\\r\\nConnection: close\\r\\n"
head = f"{method} {path} HTTP/1.1\\r\\n{more}\\r\\n"
until = [header[6:] for header in headers if header.startswith("until=")]
while True:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("/run/docker.sock")
        with contextlib.suppress(BrokenPipeError):  # it need not read all of what it denies
            connection.sendall((head + body).encode())
        with connection.makefile("rb") as answer:
            content = answer.read().decode("utf-8", "replace")
    print(content.split(" ")[1] if until else content, flush=True)
    if not until or os.path.exists(until[0]):
        break
"""


class Guarded:
    """A machine whose dockerd asks the plugin ``guard`` about every request."""

    def __init__(self, installed: Installed) -> None:
        self.installed, self.machine = installed, installed.machine
        self.machine.write(ASK, ASKING)
        self.set_up(BY_FILE, ANY)
        settings = json.loads(self.machine.read(DAEMON))
        # Twice: it is asked once.
        self.machine.write(DAEMON, json.dumps({**settings, "authorization-plugins": [NAME, NAME]}))
        self.machine.run(f"systemctl enable --quiet --now {SOCKET} && systemctl reload docker")
        self.machine.wait_for(lambda: self.docker("ps") and self.status() == f"authorizing by {POLICY}", 20)

    def set_up(self, configuration: str, policy: str = ANY) -> None:
        self.machine.write(CONFIGURATION, configuration, 0o600)
        self.machine.write(POLICY, policy, 0o600)

    def reload(self, status: str = f"^authorizing by {POLICY}$") -> None:
        """Returns when the configuration is taken over, and the status is that (a regular expression)."""
        mark = self.mark()
        self.machine.run(["systemctl", "reload", SERVICE])
        self.machine.wait_for(lambda: any("taken over" in str(line["MESSAGE"]) for line in self.lines(mark)), 20)
        self.machine.wait_for(lambda: re.search(status, self.status()), 20)

    def status(self) -> str:
        return self.machine.run(["systemctl", "show", "-p", "StatusText", "--value", SERVICE]).stdout.strip()

    def docker(self, *arguments: str) -> Done:
        return self.machine.docker(*arguments, check=False)

    def denied(self, *arguments: str) -> str:
        """The plugin's reason."""
        ran = self.docker(*arguments)
        assert ran.returncode, ran.stdout
        assert DENIED in ran.stderr, ran.stderr
        return ran.stderr.partition(DENIED)[2].strip()

    def problems(self) -> dict[str, str]:
        """What the doctor finds, by the name of the check."""
        ran = self.machine.run(["legacyhost", "doctor", "--plugin", NAME, "--json"], check=False)
        return {found["check"]: found["what"] for found in json.loads(ran.stdout) if found["level"] != "ok"}

    def http(self, method: str, path: str, body: str = "", *headers: str) -> str:
        """The whole answer of dockerd's own socket."""
        return self.machine.run(["python3", ASK, method, path, body, *headers]).stdout

    def mark(self) -> str:
        return self.installed.mark()

    def lines(self, mark: str) -> list[dict[str, object]]:
        """What the plugin's journal has since then."""
        self.machine.run("journalctl --sync")
        shown = self.machine.run(["journalctl", "-o", "json", f"--after-cursor={mark}"]).stdout
        entries = [json.loads(line) for line in shown.splitlines()]
        return [entry for entry in entries if entry.get("_SYSTEMD_UNIT") == SERVICE]

    def calls(self, mark: str) -> Counter[object]:
        return Counter(line["RPC"] for line in self.lines(mark) if "RPC" in line)

    def decisions(self, mark: str) -> list[tuple[object, ...]]:
        """Decision, rule, user, method and path of each that was logged."""
        names = ("DECISION", "RULE", "USER", "METHOD", "PATH")
        lines = [line for line in self.lines(mark) if "AUTHZ_DECISION" in line]
        return [tuple(line[f"AUTHZ_{name}"] for name in names) for line in lines]


@pytest.fixture(scope="module")
def guarded_machine(image: Path, deb: Path) -> Iterator[Guarded]:
    with Machine(image) as machine:
        assert not machine.boot()
        machine.import_image("busybox", engines=["docker"])
        made = Guarded(Installed(machine, deb))
        yield made
        text = machine.journal(SERVICE)
        assert "Traceback" not in text, text


@pytest.fixture
def guarded(guarded_machine: Guarded) -> Guarded:
    """As it was at first, whatever a test has done to it."""
    guarded_machine.set_up(BY_FILE)
    guarded_machine.installed.remote.start()
    guarded_machine.machine.run(["systemctl", "restart", SERVICE])
    return guarded_machine


def test_what_is_allowed_is_done(guarded: Guarded) -> None:
    """moby's case: each request is asked about, by its path without the version; so is each answer."""
    mark = guarded.mark()
    name = guarded.installed.name()
    assert guarded.docker("run", "--name", name, "--network", "none", "busybox", "echo", "done").stdout == "done\n"
    guarded.machine.docker("rm", name)
    asked = guarded.decisions(mark)
    assert {decision[:3] for decision in asked} == {("allow", "any", "")}
    paths = [f"{method} {path}" for *_, method, path in asked]
    assert paths[:2] == ["HEAD /_ping", "POST /containers/create"]
    assert any(re.fullmatch(r"POST /containers/[0-9a-f]{64}/start", path) for path in paths)
    calls = guarded.calls(mark)
    assert calls["AuthZPlugin.AuthZReq"] == calls["AuthZPlugin.AuthZRes"] == len(paths)


def test_it_is_asked_once_however_often_it_is_named(guarded: Guarded) -> None:
    """moby's case; and what Docker answers arrives as it was."""
    mark = guarded.mark()
    answer = guarded.http("GET", "/v1.40/version")
    assert re.search("(?i)^content-type: application/json", answer, re.M)
    assert '"ApiVersion"' in answer
    assert guarded.calls(mark) == {"AuthZPlugin.AuthZReq": 1, "AuthZPlugin.AuthZRes": 1}


def test_what_is_denied_is_not_done_and_the_reason_arrives(guarded: Guarded) -> None:
    """moby's case: 403, the exact text, and no second question. The rule is named, and what would be allowed."""
    guarded.set_up(BY_FILE, READS)
    guarded.reload()
    mark = guarded.mark()
    answer = guarded.http("POST", "/volumes/create", '{"Name": "no"}', JSON)
    assert answer.startswith("HTTP/1.1 403 ")
    assert f'{{"message":"{DENIED}no rule allows' in answer
    assert guarded.calls(mark) == {"AuthZPlugin.AuthZReq": 1}
    assert guarded.decisions(mark) == [("deny", "", "", "POST", "/volumes/create")]
    assert "read-only" in guarded.denied("volume", "create", "no")
    assert "no" not in guarded.docker("volume", "ls", "-q").stdout.split()


def test_streams_and_large_bodies_pass(guarded: Guarded) -> None:
    """moby's cases: events, save and load, import and export, 10 MiB copied both ways."""
    machine = guarded.machine
    events = machine.popen(["docker", "events", "--filter", "type=container"])
    machine.run(
        "set -e; cd /root; head -c 10485760 /dev/urandom >big; docker create --name big --network none busybox true;"
        " docker cp big big:/big; docker cp big:/big back; cmp big back; docker export big >exported;"
        " docker import exported imported; docker save busybox >saved; docker load <saved; docker rm big;"
        " docker rmi imported; rm big back exported saved"
    )
    assert events.stdout is not None
    assert "container create" in events.stdout.readline()
    events.end()


def test_a_body_that_docker_leaves_out_is_refused_where_it_matters(guarded: Guarded) -> None:
    """More than 1 MiB does not arrive here from most versions; a rule without conditions does not look at it."""
    machine = guarded.machine
    content = {"Image": "busybox", "Labels": {"fill": "x" * (2 << 20)}, "HostConfig": {"Privileged": True}}
    machine.write("/root/body", json.dumps(content))
    given = ("@/root/body", JSON)
    assert guarded.http("POST", "/containers/create", *given).startswith("HTTP/1.1 201 ")
    guarded.set_up(BY_FILE, f'{READS}[[rule]]\nname = "some"\nallow = ["containers"]\n[rule.container]\n')
    guarded.reload()
    answer = guarded.http("POST", "/containers/create", *given)
    assert answer.startswith("HTTP/1.1 403 "), answer
    assert "denied by plugin guard: the rule 'some'" in answer
    assert guarded.docker("run", "--rm", "--network", "none", "busybox", "true").returncode == 0
    assert "privileged" in guarded.denied("run", "--rm", "--privileged", "busybox", "true")
    machine.run("docker ps -aq | xargs docker inspect -f '{{.Id}}' >/root/left")
    guarded.set_up(BY_FILE)
    guarded.reload()
    machine.run("xargs docker rm -f </root/left")


def test_the_user_is_the_name_in_the_certificate(guarded: Guarded) -> None:
    """By TCP with client certificates; at Docker's own socket there is none."""
    machine = guarded.machine
    mine, theirs = "CN=anna", "CN=server"
    machine.run(
        f"set -e; mkdir -p {TLS}; cd {TLS}; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        " -subj /CN=ca -days 2 -keyout ca.key -out ca.pem; echo subjectAltName=IP:127.0.0.1 >san;"
        f" for who in {mine} {theirs}; do openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /$who"
        " -keyout ${who#CN=}.key -out request; openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial"
        " -days 2 -extfile san -out ${who#CN=}.pem; done"
    )
    flags = f"--tlsverify --tlscacert={TLS}/ca.pem --tlscert={TLS}/server.pem --tlskey={TLS}/server.key"
    command = f"/usr/sbin/dockerd -H fd:// -H tcp://127.0.0.1:2376 {flags}"
    drop_in = "/etc/systemd/system/docker.service.d/tls.conf"
    machine.write(drop_in, f"[Service]\nExecStart=\nExecStart={command}\n")
    machine.run("systemctl daemon-reload; systemctl restart docker")
    guarded.set_up(BY_FILE, f'{READS}[[rule]]\nname = "anna"\nwho = ["anna"]\nallow = ["everything"]\n')
    guarded.reload()
    mark = guarded.mark()
    as_anna = [
        *("docker", "-H", "tcp://127.0.0.1:2376", "--tlsverify", f"--tlscacert={TLS}/ca.pem"),
        *(f"--tlscert={TLS}/anna.pem", f"--tlskey={TLS}/anna.key"),
    ]
    machine.run([*as_anna, "volume", "create", "annas"])
    guarded.denied("volume", "rm", "annas")
    machine.run([*as_anna, "volume", "rm", "annas"])
    changes = [decision for decision in guarded.decisions(mark) if decision[3] not in ("GET", "HEAD")]
    assert changes == [
        ("allow", "anna", "anna", "POST", "/volumes/create"),
        ("deny", "", "", "DELETE", "/volumes/annas"),
        ("allow", "anna", "anna", "DELETE", "/volumes/annas"),
    ]
    machine.run(f"rm -r {drop_in} {TLS}; systemctl daemon-reload; systemctl restart docker")


@pytest.mark.parametrize(
    "command", [f"systemctl restart {SERVICE}", f"systemctl reload {SERVICE}", "dpkg -i /root/legacyhost.deb"]
)
def test_no_request_fails_while_the_plugin_goes_and_comes(guarded: Guarded, command: str) -> None:
    """The socket stays with systemd; a call that is at work is finished."""
    machine = guarded.machine
    machine.run("rm -f /run/enough")
    asking = ["python3", ASK, "GET", "/containers/json", "", "until=/run/enough"]
    askers = [machine.popen(asking) for _ in range(4)]
    for _ in range(1 if "dpkg" in command else 3):
        machine.run(command, timeout=120)
        guarded.docker("ps")
    machine.run("touch /run/enough")
    codes = Counter(code for asker in askers for code in asker.communicate(timeout=60)[0].split())
    assert set(codes) == {"200"}, codes
    assert codes["200"] > 20


def test_what_is_wrong_with_a_policy_denies_and_is_mended_without_docker(guarded: Guarded) -> None:
    """Missing, broken, empty, in NAME.toml itself: the reason each time; soon after it is mended, Docker works."""
    machine = guarded.machine
    wrong: dict[str, Callable[[], object]] = {
        f"there is no policy {POLICY}": lambda: machine.run(["rm", POLICY]),
        f"{POLICY}: the policy is not TOML": lambda: guarded.set_up(BY_FILE, "[[rule"),
        f"{POLICY}: ": lambda: guarded.set_up(BY_FILE, ""),
        f"{CONFIGURATION}: ": lambda: guarded.set_up("[authz]\n"),
        f"{CONFIGURATION} cannot be read": lambda: guarded.set_up("[authz"),
        f"there is no {CONFIGURATION}": lambda: machine.run(["rm", CONFIGURATION]),
    }
    by_itself = (f"there is no policy {POLICY}", f"{CONFIGURATION} cannot be read")
    since = machine.run("systemctl show -p ActiveEnterTimestampMonotonic docker.service").stdout
    for reason, spoil in wrong.items():
        spoil()
        machine.run(["systemctl", "stop", SERVICE])
        assert reason in guarded.denied("ps")
        machine.wait_for(lambda said=reason: said in guarded.status())  # type: ignore[misc]
        guarded.set_up(BY_FILE)
        if reason not in by_itself:
            machine.run(["systemctl", "reload", SERVICE])
        machine.wait_for(lambda: guarded.docker("ps").returncode == 0, 20, 0.1)
    assert machine.run("systemctl show -p ActiveEnterTimestampMonotonic docker.service").stdout == since


def test_a_broken_policy_is_not_taken_over(guarded: Guarded) -> None:
    """The one in force stays, and the status says why; whoever has typed the reload need not look into a log."""
    guarded.set_up(BY_FILE, "[[rule]]\nallow = 3")
    guarded.reload(f"^authorizing by {POLICY}; not taken over: {POLICY}: ")
    assert guarded.docker("ps").returncode == 0


def test_docker_comes_up_at_boot_with_a_configuration_that_is_broken(guarded: Guarded) -> None:
    """It would not start if the plugin said nothing, and stay down; what it was told before, it is told again."""
    machine = guarded.machine
    guarded.set_up("[authz")
    assert machine.reboot() == ()
    assert f"{CONFIGURATION} cannot be read" in guarded.denied("ps")
    guarded.set_up(BY_FILE)
    machine.wait_for(lambda: guarded.docker("ps").returncode == 0, 20, 0.5)


def test_a_dry_run_denies_nothing_and_says_what_it_would(guarded: Guarded) -> None:
    """The way to find out what a policy does before it does it."""
    assert guarded.problems() == {}
    guarded.set_up(f"{BY_FILE}dry_run = true\n", READS)
    guarded.reload(r"\(dry run: nothing is denied\)")
    mark = guarded.mark()
    machine = guarded.machine
    machine.docker("volume", "create", "dry")
    machine.docker("volume", "rm", "dry")
    changes = [decision for decision in guarded.decisions(mark) if decision[3] not in ("GET", "HEAD")]
    assert changes == [
        ("would-deny", "", "", "POST", "/volumes/create"),
        ("would-deny", "", "", "DELETE", "/volumes/dry"),
    ]


def test_no_secret_is_in_the_journal(guarded: Guarded) -> None:
    """Bodies, queries and headers have passwords in them: of a login, of an environment, of a build."""
    secret = "s3cr3tOfTheLogin"
    body = json.dumps({"username": "anna", "password": secret, "serveraddress": "127.0.0.1:1"})
    guarded.set_up(BY_FILE, f'{READS}[[rule]]\nname = "some"\nallow = ["containers"]\n[rule.container]\n')
    guarded.reload()
    guarded.http("POST", "/auth", body, JSON)
    guarded.http("POST", f"/build?buildargs=%7B%22P%22%3A%22{secret}%22%7D", "", f"X-Registry-Config: {secret}")
    guarded.http("POST", "/containers/create", json.dumps({"Image": "none", "Env": [f"P={secret}"]}), JSON)
    wrong = {"Image": "none", "Env": [f"P={secret}"], "HostConfig": {"Privileged": True}}
    guarded.http("POST", "/containers/create", json.dumps(wrong), JSON)
    guarded.machine.run("journalctl --sync")
    shown = guarded.machine.run(["journalctl", "-o", "export", "-u", SERVICE]).stdout
    assert "/containers/create" in shown
    assert secret not in shown
    coded = subprocess.run(["base64"], input=body, capture_output=True, text=True, check=True).stdout
    assert coded[20:60] not in shown


def test_both_surfaces_under_one_name(guarded: Guarded) -> None:
    """Each may be slow or broken without the other: a remote host that is dead, a record that cannot be read."""
    machine, installed = guarded.machine, guarded.installed
    guarded.set_up(f"{BY_FILE}[volume]\n")
    machine.run(f"systemctl restart {SERVICE} docker")
    words = [word for key, value in installed.options("both").items() for word in ("-o", f"{key}={value}")]
    machine.run(f"mkdir -p {installed.remote.home}/both; chown alice: {installed.remote.home}/both")
    machine.docker("volume", "create", "-d", NAME, *words, "both")
    installed.remote.freeze(listener=True)
    waiting = machine.popen(["docker", "volume", "create", "-d", NAME, *words, "-o", "timeout=60", "slow"])
    machine.wait_for(lambda: "[slow]" in guarded.docker("ps", "--format", "[slow]").stdout + "[slow]")
    assert guarded.docker("ps").returncode == 0
    assert waiting.poll() is None
    installed.remote.thaw()
    waiting.communicate(timeout=60)
    machine.docker("volume", "rm", "both", "slow")  # Docker would wait for the record of those it knows
    machine.run(f"systemctl stop {SERVICE}; mv {STATE}/volumes.db /root/kept; echo garbage >{STATE}/volumes.db")
    machine.run("systemctl restart docker")
    assert guarded.docker("ps").returncode == 0
    machine.wait_for(lambda: re.search(f"^no volumes: .*{STATE}/volumes.db.*; authorizing by", guarded.status()))
    machine.run(f"mv /root/kept {STATE}/volumes.db; systemctl reload {SERVICE}")
    machine.wait_for(lambda: "serving volumes" in guarded.status(), 30)
    machine.docker("volume", "create", "-d", NAME, *words, "both")
    machine.docker("volume", "rm", "both")


def test_a_section_that_is_gone_denies_as_long_as_docker_asks(guarded: Guarded) -> None:
    """Docker does not find out before it starts again; then it refuses to, and says which plugin it misses."""
    guarded.set_up("[volume]\n")
    guarded.reload("^serving volumes")
    assert f"{NAME}.toml has no section for this any more" in guarded.denied("ps")
    assert "has no section [authz]" in guarded.problems()["authorization"]
    guarded.set_up(BY_FILE)
    guarded.reload()
    assert guarded.docker("ps").returncode == 0


def test_a_policy_on_another_host(guarded: Guarded) -> None:
    """It is fetched, what has changed there taken over; away at boot, the last good one is in force, with its age."""
    machine, remote = guarded.machine, guarded.installed.remote
    there = f"{remote.home}/policy.toml"
    machine.run(["legacyhost", "credential", "add", "--replace", "policies", "--key", remote.key])
    address = f"ssh://alice@127.0.0.1:2222{there}"
    machine.write(there, READS)
    guarded.set_up(f'log_level = "debug"\n[authz]\npolicy = "{address}"\ncredential = "policies"\nrefresh = 5\n')
    machine.run(["systemctl", "restart", SERVICE])
    machine.wait_for(lambda: guarded.docker("ps").returncode == 0)
    assert "no rule allows" in guarded.denied("volume", "create", "far")
    machine.wait_for(lambda: guarded.status().startswith(f"authorizing by {address}"))
    machine.write(there, ANY)
    machine.wait_for(lambda: guarded.docker("volume", "create", "far").returncode == 0, 20, 0.5)
    # What is broken there is not taken over.
    machine.write(there, "[[rule")
    machine.wait_for(lambda: re.search("not taken over: .* is not TOML", guarded.status()), 20)
    assert guarded.docker("volume", "rm", "far").returncode == 0
    # Away at boot.
    machine.run(["systemctl", "disable", "--quiet", remote.unit])
    assert machine.reboot() == ()
    assert guarded.docker("volume", "create", "far").returncode == 0
    away = "read there .* ago; not taken over: .* refused the connection"
    machine.wait_for(lambda: re.search(away, guarded.status()), 30)
    assert (machine.path(f"{STATE}/policy.json").stat().st_mode & 0o777) == 0o600
    # The copy is of that place, not of another one.
    guarded.set_up('[authz]\npolicy = "ssh://alice@127.0.0.1:2222/elsewhere"\ncredential = "policies"\n')
    machine.run(["systemctl", "restart", SERVICE])
    machine.wait_for(lambda: "refused the connection" in guarded.denied("ps"), 20)
    machine.run(["systemctl", "enable", "--quiet", "--now", remote.unit])
    guarded.set_up(BY_FILE)
    guarded.reload()
    machine.docker("volume", "rm", "far")


def test_what_a_policy_takes_for_granted_of_docker(guarded: Guarded) -> None:
    """Keys in any case, from both of two objects; no path that is not clean; a form in the body before the query."""
    mark = guarded.mark()
    assert "301 Moved" in guarded.http("POST", "//containers/create", "{}", JSON)
    assert "301 Moved" in guarded.http("GET", "/v1.40/containers/%2e%2e/info")
    assert guarded.decisions(mark) == []
    name = guarded.installed.name()
    body = '{"Image":"busybox","Ho\\u017ftConfig":{"PRIVILEGED":true},"hostconfig":{"Networ\\u212aMode":"none"}}'
    assert "201 Created" in guarded.http("POST", f"/containers/create?name={name}", body, JSON)
    shown = "{{.HostConfig.Privileged}} {{.HostConfig.NetworkMode}}"
    assert guarded.machine.docker("inspect", "-f", shown, name).stdout == "true none\n"
    form = ("Content-Type: application/x-www-form-urlencoded", "Content-Type: application/x-tar")
    assert "204" in guarded.http("POST", f"/containers/{name}/rename?name={name}-a", f"name={name}-b", *form)
    guarded.machine.docker("rm", f"{name}-b")


def test_a_rule_with_conditions(guarded: Guarded) -> None:
    """What docker sends without asking for anything passes; what would have the host does not."""
    guarded.machine.write(POLICY, '[[rule]]\nallow = ["everything"]\n[rule.container]\nbinds = ["/srv/ci"]\n', 0o600)
    guarded.reload()
    guarded.machine.run("mkdir -p /srv/ci/data /srv/closed && chmod 700 /srv/closed && chown 1000 /srv/closed")
    guarded.machine.run("ln -sfn /etc /srv/ci/out")
    run = ("run", "--rm", "--network", "none")
    done = guarded.docker(*run, "-v", "/srv/ci/data:/x", "-v", "anything:/y", "busybox", "echo", "done")
    assert done.stdout == "done\n", done.stderr
    assert "privileged" in guarded.denied(*run, "--privileged", "busybox")
    assert "/srv/ci/out (that is /etc)" in guarded.denied(*run, "-v", "/srv/ci/out:/x", "busybox")
    assert "may not look at /srv/closed/x" in guarded.denied(*run, "-v", "/srv/closed/x:/x", "busybox")
    bind = ("type=none", "o=bind", "device=/")
    assert "volume option" in guarded.denied("volume", "create", *(f"--opt={each}" for each in bind))
    chunked = guarded.http("POST", "/containers/none/start", "2\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
    assert "needs to see the body" in chunked
    assert "No such container" in guarded.http("POST", "/containers/none/start")
