"""``legacyhost authz``: a policy in sentences, a request step by step, many requests in a table."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from clihost import REPOSITORY, status_of

EXAMPLE = REPOSITORY / "packaging" / "policies" / "policy.toml"
PRIVILEGED = {"Image": "debian", "HostConfig": {"Privileged": True}}
RECORDED: list[dict[str, Any]] = [
    {"User": "ci", "RequestMethod": "GET", "RequestUri": "/v1.41/info", "Expect": "allow"},
    {"RequestMethod": "POST", "RequestUri": "/v1.41/plugins/pull", "Expect": "allow"},
    {"User": "ci", "RequestMethod": "POST", "RequestUri": "/containers/create", "Body": PRIVILEGED, "Expect": "deny"},
    {
        "User": "ci",
        "RequestMethod": "POST",
        "RequestUri": "/containers/create",
        "RequestHeaders": {"Content-Type": "application/json"},
        "RequestBody": base64.b64encode(b'{"Image":"debian"}').decode(),
    },
]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """At a place whose name is longer than most."""
    path = tmp_path / ("x" * 100) / "recorded.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(json.dumps(each) for each in RECORDED) + "\n\n")
    return path


def test_a_policy_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """Each rule: who, what, and within which limits; what is odd about it."""
    assert status_of("authz", "check", str(EXAMPLE)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "1. greeting",
        "   Everybody may",
        "     - ask whether Docker is there and which version it is (ping)",
    ]
    assert "   Everybody may not" in lines
    assert "   prometheus and grafana may" in lines
    assert "   Images: pull registry.example.org/**, postgres:16; no make, load." in lines
    assert lines[-1] == "Everything else is denied."
    assert status_of("authz", "check", "--json", str(EXAMPLE)) == 0
    assert [rule["rule"] for rule in json.loads(capsys.readouterr().out)][:2] == ["greeting", "this machine"]


def test_what_is_odd_is_shown_with_the_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[[rule]]\nname = "a"\nallow = ["everything"]\n[[rule]]\nname = "b"\ndeny = ["exec"]\n')
    assert status_of("authz", "check", str(path)) == 0
    assert "   This rule is never reached, because 'a' decides before it." in capsys.readouterr().out.splitlines()


def test_a_request_is_explained_step_by_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand, or as recorded: what each rule says of it, and the verdict."""
    body = tmp_path / "create.json"
    body.write_text(json.dumps(PRIVILEGED))
    by_hand = ["-X", "POST", "--uri", "/v1.41/containers/create", "--user", "ci", "--body", str(body)]
    request = tmp_path / "request.json"
    request.write_text(json.dumps(RECORDED[2], indent=1))
    for arguments in (by_hand, ["--request", str(request)]):
        assert status_of("authz", "check", str(EXAMPLE), *arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "ci POST /containers/create"
        assert lines[1] == "  greeting: is about something else"
        assert lines[2] == "  this machine: is for others"
        assert lines[-1].startswith("deny: the rule 'build server' does not allow a privileged container (")
    assert status_of("authz", "check", str(EXAMPLE), "--uri", "/info", "--json") == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert (said["Verdict"], said["Rule"], said["Path"]) == ("allow", "this machine", "/info")
    assert status_of("authz", "check", str(EXAMPLE), "--uri", "//info") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("deny: the path of this request is not clean")


def test_requests_are_put_to_a_policy(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line each; from standard input too."""
    assert status_of("authz", "try", str(EXAMPLE), str(recorded)) == 0
    table = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert table == ["VERDICT", "allow", "allow", "deny", "allow"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(RECORDED).encode())))
    assert status_of("authz", "try", "--json", str(EXAMPLE), "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["Verdict"] for each in found] == ["allow", "allow", "deny", "allow"]
    assert found[2]["Rule"] == "build server"
    assert found[2]["Request"] == "standard input:3"


def test_another_verdict_than_expected_is_status_1(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the places of those that have another; the table is shown all the same."""
    recorded.write_text(json.dumps(RECORDED[0]) + "\n" + json.dumps(RECORDED[2] | {"Expect": "allow"}) + "\n")
    assert status_of("authz", "try", str(EXAMPLE), str(recorded)) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err == f"legacyhost: 1 of 2 requests have not the verdict expected: {recorded}:2\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", ":1 is not JSON"),
        (json.dumps(RECORDED[0]) + "\nnonsense", ":2 is not JSON"),
        ("[5]", ":1 is no request"),
        ("5", " is no request"),
        ("{}", 'the request has no "RequestMethod"'),
        (json.dumps(RECORDED[0] | {"Expect": "maybe"}), '"Expect" has to be allow or deny'),
        (json.dumps(RECORDED[0] | {"RequestBody": "{"}), "is not base64"),
        ("[" * 100_000, ":1 is not JSON"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_request_is_told(
    content: str, said: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded.write_text(content)
    assert status_of("authz", "try", str(EXAMPLE), str(recorded)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it has no [[rule]]"),
        (b"\xff", "it is not UTF-8"),
        (b"[[rule]", "is not TOML"),
        (b"[[rule]]\nallow = ['x']", "x is none of the groups"),
        (None, "No such file or directory"),
    ],
)
def test_a_broken_policy_is_status_1(
    content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence with the file's name."""
    path = tmp_path / "policy.toml"
    if content is not None:
        path.write_bytes(content)
    assert status_of("authz", "check", str(path)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"legacyhost: {path}")
    assert said in err


def test_a_file_without_end_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not read until there is no memory any more."""
    monkeypatch.setattr("legacyhost.commands.authz.LARGEST", 1 << 20)
    assert status_of("authz", "check", "/dev/zero") == 1
    assert "/dev/zero cannot be read: it has more than 1 MiB" in capsys.readouterr().err


def test_the_policy_of_a_plugin(etc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In its configuration, in the file that is named there, or the copy of one on another host."""
    configuration = etc / "foo.toml"
    (etc / "policies").mkdir()
    (etc / "policies" / "foo.toml").write_text('[[rule]]\nname = "kept beside"\nallow = ["ping"]\n')
    copy = {"place": "ssh://nas/policy.toml", "read": "2026-11-30T12:00:00+00:00"}
    copy["text"] = '[[rule]]\nname = "kept from elsewhere"\nallow = ["ping"]\n'
    (etc.parent / "state" / "foo").mkdir(parents=True)
    (etc.parent / "state" / "foo" / "policy.json").write_text(json.dumps(copy))
    for text, status, said in (
        ('[[authz.rule]]\nname = "inline"\nallow = ["ping"]\n', 0, "1. inline"),
        ('[authz]\npolicy = "policies/foo.toml"\n', 0, "1. kept beside"),
        ('[authz]\npolicy = "policies/bar.toml"\n', 1, "there is no policy"),
        ('[authz]\npolicy = "ssh://nas/policy.toml"\n', 0, "1. kept from elsewhere"),
        ("[authz]\n", 1, "has no [[rule]]"),
        ("[volume]\n", 1, "has no section [authz]"),
        ("[", 1, "cannot be read"),
    ):
        configuration.write_text(text)
        for arguments in ([], ["--plugin", "foo"]):
            assert status_of("authz", "check", *arguments) == status
            out, err = capsys.readouterr()
            assert said in out + err
    assert status_of("authz", "check", str(EXAMPLE), "--plugin", "foo") == 2


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parent / "recorded").iterdir()), ids=lambda path: str(path.name)
)
def test_what_docker_itself_sends(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The docker command of three Debians, recorded: a rule with conditions is in the way of nothing that is harmless.

    No field is unknown, and of what reaches for the host (privileged, a capability, no seccomp, no masked paths, a
    GPU, a privileged command, a volume that is a bind, builds that hide parameters, the swarm) nothing is allowed.
    """
    path = tmp_path / "policy.toml"
    path.write_text('[[rule]]\nname = "dev"\nallow = ["everything"]\n[rule.container]\nbinds = ["/srv/ci"]\n')
    assert status_of("authz", "try", str(path), str(file)) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines].count("deny") == 11
    assert len(lines) == 28
    assert not [line for line in lines if "does not know" in line or "Content-Length" in line]
