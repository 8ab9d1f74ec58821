// SPDX-License-Identifier: Apache-2.0
#include "common/rt/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/base/unit.h"

static char dir[64], path[128], other[128];

static int setup(void **state) {
    snprintf(dir, sizeof(dir), "/tmp/ztun-file-%d", (int)getpid());
    snprintf(path, sizeof(path), "%s/file", dir);
    snprintf(other, sizeof(other), "%s/other", dir);
    return mkdir(dir, 0700);
}

static int teardown(void **state) {
    return rmdir(dir);
}

// As who replaces a file: a name that becomes another file in one step.
static void put(const char *text) {
    FILE *file = fopen(other, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(other, path), 0);
}

static void test_read(void **state) {
    char *text = NULL;
    size_t len = 0;
    assert_int_equal(file_read(path, 10, &text, &len), -ENOENT);
    assert_int_equal(file_read(dir, 1 << 20, &text, &len), -EINVAL);
    assert_int_equal(mkfifo(path, 0600), 0); // does not hang
    assert_int_equal(file_read(path, 10, &text, &len), -EINVAL);
    assert_int_equal(unlink(path), 0);
    put("0123456789");
    assert_int_equal(file_read(path, 9, &text, &len), -EFBIG);
    assert_null(text); // outputs are untouched
    assert_int_equal(file_read(path, 10, &text, &len), 0);
    assert_int_equal(len, 10);
    assert_string_equal(text, "0123456789");
    free(text);
    unlink(path);
}

static void test_watched(void **state) {
    struct slice content;
    struct watched_file *file = watched_file_new(path, 10);
    assert_string_equal(watched_file_path(file), path);
    assert_int_equal(watched_file_poll(file, &content), 0); // is not there
    put("one");
    assert_int_equal(watched_file_poll(file, &content), 1);
    assert_slice_equal(content, "one");
    assert_int_equal(watched_file_poll(file, &content), 0);
    put("two");
    assert_int_equal(watched_file_poll(file, &content), 1);
    assert_slice_equal(content, "two");
    put("more than ten bytes");
    assert_int_equal(watched_file_poll(file, &content), -EFBIG);
    assert_int_equal(watched_file_poll(file, &content), 0); // told once
    unlink(path);
    assert_int_equal(watched_file_poll(file, &content), 1);
    assert_int_equal(content.len, 0);
    mkdir(path, 0700);
    assert_true(watched_file_poll(file, &content) < 0);
    assert_int_equal(watched_file_poll(file, &content), 0);
    rmdir(path);
    watched_file_free(file);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_watched),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
