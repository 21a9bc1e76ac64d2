"""Logging in: what is tried with what is given, and what is said when it is not enough."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest
from oddsshd import Manners, OddServer
from sshd import KINDS, Sshd, keygen, time_limit

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.ssh import identities
from legacyhost.ssh.attempt import Attempt
from legacyhost.ssh.identities import credentials_of
from legacyhost.ssh.remote import Remote
from legacyhost.ssh.sftp import NoSftp, Sftp
from legacyhost.ssh.target import Secret, Target, default_identity_files


def soon() -> Attempt:
    return Attempt(Deadline.after(9))


def _write(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    file.chmod(0o600)


def _encrypted(file: Path) -> Path:
    return keygen(file, "ed25519", "right")


def _damaged(file: Path) -> None:
    keygen(file, "rsa", "", "-m", "PEM")
    lines = file.read_text().splitlines()
    del lines[3:6]
    shutil.copymode(file, file)
    file.write_text("\n".join(lines))


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    with time_limit():
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    directory = tmp_path_factory.mktemp("sshd")
    with Sshd(directory, kinds=["ed25519"], more=[f"TrustedUserCAKeys {directory}/ca.pub"]) as running:
        keygen(directory / "ca", "ed25519")
        yield running


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["OPENSSH", "PEM", "PKCS8"])
@pytest.mark.parametrize("passphrase", ["", "a pass phrase"])
def test_keys_of_every_kind_and_form(server: Sshd, tmp_path: Path, kind: str, form: str, passphrase: str) -> None:
    """What ssh-keygen writes can be used, encrypted ones with the password as passphrase."""
    form_options = [] if form == "OPENSSH" or kind == "ed25519" else ["-m", form]
    file = keygen(tmp_path / "key", kind, passphrase, *form_options)
    _authorize(server, file)
    password = Secret(passphrase) if passphrase else None
    with _connect(server, (str(file),), password) as remote:
        remote.ensure_directory("", create=False)


def test_a_key_on_a_volume_by_way_of_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it really is counts, not its spelling."""
    monkeypatch.setattr(identities, "_VOLUMES", f"{tmp_path}/volumes/")
    (tmp_path / "volumes").mkdir()
    real = keygen(tmp_path / "volumes" / "key", "ed25519")
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(Failed, match="is on a volume"):
        credentials_of(Target("nas", "anna", identity_files=(str(tmp_path / "link"),)), [], soon())


def test_the_second_key_is_tried_after_the_first(server: Sshd, tmp_path: Path) -> None:
    """Keys are tried in the order given until one is taken."""
    wrong = keygen(tmp_path / "wrong", "ed25519")
    _connect(server, (str(wrong), str(server.client_key))).close()


def test_a_certificate_next_to_the_key_is_used(server: Sshd, tmp_path: Path) -> None:
    """FILE-cert.pub is offered before the key itself, as ssh does; without it the key is unknown."""
    file = keygen(tmp_path / "key", "rsa")
    with pytest.raises(Failed):
        _connect(server, (str(file),))
    sign = ["ssh-keygen", "-q", "-s", str(server.directory / "ca"), "-I", "test", "-n", server.user]
    subprocess.run([*sign, f"{file}.pub"], check=True)
    _connect(server, (str(file),)).close()


def test_a_certificate_that_is_not_one(server: Sshd, tmp_path: Path) -> None:
    """A broken certificate file is named, not skipped: ssh would complain later and less clearly."""
    file = keygen(tmp_path / "key", "ed25519")
    Path(f"{file}-cert.pub").write_text("nonsense\n")
    with pytest.raises(Failed, match=r"key-cert.pub is not a certificate for identity file"):
        _connect(server, (str(file),))


