// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/config_store.h"

#include "common/mesh/intern.h"
#include "tests/unit/mesh/config_fixture.h"

static void put(struct config_store *store, const char *file, const char *yaml,
                const struct kobj_id *kept, uint32_t n_kept, bool keep_missing) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f, yaml, CONFIG_YAML);
    assert_int_equal(f.errors.n_errors, 0);
    for (uint32_t i = 0; i < f.n_objs; i++) {
        intern_unref(f.objs[i]->file);
        f.objs[i]->file = intern(file);
    }
    config_store_put_file(store, file, f.objs, f.n_objs, kept, n_kept, keep_missing);
    fixture_fini(&f);
}

static const struct config_diff *set(struct config_store *store, const char *file,
                                     const char *yaml) {
    config_store_begin(store);
    put(store, file, yaml, NULL, 0, false);
    return config_store_commit(store);
}

static void assert_diff(const struct config_diff *diff, uint32_t n_added, uint32_t n_changed,
                        uint32_t n_removed) {
    assert_int_equal(diff->n_added, n_added);
    assert_int_equal(diff->n_changed, n_changed);
    assert_int_equal(diff->n_removed, n_removed);
    assert_int_equal(diff->n_changes, n_added + n_changed + n_removed);
    for (uint32_t i = 0; i < diff->n_changes; i++) {
        assert_true(diff->changes[i].before != NULL || diff->changes[i].after != NULL);
    }
}

#define SA(name) "{apiVersion: v1, kind: ServiceAccount, metadata: {name: " name "}}\n---\n"
#define SA_L(name, label)                                                                          \
    "{apiVersion: v1, kind: ServiceAccount, metadata: {name: " name ", labels: {l: " label         \
    "}}}\n---\n"

static const char *label_of(const struct config_store *store, const char *name) {
    const struct kobj *obj = config_store_get(store, KOBJ_SERVICE_ACCOUNT, "default", name);
    const char *label = obj != NULL ? kobj_map_get(&obj->meta.labels, "l") : NULL;
    return obj == NULL ? "none" : label == NULL ? "" : label;
}

static void test_diff(void **state) {
    struct config_store *store = config_store_new();
    assert_diff(set(store, "a", SA("s1") SA("s2")), 2, 0, 0);
    assert_int_equal(config_store_size(store), 2);
    assert_diff(set(store, "a", SA("s2") SA("s1")), 0, 0, 0);
    const struct config_diff *diff = set(store, "a", SA_L("s1", "x") SA("s3"));
    assert_diff(diff, 1, 1, 1);
    for (uint32_t i = 0; i < diff->n_changes; i++) {
        const struct config_change *c = &diff->changes[i];
        const char *name = (c->after != NULL ? c->after : c->before)->meta.name;
        assert_string_equal(name, c->before == NULL ? "s3" : c->after == NULL ? "s2" : "s1");
    }
    assert_string_equal(label_of(store, "s1"), "x");
    config_store_begin(store);
    config_store_remove_file(store, "a");
    config_store_remove_file(store, "unknown");
    assert_diff(config_store_commit(store), 0, 0, 2);
    assert_int_equal(config_store_size(store), 0);
    config_store_free(store);
}

static int count(void *arg, const struct kobj *obj) {
    ++*(int *)arg;
    return 0;
}

static int stop(void *arg, const struct kobj *obj) {
    ++*(int *)arg;
    return 7;
}

