// SPDX-License-Identifier: Apache-2.0
#include "common/rt/sched_slice.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
// after the four that it needs
#include <cmocka.h>

struct attr { // sched_attr of sched_getattr(2)
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

static struct attr get(void) {
    struct attr attr = {0};
    assert_int_equal(syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0), 0);
    return attr;
}

// The slice alone changes. A kernel without slices says 0, before and after.
static void test_set(void **state) {
    struct attr before = get();
    const uint32_t us[] = {500, SCHED_SLICE_LONG_US};
    for (size_t i = 0; i < sizeof(us) / sizeof(us[0]); i++) {
        sched_slice_set(us[i]);
        struct attr after = get();
        assert_int_equal(after.runtime_ns, before.runtime_ns == 0 ? 0 : (uint64_t)us[i] * 1000);
        assert_int_equal(after.policy, before.policy);
        assert_int_equal(after.nice, before.nice);
    }
}

static void test_keeps_nice(void **state) {
    assert_int_equal(setpriority(PRIO_PROCESS, 0, 7), 0);
    sched_slice_set(SCHED_SLICE_LONG_US);
    assert_int_equal(get().nice, 7);
}

// SCHED_IDLE stands for the classes that are left alone.
static void test_other_classes(void **state) {
    struct sched_param param = {0};
    assert_int_equal(sched_setscheduler(0, SCHED_IDLE, &param), 0);
    uint64_t before = get().runtime_ns;
    sched_slice_set(SCHED_SLICE_LONG_US);
    assert_int_equal(get().policy, SCHED_IDLE);
    assert_int_equal(get().runtime_ns, before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set), cmocka_unit_test(test_keeps_nice),
        cmocka_unit_test(test_other_classes), // last: it cannot be undone without privilege
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
