"""The command as the package installs it, with this Debian's Python and shells."""

from __future__ import annotations

import json

from .installed import Installed

#: What bash does at a TAB: loads what is installed under the command's name, and calls it with the words so far.
TAB = """
. /usr/share/bash-completion/completions/legacyhost
COMP_WORDS=(legacyhost "$@")
COMP_CWORD=$#
_legacyhost
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_bash_completes(installed: Installed) -> None:
    """Commands, options, plugins, volumes and RPCs, as they are on this host."""
    name = installed.name("completed")
    installed.create(name)

    def offered(*words: str) -> list[str]:
        return installed.machine.run(["bash", "-c", TAB, "bash", *words]).stdout.split()

    assert offered("insp") == ["inspect"]
    assert offered("ls", "--j") == ["--json"]
    assert offered("ls", "--plugin", "ss") == ["sshfs"]
    assert offered("inspect", "--plugin", "sshfs", name[:-1]) == [name]
    assert offered("call", "VolumeDriver.L") == ["VolumeDriver.List"]
    installed.machine.run("systemctl stop legacyhost@sshfs.socket legacyhost@sshfs.service")
    try:
        assert offered("inspect", "--plugin", "sshfs", "") == []
    finally:
        installed.machine.run("systemctl start legacyhost@sshfs.socket")


def test_every_command_has_help(installed: Installed) -> None:
    """With an example, in any locale; a command that has commands shows it by itself."""

    def commands(*words: str) -> list[tuple[str, ...]]:
        lines = installed.machine.run(["legacyhost", "__complete", *words, ""]).stdout.splitlines()
        return [(*words, line.partition("\t")[0]) for line in lines]

    top = commands()
    assert {("ls",), ("call",), ("doctor",), ("credential",)} <= set(top)
    for words in [(), *top, *commands("credential")]:
        for locale in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}):
            shown = installed.machine.run(["legacyhost", *words, "--help"], env=locale)
            assert "\nexample" in shown.stdout
            assert (f"legacyhost {' '.join(words)}").strip() in shown.stdout.partition("\nexample")[2]
    for group in ((), ("credential",)):
        alone = installed.machine.run(["legacyhost", *group], check=False)
        assert alone.returncode == 2
        assert "\nexample" in alone.stderr


def test_call_is_what_curl_was_for(installed: Installed) -> None:
    """Replies are JSON, errors one line; a typo is met with the name that was meant."""
    name = installed.name("called")
    run = installed.machine.run
    sent = json.dumps({"Name": name, "Opts": installed.options(name)})
    assert run(["legacyhost", "call", "--plugin", "sshfs", "VolumeDriver.Create", "-"], input=sent).stdout == "{}\n"
    listed = json.loads(run(["legacyhost", "call", "--plugin", "sshfs", "VolumeDriver.List"]).stdout)
    assert name in [volume["Name"] for volume in listed["Volumes"]]
    known = json.loads(run(["legacyhost", "ls", "--plugin", "sshfs", "--json"]).stdout)
    assert [volume["Status"]["state"] for volume in known if volume["Name"] == name] == ["not mounted"]
    wrong = run(["legacyhost", "call", "--plugin", "sshfs", "VolumeDriver.Lsit"], check=False)
    said = "legacyhost: plugin sshfs has no method VolumeDriver.Lsit; did you mean VolumeDriver.List?\n"
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (1, "", said)
    for argument in ("'{\"Name\": }'", "\"$(printf '\\377')\""):
        wrong = run(f"legacyhost call --plugin sshfs VolumeDriver.Get {argument}", check=False)
        assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
        assert wrong.stderr.startswith("legacyhost: this is not JSON")
