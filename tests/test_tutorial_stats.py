# SPDX-License-Identifier: Apache-2.0
"""The statistics of the tutorial's rows, by computed probabilities: each check lets right behaviour
pass, and the nearest wrong behaviour does not get through.

The checks of a row are the Share, Turns and Times objects that its function uses, also by way of
helpers of its module."""

import ast
import importlib
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "scripts" / "tutorial"
sys.path.insert(0, str(HERE))
import stats  # noqa: E402
from row import ROWS, Failed, Row  # noqa: E402

MODULES = {path.stem: importlib.import_module(path.stem) for path in sorted(HERE.glob("rows*.py"))}
CHECKS = (stats.Share, stats.ShareAfter, stats.Turns, stats.Times)


def names_in(code):
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from names_in(const)


def checks_of(function, seen=None):
    """Name -> check, of everything that the function reaches in the rows' modules."""
    seen = set() if seen is None else seen
    found = {}
    for name in names_in(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, CHECKS):
            found[name] = value
        elif isinstance(value, types.FunctionType) and value.__module__ in MODULES and \
                value not in seen:
            seen.add(value)
            found.update(checks_of(value, seen))
    return found


USED = [(row, name, check) for row, entry in ROWS.items() if entry["function"]
        for name, check in checks_of(entry["function"]).items()]
ALL = [pytest.param(check, id=f"{row}-{name}") for row, name, check in USED]
SHARES = [p for p in ALL if isinstance(p.values[0], stats.Share)]
SHARES_AFTER = [p for p in ALL if isinstance(p.values[0], stats.ShareAfter)]
TURNS = [p for p in ALL if isinstance(p.values[0], stats.Turns)]
TIMES = [p for p in ALL if isinstance(p.values[0], stats.Times)]


def p_wrong_alarm(check):
    """The probability that right code fails it."""
    if isinstance(check, stats.Share):
        return max(0.0, 1 - check.p_accept(check.n, check.p))
    if isinstance(check, stats.ShareAfter):  # whatever the first draws are
        n = check.n - check.first
        return max(0.0, 1 - stats.probability(*stats.bounds(n, check.p), n, check.p))
    if isinstance(check, stats.Times):
        return max(0.0, stats.probability(0, check.least - 1, check.n, check.p))
    return 0.0  # turns are strict


# That nothing is left out


def test_rows_with_chance_were_found():
    rows = {row for row, _, _ in USED}
    assert {"canary-90-10", "canary-75-25", "pods-98-2", "bff-weight", "tcp-shift", "random",
            "round-robin", "reviews-shift", "hello-server", "abort-original"} <= rows


@pytest.mark.parametrize("module", sorted(MODULES))
def test_shares_are_declared(module):
    """A share that is made in a row would not be seen here."""
    tree = ast.parse((HERE / f"{module}.py").read_text())
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        for call in (n for n in ast.walk(function) if isinstance(n, ast.Call)):
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            assert name not in ("Share", "ShareAfter", "Turns", "Times", "draws", "bounds") or \
                isinstance(call.func, ast.Attribute), f"line {call.lineno}"
            if name == "share" and isinstance(call.func, ast.Attribute):
                assert len(call.args) == 3 and isinstance(call.args[2], ast.Name), \
                    f"line {call.lineno}: share(lines, pattern, A_SHARE_OF_THE_MODULE)"


@pytest.mark.parametrize("check", SHARES)
def test_a_share_names_its_neighbours(check):
    assert check.wrong and check.p not in check.wrong
    if 0 < check.p < 1 and len(check.wrong) > 1:
        assert min(check.wrong) < check.p < max(check.wrong)


# Right code


def test_all_rows_together_fail_less_than_once_in_a_million_runs():
    assert sum(p_wrong_alarm(check) for _, _, check in USED) <= 1e-6


@pytest.mark.parametrize("check", SHARES)
def test_bounds_are_no_wider_than_needed(check):
    low, high = stats.bounds(check.n, check.p)
    if low < high:
        assert stats.probability(0, low, check.n, check.p) > stats.RIGHT / 2
        assert stats.probability(high, check.n, check.n, check.p) > stats.RIGHT / 2


# Wrong code: the check is the row's own, the behaviour is the nearest wrong one


@pytest.mark.parametrize("check", SHARES)
def test_the_nearest_wrong_share_is_rejected(check):
    for q in check.wrong:
        assert check.p_accept(check.n, q) < stats.WRONG


@pytest.mark.parametrize("check", SHARES_AFTER)
def test_the_nearest_wrong_share_is_rejected_whatever_came_first(check):
    low, high = check.bounds()
    assert check.wrong
    for q in check.wrong:
        assert check.p_accept(q) < stats.WRONG and not check.accepts(round(q * check.n))
    assert check.accepts(low) and check.accepts(high)
    assert not check.accepts(low - 1) and not check.accepts(high + 1)


@pytest.mark.parametrize("check", TURNS)
def test_turns_are_not_taken_by_chance(check):
    assert check.p_accept_random() < stats.WRONG
    right = ["1" if i % 2 else "2" for i in range(check.n)]
    assert check.accepts(right)
    for i in range(check.n):  # one draw out of turn, one lost, one more
        wrong = right.copy()
        wrong[i] = "1" if wrong[i] == "2" else "2"
        assert not check.accepts(wrong)
    assert not check.accepts(right[1:]) and not check.accepts([*right, "1"])
    assert not check.accepts(["1"] * check.n)


@pytest.mark.parametrize("check", TIMES)
def test_what_never_happens_is_missed(check):
    assert stats.probability(check.least, check.n, check.n, check.wrong) < stats.WRONG
    assert not check.accepts(check.least - 1) and check.accepts(check.least)


# The code that rows call


def verdict(check, hits, n):
    row = Row({"base": "conf/ns/base"}, ".", "lab")
    row.share(["hit"] * hits + ["miss"] * (n - hits), "hit", check)
    return not row.failures


@pytest.mark.parametrize("check", SHARES)
def test_rows_judge_by_these_bounds(check):
    low, high = stats.bounds(check.n, check.p)
    assert verdict(check, low, check.n) and verdict(check, high, check.n)
    assert low == 0 or not verdict(check, low - 1, check.n)
    assert high == check.n or not verdict(check, high + 1, check.n)
    for q in check.wrong:  # what wrong code shows on average
        assert not verdict(check, round(q * check.n), check.n)


@pytest.mark.parametrize("check", SHARES)
def test_too_few_requests_are_no_evidence(check):
    for n in (0, 1):
        with pytest.raises(Failed):
            verdict(check, 0, n)
    if 0 < check.p < 1:
        with pytest.raises(Failed):
            verdict(check, 0, check.n // 2)


def test_probability():
    """Against sums that anybody can make."""
    assert stats.probability(0, 1, 2, 0.5) == pytest.approx(0.75)
    assert stats.probability(3, 3, 3, 0.1) == pytest.approx(0.001)
    assert stats.probability(0, 10, 10, 0.3) == pytest.approx(1)
    assert stats.probability(1, 9, 10, 0.0) == 0 and stats.probability(0, 0, 10, 0.0) == 1
