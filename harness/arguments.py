"""Types of command-line arguments that several commands take; each is an `argparse` type."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """An integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected at least 1")
    return value


def dollars(text: str) -> float:
    """US dollars, 0 or more, finite."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected US dollars, 0 or more")
    return value
