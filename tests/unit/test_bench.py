"""What ./bench makes of what it has measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench import report
from bench.__main__ import main
from bench.rows import ROWS, Row, Target

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


def test_a_run_is_kept_with_the_two_before_it(tmp_path: Path) -> None:
    """The newest is 1; the page shows it."""
    for number in range(4):
        measured = {"read": {"legacyhost": [10.0 + number], "sshfs": [5.0]}}
        report.save(tmp_path, json.dumps({"versions": {"sshfs": "3"}, "measured": measured}), [READ])
    kept = [json.loads((tmp_path / f"run-{number}.json").read_text())["measured"] for number in (1, 2, 3)]
    assert [run["read"]["legacyhost"][0] for run in kept] == [13, 12, 11]
    assert "legacyhost 13" in (tmp_path / "README.md").read_text()


def test_the_rows_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Each by the name that --only takes; another name is refused."""
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == [row.key for row in ROWS]
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
    assert "there is no row nothing" in capsys.readouterr().err
