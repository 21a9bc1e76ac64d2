"""What the package installs."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import tomllib
from pathlib import Path

from .conftest import DEBIAN, TOP, Deb, run

MODULES = "usr/lib/python3/dist-packages"
UNITS = ("legacyhost@.service", "legacyhost@.socket", "legacyhost.target")
DIST_INFO = {"METADATA", "entry_points.txt", "top_level.txt"}

FILES = {
    "etc/legacyhost/sshfs.toml",
    "etc/needrestart/conf.d/legacyhost.conf",
    "usr/bin/legacyhost",
    "usr/share/bash-completion/completions/legacyhost",
    "usr/share/fish/vendor_completions.d/legacyhost.fish",
    "usr/share/zsh/vendor-completions/_legacyhost",
    f"{MODULES}/legacyhost/py.typed",
    *(f"usr/lib/systemd/system/{name}" for name in UNITS),
    "usr/share/doc/legacyhost/changelog",
    "usr/share/doc/legacyhost/copyright",
    "usr/share/doc/legacyhost/examples/policy.toml",
    "usr/share/lintian/overrides/legacyhost",
    "usr/share/man/man1/legacyhost.1",
    "usr/share/man/man5/legacyhost-policy.5",
    "usr/share/man/man5/legacyhost.toml.5",
}
SCRIPTS = {f"{MODULES}/legacyhost/drivers/askpass.sh", f"{MODULES}/legacyhost/mounts/mount-unit.sh"}


def test_files(deb: Deb) -> None:
    """Compressed or not, and what else about the distribution, as the Debian that builds it decides."""
    files = {member.name.removeprefix("./").removesuffix(".gz") for member in deb.members if not member.isdir()}
    own = {f"{MODULES}/{path.relative_to(TOP)}" for path in (TOP / "legacyhost").rglob("*.py")}
    prefix = f"{MODULES}/legacyhost-{deb.fields['Version']}.dist-info/"
    info = {f"{prefix}{name}" for name in DIST_INFO}
    documents = {f"usr/share/doc/legacyhost/{name}" for name in ("README.md", "CHANGELOG.md") if (TOP / name).exists()}
    files -= {f"{prefix}{name}" for name in ("RECORD", "WHEEL", "INSTALLER")}
    assert files == FILES | SCRIPTS | own | info | documents


def test_modes_and_owners(deb: Deb) -> None:
    """Two things are for root only, three are run, everything else is as usual."""
    special = {
        "etc/legacyhost/sshfs.toml": 0o600,
        "etc/legacyhost/credentials": 0o700,
        "usr/bin/legacyhost": 0o755,
        **dict.fromkeys(SCRIPTS, 0o755),
    }
    for member in deb.members:
        name = member.name.removeprefix("./")
        assert member.isdir() or member.isreg(), name
        assert (member.uname, member.gname) == ("root", "root"), name
        assert member.mode == special.pop(name, 0o755 if member.isdir() else 0o644), name
    assert not special


def test_configuration_is_the_administrators(deb: Deb) -> None:
    shipped = {"/etc/legacyhost/sshfs.toml", "/etc/needrestart/conf.d/legacyhost.conf"}
    assert set((deb.control / "conffiles").read_text().split()) == shipped


def test_units_are_those_of_the_checkout(deb: Deb) -> None:
    for name in UNITS:
        unit = deb.tree / "usr/lib/systemd/system" / name
        assert unit.read_bytes() == (TOP / "packaging/systemd" / name).read_bytes()


def test_changelog_is_the_packages(deb: Deb) -> None:
    packed = deb.tree / "usr/share/doc/legacyhost/changelog.gz"
    assert gzip.decompress(packed.read_bytes()) == (DEBIAN / "changelog").read_bytes()


def test_fields(deb: Deb) -> None:
    assert deb.fields["Package"] == "legacyhost"
    assert deb.fields["Architecture"] == "all"
    assert deb.path.name == f"legacyhost_{deb.fields['Version']}_all.deb"
    assert f'"{deb.fields["Version"]}"' in (TOP / "legacyhost/__init__.py").read_text()


def test_dependencies_fit_every_release(deb: Deb) -> None:
    """What pyproject.toml asks for, from the same version on, and nothing has an upper bound."""
    depends = {}
    for entry in deb.fields["Depends"].split(", "):
        match = re.fullmatch(r"([a-z0-9:.-]+)(?: \(>= ([0-9.]+)\))?", entry)
        assert match, entry
        depends[match[1]] = match[2]
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    for entry in project["dependencies"]:
        name, _, version = entry.partition(">=")
        assert depends[{"systemd-python": "python3-systemd"}.get(name, f"python3-{name}")] == version
    assert depends["python3"] == project["requires-python"].removeprefix(">=")
    assert {"sshfs", "openssh-client", "mount", "systemd", "python3-cryptography"} <= set(depends)


def test_lintian(deb: Deb) -> None:
    """Nothing of any severity; the overrides have their reasons."""
    assert run("lintian", "--allow-root", "--display-info", "--pedantic", deb.path).stdout == ""


def test_scripts_of_debhelper_are_in(deb: Deb) -> None:
    for name in ("postinst", "prerm", "postrm"):
        own, _, rest = (DEBIAN / name).read_text().partition("#DEBHELPER#")
        script = (deb.control / name).read_text()
        assert script.startswith(own)
        assert script.rstrip().endswith(rest.strip())
        run("sh", "-n", deb.control / name)
    postinst = (deb.control / "postinst").read_text()
    assert postinst.index("py3compile") < postinst.index("daemon-reload") < postinst.index("try-restart")
    assert "deb-systemd-helper enable 'legacyhost.target'" in postinst


def test_triggers_name_what_the_libraries_install(deb: Deb) -> None:
    """The directories that this Debian's packages have their modules in."""
    for line in (deb.control / "triggers").read_text().splitlines():
        if line and not line.startswith("#"):
            directive, path = line.split()
            assert directive == "interest-noawait"
            assert run("dpkg", "--search", path).stdout == f"python3-{Path(path).name}: {path}\n"


def test_units_verify(deb: Deb, tmp_path: Path) -> None:
    """systemd-analyze finds nothing wrong with the units as they are installed, manual pages included."""
    shutil.copytree(deb.tree, tmp_path, dirs_exist_ok=True)
    shutil.copytree("/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True, dirs_exist_ok=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    for program in ("kill", "mkdir"):
        (tmp_path / "usr/bin" / program).write_text("#!/bin/sh\n")
        (tmp_path / "usr/bin" / program).chmod(0o755)
    units = [name.replace("@.", "@sshfs.") for name in UNITS]
    verify = ["systemd-analyze", f"--root={tmp_path}", "verify", "--recursive-errors=yes", *units]
    assert run(*verify, env={**os.environ, "MANPATH": f"{tmp_path}/usr/share/man"}).stdout == ""


def test_command_runs(deb: Deb) -> None:
    environment = {"PYTHONPATH": str(deb.tree / MODULES), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
    command = deb.tree / "usr/bin/legacyhost"
    assert command.read_text().startswith("#!/usr/bin/python3\n")
    assert run(command, "--version", env=environment, cwd="/").stdout == f"legacyhost {deb.fields['Version']}\n"


def test_askpass_runs(deb: Deb, tmp_path: Path) -> None:
    """As ssh runs it: by its path."""
    (tmp_path / "secret").write_text("pass word\n")
    askpass = deb.tree / MODULES / "legacyhost/drivers/askpass.sh"
    shown = run(askpass, "alice@host's password: ", env={"LEGACYHOST_SECRET": str(tmp_path / "secret")})
    assert shown.stdout == "pass word\n"
