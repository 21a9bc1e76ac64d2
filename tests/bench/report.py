"""What was measured, for people: the table of targets, and a plot of the ratios."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from .rows import BEFORE, Row, Target
from .world import LEGACYHOST, LOCAL

Measured = Mapping[str, Mapping[str, Sequence[float]]]
#: How many runs are kept; the newest is 1.
RUNS = 3


def shown(values: Sequence[float]) -> str:
    """Median and spread."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3g}-{max(values):.3g})"


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
                goal, number = f"{target.sign} {target.ratio:g} {unit}", ratio(target, values)
                found = "-" if number is None else f"{number:.3g}"
                met = "" if number is None else "yes" if is_met(target, number) else "**no**"
            lines.append(f"| {row.text}, {row.unit} | {goal} | {found} | {met} | {medians} |")
    return "\n".join(lines)


def save(directory: Path, text: str, rows: Sequence[Row]) -> None:
    """Keep the run as the newest of three, and write the page that shows it."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(RUNS, 1, -1):
        older = directory / f"run-{number - 1}.json"
        if older.exists():
            older.replace(directory / f"run-{number}.json")
    (directory / "run-1.json").write_text(text, "utf-8")
    results = json.loads(text)
    versions = "\n".join(f"* {name}: {version}" for name, version in results["versions"].items())
    page = f"""# Measured

`./bench --save` wrote this page: everything in one run, in turn, on a booted Debian 12 with an SSH server on loopback.
Ratios hold elsewhere, absolute numbers do not. Times: less is better; what is "/s": more is better. The numbers of this
run and of the two before it are in `run-1.json` to `run-3.json`.

{table(rows, results["measured"])}

![ratios](ratios.svg)

{versions}
"""
    (directory / "README.md").write_text(page, "utf-8")


def plot(path: Path, rows: Sequence[Row], measured: Measured) -> None:
    """How many times as fast as each rival, row by row."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "legacyhost"
    from matplotlib import pyplot as plt

    bars = []
    for row in rows:
        values = measured.get(row.key, {})
        for rival in row.subjects:
            number = None if rival in (LEGACYHOST, LOCAL, BEFORE) else ratio(Target("≥", 1, rival), values)
            if number:
                bars.append((f"{row.text} / {rival}", number if row.unit.endswith("/s") else 1 / number))
    figure, axes = plt.subplots(figsize=(9, 0.24 * len(bars) + 1))
    axes.barh([name for name, _ in bars], [number for _, number in bars], color="#4477aa")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("legacyhost is so many times as fast")
    axes.tick_params(axis="y", labelsize=7)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
