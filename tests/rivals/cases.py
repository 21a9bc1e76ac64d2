"""The list of faults. A case is a function of a subject on a machine of its own; what it returns was measured."""

from __future__ import annotations

from collections.abc import Callable

from .subject import Subject

Case = Callable[[Subject], str]
#: By number, in the order of the table. The docstring is the fault's name there.
CASES: dict[int, Case] = {}


def case(number: int) -> Callable[[Case], Case]:
    """Put a case on the list."""

    def put(function: Case) -> Case:
        assert number not in CASES
        assert function.__doc__
        CASES[number] = function
        return function

    return put


def both(first: tuple[str, str], second: tuple[str, str]) -> str:
    """Two results, each with what it is of; once if they are the same."""
    if first[1] == second[1]:
        return first[1]
    return f"{first[0]}: {first[1]}; {second[0]}: {second[1]}"
