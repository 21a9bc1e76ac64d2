"""The language of a policy: what is wrong in one, who and what a rule is about, and how requests are read."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from legacyhost import policy
from legacyhost.errors import ConfigError, InvalidRequest
from legacyhost.policy import endpoints, explain, target
from legacyhost.policy.limits import TABLES
from legacyhost.policy.patterns import Patterns, fits_image, image_name
from legacyhost.wire import Fields

EXAMPLE = Path(__file__).parents[2] / "packaging" / "policies" / "policy.toml"
ALLOW = '[[rule]]\nname = "a"\nallow = ["ping"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has no [[rule]], so it would deny everything"),
        ("rule = []", "it has no [[rule]]"),
        ("rule = 5", "it has no [[rule]]"),
        ("rule = [5]", "rule 1 is no table"),
        ("[[rules]]\n", "rules is unknown; did you mean rule?"),
        ("[[rule]\n", "is not TOML: "),
        ("a = " + "[" * 3000, "is not TOML"),
        ("a = " + "9" * 5000, "is not TOML"),
        ("[[rule]]\n", "rule 1 has to have either allow or deny"),
        ('[[rule]]\nallow = ["ping"]\ndeny = ["ping"]\n', "either allow or deny"),
        ("[[rule]]\nallow = []\n", "rule 1 says nothing about what it allows"),
        ("[[rule]]\ndeny = []\n", "what it denies"),
        ('[[rule]]\nallow = "ping"\n', 'rule 1: allow has to be a list of texts, such as ["…", "…"]'),
        ("[[rule]]\nallow = [1]\n", "has to be a list of texts"),
        ('[[rule]]\nallow = ["a\\nb"]\n', "has to be a list of texts"),
        ('[[rule]]\nallow = ["container"]\n', "container is none of the groups; did you mean containers?"),
        ('[[rule]]\nallow = ["xyz"]\n', "xyz is none of the groups: ping, "),
        ('[[rule]]\nallow = ["/v1.41/info"]\n', "leave the version out of /v1.41/info"),
        ('[[rule]]\nallow = ["GET /a/../b"]\n', "no request that Docker answers"),
        ('[[rule]]\nallow = ["/a%20b"]\n', "no request that Docker answers"),
        ('[[rule]]\nallow = ["get /info"]\n', "get /info is none of the groups"),
        ('[[rule]]\nallow = ["/info?a=b"]\n', "is none of the groups"),
        ('[[rule]]\nname = ""\nallow = ["ping"]\n', "the name of rule 1 has to be a printable text"),
        ("[[rule]]\nname = 5\n", "the name of rule 1"),
        ('[[rule]]\nname = "' + "a" * 81 + '"\n', "the name of rule 1"),
        (ALLOW + ALLOW, "two rules have the name a"),
        (ALLOW + "who = []\n", "rule 1 (a) is for nobody"),
        (ALLOW + "who = 5\n", "rule 1 (a): who has to be a list"),
        (ALLOW + "whom = []\n", "rule 1 (a): whom is unknown; did you mean who?"),
        (ALLOW + "[rule.containers]\n", "rule 1 (a): containers is unknown; did you mean container?"),
        (ALLOW + "container = 5\n", "container has to be a table, [rule.container]"),
        (ALLOW + "[rule.container]\nbind = []\n", "container.bind is unknown; did you mean binds?"),
        (ALLOW + '[rule.container]\nbinds = "/a"\n', "container.binds has to be a list"),
        (ALLOW + '[rule.container]\nbinds = ["a"]\n', "a is no absolute path"),
        (ALLOW + '[rule.container]\nbinds = ["/a/../b"]\n', "/a/../b is no absolute path"),
        (ALLOW + '[rule.container]\nbinds = ["/a/"]\n', "/a/ is no absolute path"),
        (ALLOW + '[rule.container]\nbinds = ["/a/*"]\n', "cannot have * or : in it"),
        (ALLOW + '[rule.container]\nbinds = ["/a:rw"]\n', "cannot have * or : in it"),
        (ALLOW + '[rule.container]\nprivileged = "yes"\n', "container.privileged has to be true or false"),
        (ALLOW + '[rule.container]\nhost_namespaces = ["net"]\n', "net is none of pid, ipc, uts, user, cgroup"),
        (ALLOW + '[rule.container]\nimages = ["**/a*b*c*"]\n', "more than 3 of * and ** together in **/a*b*c*"),
        ('[[rule]]\ndeny = ["ping"]\n[rule.exec]\n', "rule 1 denies, and so has no [rule.exec]"),
        ('[[rule]]\nallow = ["ping"]\n' * 501, "more than 500 rules"),
    ],
    ids=lambda value: repr(value)[-50:],
)
def test_what_is_no_policy_is_told(text: str, said: str) -> None:
    """In one sentence that names the place."""
    with pytest.raises(policy.PolicyError) as caught:
        policy.load(text)
    assert isinstance(caught.value, ConfigError)
    assert said in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 500


def test_a_table_is_read_like_a_file() -> None:
    """Rules in a plugin's own configuration."""
    table = {"rule": [{"allow": ["ping"]}]}
    assert [rule.name for rule in policy.from_table(table).rules] == ["rule 1"]
    with pytest.raises(policy.PolicyError, match="has no"):
        policy.from_table({"rule": None})


