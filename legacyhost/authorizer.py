"""What stands behind the surface authz: the policy in force asked, what it says told and logged.

It denies in every case in which the policy does not allow. What Docker was allowed to do it may say.
"""

from __future__ import annotations

from dataclasses import dataclass

from legacyhost import log, policy
from legacyhost.policies import Policies
from legacyhost.surfaces.authz import Answer
from legacyhost.wire import Fields, printable

#: What changes nothing.
READS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Characters of a reason.
LONGEST = 1000
ALLOWED = Answer(allowed=True)


@dataclass(frozen=True)
class Settings:
    """What NAME.toml says beside the policy; ``log`` is one of config.DECISIONS."""

    dry_run: bool = False
    log: str = "changes"


class Authorizer:
    """Decides for one plugin; ``settings`` may be replaced at any time."""

    def __init__(self, name: str, policies: Policies, settings: Settings) -> None:
        self._name = name
        self._policies = policies
        self.settings = settings

    def request(self, asked: Fields) -> Answer:
        """Whether Docker may do that. Raises PluginError where it cannot be understood."""
        question = policy.question(asked)
        decision = self._decide(question)
        settings = self.settings
        self._log(question, decision, settings)
        if decision.allowed is True or settings.dry_run:
            return ALLOWED
        return Answer(allowed=False, message=printable(decision.reason, LONGEST) or "it is denied")

    def response(self, asked: Fields) -> Answer:
        """It was allowed before, and has been done. Raises PluginError where it says of nothing that it was."""
        for name in ("RequestMethod", "RequestUri"):
            asked.text(name)
        return ALLOWED

    def _decide(self, question: policy.Question) -> policy.Decision:
        known = self._policies.in_force
        if known.policy is not None:
            return known.policy.decide(question)
        why = (
            f"there is no policy to allow anything by: {known.why_not} (it is tried again every few seconds; at once:"
            f" systemctl reload legacyhost@{self._name})"
        )
        return policy.Decision(allowed=False, rule="", reason=why, path=question.uri.partition("?")[0])

    def _log(self, question: policy.Question, decision: policy.Decision, settings: Settings) -> None:
        """Neither bodies nor the values of a query: there are passwords in them."""
        is_denied = decision.allowed is not True
        if not is_denied and (settings.log == "denied" or (settings.log == "changes" and question.method in READS)):
            return
        level = log.WARNING if is_denied else log.INFO
        if not log.is_enabled(level):
            return
        word = "allow" if not is_denied else "would-deny" if settings.dry_run else "deny"
        user, method, path = printable(question.user), printable(question.method), printable(decision.path, 300)
        fields = {
            "PLUGIN": self._name,
            "AUTHZ_DECISION": word,
            "AUTHZ_RULE": printable(decision.rule),
            "AUTHZ_USER": user,
            "AUTHZ_METHOD": method,
            "AUTHZ_PATH": path,
        }
        done = {"allow": "allowed", "deny": "denied", "would-deny": "would be denied (dry run)"}[word]
        why = f": {printable(decision.reason, LONGEST)}" if is_denied else f" by {printable(decision.rule)}"
        log.event(level, f"{method} {path} of {user or 'nobody with a certificate'} {done}{why}", fields)


@dataclass(frozen=True)
class Refusal:
    """Denies everything: the configuration cannot be read, or says nothing of authz any more."""

    reason: str

    def request(self, asked: Fields) -> Answer:
        return Answer(allowed=False, message=self.reason)

    response = request