static void test_each(void **state) {
    struct config_store *store = config_store_new();
    int n = 0;
    set(store, "a", SA("s1") SA("s2") "{apiVersion: v1, kind: Namespace, metadata: {name: s1}}");
    assert_int_equal(config_store_each(store, KOBJ_SERVICE_ACCOUNT, count, &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(config_store_each(store, KOBJ_N_KINDS, count, &n), 0);
    assert_int_equal(n, 5);
    assert_int_equal(config_store_each(store, KOBJ_NAMESPACE, stop, &n), 7);
    // Kinds of one name are different objects; so are API versions not.
    assert_non_null(config_store_get(store, KOBJ_NAMESPACE, "", "s1"));
    assert_null(config_store_get(store, KOBJ_NAMESPACE, "", "s2"));
    struct kobj_id id = {slice_str(""), "ServiceAccount", "default", "s2"};
    assert_non_null(config_store_find(store, &id));
    config_store_free(store);
}

// The first definition counts, whatever the order in which files come.
static void test_duplicates(void **state) {
    struct config_store *store = config_store_new();
    struct config_errors errors;
    config_errors_init(&errors);
    assert_diff(set(store, "b", SA_L("s", "b")), 1, 0, 0);
    config_store_duplicates(store, &errors);
    assert_int_equal(errors.n, 0);
    assert_diff(set(store, "c", SA_L("s", "c")), 0, 0, 0);
    assert_string_equal(label_of(store, "s"), "b");
    assert_diff(set(store, "a", SA_L("s", "a") SA_L("s", "a2")), 0, 1, 0);
    assert_string_equal(label_of(store, "s"), "a");
    assert_int_equal(config_store_size(store), 1);
    config_store_duplicates(store, &errors);
    config_errors_sort(&errors);
    assert_messages(
        &errors,
        "a:3:1: warning: ServiceAccount default/s: is defined already at a:1; this one is ignored\n"
        "b:1:1: warning: ServiceAccount default/s: is defined already at a:1; this one is ignored\n"
        "c:1:1: warning: ServiceAccount default/s: is defined already at a:1; this one is "
        "ignored\n");
    assert_diff(set(store, "a", SA("other")), 1, 1, 0);
    assert_string_equal(label_of(store, "s"), "b");
    config_store_begin(store);
    config_store_remove_file(store, "b");
    assert_diff(config_store_commit(store), 0, 1, 0);
    assert_string_equal(label_of(store, "s"), "c");
    config_errors_fini(&errors);
    config_store_free(store);
}

// A file that moves is no change.
static void test_move(void **state) {
    struct config_store *store = config_store_new();
    set(store, "a", SA("s1") SA("s2"));
    config_store_begin(store);
    config_store_remove_file(store, "a");
    put(store, "b", SA("s1") SA("s2"), NULL, 0, false);
    assert_diff(config_store_commit(store), 0, 0, 0);
    assert_string_equal(config_store_get(store, KOBJ_SERVICE_ACCOUNT, "default", "s1")->file, "b");
    config_store_free(store);
}

// Broken documents keep their object's last good version; the other changes take effect.
static void test_kept(void **state) {
    struct config_store *store = config_store_new();
    struct kobj_id id = {slice_str(""), "ServiceAccount", "default", "s1"};
    set(store, "a", SA_L("s1", "old") SA_L("s2", "old") SA("s3"));
    config_store_begin(store);
    put(store, "a", SA_L("s2", "new"), &id, 1, false);
    assert_diff(config_store_commit(store), 0, 1, 1);
    assert_string_equal(label_of(store, "s1"), "old");
    assert_string_equal(label_of(store, "s2"), "new");
    assert_string_equal(label_of(store, "s3"), "none");
    assert_int_equal(config_store_n_kept(store, "a"), 1);
    // Still broken, and now something could not even be read: nothing goes.
    config_store_begin(store);
    put(store, "a", SA_L("s4", "new"), &id, 1, true);
    assert_diff(config_store_commit(store), 1, 0, 0);
    assert_int_equal(config_store_n_kept(store, "a"), 2);
    // Mended.
    assert_diff(set(store, "a", SA_L("s1", "new")), 0, 1, 2);
    assert_int_equal(config_store_n_kept(store, "a"), 0);
    assert_int_equal(config_store_size(store), 1);
    config_store_free(store);
}

// Objects of a diff outlive what is done with the store until the next begin.
static void test_lifetime(void **state) {
    struct config_store *store = config_store_new();
    set(store, "a", SA_L("s1", "x"));
    const struct config_diff *diff = set(store, "a", "");
    assert_diff(diff, 0, 0, 1);
    assert_string_equal(diff->changes[0].before->meta.name, "s1");
    config_store_free(store);
}

static void put_each(struct config_store *store, const char *yaml) {
    struct config_fixture f;
    fixture_init(&f);
    fixture_read(&f, yaml, CONFIG_YAML);
    for (uint32_t i = 0; i < f.n_objs; i++) {
        config_store_put(store, "api", f.objs[i]);
    }
    fixture_fini(&f);
}

// One object at a time, and a full list that may take longer than a transaction.
static void test_one_by_one(void **state) {
    struct config_store *store = config_store_new();
    struct kobj_id id = {slice_str(""), "ServiceAccount", "default", "s2"};
    config_store_begin(store);
    assert_false(config_store_keep(store, "api", &id));
    put_each(store, SA("s1") SA("s2") SA("s3"));
    assert_diff(config_store_commit(store), 3, 0, 0);
    config_store_begin(store);
    put_each(store, SA_L("s1", "x") SA("s3"));
    assert_diff(config_store_commit(store), 0, 1, 0);
    assert_string_equal(label_of(store, "s1"), "x");
    config_store_begin(store);
    config_store_remove(store, "api", &id);
    config_store_remove(store, "other", &id);
    assert_diff(config_store_commit(store), 0, 0, 1);
    config_store_begin(store);
    put_each(store, SA("s2") SA("s4"));
    assert_diff(config_store_commit(store), 2, 0, 0);
    config_store_mark(store, "api");
    config_store_begin(store);
    put_each(store, SA("s4") SA("s5"));
    assert_diff(config_store_commit(store), 1, 0, 0);
    config_store_begin(store);
    assert_true(config_store_keep(store, "api", &id)); // it is broken now
    config_store_sweep(store, "api");
    assert_diff(config_store_commit(store), 0, 0, 2); // s1 and s3
    assert_int_equal(config_store_n_kept(store, "api"), 1);
    assert_int_equal(config_store_size(store), 3);
    config_store_begin(store);
    put_each(store, SA("s2"));
    config_store_sweep(store, "api"); // nothing is marked any more
    assert_diff(config_store_commit(store), 0, 0, 0);
    assert_int_equal(config_store_n_kept(store, "api"), 0);
    config_store_free(store);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diff),       cmocka_unit_test(test_each),
        cmocka_unit_test(test_duplicates), cmocka_unit_test(test_move),
        cmocka_unit_test(test_kept),       cmocka_unit_test(test_lifetime),
        cmocka_unit_test(test_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
