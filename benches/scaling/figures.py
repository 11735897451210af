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
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0, such as 2")
    return round(value)


def in_units(what, factors, examples):
    """Parses what may have one of these units behind it, each with its factor; without any it counts by itself."""
    def parse(text):
        digits = text.strip()
        # The longest first: `ms` ends with `s`, too.
        for unit in sorted(factors, key=len, reverse=True):
            if digits.lower().endswith(unit.lower()):
                digits, factor = digits[:-len(unit)].strip(), factors[unit]
                break
        else:
            factor = 1.0
        try:
            return number(digits) * factor
        except argparse.ArgumentTypeError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} above 0: write {examples}") from None
    return parse


seconds = in_units("a time", {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0},
                   "seconds, such as 3 or 3s, or 500ms, 5m, 1h")
gib = in_units("a size", {"GiB": 1.0, "G": 1.0, "MiB": 2.0**-10, "M": 2.0**-10, "TiB": 2.0**10}, "GiB, such as 16 or 16GiB, or 512MiB")
gbit = in_units("a rate", {"Gbit": 1.0, "Gbit/s": 1.0, "G": 1.0, "Mbit": 1e-3, "Mbit/s": 1e-3, "M": 1e-3},
                "Gbit a second, such as 10 or 10Gbit, or 500Mbit")


def zero_or_seconds(text):
    return 0.0 if text.strip() == "0" else seconds(text)


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
