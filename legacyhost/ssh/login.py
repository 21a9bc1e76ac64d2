"""Authentication: which of the credentials is tried how, and what to say when none is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paramiko

from legacyhost.errors import Failed
from legacyhost.ssh.identities import Credentials, Identity
from legacyhost.ssh.target import Secret, Target
from legacyhost.ssh.wording import clean, place


@dataclass(frozen=True)
class _Step:
    """One try: by ``method`` as SSH names it, shown as ``label``; returns the methods still missing."""

    method: str
    label: str
    take: Callable[[], list[str]]


class _Question:
    """Answers keyboard-interactive: the password to the first single question not echoed, nothing to others."""

    def __init__(self, password: Secret) -> None:
        self.unanswered = ""
        self._password: Secret | None = password

    def __call__(self, title: str, instructions: str, questions: Sequence[tuple[str, bool]]) -> list[str]:
        if not questions:
            return []
        password, self._password = self._password, None
        if password is not None and len(questions) == 1 and not questions[0][1]:
            return [password.reveal()]
        self.unanswered = clean(questions[-1][0], limit=60)
        return [""] * len(questions)

    def forget_password(self) -> None:
        self._password = None


def log_in(transport: Any, target: Target, credentials: Credentials) -> str:
    """Authenticate a transport whose host key is accepted, and say how.

    Raises Failed with what was tried and what is offered.

    Keys first, then the password, each only if the server offers its method; every one at most once, for
    servers count. A server may ask for several (AuthenticationMethods in sshd_config(5)).
    """
    offered = _ask_for_methods(transport, target)
    tried: list[str] = []
    question = None if credentials.password is None else _Question(credentials.password)
    steps = _steps(transport, target.user, credentials, question)
    while not transport.is_authenticated():
        step = next((step for step in steps if step.method in offered), None)
        if step is None:
            raise Failed(_why_refused(target, credentials, tried, offered, question))
        steps.remove(step)
        tried.append(step.label)
        offered, is_accepted = _take(step, transport, target, tried, offered)
        if is_accepted:
            tried[-1] += " (accepted)"
        if step.method == "password" and question is not None:
            question.forget_password()
            if not is_accepted:  # asking the same once more would only count as one more failure
                steps = [other for other in steps if other.method != "keyboard-interactive"]
    return ", ".join(tried)


def _ask_for_methods(transport: Any, target: Target) -> list[str]:
    """The methods a server offers, told in its refusal of none at all (RFC 4252, 5.2)."""
    try:
        return list(transport.auth_none(target.user))
    except paramiko.BadAuthenticationType as error:
        return list(error.allowed_types)
    except paramiko.SSHException as error:
        raise _hung_up(target, []) from error


def _steps(transport: Any, user: str, credentials: Credentials, question: _Question | None) -> list[_Step]:
    def with_key(identity: Identity) -> _Step:
        return _Step(
            "publickey",
            f"key {clean(identity.file)}",
            lambda: list(transport.auth_publickey(user, identity.key)),
        )

    steps = [with_key(identity) for identity in credentials.identities]
    password = credentials.password
    if password is not None and question is not None:
        steps.append(
            _Step(
                "password",
                "password",
                lambda: list(transport.auth_password(user, password.reveal(), fallback=False)),
            )
        )
        steps.append(
            _Step(
                "keyboard-interactive",
                "password as the answer to a question",
                lambda: list(transport.auth_interactive(user, question)),
            )
        )
    return steps


def _take(step: _Step, transport: Any, target: Target, tried: list[str], offered: list[str]) -> tuple[list[str], bool]:
    """The methods that remain after one step, and whether it was accepted."""
    try:
        return step.take(), True
    except paramiko.BadAuthenticationType as error:
        return list(error.allowed_types), False
    except paramiko.SSHException as error:
        if not transport.is_active():
            raise _hung_up(target, tried) from error
        return offered, False


def _hung_up(target: Target, tried: list[str]) -> Failed:
    so_far = f" after: {', '.join(tried)}" if tried else ""
    return Failed(
        f"{_place(target)} closed the connection during the login of {clean(target.user)}{so_far}: its log says why"
        " (an account that has expired, too many failures)"
    )


def _why_refused(
    target: Target,
    credentials: Credentials,
    tried: list[str],
    offered: list[str],
    question: _Question | None,
) -> str:
    accepts = f"the server accepts: {clean(', '.join(offered), 80) or 'nothing'}"
    user, where = clean(target.user), _place(target)
    if credentials.password is None and not credentials.identities:
        notes = "".join(f"; {note}" for note in credentials.notes)
        return f"nothing to log in to {where} as {user} with: give credential= or IdentityFile= ({accepts}){notes}"
    if not tried:
        given = [f"key {clean(identity.file)}" for identity in credentials.identities]
        given += ["password"] if credentials.password is not None else []
        shown = f"(given: {', '.join(given)}; {accepts})"
        return f"{where} takes none of what was given for {user} {shown}: give what it accepts"
    asked = f'; it asked "{question.unanswered}"' if question and question.unanswered else ""
    advice = _advice(tried, is_asked=bool(asked))
    return f"{where} refused the login of {user} (tried: {', '.join(tried)}; {accepts}{asked}): {advice}"


def _advice(tried: list[str], *, is_asked: bool) -> str:
    if is_asked:
        return "no question but a single one for the password can be answered; use a key"
    if any(label.endswith(" (accepted)") for label in tried):
        return "it wants more than one proof, so give a key and a password, or have it ask for less"
    is_key = any(label.startswith("key ") for label in tried)
    is_password = any(label.startswith("password") for label in tried)
    asks = [
        "is one of these keys in authorized_keys there" if is_key else "",
        "is the password right" if is_password else "",
    ]
    return ", ".join(ask for ask in asks if ask) + ", and the account not locked?"


def _place(target: Target) -> str:
    return place(target.host, target.port)
