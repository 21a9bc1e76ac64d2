"""Faults put to legacyhost and to its rival side by side: run by hand, see README.md."""
