# SPDX-License-Identifier: Apache-2.0
"""Self-test of tests/tidy.py: each rule has a text that breaks it and one that does not."""

import pytest
import tidy

TOP = "// SPDX-License-Identifier: Apache-2.0\n"


def messages(path, text, top=TOP, allow=""):
    checker = tidy.Checker("/nonexistent", allow)
    checker.check(path, top + text)
    checker.finish()
    return [m for _, _, m in checker.errors if "no such file" not in m]


CLEAN = """#include "common/base/slice.h"

#include <openssl/ssl.h>

struct tls_x {
    int a; // "quoted /* text"
};

static const char *const names[] = {"if (x) y", "/* no comment */"};

int tls_x_run(struct tls_x *x) {
    do {
        x->a++;
    } while (x->a < 10);
    LIST_EACH (pos, &x->list) {
        x->a--;
    }
    if (x->a) {
        return names[0][0] == '"';
    } else if (x == NULL) {
        return 1;
    } else {
        return 2;
    }
}
"""


def test_clean_file_passes():
    assert messages("common/tls/tls_x.c", CLEAN) == []


@pytest.mark.parametrize(
    "path, text, want",
    [
        ("common/tls/a.c", "#include \"common/proto/h2_conn.h\"\n", "sideways"),
        ("common/base/a.c", "#include \"common/net/pipe.h\"\n", "upward"),
        ("ztun/a.c", "#include \"ctl/cmd.h\"\n", "sideways"),
        ("tests/unit/base/test_a.c", "#include \"common/rt/io.h\"\n", "upward"),
        ("common/net/a.c", "#include \"common/tls/tls_priv.h\"\n", "private"),
        ("common/base/a.c", "#include \"slice.h\"\n", "root-relative"),
        ("common/base/a.c", "#include \"../base/slice.h\"\n", "root-relative"),
        ("common/proto/a.c", "#include <unistd.h>\n", "pure"),
        ("common/rt/a.c", "#include <openssl/ssl.h>\n", "does not belong"),
        ("common/base/a.h", "int a;\n", "#pragma once"),
        ("common/base/a.c", "/* old */\n", "use //"),
        ("common/base/a.c", "int f(void) {\n    return atoi(x);\n}\n", "banned"),
        ("common/base/a.c", "typedef struct a a;\n", "typedef"),
        ("common/base/a.c", "typedef struct {\n    int x;\n} a;\n", "typedef"),
        ("common/base/a.c", "typedef unsigned a_t;\n", "_t"),
        ("common/base/a.c", "struct a_t {\n    int x;\n};\n", "_t"),
        ("common/base/a.c", "void f(void) {\n    if (x)\n        y();\n}\n", "if without"),
        ("common/base/a.c", "void f(void) {\n    while (x);\n}\n", "while without"),
        ("common/base/a.c", "void f(void) {\n    LIST_EACH (a, b) x();\n}\n", "LIST_EACH without"),
        ("common/base/a.c", "void f(void) {\n    if (x) {\n    } else y();\n}\n", "else without"),
        ("common/base/a.c", "int a;\tint b;\n", "tab"),
        ("common/base/a.c", "int a; \n", "trailing"),
        ("common/base/a.c", "int a;", "newline at the end"),
        ("common/base/a.c", "int a;\n\n", "blank line at the end"),
        ("common/base/a.c", "int a;\n" * 800, "more than 700"),
        ("tests/unit/base/test_a.c", "int a;\n" * 800, "more than 700"),
        ("common/base/a.c", "int f(int x) {\n" + "    x++;\n" * 200 + "}\n", "f() has 202 lines"),
    ],
)
def test_rule(path, text, want):
    found = messages(path, text)
    assert len(found) == 1 and want in found[0], found


def test_spdx():
    assert any("SPDX" in m for m in messages("common/base/a.c", "int a;\n", top=""))
    assert any("SPDX" in m for m in messages("scripts/x.sh", "true\n", top="#!/bin/sh\n"))


def test_links(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "B.md").write_text("# A heading: `x`\n")
    good = "[b](docs/B.md) [h](docs/B.md#a-heading-x) [u](https://example.com/x)\n```\n[no](x)\n```\n"
    checker = tidy.Checker(tmp_path)
    checker.check("A.md", good)
    assert checker.errors == []
    checker.check("A.md", "[b](B.md)\n[h](docs/B.md#other)\n")
    assert [(line, m.rsplit(": ")[1]) for _, line, m in checker.errors] == [
        (1, "no such file"), (2, "no such heading")]


def test_long_functions_are_capped():
    body = "int f%d(int x) {\n" + "    x++;\n" * 80 + "}\n"
    checker = tidy.Checker("/nonexistent")
    for number in range(tidy.LONG_FUNCTIONS_MAX + 1):
        checker.check(f"ztun/f{number}.c", TOP + body % number)
    checker.finish()
    assert len(checker.warnings) == tidy.LONG_FUNCTIONS_MAX + 1
    assert len(checker.errors) == 1 and "the cap is" in checker.errors[0][2]


def test_allow_list():
    text = "int a;\n" * 800
    assert messages("common/base/a.c", text, allow="file-length common/base/a.c a table\n") == []
    assert any("no reason" in m for m in messages("ztun/a.c", "int a;\n", allow="file-length x\n"))


def test_function_ranges():
    source = tidy.Source("a.c", "struct a {\n    int b;\n};\nenum { X };\nstatic int t[] = {1};\n"
                                "static void f(int a,\n              int b) {\n}\n\nint g(void) {\n}\n")
    assert list(tidy.functions(source)) == [("f", 6, 8), ("g", 10, 11)]


def test_functions_that_nobody_uses():
    header = TOP + """#pragma once
typedef int a_fn(void *arg);
struct a {
    int (*op)(int x);
};
extern int (*a_hook)(int x);
int a_used(int x);
static inline int a_small(void) {
    return a_used(1);
}
MUST_USE int a_unused(
    int x) PRINTF_LIKE(1, 2); // a_unused() is no use
"""
    checker = tidy.Checker("/nonexistent")
    checker.check("common/base/a.h", header)
    checker.check("common/base/a.c", TOP + "int a_used(int x) {\n}\n\nint a_unused(int x) {\n}\n")
    checker.finish(is_whole_tree=True)
    assert [(line, m) for _, line, m in checker.errors] == [(12, "a_unused() is used nowhere")]
