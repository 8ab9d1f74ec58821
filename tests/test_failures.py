# SPDX-License-Identifier: Apache-2.0
"""Self-test of scripts/failures.py, which tells at the end of `make test` what failed."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import failures  # noqa: E402

CTEST_LOG = """\
    Start  3: unit.base.test_buf
    Start 11: unit.base.test_slice
 1/3 Test  #3: unit.base.test_buf ...............   Passed    0.01 sec
 2/3 Test #11: unit.base.test_slice .............***Failed    0.00 sec
[ RUN      ] test_a
[  ERROR   ] --- 1 != 2
[   LINE   ] --- test_slice.c:12: error: Failure!

    Start 11: unit.base.test_slice
    Test #11: unit.base.test_slice .............   Passed    0.00 sec
 3/3 Test #12: unit.base.test_trie ..............***Timeout  60.00 sec
[ RUN      ] test_b
    Test #12: unit.base.test_trie ..............***Timeout  60.00 sec
[ RUN      ] test_c

67% tests passed, 1 tests failed out of 3
"""
CTEST_XML = """<testsuite>
<testcase name="unit.base.test_buf" classname="unit.base.test_buf" status="run"/>
<testcase name="unit.base.test_slice" classname="unit.base.test_slice" status="run"/>
<testcase name="unit.base.test_trie" classname="unit.base.test_trie" status="fail">
<failure message=""/></testcase>
</testsuite>"""
PYTEST_XML = """<testsuites><testsuite>
<testcase classname="tests.e2e.test_x" name="test_good"/>
<testcase classname="tests.e2e.test_x" name="test_again"><properties>
<property name="failed try" value="test_x.py:4: assert f()&#10;assert 1 == 2"/></properties></testcase>
<testcase classname="tests.e2e.test_x" name="test_bad[1]"><properties>
<property name="failed try" value="first"/><property name="failed try" value="second"/></properties>
<failure message="second">more</failure></testcase>
<testcase classname="tests.test_y" name="test_plain"><failure message="assert 3 == 4&#10; + where">
</failure></testcase>
<testcase classname="tests.test_y" name="test_left_out"><skipped message="no root"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def logs(tmp_path):
    def write(**files):
        for name, text in files.items():
            stage, _, suffix = name.rpartition("_")
            (tmp_path / f"{stage}.{suffix}").write_text(text)
        return tmp_path

    return write


def test_ctest(logs):
    assert failures.report(logs(unit_log=CTEST_LOG, unit_xml=CTEST_XML), ["unit"]) == [
        "unit: unit.base.test_trie FAILED",
        "    Timeout",
        "    [ RUN      ] test_c",
        "unit: unit.base.test_slice passed at the second try",
        "    [  ERROR   ] --- 1 != 2",
        "    [   LINE   ] --- test_slice.c:12: error: Failure!",
    ]


def test_pytest(logs):
    assert failures.report(logs(e2e_log="", e2e_xml=PYTEST_XML), ["e2e"]) == [
        "e2e: test_x::test_bad[1] FAILED",
        "    second",
        "e2e: test_y::test_plain FAILED",
        "    assert 3 == 4",
        "     + where",
        "e2e: test_y::test_left_out FAILED",
        "    no root",
        "e2e: test_x::test_again passed at the second try",
        "    test_x.py:4: assert f()",
        "    assert 1 == 2",
    ]


def test_a_stage_without_cases(logs):
    """A build that fails, a run that ends without a verdict; what went well is not told."""
    good = '<testsuite><testcase classname="a" name="b"/></testsuite>'
    where = logs(build_log="one\na.c:1:2: error: x\n", e2e_log="a\nb\nc\nd\n", e2e_xml="<test",
                 tidy_log="an error in a good stage\n", charts_log="", charts_xml=good)
    assert sorted(failures.report(where, ["build", "e2e"])) == sorted([
        "build: FAILED", "    a.c:1:2: error: x", "e2e: FAILED", "    b", "    c", "    d"])
    assert failures.report(where, []) == []


@pytest.mark.parametrize("n", [4, 7, 10, 20, 30])
def test_length(logs, n):
    case = '<testcase classname="t" name="c%d"><failure message="1&#10;2&#10;3&#10;4"/></testcase>'
    xml = "<testsuite>" + "".join(case % i for i in range(n)) + "</testsuite>"
    lines = failures.report(logs(e2e_log="x" * 500, e2e_xml=xml), ["e2e"])
    assert len(lines) <= failures.LINES_MAX
    assert len([line for line in lines if line.startswith("e2e: ")]) == min(n, 20 if n <= 20 else 19)
    assert (lines[-1] == f"... and {n - 19} more") == (n > 20)
