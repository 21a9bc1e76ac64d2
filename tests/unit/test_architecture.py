"""The rules of who knows whom, read from the source: imports inside functions count too."""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "legacyhost"
#: Each third-party package, and the only modules that may know it.
DOORS = {
    "falcon": {"legacyhost.web"},
    "gunicorn": {"legacyhost.server", "legacyhost.worker", "legacyhost.plain"},
    "sdnotify": {"legacyhost.notify"},
    "systemd": {"legacyhost.log"},
    "jeepney": {"legacyhost.mounts.manager"},
    "paramiko": {"legacyhost.ssh"},
    "cryptography": {"legacyhost.ssh", "legacyhost.pki"},
}
#: What answers calls and what works in the background have in common; neither knows the other.
BESIDE = {"holds", "turns", "history", "status", "mounting"}
#: What a part may import of ours, beside itself; a part is a module or a package.
MAY_KNOW = {
    "legacyhost.errors": set(),
    "legacyhost.deadline": set(),
    "legacyhost.unchanged": set(),
    "legacyhost.wire": {"errors"},
    "legacyhost.names": {"errors", "wire"},
    "legacyhost.options": {"errors", "wire"},
    "legacyhost.turns": {"errors", "deadline"},
    "legacyhost.holds": {"errors", "unchanged"},
    "legacyhost.disk": {"log"},
    "legacyhost.record": {"disk"},
    "legacyhost.backup": {"disk", "record", "log"},
    "legacyhost.seal": {"disk", "record"},
    "legacyhost.state": {"errors", "disk", "record", "backup", "seal", "unchanged"},
    "legacyhost.restore": {"errors", "disk", "record", "backup", "state"},
    "legacyhost.rpc": {"errors", "wire"},
    "legacyhost.web": {"errors", "wire", "rpc", "log"},
    "legacyhost.notify": {"log"},
    "legacyhost.log": set(),
    "legacyhost.threads": set(),
    "legacyhost.plain": set(),
    "legacyhost.worker": {"log", "plain", "threads", "wire", "connections"},
    "legacyhost.connections": set(),
    "legacyhost.gate": set(),
    "legacyhost.standpoint": set(),
    "legacyhost.afar": {"errors", "rpc", "web", "standpoint"},
    "legacyhost.pki": {"errors", "config", "disk"},
    "legacyhost.tls": {"errors", "config", "pki"},
    "legacyhost.remote": {"config", "connections", "gate", "tls"},
    "legacyhost.network": {"errors", "log", "config", "web", "afar", "gate", "remote", "tls"},
    "legacyhost.client": {"errors"},
    "legacyhost.surfaces": {"errors", "rpc", "wire"},
    "legacyhost.authorizer": {"log", "wire", "policy", "policies", "surfaces.authz"},
    "legacyhost.policies": {"errors", "log", "policy", "policysource"},
    "legacyhost.policysource": {
        "errors",
        "wire",
        "deadline",
        "disk",
        "config",
        "policy",
        "credentials",
        "drivers",
        "ssh",
    },
    "legacyhost.advertised": {"log", "disk"},
    "legacyhost.ssh": {"errors", "deadline"},
    "legacyhost.mounts": {"errors", "deadline", "log"},
    "legacyhost.policy": {"errors", "wire", "mounts.mountinfo", "standpoint"},
    "legacyhost.credentials": {"errors", "disk", "names", "wire", "ssh.target"},
    "legacyhost.drivers": {
        "errors",
        "deadline",
        "options",
        "state",
        "mounts",
        "ssh",
        "credentials",
        "log",
        "transport",
        "unchanged",
    },
    "legacyhost.transport": set(),
    "legacyhost.otherplugin": {"errors", "wire", "names", "disk", "drivers.sshfs_options", "ssh"},
    "legacyhost.importing": {"errors", "names", "credentials", "otherplugin", "drivers.sshfs_options", "ssh"},
    "legacyhost.history": {"log"},
    "legacyhost.status": {"drivers", "history"},
    "legacyhost.mounting": {"errors", "deadline", "log", "wire", "drivers", "mounts", "state", "status"},
    "legacyhost.convergence": {"errors", "deadline", "log", "mounts.mountinfo"} | BESIDE,
    "legacyhost.volumes": {"errors", "deadline", "log", "names", "drivers", "state", "surfaces", "unchanged"} | BESIDE,
}
#: What is run as a program of its own, while somebody waits for it: it loads these and nothing else.
SCRIPTS = ("legacyhost.transport",)
SMALL = {"os", "select", "struct", "sys", "time", "_thread", "_socket", "_collections_abc", "__future__"}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str, only_top: bool = False) -> set[str]:
    """Every module that ``name`` imports, anywhere in it; ``from package import module`` is the module."""
    found = set()
    tree = ast.parse(MODULES[name].read_text())
    for node in tree.body if only_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full if full in MODULES else node.module for full in inner}
    return found


