// SPDX-License-Identifier: Apache-2.0
//
// Elastic tab stops.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ctl/local_tabs.h"

static void test_align(void **state) {
    static const struct {
        const char *text, *wanted;
    } rows[] = {
        {"", ""},
        {"plain\n", "plain\n"},
        {"Name:\tweb\nNamespace:\tshop\n", "Name:       web\nNamespace:  shop\n"},
        // A line without a cell ends the column.
        {"a:\t1\nlong:\t2\nIPs:\nlonger one:\t3\n", "a:     1\nlong:  2\nIPs:\nlonger one:  3\n"},
        // What follows the last tab is no cell.
        {"a\tvery long text\nb\tx\n", "a  very long text\nb  x\n"},
        {"\tx\nab\ty\n", "    x\nab  y\n"},
        // A second column is as long as its own lines.
        {"Port:\thttp\t80/TCP\nNodePort:\t<unset>\t1\nType:\tx\n",
         "Port:      http     80/TCP\nNodePort:  <unset>  1\nType:      x\n"},
        {"a\tb\tc\nd\te\nf\tgggg\th\n", "a  b  c\nd  e\nf  gggg  h\n"},
        {"\xc3\xa9:\t1\nab:\t2\n", "\xc3\xa9:   1\nab:  2\n"}, // characters, not bytes
        {"\t\n", "  \n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct text out = {0};
        lab_tabs_align(rows[i].text, &out);
        char *text = text_take(&out);
        assert_string_equal(text, rows[i].wanted);
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_align)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
