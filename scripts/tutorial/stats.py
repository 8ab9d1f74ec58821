# SPDX-License-Identifier: Apache-2.0
"""Binomial bounds for shares: right code leaves them fewer than once in a million runs, and the
nearest wrong ratio stays within them less than once in a thousand."""

import functools
import math

RIGHT = 1e-6
WRONG = 1e-3
N_MAX = 20000


def log_pmf(k, n, p):
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
            + k * math.log(p) + (n - k) * math.log1p(-p))


def probability(low, high, n, p):
    """Of low..high hits in n draws."""
    if p in (0.0, 1.0):
        return float(low <= n * p <= high)
    return math.fsum(math.exp(log_pmf(k, n, p)) for k in range(max(low, 0), min(high, n) + 1))


@functools.lru_cache(maxsize=None)
def bounds(n, p):
    """The fewest and the most hits that are believed: each side is passed with RIGHT / 2 at most."""
    if p in (0.0, 1.0):
        return int(n * p), int(n * p)
    low, tail = 0, math.exp(log_pmf(0, n, p))
    while tail <= RIGHT / 2:
        low += 1
        tail += math.exp(log_pmf(low, n, p))
    high, tail = n, math.exp(log_pmf(n, n, p))
    while tail <= RIGHT / 2:
        high -= 1
        tail += math.exp(log_pmf(high, n, p))
    return low, high


@functools.lru_cache(maxsize=None)
def draws(p, *wrong):
    """How many draws tell p from each of the wrong shares, a multiple of 10."""
    low, high = 1, N_MAX // 10
    while low < high:
        middle = (low + high) // 2
        n = middle * 10
        is_enough = all(probability(*bounds(n, p), n, q) < WRONG for q in wrong)
        low, high = (low, middle) if is_enough else (middle + 1, high)
    if low == N_MAX // 10:
        raise ValueError(f"{p} and {wrong} are too near to each other")
    return low * 10