def test_a_byte_order_mark_is_no_part_of_a_policy() -> None:
    assert policy.load("\ufeff" + ALLOW).rules[0].name == "a"


def test_the_example_is_a_policy_without_anything_odd() -> None:
    """It is read as it is shipped, and no rule in it is hidden by another."""
    read = policy.load(EXAMPLE.read_text("utf-8"))
    assert [text for rule, text in explain.warnings(read) if "binds" not in text] == []


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/info", "/info"),
        ("/v1.41/info?x=/../y", "/info"),
        ("/v1.41/volumes/a%20b", "/volumes/a b"),
        ("/v1/v1/info", "/v1/info"),
        ("/version", "/version"),
        ("/v1.41", "/v1.41"),
        ("/v1.41/", "/"),
        ("/volumes", "/volumes"),
        ("http://docker/v1.41/info", "/info"),
        ("HTTP://docker:80/info", "/info"),
        ("/images/a%2Fb/json", "/images/a/b/json"),
        ("/containers/%C3%A9/json", "/containers/é/json"),
        ("/a" * 2000, "/a" * 2000),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_path_is_what_dockers_router_sees(uri: str, path: str) -> None:
    assert target.split(uri)[0] == path


@pytest.mark.parametrize(
    "uri",
    [
        *("", "info", "*", "//info", "/a//b", "/a/./b", "/a/..", "/%2e%2e/a", "/%", "/%2", "/%zz", "/%00", "/%0a"),
        *(
            "/%ff",
            "/a#b",
            "http://docker",
            "docker:80",
            "/%e2%80%a8",
            "/\udcff",
            "/" + "a" * 70_000,
            "/" + "a" * 5000,
            "/info\n",
        ),
    ],
)
def test_a_path_that_is_not_clear_is_denied(uri: str) -> None:
    """To whoever asks: Docker itself would redirect or refuse it, or it is none."""
    with pytest.raises(target.Unclear):
        target.split(uri)
    decision = policy.load('[[rule]]\nallow = ["everything"]\n').decide(policy.Question("", "GET", uri))
    assert not decision.allowed
    assert (decision.reason + decision.path).isprintable()


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("GET", "/containers/json", "/containers/json"),
        ("GET", "/containers/json/json", "/containers/{**}/json"),
        ("GET", "/containers/a/b/logs", "/containers/{**}/logs"),
        ("GET", "/containers/a/attach/ws", "/containers/{**}/attach/ws"),
        ("POST", "/containers/create", "/containers/create"),
        ("POST", "/containers/create/exec", "/containers/{**}/exec"),
        ("POST", "/containers/a/exec/start", "/containers/{**}/start"),
        ("DELETE", "/containers/a/checkpoints/b", "/containers/{}/checkpoints/{}"),
        ("DELETE", "/containers/a/b", "/containers/{**}"),
        ("GET", "/images/get", "/images/get"),
        ("GET", "/images/a/get", "/images/{**}/get"),
        ("GET", "/networks/a/b", "/networks/{**}"),
        ("GET", "/secrets/a", "/secrets/{}"),
        ("GET", "/secrets/a/b", None),
        ("GET", "/secrets/", None),
        ("OPTIONS", "/info", None),
        ("HEAD", "/info", None),
        ("get", "/info", None),
        ("GET", "/", None),
        ("GET", "/nonsense", None),
    ],
)
def test_an_endpoint_is_found_as_docker_finds_it(method: str, path: str, known: str | None) -> None:
    """Names may have slashes in them where they may for dockerd."""
    found = endpoints.find(method, path)
    assert (found.path if found else None) == known


