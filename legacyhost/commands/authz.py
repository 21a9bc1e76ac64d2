"""``legacyhost authz``: what a policy says, in sentences and of requests."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from legacyhost.commands import Commands, plugin_name
from legacyhost.commands.terminal import Colour, coloured, print_table, progress, shown
from legacyhost.config import Paths
from legacyhost.errors import ConfigError, Failed, InvalidRequest
from legacyhost.wire import Fields, printable

if TYPE_CHECKING:
    from legacyhost.policy import Decision, Policy, Question

CHECK_EXAMPLES = """\
legacyhost authz check /etc/legacyhost/policies/docker.toml
legacyhost authz check --plugin docker --user ci -X POST --uri /containers/create --body create.json
legacyhost authz check docker.toml --request recorded.json"""
TRY_EXAMPLES = """\
legacyhost authz try docker.toml recorded.jsonl
legacyhost authz try docker.toml --json - < recorded.jsonl"""
VERDICTS = {True: "allow", False: "deny"}
COLOURS = {"VERDICT": {"allow": Colour.GREEN, "deny": Colour.RED}}
#: What a recorded request may have beside the fields of Docker's.
EXPECT, BODY = "Expect", "Body"
#: Characters that are shown of a path or a sentence.
LONGEST = 4000
#: Bytes of a file: a day's requests, but not all that a device gives.
LARGEST = 256 << 20


def add(commands: Commands) -> None:
    authz = commands.group("authz", "try out who may do what with Docker", CHECK_EXAMPLES.splitlines()[0])
    check = authz.add("check", "explain a policy, or what it says of a request", CHECK_EXAMPLES, _check, json=True)
    check.add_argument("policy", metavar="POLICY", nargs="?", help="the file (default: that of the plugin)")
    check.add_argument("--plugin", metavar="NAME", help="the plugin (default: the only one there is)")
    check.add_argument("--request", metavar="FILE", help="a request as Docker asks about it (AuthZReq), as JSON")
    check.add_argument("-X", "--method", metavar="METHOD", default="GET", help="a request by hand: its method")
    check.add_argument("--uri", metavar="URI", help="its path, with or without a version, and its query")
    check.add_argument("--user", metavar="NAME", default="", help="the common name of the client's certificate")
    check.add_argument("--body", metavar="FILE", help="its body, JSON")
    tried = authz.add("try", "put recorded requests to a policy", TRY_EXAMPLES, _try, json=True)
    tried.add_argument("policy", metavar="POLICY", help="the file")
    tried.add_argument("files", metavar="FILE", nargs="+", help="requests, one JSON object on each line; - reads them")


@dataclass(frozen=True)
class Recorded:
    """A request from a file: where it stands, and the verdict that is expected, or ""."""

    place: str
    question: Question
    expected: str


def _check(options: argparse.Namespace) -> int:
    policy = _policy(options)
    if options.request is not None:
        requests = list(_recorded(options.request))
    elif options.uri is not None:
        requests = [Recorded(options.uri, _by_hand(options), "")]
    else:
        _explain(policy, as_json=options.json)
        return 0
    if options.json:
        print(json.dumps([_as_json(each, policy.decide(each.question)) for each in requests], indent=2))
        return 0
    for each in requests:
        _explain_request(policy, each.question)
    return 0


def _try(options: argparse.Namespace) -> int:
    policy = _load(Path(options.policy))
    decided = [(each, policy.decide(each.question)) for file in options.files for each in _recorded(file)]
    if options.json:
        print(json.dumps([_as_json(each, decision) for each, decision in decided], indent=2))
    else:
        rows = [
            (VERDICTS[decision.allowed], decision.rule or "-", _request(each.question, decision), decision.reason)
            for each, decision in decided
        ]
        print_table(("VERDICT", "RULE", "REQUEST", "REASON"), rows, COLOURS)
    wrong = [each.place for each, decision in decided if each.expected not in ("", VERDICTS[decision.allowed])]
    if wrong:
        raise Failed(f"{len(wrong)} of {len(decided)} requests have not the verdict expected: {', '.join(wrong)}")
    return 0


def _explain(policy: Policy, *, as_json: bool) -> None:
    from legacyhost.policy import explain

    warnings = list(explain.warnings(policy))
    if as_json:
        said = [
            {
                "rule": rule.name,
                "says": list(explain.sentences(rule)),
                "warnings": [text for of, text in warnings if of is rule],
            }
            for rule in policy.rules
        ]
        print(json.dumps(said, indent=2, ensure_ascii=False))
        return
    for number, rule in enumerate(policy.rules, 1):
        print(f"{number}. {shown(rule.name)}")
        for sentence in explain.sentences(rule):
            print(f"   {printable(sentence, LONGEST)}")
        for of, text in warnings:
            if of is rule:
                print(coloured(f"   This rule {shown(text)}.", Colour.YELLOW))
    print("Everything else is denied.")


def _explain_request(policy: Policy, question: Question) -> None:
    decision = policy.decide(question)
    print(f"{_request(question, decision)}")
    for step in policy.explain(question):
        print(f"  {shown(step.rule.name)}: {shown(step.said)}")
    verdict = VERDICTS[decision.allowed]
    print(f"{coloured(verdict, COLOURS['VERDICT'][verdict])}: {shown(decision.reason)}")


def _as_json(recorded: Recorded, decision: Decision) -> Mapping[str, object]:
    expected = {"Expect": recorded.expected} if recorded.expected else {}
    return {
        "Request": recorded.place,
        "User": recorded.question.user,
        "Method": recorded.question.method,
        "Path": decision.path,
        "Verdict": VERDICTS[decision.allowed],
        "Rule": decision.rule or decision.nearest,
        "Reason": decision.reason,
        **expected,
    }


def _request(question: Question, decision: Decision) -> str:
    who = question.user or "(no certificate)"
    return f"{shown(who)} {shown(question.method)} {decision.path}"


def _policy(options: argparse.Namespace) -> Policy:
    """The policy in a file, or that of a plugin. Raises ConfigError, InvalidRequest."""
    if options.policy is not None:
        if options.plugin is not None:
            raise InvalidRequest("a policy is either in a file or a plugin's, not both")
        return _load(Path(options.policy))
    return _of_plugin(plugin_name(options.plugin, "authz"))


def _of_plugin(plugin: str) -> Policy:
    """What it decides by; where that is on another host, the copy that is kept here. Raises PluginError."""
    from legacyhost import config, policysource

    paths = Paths.from_environment()
    path = paths.configuration(plugin)
    found = config.load(path)
    if found.authz is None:
        raise ConfigError(f"{path} has no section [authz]")
    remotes = (found.volume or config.NO_VOLUMES).remote
    source = policysource.source(plugin, found.authz, remotes, paths)
    with progress(f"fetching {source.place}"):
        return (source.kept() or source.read()).policy


def _load(path: Path) -> Policy:
    """Raises PolicyError, which names the file."""
    from legacyhost import policy

    try:
        return policy.load(_text(path))
    except policy.PolicyError as error:
        raise policy.PolicyError(f"{path}: {error.message}") from error


def _text(path: Path) -> str:
    """A file's content. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ConfigError(f"{path} cannot be read: it has more than {LARGEST >> 20} MiB")
        return content.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: it is not UTF-8") from error


