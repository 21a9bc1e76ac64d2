"""Who may do what with a Docker: a policy, and what it says of a request. Nothing here waits, writes or logs.

``load`` reads a policy, ``question`` what Docker asks; ``Policy.decide`` answers. The language is described in
legacyhost-policy(5).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from legacyhost.errors import InvalidRequest
from legacyhost.policy import endpoints, language, target
from legacyhost.policy.language import PolicyError, Rule
from legacyhost.policy.others import CHECKS, top
from legacyhost.policy.request import Question, Refusal, Request
from legacyhost.wire import Fields, printable

__all__ = ["Decision", "Policy", "PolicyError", "Question", "Step", "from_table", "load", "question"]
#: Characters of a reason.
LONGEST = 600
#: Characters of a path in a reason or a log.
LONGEST_PATH = 300
CREATE = ("POST", "/containers/create")
#: The check that is made without conditions, too.
TOP = "top"


@dataclass(frozen=True)
class Decision:
    """``rule`` is the name of the rule that decided, "" where none did; ``reason`` is for whoever typed docker.

    ``path`` is the path as the rules see it, fit to be shown; ``nearest`` the rule that only a condition kept from
    allowing it.
    """

    allowed: bool
    rule: str
    reason: str
    path: str
    nearest: str = ""


@dataclass(frozen=True)
class Step:
    """What one rule says: whether it decides, and how, in words that follow its name."""

    rule: Rule
    decides: bool
    said: str


class Policy:
    """The rules of a policy, in order."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules

    def decide(self, asked: Question) -> Decision:
        """What the first rule that fits says; deny if there is none. Raises nothing."""
        try:
            path, query = target.split(asked.uri)
        except target.Unclear as error:
            shown = printable(asked.uri, LONGEST_PATH)
            return Decision(False, "", f"the path of this request {error}", shown)
        refused: tuple[Rule, str] | None = None
        for step in self._steps(asked, path, query):
            if step.decides:
                verb = "allows" if step.rule.allows else "denies"
                reason = f"the rule {step.rule.name!r} {verb} this" if step.rule.allows else _denied(asked, path, step)
                return Decision(step.rule.allows, step.rule.name, printable(reason, LONGEST), _shown(path))
            refused = refused or (step.rule, step.said)
        reason = f"the rule {refused[0].name!r} {refused[1]}" if refused else self._nothing(asked, path)
        return Decision(False, "", printable(reason, LONGEST), _shown(path), refused[0].name if refused else "")

    def explain(self, asked: Question) -> Iterator[Step]:
        """Every rule up to the one that decides, with what it says; those that are about something else, too."""
        try:
            path, query = target.split(asked.uri)
        except target.Unclear:
            return
        endpoint = endpoints.find(asked.method, path)
        steps = {id(step.rule): step for step in self._steps(asked, path, query)}
        for rule in self.rules:
            step = steps.get(id(rule))
            if step is None:
                is_for = rule.is_for(asked.user, asked.nameless)
                about = rule.covers(asked.method, path, endpoint)
                said = "is about something else" if not about and is_for else "is for others"
                step = Step(rule, False, said)
            yield step
            if step.decides:
                return

    def _steps(self, asked: Question, path: str, query: str) -> Iterator[Step]:
        """The rules that are about this request, until one decides."""
        endpoint = endpoints.find(asked.method, path)
        request: Request | None = None
        for rule in self.rules:
            if not rule.is_for(asked.user, asked.nameless) or not rule.covers(asked.method, path, endpoint):
                continue
            if rule.limits is not None or _shows_host(rule, endpoint):
                request = request or Request(asked, path, query)
                try:
                    _check(rule, request, endpoint)
                except Refusal as error:
                    yield Step(rule, False, str(error))
                    continue
            elif endpoint is not None and endpoint.check == "start" and _brings_settings(rule, asked, path, query):
                yield Step(rule, False, "does not allow a start with other settings than a container was made with")
                continue
            yield Step(rule, True, "allows it" if rule.allows else "denies it")
            return

    def _nothing(self, asked: Question, path: str) -> str:
        """Why no rule has allowed it, and what would be."""
        words = [
            word for rule in self.rules if rule.allows and rule.is_for(asked.user, asked.nameless) for word in rule.what
        ]
        who = _who(asked)
        may = f"{who} may use {', '.join(dict.fromkeys(words))}" if words else f"no rule allows {who} anything"
        return f"no rule allows {who} {printable(asked.method, 20)} {_shown(path)}; {may}"


def load(text: str) -> Policy:
    """The policy in a file's text. Raises PolicyError."""
    return Policy(language.read(text))


def from_table(content: Mapping[str, object]) -> Policy:
    """The policy in a table with nothing but ``rule``, as in a plugin's configuration. Raises PolicyError."""
    return Policy(language.rules(content))


def question(fields: Fields) -> Question:
    """What an AuthZReq asks. Raises InvalidRequest."""
    user = fields.optional_text("User")
    encoded = fields.optional_text("RequestBody")
    try:
        body = base64.b64decode(encoded, validate=True) if encoded else None
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest('"RequestBody" in the request is not base64') from error
    return Question(
        user=user,
        method=fields.text("RequestMethod"),
        uri=fields.text("RequestUri"),
        headers=fields.texts("RequestHeaders"),
        body=body,
        nameless=not user and bool(fields.optional_text("UserAuthNMethod")),
    )


def _check(rule: Rule, request: Request, endpoint: endpoints.Endpoint | None) -> None:
    """Raises Refusal unless the conditions of a rule hold."""
    if endpoint is None:
        if not rule.names_path(request.question.method, request.path):
            raise Refusal("does not allow an endpoint that it does not know, unless it names its path")
    elif endpoint.check == TOP:
        top(request)
    elif endpoint.check and rule.limits is not None:
        CHECKS[endpoint.check](request, rule.limits)


def _shows_host(rule: Rule, endpoint: endpoints.Endpoint | None) -> bool:
    """Whether a rule that allows some things allows one that may show processes of the host."""
    return endpoint is not None and endpoint.check == TOP and rule.allows and language.EVERYTHING not in rule.groups


def _brings_settings(rule: Rule, asked: Question, path: str, query: str) -> bool:
    """Whether a start does what the rule that allows it does not allow, which is to make a container.

    Before API 1.24 a start may bring all of HostConfig, and make any container a privileged one.
    """
    if not rule.allows or not target.is_before(asked.uri, 1, 24) or Request(asked, path, query).is_bare:
        return False
    return not rule.covers(*CREATE, endpoints.find(*CREATE))


def _denied(asked: Question, path: str, step: Step) -> str:
    return f"the rule {step.rule.name!r} denies {_who(asked)} {printable(asked.method, 20)} {_shown(path)}"


def _who(asked: Question) -> str:
    if asked.nameless:
        return "a client whose certificate has no name"
    return printable(asked.user, 60) if asked.user else "a client without a certificate"


def _shown(path: str) -> str:
    return printable(path, LONGEST_PATH)