def test_every_endpoint_is_found_by_its_own_path_and_has_groups_that_there_are() -> None:
    for each in endpoints.ALL:
        assert endpoints.find(each.method, each.path.replace("{**}", "a/b").replace("{}", "a")) is each
        assert each.groups
        assert each.groups <= set(endpoints.GROUPS)
        assert "!" not in each.path


def test_read_only_changes_nothing_and_gives_nothing_away() -> None:
    """Only GET and HEAD, and none of what reads files, secrets and keys, or attaches."""
    reading = [each for each in endpoints.ALL if "read-only" in each.groups]
    assert {each.method for each in reading} == {"GET", "HEAD"}
    for word in ("archive", "export", "attach", "logs", "get", "secrets", "configs", "swarm", "unlockkey", "debug"):
        assert not [each for each in reading if word in each.parts], word


@pytest.mark.parametrize(
    ("text", "name", "whole"),
    [
        ("debian", "debian", "debian:latest"),
        ("debian:12", "debian", "debian:12"),
        ("library/debian", "debian", "debian:latest"),
        ("docker.io/library/debian:12", "debian", "debian:12"),
        ("index.docker.io/a/b", "a/b", "a/b:latest"),
        ("nas:5000/a", "nas:5000/a", "nas:5000/a:latest"),
        ("nas:5000/a:1@sha256:0", "nas:5000/a", "nas:5000/a:1@sha256:0"),
        ("debian:12:13", "debian", "debian:12:13"),
        ("debian@sha256:0", "debian", "debian@sha256:0"),
        ("docker.io/library/a/b", "library/a/b", "library/a/b:latest"),
        ("docker.io/reg.example/a", "docker.io/reg.example/a", "docker.io/reg.example/a:latest"),
        ("index.docker.io/localhost/a:1", "docker.io/localhost/a", "docker.io/localhost/a:1"),
        ("", "", ":latest"),
    ],
)
def test_images_have_one_name(text: str, name: str, whole: str) -> None:
    """However it is spelt; without a tag it is the latest."""
    assert image_name(text) == (name, whole)


@pytest.mark.parametrize(
    ("pattern", "fitting", "other"),
    [
        ("debian", ["debian:12", "docker.io/library/debian", "debian@sha256:0"], ["debian2", "a/debian", "debian/x"]),
        ("debian:*", ["debian:12"], ["debian.evil.org/x", "debian/x:12"]),
        ("debian*", ["debian", "debian-slim:1"], ["debian.evil.org/x"]),
        ("reg.example/**", ["reg.example/a", "reg.example/a/b:1"], ["reg.example", "reg.example.evil/a"]),
        ("reg.example/*", ["reg.example/a"], ["reg.example/a/b"]),
        ("*", ["anything/at/all"], []),
        ("a.b/c", ["a.b/c"], ["axb/c"]),
        ("docker.io/library/debian:12", ["debian:12", "library/debian:12"], ["debian:13", "docker.io/x/debian:12"]),
        ("docker.io/debian", ["debian:12"], ["docker.io/a/debian", "a.b/debian"]),
        ("library/debian", ["debian"], ["a.b/library/debian"]),
        ("docker.io/a/b", ["a/b:1"], ["b", "a.b/a/b"]),
        ("docker.io/**", ["debian", "a/b", "docker.io/a.b/c"], ["a.b/c", "localhost/c"]),
        ("a.b/**", ["a.b/c"], ["docker.io/a.b/c", "index.docker.io/a.b/c:1"]),
        ("localhost/**", ["localhost/c"], ["docker.io/localhost/c"]),
        ("a*b*c", ["abc", "aabbcc", "axbxbxc"], ["acb", "ab/c", "abcd"]),
        ("**/b/**/c", ["a/b/x/c", "a/b/b/c/c"], ["b/x/c", "a/b/c"]),
        ("**/a*:1*", ["x/y/ab:12", "x/a:1"], ["a:1", "x/b/c:1"]),
    ],
)
def test_patterns_of_images(pattern: str, fitting: list[str], other: list[str]) -> None:
    """``*`` ends at a slash, and a dot is a dot."""
    assert [text for text in (*fitting, *other) if fits_image(Patterns([pattern]), text)] == fitting


