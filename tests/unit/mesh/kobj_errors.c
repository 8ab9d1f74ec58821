// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/mesh/kobj_errors.h"

void check_kobj_errors(const struct kobj_error_row *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct config_fixture f;
        fixture_init(&f);
        fixture_read(&f, rows[i].yaml, CONFIG_YAML);
        config_errors_sort(&f.errors); // by place
        assert_messages(&f.errors, rows[i].messages);
        assert_int_equal(f.n_objs, f.errors.n_errors == 0);
        fixture_fini(&f);
    }
}
