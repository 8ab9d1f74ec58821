# SPDX-License-Identifier: Apache-2.0
"""Binomial bounds for shares: right code leaves them fewer than once in a million runs of all rows
together, and the nearest wrong ratio stays within them less than once in a thousand.

A row's checks are the objects of these classes in its module, made when it is loaded, so that a test
finds all of them (tests/test_tutorial_stats.py)."""

import functools
import math

RIGHT = 2e-8  # of one check; all rows together have some dozens
WRONG = 1e-3
N_MAX = 40000


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


class Share:
    """A share of p, which is none of the wrong ones: the nearest behaviours that are not right."""

    def __init__(self, p, *wrong):
        self.p, self.wrong = float(p), tuple(map(float, wrong))

    @property
    def n(self):
        """How many draws it takes."""
        return draws(self.p, *self.wrong)

    def accepts(self, hits, n):
        low, high = bounds(n, self.p)
        return low <= hits <= high

    def p_accept(self, n, q):
        """The probability that a share of q is taken for right."""
        return probability(*bounds(n, self.p), n, q)


class ShareAfter:
    """A share of p in all but the first draws, which may go anywhere; n draws in all."""

    def __init__(self, first, n, p, *wrong):
        self.first, self.n, self.p, self.wrong = first, n, float(p), tuple(map(float, wrong))

    def bounds(self):
        low, high = bounds(self.n - self.first, self.p)
        return low, high + self.first

    def accepts(self, hits):
        low, high = self.bounds()
        return low <= hits <= high

    def p_accept(self, q):
        """The probability that n draws of q are taken for right."""
        return probability(*self.bounds(), self.n, q)


class Turns:
    """Two that take strict turns, n draws, whoever begins."""

    def __init__(self, n):
        self.n = n

    def accepts(self, seen):
        return len(seen) == self.n and len(set(seen)) == 2 and \
            all(a != b for a, b in zip(seen, seen[1:]))

    def p_accept_random(self):
        return 2 * 0.5 ** self.n


class Times:
    """An event of probability p that right code shows `least` times at least in n draws, and wrong
    code (probability `wrong`) does not."""

    def __init__(self, least, n, p, wrong=0.0):
        self.least, self.n, self.p, self.wrong = least, n, p, wrong

    def accepts(self, hits):
        return hits >= self.least

    def p_accept(self, q):
        return probability(self.least, self.n, self.n, q)