def test_what_nearly_fits_costs_no_more_than_its_length() -> None:
    """Somebody who may send anything cannot keep the plugin busy with it: each of these would take years."""
    for pattern, flat in (("*a" * 50 + "b", True), ("**a" * 50 + "b", False), ("*a" * 50 + "b", False)):
        assert not Patterns([pattern], flat=flat).fit("a" * 500)
    assert not Patterns(["**/a*b*"]).fit("/a" * 100_000)
    assert Patterns(["/x*"], flat=True).fit("/x" + "/a" * 2000)  # what denies fits at any length


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_of_a_rule_can_be_given(table: str) -> None:
    """Each with everything it can have, and with nothing."""
    for wide in (True, False):
        given = {
            name: wide if isinstance(setting.default, bool) else ["*"] if wide else []
            for name, setting in TABLES[table].items()
        }
        read = policy.from_table({"rule": [{"allow": ["everything"], table: given}]})
        assert list(explain.sentences(read.rules[0]))


#: What each setting is about: a request that is allowed with it alone, and denied without.
SETTINGS: dict[str, tuple[object, str, object]] = {
    "container.privileged": (True, "", {"Privileged": True}),
    "container.capabilities": (["NET_ADMIN"], "", {"CapAdd": ["CAP_NET_ADMIN"]}),
    "container.capabilities all": (["ALL"], "", {"CapAdd": ["SYS_ADMIN", "all"]}),
    "container.binds": (["/srv"], "", {"Binds": ["/srv:/x"]}),
    "container.shared_mounts": (True, "", {"Binds": ["/:/x:rslave", "/:/y:rshared"]}),
    "container.devices": (["/dev/null"], "", {"Devices": [{"PathOnHost": "/dev/null"}]}),
    "container.device_requests": (["nvidia"], "", {"DeviceRequests": [{"Driver": "nvidia", "Count": 1}]}),
    "container.host_namespaces": (["pid", "uts"], "", {"PidMode": "host", "UTSMode": "host"}),
    "container.share_with": (["db"], "", {"VolumesFrom": ["db:ro"], "IpcMode": "container:db", "Links": ["db:a"]}),
    "container.security_options": (["label=type:*"], "", {"SecurityOpt": ["label:type:svirt_apache"]}),
    "container.unmasked": (True, "", {"MaskedPaths": []}),
    "container.sysctls": (["net.*"], "", {"Sysctls": {"net.core.somaxconn": "1"}}),
    "container.runtimes": (["runsc"], "", {"Runtime": "runsc"}),
    "container.cgroup_parents": (["/ci"], "", {"CgroupParent": "/ci"}),
    "container.log_drivers": (["syslog"], "", {"LogConfig": {"Type": "syslog", "Config": {"syslog-address": "x"}}}),
    "container.annotations": (["a.*"], "", {"Annotations": {"a.b/c": "1"}}),
    "container.oom_protected": (True, "", {"OomScoreAdj": -1, "OomKillDisable": True}),
    "exec.privileged": (True, "POST /containers/a/exec", {"Privileged": True}),
    "image.load": (True, "POST /images/load", None),
    "image.make": (["a"], "POST /images/x/tag?repo=a&tag=1", None),
    "build.networks": (["host"], "POST /build?networkmode=host", None),
    "build.remote": (["https://git.example.org/*"], "POST /build?remote=https://git.example.org/a/b.git", None),
    "build.sent_context": (True, "POST /build?t=a&dockerfile=b&cgroupparent= unseen", None),
    "build.buildkit": (True, "POST /build?version=2&remote=client-session&session=x", None),
    "volume.drivers": (["sshfs"], "POST /volumes/create", {"Name": "a", "Driver": "sshfs"}),
    "volume.options": (["size"], "POST /volumes/create", {"Name": "a", "DriverOpts": {"size": "1G"}}),
    "network.join": (["host"], "", {"NetworkMode": "host"}),
    "network.drivers": (["macvlan"], "POST /networks/create", {"Name": "a", "Driver": "macvlan"}),
    "network.options": (["mtu"], "POST /networks/create", {"Name": "a", "Options": {"mtu": "1"}}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_allows_what_it_says_and_nothing_does_without(name: str) -> None:
    table, setting = name.split()[0].split(".")
    value, asked, content = SETTINGS[name]
    method, uri, *unseen = (asked or "POST /containers/create").split(" ")
    body = json.dumps(content if asked else {"HostConfig": content}).encode() if content is not None else None
    question = policy.Question("", method, uri, {} if body or unseen else {"Content-Length": "0"}, body)
    beside: dict[str, object] = {"binds": ["*"]} if setting == "shared_mounts" else {}
    closed: dict[str, object] = {"make": [], "load": False}
    without = {setting: closed[setting]} if setting in closed else {}
    for given, allowed in ((beside | {setting: value}, True), (beside | without, False)):
        read = policy.from_table({"rule": [{"allow": ["everything"], table: given}]})
        assert read.decide(question).allowed is allowed, read.decide(question).reason


def test_every_setting_is_tried() -> None:
    """In the table above, or with the images and names that the bypass list has."""
    elsewhere = {"container.images", "exec.containers", "image.pull", "volume.names"}
    assert {name.split()[0] for name in SETTINGS} | elsewhere == {f"{a}.{b}" for a in TABLES for b in TABLES[a]}


def test_names_of_containers() -> None:
    """Where they decide who may run commands where, they cannot be changed."""
    read = policy.load('[[rule]]\nallow = ["containers", "exec"]\n[rule.exec]\ncontainers = ["web-*"]\n')
    for path, allowed in (
        ("/containers/web-1/exec", True),
        ("/containers/db/exec", False),
        ("/containers/web-1/db/exec", False),
        ("/containers/db/rename?name=web-2", False),
    ):
        assert read.decide(policy.Question("", "POST", path, {}, b'{"Cmd":["a"]}')).allowed is allowed


def test_it_is_said_who_has_the_host() -> None:
    """Who may make containers, and is under no condition."""
    for rule, said in (
        ('allow = ["exec"]', True),
        ('allow = ["containers"]\n[rule.container]', False),
        ('allow = ["read-only", "volumes"]', False),
        ('deny = ["exec"]', False),
    ):
        (read,) = policy.load(f"[[rule]]\n{rule}\n").rules
        assert any("the whole host" in sentence for sentence in explain.sentences(read)) is said, rule


def test_the_nearest_rule_is_named() -> None:
    """The first that would allow it but for a condition; and where there is none, what is allowed at all."""
    read = policy.load(
        '[[rule]]\nname = "first"\nallow = ["containers"]\n[rule.container]\n'
        '[[rule]]\nname = "second"\nallow = ["containers"]\n[rule.container]\ncapabilities = ["NET_ADMIN"]\n'
    )
    body = b'{"HostConfig":{"CapAdd":["NET_ADMIN"]}}'
    assert read.decide(policy.Question("", "POST", "/containers/create", {}, body)).rule == "second"
    decision = read.decide(policy.Question("", "POST", "/containers/create", {}, body.replace(b"NET_", b"SYS_")))
    assert (decision.allowed, decision.rule, decision.nearest) == (False, "", "first")
    assert decision.reason == (
        "the rule 'first' does not allow the capability SYS_ADMIN; capabilities in [rule.container] allows none"
    )
    assert read.decide(policy.Question("", "GET", "/info")).reason == (
        "no rule allows a client without a certificate GET /info; a client without a certificate may use containers"
    )


@pytest.mark.parametrize(
    "user", ["a", "", "\x1b[2J", "\udcff", "é" * 9000, "no certificate"], ids=lambda value: repr(value)[:20]
)
@pytest.mark.parametrize("method", ["GET", "\n", "x" * 9000, "", "\udcff"], ids=lambda value: repr(value)[:20])
def test_a_reason_is_one_printable_line(user: str, method: str) -> None:
    """Whatever was sent."""
    read = policy.load('[[rule]]\nwho = ["b"]\nallow = ["' + '", "'.join(f"/{n}" for n in range(500)) + '"]\n')
    for uri in ("/info", "/x" * 5000, "//", "/\udcff"):
        decision = read.decide(policy.Question(user, method, uri))
        assert (decision.reason + decision.path).isprintable()
        assert len(decision.reason + decision.path) < 1000


def test_a_question_is_what_docker_sends() -> None:
    """User and body may be missing; a client whose certificate has no name is not one without a certificate."""
    wire = {
        "RequestMethod": "POST",
        "RequestUri": "/v1.41/containers/create",
        "RequestHeaders": {"Content-Length": "2"},
        "RequestBody": base64.b64encode(b"{}").decode(),
    }
    asked = policy.question(Fields(wire))
    assert (asked.user, asked.method, asked.uri, asked.body) == ("", "POST", "/v1.41/containers/create", b"{}")
    assert asked.headers == {"Content-Length": "2"}
    assert not asked.nameless
    assert policy.question(Fields({**wire, "UserAuthNMethod": "TLS"})).nameless
    assert not policy.question(Fields({**wire, "User": "a", "UserAuthNMethod": "TLS"})).nameless
    assert policy.question(Fields({**wire, "RequestBody": None})).body is None
    wrong: list[tuple[str, object]] = [("RequestBody", "{"), ("RequestBody", "e30"), ("RequestMethod", "")]
    for key, value in (*wrong, ("RequestUri", 5), ("User", [])):
        with pytest.raises(InvalidRequest):
            policy.question(Fields({**wire, key: value}))


def test_rules_that_nothing_reaches() -> None:
    """Hidden by an earlier rule that decides the same and more, without a condition."""
    for earlier, rule, hidden in (
        ('allow = ["everything"]', 'deny = ["exec"]', True),
        ('deny = ["exec"]', 'allow = ["exec"]', True),
        ('allow = ["read-only"]', 'allow = ["ping"]', True),
        ('allow = ["ping"]', 'allow = ["read-only"]', False),
        ('allow = ["everything"]\nwho = ["a*"]', 'allow = ["exec"]\nwho = ["ab", "a*"]', True),
        ('allow = ["everything"]\nwho = ["a*"]', 'allow = ["exec"]\nwho = ["ab", "b"]', False),
        ('allow = ["everything"]\nwho = ["*"]', 'allow = ["exec"]\nwho = ["no certificate"]', False),
        ('allow = ["everything"]\nwho = ["a"]', 'allow = ["exec"]', False),
        ('allow = ["everything"]\n[rule.container]', 'allow = ["exec"]', False),
        ('allow = ["read-only"]', 'allow = ["GET /info"]', True),
        ('allow = ["read-only"]', 'allow = ["/info"]', False),
        ('deny = ["GET /a/**"]', 'allow = ["GET /a/b"]', True),
        ('allow = ["exec"]', 'allow = ["everything"]', False),
    ):
        read = policy.load(f"[[rule]]\n{earlier}\n[[rule]]\n{rule}\n")
        assert bool(list(explain.warnings(read))) is hidden, (earlier, rule)


def test_what_is_odd_in_a_policy_is_told(tmp_path: Path) -> None:
    """A link among the directories, and volumes that are any directory."""
    (tmp_path / "link").symlink_to("data")
    text = f'[[rule]]\nallow = ["containers"]\n[rule.container]\nbinds = ["{tmp_path}/link", "{tmp_path}"]\n'
    (only,) = explain.warnings(policy.load(text))
    assert f"which is {tmp_path}/data without links" in only[1]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    os.chown(closed, 1000, 1000)
    (only,) = explain.warnings(policy.load(text.replace(f'"{tmp_path}/link", "{tmp_path}"', f'"{closed}/data:ro"')))
    assert only[1].endswith(f"nothing below {closed} can be settled until it is open: chmod o+x")
    (only,) = explain.warnings(policy.load('[[rule]]\ndeny = ["/containers/db/**", "/containers/create", "/info"]\n'))
    assert only[1].startswith("denies /containers/db/**, but not the same by the ID of db")
    some = '[[rule]]\nallow = ["build"]\n[rule.container]\nimages = ["a"]\n[rule.build]\n'
    assert not list(explain.warnings(policy.load(some)))
    (only,) = explain.warnings(policy.load(f"{some}buildkit = true\n"))
    assert "builds that may give any image" in only[1]
    (only,) = explain.warnings(policy.load('[[rule]]\nallow = ["volumes"]\n[rule.volume]\noptions = ["*"]\n'))
    assert "option device" in only[1]
