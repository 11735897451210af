"""Numbers as people write and read them. No I/O."""

import argparse
import math

FACTORS = {"k": 1e3, "M": 1e6, "G": 1e9}


def number(text):
    """`8000`, `16k`, `1.5M`: a number above 0, of a command line."""
    factor = FACTORS.get(text[-1:], 1.0)
    digits = text[:-1] if factor != 1.0 else text
    try:
        value = float(digits.replace("_", "").replace(",", "")) * factor
    except ValueError:
        value = -1.0
    if not 0 < value < 1e15:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, such as 8000, 16k or 1.5M")
    return value


def count(text):
    """The same, whole."""
    value = number(text)
    if value != round(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return round(value)


def zero_or_number(text):
    return 0.0 if text.strip() == "0" else number(text)


def plain(value):
    """Three digits, with commas."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def size(value):
    """Bytes."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= factor:
            return f"{plain(value / factor)} {unit}"
    return f"{plain(value)} B"


def bits(per_second):
    """Bytes in a second, as a network is sold."""
    for unit, factor in (("Gbit/s", 1e9), ("Mbit/s", 1e6)):
        if per_second * 8 >= factor:
            return f"{plain(per_second * 8 / factor)} {unit}"
    return f"{plain(per_second * 8 / 1e3)} kbit/s"


def span(seconds):
    """A time."""
    if math.isinf(seconds):
        return "never"
    if seconds >= 3600:
        return f"{plain(seconds / 3600)} h"
    if seconds >= 120:
        return f"{plain(seconds / 60)} min"
    return f"{plain(seconds)} s"


def table(rows):
    """Rows of Markdown, with a head."""
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