def test_a_refused_key_is_named_with_the_methods(server: Sshd, tmp_path: Path) -> None:
    """The sentence names the account, what was tried and what the server accepts."""
    wrong = keygen(tmp_path / "wrong", "ed25519")
    with pytest.raises(Failed) as caught:
        _connect(server, (str(wrong),))
    assert caught.value.message == (
        f"{server.host}:{server.port} refused the login of {server.user} "
        f"(tried: key {wrong}; the server accepts: publickey): "
        "is one of these keys in authorized_keys there, and the account not locked?"
    )


def test_too_many_keys_for_the_server(tmp_path: Path) -> None:
    """A server that hangs up after so many failures is said to have done that, with what was tried."""
    with Sshd(tmp_path / "sshd", kinds=["ed25519"], more=["MaxAuthTries 2"]) as server:
        files = tuple(str(keygen(tmp_path / f"key{number}", "ed25519")) for number in range(4))
        with pytest.raises(Failed, match=r"closed the connection during the login of \S+ after: key .*key0"):
            _connect(server, files)


def test_a_second_factor_is_not_answered_with_the_password(tmp_path: Path) -> None:
    """Where a question follows a right password, the password is not repeated; the question is shown."""
    manners = Manners()
    manners.methods, manners.then = "password", "keyboard-interactive"
    with OddServer(manners) as server, pytest.raises(Failed) as caught:
        _connect_with_password(server, tmp_path, "right")
    assert manners.answers_seen == [""]
    assert 'it asked "Password:"' in caught.value.message
    assert "tried: password (accepted), password as the answer" in caught.value.message


def test_a_key_that_is_not_enough(tmp_path: Path) -> None:
    """A key that was accepted is not called refused where the server wants a password besides."""
    more = ["AuthenticationMethods publickey,password", "PasswordAuthentication yes"]
    with Sshd(tmp_path / "sshd", kinds=["ed25519"], more=more) as server:
        said = _refusal(server)
    assert "(accepted); the server accepts: password): it wants more than one proof" in said


@pytest.mark.parametrize("methods", ["password", "keyboard-interactive", "publickey,keyboard-interactive"])
def test_the_password_by_either_method(tmp_path: Path, methods: str) -> None:
    """The password is given as such, or as the answer to a single question that is not echoed."""
    manners = Manners()
    manners.methods = methods
    with OddServer(manners) as server:
        _connect_with_password(server, tmp_path, "right").close()
    assert manners.passwords_seen + manners.answers_seen == ["right"]


def test_a_password_of_any_characters(tmp_path: Path) -> None:
    """Quotes, spaces, commas and letters beyond ASCII arrive as they are."""
    manners = Manners()
    manners.users = {"anna": " 'ä,\"%$ €\\"}
    with OddServer(manners) as server:
        _connect_with_password(server, tmp_path, manners.users["anna"]).close()


