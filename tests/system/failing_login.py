"""What can be wrong with a login, and with a session after it."""

from __future__ import annotations

from .failing import ALL, Arranged, World, fails, odd, on, reconfigured
from .odd_server import PASSWORD
from .sshd import SshServer

KEY_REFUSED = (
    "{where} refused the login of {user} (tried: key {key}; the server accepts: publickey, password):"
    " is one of these keys in authorized_keys there, and the account not locked?"
)
HUNG_UP = ": its log says why (an account that has expired, too many failures)"
ENDED = (
    "{where} ended SFTP for {user} at once: is its sftp-server installed, and the account neither expired nor bound to"
    " another command?"
)
INSTEAD = (
    '{where} answers the start of SFTP with "{said}": does a start-up file of {user} print that, or is the account'
    " without a shell, or bound to another command?"
)


@fails(
    "{where} refused the login of {user} (tried: password; the server accepts: publickey, password):"
    " is the password right, and the account not locked?"
)
def wrong_password(world: World) -> Arranged:
    account = world.account("walter")
    account.run(f"echo walter:{PASSWORD} | chpasswd")
    return account.broken_by("echo walter:another | chpasswd", password=PASSWORD, IdentityFile="")


@fails(KEY_REFUSED)
def key_not_authorized(world: World) -> Arranged:
    return world.account("karla").broken_by("rm .ssh/authorized_keys")


@fails(KEY_REFUSED)
def account_locked(world: World) -> Arranged:
    return world.account("ludwig").broken_by("usermod --lock ludwig")


@fails(KEY_REFUSED)
def account_without_that_shell(world: World) -> Arranged:
    return world.account("sheila").broken_by("usermod --shell /bin/none sheila")


@fails("{where} closed the connection during the login of {user} after: key {key}" + HUNG_UP)
def account_expired(world: World) -> Arranged:
    return world.account("edgar", server=_with_pam(world)).broken_by("chage --expiredate 1 edgar")


@fails(ENDED)
def password_expired(world: World) -> Arranged:
    return world.account("paula", server=_with_pam(world)).broken_by(
        f"echo paula:{PASSWORD} | chpasswd && chage --lastday 0 paula"
    )


@fails(
    "{where} refused the login of {user} (tried: key {key} (accepted); the server accepts: password):"
    " it wants more than one proof, so give a key and a password, or have it ask for less"
)
def second_factor(world: World) -> Arranged:
    return reconfigured(world, "AuthenticationMethods publickey,password", world.server(password=PASSWORD))


@fails(
    "{where} refused the login of anna (tried: password as the answer to a question; the server accepts:"
    ' keyboard-interactive; it asked "Token:"): no question but a single one for the password can be answered;'
    " use a key"
)
def two_questions(world: World) -> Arranged:
    return odd(world, "two-questions")


@fails(
    "{where} takes none of what was given for {user} (given: key {key}; the server accepts: password):"
    " give what it accepts"
)
def keys_not_taken(world: World) -> Arranged:
    return reconfigured(world, "PubkeyAuthentication no", world.server(password=PASSWORD))


@fails("nothing to log in to {where} as {user} with: give credential= or IdentityFile= ({*})")
def nothing_to_log_in_with(world: World) -> Arranged:
    account = world.account("nina")
    account.run("mkdir -p -m 700 /root/.ssh && mv $KEY /root/.ssh/id_ed25519")
    return account.broken_by("rm /root/.ssh/id_ed25519", IdentityFile="")


@fails("identity file {key} does not exist on this host")
def key_missing(world: World) -> Arranged:
    return world.account("mara").broken_by("rm $KEY")


@fails("identity file {key} is open to others (mode 0644), ssh refuses that: chmod 600 {key}")
def key_open_to_others(world: World) -> Arranged:
    return world.account("otto").broken_by("chmod 644 $KEY")


@fails("identity file {key} needs a passphrase: give it as password=, or use a key without one")
def key_without_its_passphrase(world: World) -> Arranged:
    return world.account("emil").broken_by(f"ssh-keygen -q -p -N {PASSWORD} -f $KEY")


@fails("identity file {key} cannot be opened: password= is not its passphrase")
def wrong_passphrase(world: World) -> Arranged:
    account = world.account("phil")
    account.run(f"ssh-keygen -q -p -N {PASSWORD} -f $KEY")
    return account.broken_by(f"ssh-keygen -q -p -P {PASSWORD} -N another -f $KEY", password=PASSWORD)


@fails("identity file {key} is not a private key that can be used (Ed25519, ECDSA or RSA)")
def not_a_key(world: World) -> Arranged:
    return world.account("nora").broken_by("echo something else >$KEY")


@fails("identity file {key} is a public key; the private key is needed (usually the name without .pub)")
def public_key(world: World) -> Arranged:
    return world.account("perry").broken_by("cat $KEY.pub >$KEY")


@fails("{where} did not answer within 12 s (waiting for the login)")
def silent_at_login(world: World) -> Arranged:
    return odd(world, "hangs-at-login", timeout="12")


@fails("{where} closed the connection during the login of anna" + HUNG_UP)
def closed_at_login(world: World) -> Arranged:
    return odd(world, "closes-at-login")


@fails("{where} did not answer within 12 s (waiting for the start of SFTP)")
def silent_at_sftp(world: World) -> Arranged:
    return odd(world, "hangs-at-sftp", timeout="12")


@fails("{where} has no SFTP for {user}: its sshd_config needs a line Subsystem sftp")
def no_sftp(world: World) -> Arranged:
    server = world.server()
    yield on(server)
    world.sftp_server(server, "")
    yield None


@fails(ENDED)
def sftp_server_not_installed(world: World) -> Arranged:
    server = world.server()
    yield on(server)
    world.sftp_server(server, "/usr/lib/openssh/none")
    yield None


# sshfs skips what comes before SFTP.
@fails(INSTEAD.replace("{said}", "Welcome back"), None)
def start_up_file_prints(world: World) -> Arranged:
    return world.account("berta", server=_external(world)).broken_by("echo 'echo Welcome back' >.bashrc")


@fails(INSTEAD.replace("{said}", "This account is currently not available."))
def account_without_a_shell(world: World) -> Arranged:
    return world.account("nolan", server=_external(world)).broken_by("usermod --shell /usr/sbin/nologin nolan")


@fails(INSTEAD.replace("{said}", "only backups here"))
def forced_command(world: World) -> Arranged:
    return reconfigured(world, "ForceCommand echo only backups here", world.server())


@fails(ENDED)
def forced_command_of_the_key(world: World) -> Arranged:
    return world.account("frida").broken_by("""sed -i 's:^:restrict,command="/bin/true" :' .ssh/authorized_keys""")


@fails("{where} opens no session for {user} ({*}): does its sshd_config allow any (MaxSessions)?")
def no_sessions(world: World) -> Arranged:
    return reconfigured(world, "MaxSessions 0", world.server())


def _with_pam(world: World) -> SshServer:
    return world.server(f"UsePAM yes\n{ALL}")


def _external(world: World) -> SshServer:
    """One that starts the account's shell for SFTP."""
    server = world.server(ALL)
    world.sftp_server(server, "/usr/lib/openssh/sftp-server")
    return server
