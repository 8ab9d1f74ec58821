# SPDX-License-Identifier: Apache-2.0
"""The statistics of the tutorial: right shares pass, the nearest wrong ones do not."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts" / "tutorial"))
import stats  # noqa: E402
from row import Failed, Row  # noqa: E402
from rows import NEAREST  # noqa: E402

SHARES = [(p, wrong) for p, wrong in NEAREST.items()] + [(0.5, (0.3, 0.7)), (0.25, (0.15, 0.35))]


@pytest.mark.parametrize("p, wrong", SHARES)
def test_bounds(p, wrong):
    n = stats.draws(p, *wrong)
    low, high = stats.bounds(n, p)
    assert stats.probability(low, high, n, p) >= 1 - stats.RIGHT
    # Not wider than they need to be: one less on either side would fail too often.
    assert stats.probability(0, low, n, p) > stats.RIGHT / 2
    assert stats.probability(high, n, n, p) > stats.RIGHT / 2
    for q in wrong:
        assert stats.probability(low, high, n, q) < stats.WRONG


def draw(p, n, seed):
    source = random.Random(seed)
    return ["hit" if source.random() < p else "miss" for _ in range(n)]


@pytest.mark.parametrize("p, wrong", SHARES)
def test_a_wrong_share_is_seen(p, wrong):
    n = stats.draws(p, *wrong)
    for actual in (p, *wrong):
        row = Row("ns", ".", "lab")
        row.share(draw(actual, n, seed=7), "hit", p, *wrong)
        assert bool(row.failures) == (actual != p)


def test_certain_shares():
    for p in (0.0, 1.0):
        row = Row("ns", ".", "lab")
        row.share(draw(p, 50, 1), "hit", p)
        assert not row.failures
        row.share(draw(p, 50, 1) + ["hit" if p == 0 else "miss"], "hit", p)
        assert row.failures


def test_too_few_requests_are_no_evidence():
    with pytest.raises(Failed):
        Row("ns", ".", "lab").share(["hit"] * 10, "hit", 0.9, 0.8)
    with pytest.raises(Failed):
        Row("ns", ".", "lab").share([], "hit", 0.9)
