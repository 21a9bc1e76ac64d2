"""The ways a mount can fail, and for each the sentence that whoever typed `docker run` gets.

The table is in failing_network.py, failing_login.py, failing_jump.py and failing_places.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from . import failing_jump, failing_login, failing_network, failing_places  # noqa: F401 they fill the table
from .failing import CASES, Said, World, world_on
from .installed import Installed
from .machine import Machine

#: How many cases at a time: they mostly wait.
SIDE_BY_SIDE = 8

Outcomes = dict[str, Future[dict[str, Said]]]


@pytest.fixture(scope="module")
def world(image: Path, deb: Path) -> Iterator[World]:
    """A machine of this module's own, because some cases break it."""
    with Machine(image) as machine:
        failed = machine.boot()
        assert not failed, f"units failed at boot: {', '.join(failed)}"
        machine.import_image("busybox", engines=["docker"])
        with world_on(Installed(machine, deb)) as made:
            yield made


@pytest.fixture(scope="module")
def outcomes(world: World, request: pytest.FixtureRequest) -> Outcomes:
    """What became of the cases that are wanted: side by side, then those that break the machine for all."""
    wanted = {item.name for item in request.session.items}
    chosen = [case for case in CASES if f"{test_the_sentence.__name__}[{case}]" in wanted]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        found = {str(case): pool.submit(world.run, case) for case in chosen if not case.is_alone}
    with ThreadPoolExecutor(1) as pool:
        return found | {str(case): pool.submit(world.run, case) for case in chosen if case.is_alone}


@pytest.mark.parametrize("case", [str(case) for case in CASES])
def test_the_sentence(outcomes: Outcomes, case: str) -> None:
    for situation, said in outcomes[case].result().items():
        print(f"{situation}: {said.sentence}")
        said.judge()


def test_nothing_is_left(outcomes: Outcomes, world: World) -> None:
    """No volume whose Create failed, no container, no mount and nothing of one."""
    made = {name for name, outcome in outcomes.items() if "mount" in outcome.result()}
    machine = world.machine
    assert set(machine.docker("volume", "ls", "-q").stdout.split()) == {name.replace("_", "-") for name in made}
    assert machine.docker("ps", "-aq").stdout == ""
    assert world.installed.mounted() == set()
    assert world.installed.mount_units() == []
    assert machine.run("ls /run/legacyhost/sshfs/bare /run/legacyhost/sshfs/volumes").stdout.split("\n")[1] == ""


def test_there_are_at_least_twenty_five() -> None:
    assert len(CASES) >= 25