def test_a_wrong_password_is_sent_once(tmp_path: Path) -> None:
    """One failure is enough: the same password is not tried again as the answer to a question."""
    manners = Manners()
    manners.methods = "password,keyboard-interactive"
    with OddServer(manners) as server, pytest.raises(Failed) as caught:
        _connect_with_password(server, tmp_path, "wrong-hunter2")
    assert (manners.passwords_seen, manners.answers_seen) == (["wrong-hunter2"], [])
    assert caught.value.message == (
        f"{server.host}:{server.port} refused the login of anna "
        "(tried: password; the server accepts: password, keyboard-interactive): "
        "is the password right, and the account not locked?"
    )
    assert "hunter2" not in repr(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize("questions", [[("Code\x1b[2J: ", False), ("PIN: ", False)], [("Your name? ", True)]])
def test_questions_that_are_not_for_the_password(tmp_path: Path, questions: list[tuple[str, bool]]) -> None:
    """Several questions, or an echoed one, do not get the password; the last is shown, made harmless."""
    manners = Manners()
    manners.methods, manners.questions = "keyboard-interactive", questions
    with OddServer(manners) as server, pytest.raises(Failed) as caught:
        _connect_with_password(server, tmp_path, "right")
    assert manners.answers_seen == [""] * len(questions)
    assert f'it asked "{questions[-1][0].strip()}"' in caught.value.message


def test_nothing_that_was_given_is_accepted(server: Sshd, tmp_path: Path) -> None:
    """A password for a server that takes keys only is not sent, and both sides are named."""
    with pytest.raises(Failed) as caught:
        _connect(server, (), Secret("hunter2"))
    assert caught.value.message == (
        f"{server.host}:{server.port} takes none of what was given for {server.user} "
        "(given: password; the server accepts: publickey): give what it accepts"
    )


def test_no_credential_at_all(tmp_path: Path) -> None:
    """Without any credential the sentence says which options give one, and what the server accepts."""
    if default_identity_files():
        pytest.skip("the account running the tests has SSH keys of its own, which are used then")
    with OddServer() as server, pytest.raises(Failed) as caught:
        _connect_with_password(server, tmp_path, None)
    assert caught.value.message == (
        f"nothing to log in to {server.host}:{server.port} as anna with: "
        "give credential= or IdentityFile= (the server accepts: password)"
    )


def test_a_server_that_hangs_up_in_the_login(tmp_path: Path) -> None:
    """A connection closed in the login is not called a refused password."""
    manners = Manners()
    manners.close_at_login = True
    with OddServer(manners) as server, pytest.raises(Failed, match="closed the connection during the login"):
        _connect_with_password(server, tmp_path, "right")


def test_a_passphrase_is_never_sent_to_the_server(tmp_path: Path) -> None:
    """A password that opened an encrypted key is not tried as the account's password as well."""
    file = keygen(tmp_path / "key", "ed25519", "right")
    manners = Manners()
    manners.methods = "publickey,password,keyboard-interactive"
    with OddServer(manners) as server, pytest.raises(Failed, match=rf"tried: key {file};"):
        _connect_with_password(server, tmp_path, "right", (str(file),))
    assert manners.passwords_seen + manners.answers_seen == []


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda file: None, "does not exist on this host"),
        (lambda file: file.mkdir(), "is not a file"),
        (lambda file: _write(file, b""), "is not a private key that can be used"),
        (lambda file: _write(file, b"\x00\xff binary"), "is not a private key that can be used"),
        (lambda file: _write(file, b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"), "is not a private key"),
        (lambda file: _write(file, b"ssh-ed25519 AAAA me"), "is a public key; the private key is needed"),
        (_encrypted, "needs a passphrase: give it as password="),
        (lambda file: keygen(file, "ed25519").chmod(0o640), r"is open to others \(mode 0640\).*: chmod 600 "),
        (_damaged, "is not a private key that can be used"),
    ],
)
def test_identity_files_that_cannot_be_used(tmp_path: Path, make: Callable[[Path], object], sentence: str) -> None:
    """Each way in which a key file is no use has its sentence, before any connection is made."""
    file = tmp_path / "key"
    make(file)
    with pytest.raises(Failed, match=f"^identity file {file} {sentence}"):
        credentials_of(Target("nas", "anna", identity_files=(str(file),)), [], soon())


def test_a_wrong_passphrase(tmp_path: Path) -> None:
    """An encrypted key that the password does not open is not skipped; the password is not shown."""
    file = _encrypted(tmp_path / "key")
    with pytest.raises(Failed, match="password= is not its passphrase") as caught:
        credentials_of(Target("nas", "anna", identity_files=(str(file),), password=Secret("hunter2")), [], soon())
    assert "hunter2" not in repr(caught.value) + repr(caught.value.__cause__)


def test_a_password_that_no_key_needs_is_kept(tmp_path: Path) -> None:
    """With a key that is not encrypted the password is the account's, and both are there to be tried."""
    file = keygen(tmp_path / "key", "ed25519")
    found = credentials_of(Target("nas", "anna", identity_files=(str(file),), password=Secret("x")), [], soon())
    assert ([identity.file for identity in found.identities], found.password) == ([str(file)], Secret("x"))


