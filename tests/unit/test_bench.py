"""What ./bench makes of what it has measured."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from bench import report
from bench.__main__ import main
from bench.delay import QUEUE, Bottleneck
from bench.rows import GROUPS, ROWS, Row, Target

READ = Row("read", "reading", "MiB/s", ("legacyhost", "sshfs"), lambda world, subject: 1.0, [Target("≥", 2, "sshfs")])


@pytest.mark.parametrize(
    ("target", "values", "expected", "is_met"),
    [
        (Target("≥", 2, "sshfs"), {"legacyhost": [10, 30, 1], "sshfs": [5]}, 2, True),
        (Target("≥", 2, "sshfs"), {"legacyhost": [9], "sshfs": [5]}, 1.8, False),
        (Target("≤", 0.5, "sshfs"), {"legacyhost": [4], "sshfs": [5, 8, 90]}, 0.5, True),
        (Target("≤", 50), {"legacyhost": [51]}, 51, False),
    ],
)
def test_a_target_is_a_ratio_of_medians(
    target: Target, values: dict[str, list[float]], expected: float, is_met: bool
) -> None:
    """Or an absolute number, where nobody is named."""
    assert report.ratio(target, values) == expected
    assert report.is_met(target, expected) is is_met


def test_what_was_not_measured_is_no_number() -> None:
    """Neither a success nor a failure."""
    assert report.ratio(Target("≥", 2, "sshfs"), {"legacyhost": [1], "sshfs": []}) is None
    assert report.ratio(Target("≥", 2), {"legacyhost": []}) is None
    assert "| - |  |" in report.table([READ], {"read": {"legacyhost": [1.0]}})


def test_what_is_not_met_has_its_reason(tmp_path: Path) -> None:
    """On the page, too; what is met needs none."""
    row = replace(READ, limit="the line is no faster")
    met, missed = ({"read": {"legacyhost": [own], "sshfs": [5.0]}} for own in (10.0, 9.0))
    assert report.reasons([row], met) == []
    assert report.reasons([row], missed) == ["reading: the line is no faster."]
    report.save(tmp_path, json.dumps({"versions": {}, "rounds": 1, "measured": missed}), {"throughput": [row]})
    assert "* reading: the line is no faster." in (tmp_path / "README.md").read_text()


def test_a_run_is_kept_with_the_two_before_it(tmp_path: Path) -> None:
    """The newest is 1; the page shows it."""
    for number in range(4):
        measured = {"read": {"legacyhost": [10.0 + number], "sshfs": [5.0]}}
        text = json.dumps({"versions": {"sshfs": "3"}, "rounds": 1, "measured": measured})
        report.save(tmp_path, text, {"throughput": [READ]})
    kept = [json.loads((tmp_path / f"run-{number}.json").read_text())["measured"] for number in (1, 2, 3)]
    assert [run["read"]["legacyhost"][0] for run in kept] == [13, 12, 11]
    page = (tmp_path / "README.md").read_text()
    assert "legacyhost 13 · sshfs 5" in page
    assert "![Throughput](throughput.svg)" in page


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.01234, "0.0123"), (0, "0"), (9.999, "10"), (99.94, "99.9"), (1234.5, "1,234"), (1e6, "1,000,000")],
)
def test_numbers_are_short(value: float, expected: str) -> None:
    """And have no exponent."""
    assert report.number(value) == expected


def test_a_picture_of_each_group(tmp_path: Path) -> None:
    """With what was measured, and without a panel for what was not."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed for this Python")
    other = replace(READ, key="other", text="nothing of it")
    measured = {"read": {"legacyhost": [10.0, 30.0, 20.0], "sshfs": [5.0]}}
    report.plot(tmp_path, {"throughput": [READ, other], "files": [READ]}, measured)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files.svg", "throughput.svg"]
    comments = [line for line in (tmp_path / "throughput.svg").read_text().splitlines() if "<!--" in line]
    assert sum("reading" in line for line in comments) == 1
    assert not [line for line in comments if "nothing of it" in line]
    assert [line for line in comments if "<!-- 20 -->" in line]


def test_every_subject_has_a_colour() -> None:
    """But for the disk, and for the proxy's distances."""
    shown = {subject for row in ROWS for subject in row.subjects if row.key != "proxy"}
    assert shown - {"local"} == report.COLOURS.keys()
    assert report.TITLES.keys() == GROUPS.keys()


def test_a_quick_run_has_what_targets_compare() -> None:
    """Nothing of it is left out, and nothing else is measured."""
    for row in ROWS:
        named = {target.against for target in row.targets if target.against}
        assert set(row.compared()) == (named | {"legacyhost"} if row.targets else set())
        assert named <= set(row.subjects), row.key


def test_first_come_first_served() -> None:
    """Who comes to a queue that is not empty leaves after it; what was not used is not saved up."""
    narrow = Bottleneck(1000)
    assert narrow.depart(5.0, 500) == 5.5
    assert narrow.depart(5.1, 100) == pytest.approx(5.6)
    assert narrow.depart(9.0, 1000) == 10.0


def test_nobody_waits_before_the_queue_is_full() -> None:
    """Then as long as it takes until there is room."""
    narrow = Bottleneck(QUEUE * 20)
    begin = time.monotonic()
    last = narrow.enter(QUEUE)
    room = [narrow.enter(QUEUE) for _ in range(2)]
    assert time.monotonic() >= room[-1] - 0.05 >= begin + 0.1
    assert room == [pytest.approx(last + 0.05), pytest.approx(last + 0.1)]


def test_the_rows_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Each by the name that --only takes; another name is refused."""
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == [row.key for row in ROWS]
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
    assert "there is no row nothing" in capsys.readouterr().err
