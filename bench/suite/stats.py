# SPDX-License-Identifier: Apache-2.0
"""Medians and ratios of interleaved rounds."""

import statistics


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def spread(values):
    """(median, lowest, highest)"""
    values = [v for v in values if v is not None]
    return (statistics.median(values), min(values), max(values)) if values else (None, None, None)


def ratio(ours, peer):
    """Median of the ratios of the rounds, with the lowest and the highest. Round i of one series
    ran next to round i of the other, so that a slow minute of the machine hits both."""
    return spread([a / b for a, b in zip(ours, peer) if a is not None and b and b > 0])


def number(value, digits=3):
    """Short text of a number: `digits` significant ones, never an exponent."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    magnitude = abs(value)
    places = digits - 1
    while magnitude >= 10 and places > 0:
        magnitude /= 10
        places -= 1
    while magnitude < 1 and places < 6:
        magnitude *= 10
        places += 1
    return f"{value:.{places}f}"