def test_default_keys_are_used_only_without_other_credentials(tmp_path: Path) -> None:
    """Default keys step back behind anything given; those that cannot be used are noted, not an error."""
    good, encrypted = keygen(tmp_path / "good", "ed25519"), _encrypted(tmp_path / "encrypted")
    defaults = [str(encrypted), str(good), str(tmp_path / "missing")]
    found = credentials_of(Target("nas", "anna"), defaults, soon())
    assert [identity.file for identity in found.identities] == [str(good)]
    assert len(found.notes) == 2
    assert "needs a passphrase" in found.notes[0]
    for given in (Target("nas", "anna", password=Secret("x")), Target("n", "a", identity_files=(str(good),))):
        assert credentials_of(given, [str(encrypted)], soon()).notes == []


def test_no_session_at_all(tmp_path: Path) -> None:
    """A server that opens no session for an account is quoted with its reason."""

    class Strict(Manners):
        def check_channel_request(self, kind: str, chanid: int) -> int:
            return int(paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)

    with OddServer(Strict()) as server, pytest.raises(Failed, match=r"opens no session for anna \(") as caught:
        _connect_with_password(server, tmp_path, "right")
    assert "prohibited" in caught.value.message.lower()


def test_no_sftp(tmp_path: Path) -> None:
    """A server without an SFTP subsystem is told from one that lacks the program, or whose shell talks."""
    with Sshd(tmp_path / "none", kinds=["ed25519"], sftp=False) as server:
        assert "has no SFTP for" in _refusal(server)
    more = ["Subsystem sftp /nonexistent/sftp-server"]
    with Sshd(tmp_path / "missing", kinds=["ed25519"], more=more, sftp=False) as server:
        assert f"ended SFTP for {server.user} at once: is its sftp-server installed" in _refusal(server)
    more = ["ForceCommand echo This account is currently not available."]
    with Sshd(tmp_path / "noisy", kinds=["ed25519"], more=more) as server:
        said = _refusal(server)
    assert 'answers the start of SFTP with "This account is currently not available.": does' in said
    more = ["ForceCommand printf 'Back \\033[2J'; sleep 0.1; echo again; sleep 60"]
    with Sshd(tmp_path / "slow", kinds=["ed25519"], more=more) as server:
        assert 'answers the start of SFTP with "Back [2J' in _refusal(server)


def test_a_program_that_has_ended_before_it_was_asked() -> None:
    """What it said is there, although nothing can be sent to it any more."""

    class Ended:
        left = b"only backups here"

        def send(self, data: bytes) -> int:
            raise OSError("Socket is closed")

        def recv(self, count: int) -> bytes:
            said, self.left = self.left[:count], self.left[count:]
            return said

        def settimeout(self, seconds: float) -> None:
            assert seconds > 0

        def get_name(self) -> str:
            return "1"

    with pytest.raises(NoSftp) as caught:
        Sftp(Ended())
    assert caught.value.words == b"only backups here"


def _connect(server: Sshd, files: tuple[str, ...], password: Secret | None = None) -> Remote:
    known = server.directory / "known_hosts"
    known.write_text(server.known_hosts_line())
    target = Target(server.host, server.user, port=server.port, identity_files=files, password=password)
    return Remote.connect(target, [known], Deadline.after(20))


def _refusal(server: Sshd) -> str:
    with pytest.raises(Failed) as caught:
        _connect(server, (str(server.client_key),))
    return caught.value.message


def _connect_with_password(
    server: OddServer, directory: Path, password: str | None, files: tuple[str, ...] = ()
) -> Remote:
    known = directory / "known_hosts"
    known.write_text(server.known_hosts_line())
    secret = None if password is None else Secret(password)
    target = Target(server.host, "anna", port=server.port, password=secret, identity_files=files)
    return Remote.connect(target, [known], Deadline.after(20))


def _authorize(server: Sshd, file: Path) -> None:
    with (server.directory / "authorized_keys").open("a") as authorized:
        authorized.write(Path(f"{file}.pub").read_text())