def is_part_of(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_and_is_not_long(name: str) -> None:
    """The first sentence says what it knows and others do not; what needs more lines is two modules."""
    text = MODULES[name].read_text()
    documentation = ast.get_docstring(ast.parse(text))
    assert documentation
    assert documentation.split("\n\n")[0].strip().endswith((".", ":"))
    assert len(text.splitlines()) <= 350


def test_imports_have_no_cycles() -> None:
    """They point one way, those inside functions included."""
    ours = {name: {other for other in imports(name) if other in MODULES and other != name} for name in MODULES}
    assert set(TopologicalSorter(ours).static_order()) == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_third_party_packages_have_one_door_each(name: str) -> None:
    """Whoever wants to replace one has to look at one place; a package not listed here is not used at all."""
    for imported in imports(name):
        package = imported.partition(".")[0]
        if package == "legacyhost" or package in sys.stdlib_module_names:
            continue
        assert package in DOORS, f"{package} is new here"
        assert any(is_part_of(name, door) for door in DOORS[package])


@pytest.mark.parametrize("part", MAY_KNOW)
def test_a_part_knows_no_more_than_it_needs(part: str) -> None:
    """Surfaces know neither drivers nor mounts, mounts no SSH, SSH no volumes; nobody below knows the assembly."""
    allowed = {f"legacyhost.{name}" for name in MAY_KNOW[part]} | {part}
    names = [name for name in MODULES if is_part_of(name, part)]
    assert names
    for name in names:
        ours = {imported for imported in imports(name) if imported.startswith("legacyhost.")}
        assert not {imported for imported in ours if not any(is_part_of(imported, other) for other in allowed)}


@pytest.mark.parametrize(
    ("module", "users"),
    [
        ("legacyhost.cli", {"legacyhost.__main__"}),
        ("legacyhost.server", {"legacyhost.commands.service"}),
        ("legacyhost.plugin", {"legacyhost.commands.service", "legacyhost.server"}),
        ("legacyhost.parts", {"legacyhost.plugin"}),
        ("legacyhost.parts.volume", {"legacyhost.plugin", "legacyhost.unstick", "legacyhost.doctor.files"}),
        ("legacyhost.parts.authz", {"legacyhost.plugin"}),
        ("legacyhost.authorizer", {"legacyhost.plugin", "legacyhost.parts.authz"}),
        ("legacyhost.policies", {"legacyhost.authorizer", "legacyhost.parts.authz", "legacyhost.doctor.authz"}),
        ("legacyhost.client", {"legacyhost.commands", "legacyhost.commands.service", "legacyhost.doctor.host"}),
        ("legacyhost.volumes", {"legacyhost.parts.volume"}),
        ("legacyhost.convergence", {"legacyhost.parts.volume"}),
        ("legacyhost.mounting", {"legacyhost.parts.volume", "legacyhost.volumes", "legacyhost.convergence"}),
        ("legacyhost.drivers.sshfs", {"legacyhost.parts.volume"}),
        ("legacyhost.mounts.units", {"legacyhost.parts.volume"}),
        ("legacyhost.mounts.processes", {"legacyhost.parts.volume"}),
        (
            "legacyhost.surfaces.volume",
            {"legacyhost.plugin", "legacyhost.parts.volume", "legacyhost.volumes", "legacyhost.commands.call"},
        ),
        (
            "legacyhost.surfaces.authz",
            {"legacyhost.plugin", "legacyhost.parts.authz", "legacyhost.authorizer", "legacyhost.commands.call"},
        ),
    ],
)
def test_what_is_put_together_is_known_only_where_it_is_put_together(module: str, users: set[str]) -> None:
    """A new driver, mounter or surface is one file, and one line in the assembly."""
    assert {name for name in MODULES if module in imports(name)} == users


@pytest.mark.parametrize("name", [name for name in MODULES for script in SCRIPTS if is_part_of(name, script)])
def test_a_script_loads_nothing_but_what_it_has_to(name: str) -> None:
    """It is copied, run without the rest of this package, and started while a container waits."""
    assert {found for found in imports(name) if not any(is_part_of(found, script) for script in SCRIPTS)} <= SMALL


def test_paramiko_is_loaded_only_inside_functions() -> None:
    """It costs a tenth of a second: whatever is loaded before the network is used does not load it."""
    at_the_top = {name: imports(name, only_top=True) for name in MODULES}
    heavy = {name for name, found in at_the_top.items() if found & {"paramiko"} or "cryptography" in str(found)}
    assert heavy
    for name in MODULES:
        if not any(is_part_of(name, door) for door in DOORS["cryptography"]):
            loaded, left = set[str](), {name}
            while left:
                loaded |= left
                left = {other for each in left for other in at_the_top[each] if other in MODULES} - loaded
            assert not loaded & heavy, f"{name} loads {loaded & heavy}"


def test_nothing_in_the_code_is_for_tests() -> None:
    """No flag, no branch and no import for the benefit of a test; no shell, no assertion as a check."""
    for path in MODULES.values():
        text = path.read_text()
        assert "pytest" not in text
        assert "unittest" not in text
        tree = ast.parse(text)
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        keywords = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "shell"]
        assert not keywords