def _by_hand(options: argparse.Namespace) -> Question:
    from legacyhost.policy import Question

    body = _text(Path(options.body)).encode() if options.body is not None else None
    headers = {"Content-Length": str(len(body or b"")), "Content-Type": "application/json"}
    return Question(options.user, options.method, options.uri, headers, body)


def _recorded(file: str) -> Iterator[Recorded]:
    """The requests in a file: objects on a line each, one object, or a list of them. Raises InvalidRequest."""
    if file == "-":
        text, name = sys.stdin.buffer.read().decode("utf-8", "replace"), "standard input"
    else:
        text, name = _text(Path(file)), file
    values: Sequence[tuple[str, object]]
    try:
        value = json.loads(text)
        values = (
            [(f"{name}:{number}", each) for number, each in enumerate(value, 1)]
            if isinstance(value, list)
            else [(name, value)]
        )
    except (ValueError, RecursionError):
        values = [
            (f"{name}:{number}", _json(line, f"{name}:{number}"))
            for number, line in enumerate(text.split("\n"), 1)
            if line.strip()
        ]
    for place, each in values:
        yield _recording(printable(place, LONGEST), each)


def _json(line: str, place: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{printable(place, LONGEST)} is not JSON") from error


def _recording(place: str, value: object) -> Recorded:
    """Raises InvalidRequest."""
    from legacyhost.policy import question

    if not isinstance(value, dict):
        raise InvalidRequest(f"{place} is no request: it has to be an object, as Docker sends it to a plugin")
    expected = value.get(EXPECT, "")
    if expected not in ("", *VERDICTS.values()):
        raise InvalidRequest(f'{place}: "{EXPECT}" has to be {" or ".join(VERDICTS.values())}')
    fields = dict(value)
    if BODY in fields:
        fields["RequestBody"] = base64.b64encode(json.dumps(fields[BODY]).encode()).decode()
    if "RequestHeaders" not in fields and not fields.get("RequestBody"):
        fields["RequestHeaders"] = {"Content-Length": "0"}
    try:
        return Recorded(place, question(Fields(fields)), expected)
    except InvalidRequest as error:
        raise InvalidRequest(f"{place}: {error.message}") from error
