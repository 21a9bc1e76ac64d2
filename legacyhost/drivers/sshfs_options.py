"""The options of an SSH directory: which there are, what they may be, and which are refused and why.

Names and meaning: contract of this project for its own; sshfs(1), ssh_config(5) for the handed-on ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address

from legacyhost.options import Option, Options, flag, matching, number, octal, one_of

_WORDS = r"[A-Za-z0-9@.,+^*?=_-]{1,1000}"
_algorithms = matching(_WORDS, "has to be a list of algorithms as in ssh_config(5)")
_one_or_two = matching(r"[0-9A-Za-z]{1,20}( [0-9A-Za-z]{1,20})?", "is no value of ssh_config(5)")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\+-]{0,127}\$?", re.ASCII)


def _is_host(text: str) -> bool:
    """A name, or an IPv4 address as it is usually written: of 010.1 or 1 ssh makes another one (inet_aton(3))."""
    if re.fullmatch(r"(0[xX][0-9A-Fa-f]*|[0-9]+)(\.(0[xX][0-9A-Fa-f]*|[0-9]+))*\.?", text):
        try:
            return str(IPv4Address(text)) == text
        except ValueError:
            return False
    return _HOST.fullmatch(text) is not None


def sshcmd(value: str) -> str:
    """``[user@]host:[path]``, as sshfs takes it. Raises ValueError."""
    account, colon, path = value.partition(":")
    user, at, host = account.rpartition("@")
    if value.lower().startswith(("ssh://", "sftp://")):
        raise ValueError("has to be [user@]host:[path], not a URL; a port is given as port=")
    if re.match("[0-9]+:", path):
        raise ValueError("has to be [user@]host:[path]; a port is given as port=")
    if not colon:
        raise ValueError("has to be [user@]host:[path]; there is no ':' in it")
    if account.startswith("[") or host.startswith("["):
        raise ValueError("cannot have a host in brackets; use its name or an IPv4 address")
    if not _is_host(host):
        raise ValueError("has to be [user@]host:[path], the host a name or an IPv4 address")
    if at and not _USER.fullmatch(user):
        raise ValueError("has a user name that cannot be one")
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise ValueError("has control characters in its path")
    path = "" if path == "~" else path.removeprefix("~/")
    if path.startswith("~"):
        raise ValueError("has another user's home in its path, which SFTP knows nothing of; give the path itself")
    return f"{user or 'root'}@{host}:{path}"


def split_sshcmd(value: str) -> tuple[str, str, str]:
    """User, host and path of a checked sshcmd."""
    account, _, path = value.partition(":")
    user, _, host = account.rpartition("@")
    return user, host, path


def jump(value: str) -> str:
    """``[user@]host[:port]`` of a jump host. Raises ValueError."""
    user, host, port = split_jump(value)
    if not _is_host(host) or ("@" in value and not _USER.fullmatch(user)) or not 0 < port < 65536:
        raise ValueError("has to be [user@]host[:port], the host a name or an IPv4 address")
    return value


def split_jump(value: str) -> tuple[str, str, int]:
    """User (may be empty), host and port of a jump host; port 0 where it is no number."""
    user, _, place = value.rpartition("@")
    host, colon, port = place.partition(":")
    if not colon:
        return user, host, 22
    return user, host, int(port) if re.fullmatch("[0-9]{1,5}", port) else 0


def _host_key_checking(value: str) -> str:
    if value.lower() not in ("yes", "true"):
        raise ValueError("stays on: host keys are always checked; make a host known with: legacyhost trust HOST")
    return "yes"


# A key on a volume would be read through a mount that may hang.
_path = matching(
    r"/(?!/*(var/+)?run/+legacyhost(/|$))(?!(.*/)?\.{1,2}(/|$))[^\"'\\$]{1,1000}",
    "has to be an absolute path on this host, not on a volume, without '..', quotes, '$' or '\\'",
)

#: This project's own, and the names of the plugin people come from.
OWN = (
    Option("sshcmd", sshcmd, "the remote directory, [user@]host:[path]; required"),
    Option("password", matching(r".{1,1000}", "is empty or too long"), "password of the account", is_secret=True),
    Option(
        "credential",
        matching(
            r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", "is no name of a credential; legacyhost credential ls shows them"
        ),
        "what opens the account: the name of a credential kept on this host",
    ),
    Option("jump", jump, "the jump host by way of which the host is reached, [user@]host[:port]"),
    Option("port", number(1, 65535), "port of the SSH server", "22"),
    Option("IdentityFile", _path, "private key on this host; default: root's own keys"),
    Option(
        "host_key",
        matching(r"SHA256:[A-Za-z0-9+/]{43}", "has to be a fingerprint such as ssh-keygen -l prints, SHA256:…"),
        "the only host key accepted, SHA256:…; default: what known_hosts says",
    ),
    Option("create", flag, "make the remote directory if it is missing", "true"),
    Option("on_remove", one_of("keep", "purge"), "purge: delete the remote directory's content on removal", "keep"),
    Option("read_only", flag, "mount read-only", "false"),
    Option("uid", number(0, 4294967294), "owner shown for every file"),
    Option("gid", number(0, 4294967294), "group shown for every file"),
    Option("umask", octal, "modes shown for files: the bits to take away"),
    Option("timeout", number(1, 100), "seconds a Create or Mount may take", "30"),
    Option("fail_after", number(1, 3600), "seconds an operation waits for a silent host before it fails", "30"),
    Option(
        "chown",
        one_of("ignore", "strict"),
        "what a change of owner does where the account is not root: nothing, or the server's error",
        "ignore",
    ),
    Option(
        "connection",
        one_of("shared", "dedicated"),
        "whether a mount begins over a connection that volumes of the same account share, or only over its own",
        "shared",
    ),
    Option(
        "cache",
        one_of("auto", "kernel", "none"),
        "what was read is kept while size and time stay the same, whatever others write, or not at all",
        "auto",
    ),
)

#: What each value of "cache" is to sshfs; its own options, given by name, go before that.
CACHE: Mapping[str, Mapping[str, str]] = {
    # sshfs asks the server whenever a file is opened; without the second, libfuse looks at that once a second at most.
    # Without the third, sshfs would keep names, sizes and times for 20 s, and a file that has grown be cut off there.
    "auto": {"auto_cache": "true", "ac_attr_timeout": "0", "dcache_timeout": "3"},
    "kernel": {"kernel_cache": "true"},
    "none": {"dir_cache": "no", "attr_timeout": "0", "entry_timeout": "0"},
}

#: sshfs's own and FUSE's, handed on with -o. A value of flag() is given by name or left out.
FUSE_FLAGS = {
    "allow_other": "let every user of a container in (on; false: only root)",
    "default_permissions": "let this host's kernel check owners and modes",
    "reconnect": "make the connection again when it is lost (on)",
    "auto_cache": "keep what was read while size and time stay the same (on with cache=auto)",
    "kernel_cache": "keep what was read whatever others write (on with cache=kernel)",
    "direct_io": "read and write past the page cache",
    "follow_symlinks": "follow symbolic links on the server",
    "transform_symlinks": "make absolute links relative",
    "disable_hardlink": "refuse hard links",
    "sshfs_sync": "write synchronously",
    "no_readahead": "read synchronously",
    "sync_readdir": "read directories synchronously",
    "no_check_root": "do not check the remote directory first",
}
FUSE_VALUES = {
    "dir_cache": (one_of("yes", "no"), "cache directories (yes)"),
    "dcache_max_size": (number(1, 10_000_000), "entries in the directory cache"),
    "dcache_timeout": (number(0, 86400), "seconds for the directory cache (3)"),
    "dcache_stat_timeout": (number(0, 86400), "seconds for attributes"),
    "dcache_link_timeout": (number(0, 86400), "seconds for symbolic links"),
    "dcache_dir_timeout": (number(0, 86400), "seconds for names"),
    "entry_timeout": (number(0, 86400), "seconds the kernel keeps names"),
    "negative_timeout": (number(0, 86400), "seconds the kernel keeps missing names"),
    "attr_timeout": (number(0, 86400), "seconds the kernel keeps attributes"),
    "ac_attr_timeout": (number(0, 86400), "seconds between two looks of auto_cache at a file's size and time (0)"),
    "max_conns": (number(1, 16), "SSH connections side by side"),
    "max_read": (number(4096, 1048576), "bytes a read may have"),
    "workaround": (matching(r"[a-z:]{1,100}", "has to be a list as in sshfs(1)"), "workarounds, see sshfs(1)"),
}
#: OpenSSH's, written to a configuration file of the volume's own.
SSH_VALUES = {
    "AddressFamily": (one_of("any", "inet", "inet6"), "addresses to use"),
    "BindAddress": (matching(r"[0-9A-Fa-f.:]{2,45}", "has to be an IP address"), "address to connect from"),
    "CASignatureAlgorithms": (_algorithms, "see ssh_config(5)"),
    "Ciphers": (_algorithms, "ciphers, the preferred first"),
    "Compression": (one_of("yes", "no"), "compress (no)"),
    "ConnectionAttempts": (number(1, 10), "attempts at a connection (1)"),
    "ConnectTimeout": (number(1, 60), "seconds for a connection (10)"),
    "HostKeyAlgorithms": (_algorithms, "see ssh_config(5)"),
    "IPQoS": (_one_or_two, "see ssh_config(5)"),
    "KexAlgorithms": (_algorithms, "see ssh_config(5)"),
    "MACs": (_algorithms, "see ssh_config(5)"),
    "PreferredAuthentications": (_algorithms, "see ssh_config(5)"),
    "PubkeyAcceptedAlgorithms": (_algorithms, "see ssh_config(5)"),
    "RekeyLimit": (_one_or_two, "see ssh_config(5)"),
    "ServerAliveCountMax": (number(1, 100), "unanswered keep-alives before the connection is given up (2)"),
    "ServerAliveInterval": (number(1, 3600), "seconds between keep-alives (a third of fail_after)"),
    "StrictHostKeyChecking": (_host_key_checking, "always yes"),
    "TCPKeepAlive": (one_of("yes", "no"), "TCP's own keep-alive (yes)"),
}
#: Meant something to older versions; today's sshfs stops at them.
IGNORED = ("big_writes", "nonempty", "rw", "large_read", "exec", "suid", "dev", "noatime")

_RUNS = "it can run a program or read a file on this host"
REFUSED = {
    **dict.fromkeys(
        (
            "ProxyCommand", "LocalCommand", "PermitLocalCommand", "KnownHostsCommand", "ssh_command",
            "sftp_server", "directport", "passive", "F", "Include", "PKCS11Provider", "SecurityKeyProvider",
            "RemoteCommand", "Match", "ControlPath", "ControlMaster", "ControlPersist", "IdentityAgent",
            "ForwardAgent", "XAuthLocation", "uidfile", "gidfile", "modules", "fsname", "subtype",
            "ProxyUseFdpass", "CertificateFile", "SendEnv", "SetEnv",
        ),
        _RUNS,
    ),
    "UserKnownHostsFile": "known hosts stand in /etc/legacyhost/known_hosts; add one with: legacyhost trust HOST",
    "GlobalKnownHostsFile": "known hosts stand in /etc/legacyhost/known_hosts; add one with: legacyhost trust HOST",
    "password_stdin": "give the password as password=",
    "noauto_cache": "give auto_cache=false",
    "delay_connect": "a mount that is not connected would hide why it fails",
    "ProxyJump": "give it as jump=[user@]host[:port]",
    "User": "the user belongs into sshcmd, user@host:path",
    "HostName": "the host belongs into sshcmd, user@host:path",
    "allow_root": "use allow_other, which is on",
}  # fmt: skip

TABLE = Options(
    (
        *OWN,
        Option("ro", flag, "the same as read_only"),
        *(Option(name, flag, text) for name, text in FUSE_FLAGS.items()),
        *(Option(name, check, text) for name, (check, text) in FUSE_VALUES.items()),
        *(Option(name, check, text) for name, (check, text) in SSH_VALUES.items()),
        *(Option(name, matching(r".{0,100}", "is too long"), "accepted, does nothing") for name in IGNORED),
    ),
    REFUSED,
)
