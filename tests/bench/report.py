"""What was measured, for people: the table of targets, the page of a run and its pictures."""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .rows import BEFORE, Row, Target
from .world import BARE, FRESH, LEGACYHOST, RCLONE, RCLONE_SID, RELAYED, SFTP, SSH, SSHFS, UNIT

Measured = Mapping[str, Mapping[str, Sequence[float]]]
#: How many runs are kept; the newest is 1.
RUNS = 3
TITLES = {
    "throughput": "Throughput",
    "files": "Small files and applications",
    "mounts": "Mounting",
    "calls": "Calls, start and memory",
}
#: Of a line of panels; and what is drawn: the disk itself would leave no room for the others.
COLUMNS = 3
COLOURS = {
    LEGACYHOST: "#225588",
    BEFORE: "#88aacc",
    SSHFS: "#cc6633",
    RELAYED: "#e0a080",
    FRESH: "#f0c0a0",
    RCLONE: "#999999",
    RCLONE_SID: "#bbbbbb",
    SSH: "#77aa55",
    SFTP: "#aacc88",
    UNIT: "#ccbb66",
    BARE: "#ddd0a0",
}


def shown(values: Sequence[float]) -> str:
    """Median and spread."""
    if not values:
        return "-"
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}-{number(max(values))})"


def number(value: float) -> str:
    """Three digits, and no power of ten."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratio(target: Target, values: Mapping[str, Sequence[float]]) -> float | None:
    """What the target is about; None where one of the two was not measured."""
    own = values.get(LEGACYHOST)
    if not own:
        return None
    if not target.against:
        return statistics.median(own)
    rival = values.get(target.against)
    return statistics.median(own) / statistics.median(rival) if rival else None


def is_met(target: Target, found: float) -> bool:
    return found >= target.ratio if target.sign == "≥" else found <= target.ratio


def table(rows: Sequence[Row], measured: Measured) -> str:
    """Markdown: a line for each target, and for what has none."""
    lines = ["| what | target | measured | met | medians (lowest-highest) |", "|---|---|---|---|---|"]
    for row in rows:
        values = measured.get(row.key, {})
        medians = " · ".join(f"{subject} {shown(values.get(subject, ()))}" for subject in row.subjects)
        for target in row.targets or (None,):
            if target is None:
                goal = found = met = ""
            else:
                unit = f"{row.unit}" if not target.against else f"x {target.against}"
                goal, value = f"{target.sign} {target.ratio:g} {unit}", ratio(target, values)
                found = "-" if value is None else f"{value:.3g}"
                met = "" if value is None else "yes" if is_met(target, value) else "**no**"
            lines.append(f"| {row.text}, {row.unit} | {goal} | {found} | {met} | {medians} |")
    return "\n".join(lines)


def reasons(rows: Sequence[Row], measured: Measured) -> list[str]:
    """Why targets are not met, of those that are not."""
    found = []
    for row in rows:
        ratios = [(target, ratio(target, measured.get(row.key, {}))) for target in row.targets]
        if row.limit and any(value is not None and not is_met(target, value) for target, value in ratios):
            found.append(f"{row.text}: {row.limit}.")
    return found


def save(directory: Path, text: str, groups: Mapping[str, Sequence[Row]]) -> None:
    """Keep the run as the newest of three, and write the page that shows it; the pictures are ``plot``'s."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(RUNS, 1, -1):
        older = directory / f"run-{number - 1}.json"
        if older.exists():
            older.replace(directory / f"run-{number}.json")
    (directory / "run-1.json").write_text(text, "utf-8")
    results = json.loads(text)
    versions = "\n".join(f"* {name}: {version}" for name, version in results["versions"].items())
    parts = [
        f"## {TITLES[group]}\n\n![{TITLES[group]}]({group}.svg)\n\n{table(rows, results['measured'])}\n"
        for group, rows in groups.items()
    ]
    if why := [reason for rows in groups.values() for reason in reasons(rows, results["measured"])]:
        parts.append("## What is not met, and why\n\n" + "".join(f"* {reason}\n" for reason in why))
    page = f"""# Measured

Everything in one run, in turn, on a booted Debian 12 with an SSH server on loopback; what stands after "x" is what
legacyhost is compared with. Medians, with the lowest and the highest, of at most {results["rounds"]} rounds. Ratios
hold elsewhere, absolute numbers do not. What is "/s": more is better; the rest: less. `before` is legacyhost itself
without what the row adds. The numbers of this run and of those before it: `run-1.json` to `run-{RUNS}.json`.

To repeat it: `./bench`, as root; `./bench --save` writes this page anew. What exactly is measured:
[tests/bench](../../tests/bench/README.md).

{chr(10).join(parts)}
## Versions

{versions}
"""
    (directory / "README.md").write_text(page, "utf-8")


def plot(directory: Path, groups: Mapping[str, Sequence[Row]], measured: Measured) -> None:
    """A picture of each group: for each row medians and spread of what serves volumes; ``GROUP.svg``."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "legacyhost", "font.size": 8, "axes.spines.top": False})
    from matplotlib import pyplot as plt

    for group, rows in groups.items():
        drawn = [(row, values) for row in rows if (values := _drawn(row, measured))]
        lines = -(-len(drawn) // COLUMNS)
        figure, grid = plt.subplots(lines, COLUMNS, figsize=(11, 1.75 * lines), squeeze=False, layout="constrained")
        for axes in grid.flat[len(drawn) :]:
            axes.set_visible(False)
        for axes, (row, values) in zip(grid.flat, drawn, strict=False):
            _panel(axes, row, values)
        figure.savefig(directory / f"{group}.svg", metadata={"Date": None})
        plt.close(figure)


def _drawn(row: Row, measured: Measured) -> dict[str, Sequence[float]]:
    """What was measured of it, as far as it has a colour."""
    found = measured.get(row.key, {})
    return {subject: found[subject] for subject in COLOURS if subject in row.subjects and found.get(subject)}


def _panel(axes: Any, row: Row, values: Mapping[str, Sequence[float]]) -> None:
    medians = [statistics.median(numbers) for numbers in values.values()]
    below = [middle - min(numbers) for middle, numbers in zip(medians, values.values(), strict=True)]
    above = [max(numbers) - middle for middle, numbers in zip(medians, values.values(), strict=True)]
    colours = [COLOURS[subject] for subject in values]
    axes.barh(list(values), medians, xerr=[below, above], color=colours, error_kw={"linewidth": 0.8, "capsize": 2})
    axes.invert_yaxis()
    furthest = max(map(max, values.values())) or 1
    axes.set_xlim(0, 1.3 * furthest)
    for place, (middle, numbers) in enumerate(zip(medians, values.values(), strict=True)):
        axes.text(max(numbers) + 0.02 * furthest, place, number(middle), va="center", fontsize=7)
    better = "more" if row.unit.endswith("/s") else "less"
    axes.set_title(f"{textwrap.fill(row.text, 46)}\n{row.unit}, {better} is better", loc="left")
    axes.title.set_fontsize(8)
    axes.spines["right"].set_visible(False)
    axes.xaxis.set_major_locator(_few())


def _few() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)
