// SPDX-License-Identifier: Apache-2.0
//
// What a limit of memory means for windows and for bytes that wait.
#include "common/proc/proc_memory.h"

#include "common/obs/log.h"
#include "tests/unit/base/unit.h"

LOG_SCOPE(log_test, "test");

#define MIB (UINT64_C(1) << 20)

static void test_windows(void **state) {
    assert_int_equal(proc_memory_limit(45 * MIB), 45 * MIB);
    assert_int_equal(proc_memory_stream_window(0), 256 << 10); // no limit
    assert_int_equal(proc_memory_stream_window(512 * MIB), 256 << 10);
    assert_int_equal(proc_memory_stream_window(64 * MIB), 128 << 10);
    assert_int_equal(proc_memory_stream_window(MIB), 64 << 10);
}

static void test_parked(void **state) {
    assert_int_equal(proc_memory_parked_max(0, 4), 0);
    assert_int_equal(proc_memory_parked_max(400 * MIB, 4), 50 * MIB);
}

// A process that is above its limit says so once; one without a limit never.
static void test_check(void **state) {
    struct proc_memory memory;
    proc_memory_init(&memory, 0, &log_test);
    assert_false(proc_memory_check(&memory));
    assert_true(memory.allow_growth && !memory.refuse_new);
    proc_memory_init(&memory, 4096, &log_test);
    assert_true(proc_memory_check(&memory));
    assert_true(!memory.allow_growth && memory.refuse_new);
    assert_false(proc_memory_check(&memory));
    memory.limit = UINT64_C(1) << 40;
    assert_true(proc_memory_check(&memory));
    assert_true(memory.allow_growth && !memory.refuse_new);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_parked),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
