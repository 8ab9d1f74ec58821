// SPDX-License-Identifier: Apache-2.0
//
// Real directories and inotify. Time passes only while the test polls.
#include "common/mesh/source_file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/mesh/config_fixture.h"

struct lab {
    char dir[64];
    struct source_file *source;
};

static char *at(const struct lab *lab, const char *name) {
    static char paths[4][160];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", lab->dir, name);
    return path;
}

static void write_file(const struct lab *lab, const char *name, const char *text) {
    FILE *file = fopen(at(lab, name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void lab_init(struct lab *lab) {
    *lab = (struct lab){.dir = "/tmp/ztun-source-XXXXXX"};
    assert_non_null(mkdtemp(lab->dir));
}

static const struct config_diff *lab_start(struct lab *lab, const char *name) {
    struct source_file_options options = {.path = name != NULL ? at(lab, name) : lab->dir};
    assert_int_equal(source_file_new(&options, &lab->source), 0);
    return source_file_load(lab->source);
}

static void lab_fini(struct lab *lab) {
    char command[128];
    source_file_free(lab->source);
    snprintf(command, sizeof(command), "rm -rf %s", lab->dir);
    assert_int_equal(system(command), 0);
}

// The next batch; NULL when none comes within ms.
static const struct config_diff *next(struct lab *lab, int ms) {
    for (int i = 0; i < 200; i++) {
        struct pollfd fd = {.fd = source_file_fd(lab->source), .events = POLLIN};
        if (poll(&fd, 1, ms) == 0) {
            return NULL;
        }
        const struct config_diff *diff = source_file_process(lab->source);
        if (diff != NULL) {
            return diff;
        }
    }
    return NULL;
}

static void assert_next(struct lab *lab, uint32_t n_added, uint32_t n_changed, uint32_t n_removed) {
    const struct config_diff *diff = next(lab, 2000);
    assert_non_null(diff);
    assert_int_equal(diff->n_added, n_added);
    assert_int_equal(diff->n_changed, n_changed);
    assert_int_equal(diff->n_removed, n_removed);
}

static struct source_file_status status(const struct lab *lab) {
    struct source_file_status s;
    source_file_status(lab->source, &s);
    return s;
}

#define SA(name) "{apiVersion: v1, kind: ServiceAccount, metadata: {name: " name "}}\n---\n"
#define SA_L(name, label)                                                                          \
    "{apiVersion: v1, kind: ServiceAccount, metadata: {name: " name ", labels: {l: " label         \
    "}}}\n---\n"

static bool has(const struct lab *lab, const char *name) {
    return config_store_get(source_file_store(lab->source), KOBJ_SERVICE_ACCOUNT, "default",
                            name) != NULL;
}

static void test_load(void **state) {
    struct lab lab;
    lab_init(&lab);
    write_file(&lab, "a.yaml", SA("a1") SA("a2"));
    write_file(&lab, "b.yml", SA("b"));
    write_file(&lab, "c.json",
               "{\"apiVersion\": \"v1\", \"kind\": \"ServiceAccount\", \"metadata\": {\"name\": "
               "\"c\"}}");
    write_file(&lab, "d.txt", "not: [configuration");
    write_file(&lab, ".e.yaml", "not: [configuration");
    mkdir(at(&lab, "sub"), 0755);
    write_file(&lab, "sub/f.yaml", SA("f"));
    const struct config_diff *diff = lab_start(&lab, NULL);
    assert_int_equal(diff->n_added, 5);
    struct source_file_status s = status(&lab);
    assert_int_equal(s.n_files, 4);
    assert_int_equal(s.n_objects, 5);
    assert_int_equal(s.n_errors, 0);
    assert_int_equal(s.n_loads, 1);
    assert_int_equal(s.n_failed_loads, 0);
    // Nothing changed: nothing is read.
    assert_int_equal(source_file_load(lab.source)->n_changes, 0);
    lab_fini(&lab);
}

static void test_missing(void **state) {
    struct source_file_options options = {.path = "/nonexistent/x"};
    struct source_file *source = NULL;
    assert_int_equal(source_file_new(&options, &source), -ENOENT);
    assert_null(source);
    source_file_free(NULL);
}

static void test_changes(void **state) {
    struct lab lab;
    lab_init(&lab);
    lab_start(&lab, NULL);
    assert_null(next(&lab, 50));
    write_file(&lab, "a.yaml", SA("a"));
    assert_next(&lab, 1, 0, 0);
    write_file(&lab, "a.yaml", SA_L("a", "x") SA("b"));
    assert_next(&lab, 1, 1, 0);
    // Written aside and moved over it, as editors do.
    write_file(&lab, "tmp~", SA("b"));
    assert_int_equal(rename(at(&lab, "tmp~"), at(&lab, "a.yaml")), 0);
    assert_next(&lab, 0, 0, 1);
    unlink(at(&lab, "a.yaml"));
    assert_next(&lab, 0, 0, 1);
    // A new directory, and what comes into it later.
    mkdir(at(&lab, "sub"), 0755);
    assert_next(&lab, 0, 0, 0);
    write_file(&lab, "sub/c.yaml", SA("c"));
    assert_next(&lab, 1, 0, 0);
    assert_int_equal(symlink("sub/c.yaml", at(&lab, "link.yaml")), 0);
    assert_next(&lab, 0, 0, 0);
    assert_int_equal(status(&lab).n_warnings, 1); // defined twice now
    assert_int_equal(rename(at(&lab, "sub"), "/tmp/ztun-source-moved"), 0);
    assert_next(&lab, 0, 0, 1);
    assert_int_equal(system("rm -r /tmp/ztun-source-moved"), 0);
    lab_fini(&lab);
}

// Many writes are one batch.
static void test_batch(void **state) {
    struct lab lab;
    lab_init(&lab);
    lab_start(&lab, NULL);
    for (int i = 0; i < 50; i++) {
        char name[32], text[128];
        snprintf(name, sizeof(name), "f%d.yaml", i);
        snprintf(text, sizeof(text),
                 "{apiVersion: v1, kind: ServiceAccount, metadata: {name: s%d}}", i);
        write_file(&lab, name, text);
    }
    assert_next(&lab, 50, 0, 0);
    assert_null(next(&lab, 60));
    assert_int_equal(status(&lab).n_loads, 2);
    lab_fini(&lab);
}

// A half-written file is not looked at, even when something else makes us look.
static void test_open_writer(void **state) {
    struct lab lab;
    lab_init(&lab);
    write_file(&lab, "a.yaml", SA("a"));
    lab_start(&lab, NULL);
    int fd = open(at(&lab, "a.yaml"), O_WRONLY | O_TRUNC);
    assert_true(write(fd, "{", 1) == 1);
    int new_fd = open(at(&lab, "new.yaml"), O_WRONLY | O_CREAT, 0644);
    write_file(&lab, "b.yaml", SA("b"));
    assert_next(&lab, 1, 0, 0);
    assert_true(has(&lab, "a"));
    assert_int_equal(status(&lab).n_errors, 0);
    assert_true(write(fd, "}", 1) == 1);
    close(fd);
    close(new_fd);
    const struct config_diff *diff = next(&lab, 2000);
    assert_non_null(diff);
    assert_true(has(&lab, "a")); // its document is broken now
    assert_int_equal(status(&lab).n_bad_files, 1);
    lab_fini(&lab);
}

// What was written is pending at once, without a look at the fd in between, and until it is read.
static void test_pending(void **state) {
    struct lab lab;
    lab_init(&lab);
    lab_start(&lab, NULL);
    assert_false(source_file_is_pending(lab.source));
    write_file(&lab, "a.yaml", SA("a"));
    assert_true(source_file_is_pending(lab.source));
    assert_true(source_file_is_pending(lab.source)); // its events are taken, its batch waits
    assert_next(&lab, 1, 0, 0); // asking has not lost it
    assert_false(source_file_is_pending(lab.source));
    write_file(&lab, "ignored.txt", "a");
    assert_false(source_file_is_pending(lab.source));
    // Who asks all the time does not put off what waits.
    write_file(&lab, "a.yaml", SA_L("a", "x"));
    bool is_read = false;
    for (int i = 0; i < 2000 && !is_read; i++) {
        (void)source_file_is_pending(lab.source);
        is_read = next(&lab, 1) != NULL;
    }
    assert_true(is_read);
    assert_false(source_file_is_pending(lab.source));
    // Half of a file.
    int fd = open(at(&lab, "a.yaml"), O_WRONLY | O_TRUNC);
    assert_true(source_file_is_pending(lab.source));
    assert_null(next(&lab, 60));
    assert_true(source_file_is_pending(lab.source));
    assert_true(write(fd, SA("a"), sizeof(SA("a")) - 1) > 0);
    close(fd);
    assert_next(&lab, 0, 1, 0);
    assert_false(source_file_is_pending(lab.source));
    unlink(at(&lab, "a.yaml"));
    assert_true(source_file_is_pending(lab.source));
    assert_next(&lab, 0, 0, 1);
    assert_false(source_file_is_pending(lab.source));
    lab_fini(&lab);
}

// Someone who never closes a known file hides it for a while only.
static void test_writer_stays(void **state) {
    struct lab lab;
    lab_init(&lab);
    write_file(&lab, "a.yaml", SA("a"));
    lab_start(&lab, NULL);
    int fd = open(at(&lab, "a.yaml"), O_WRONLY | O_APPEND);
    assert_true(write(fd, SA("b"), sizeof(SA("b")) - 1) > 0);
    assert_true(source_file_is_pending(lab.source));
    const struct config_diff *diff = next(&lab, 6000);
    assert_non_null(diff);
    assert_int_equal(diff->n_added, 1);
    assert_false(source_file_is_pending(lab.source));
    close(fd);
    lab_fini(&lab);
}

static void test_last_good(void **state) {
    struct lab lab;
    lab_init(&lab);
    write_file(&lab, "a.yaml", SA("a1") SA_L("a2", "old"));
    lab_start(&lab, NULL);
    // One broken object: it stays, the other one changes.
    write_file(&lab, "a.yaml", SA_L("a1", "new") SA_L("a2", "[]") SA("a3"));
    assert_next(&lab, 1, 1, 0);
    assert_true(has(&lab, "a2"));
    struct source_file_status s = status(&lab);
    assert_int_equal(s.n_bad_files, 1);
    assert_int_equal(s.n_kept, 1);
    assert_int_equal(s.n_failed_loads, 1);
    assert_int_equal(source_file_news(lab.source)->n_errors, 1);
    // The same error again, elsewhere in the file: no news.
    write_file(&lab, "a.yaml", "# moved\n" SA_L("a1", "new") SA_L("a2", "[]") SA("a3"));
    assert_next(&lab, 0, 0, 0);
    assert_int_equal(source_file_news(lab.source)->n, 0);
    assert_int_equal(status(&lab).n_errors, 1);
    // A syntax error: nothing goes, what can be read counts.
    write_file(&lab, "a.yaml", SA_L("a1", "newer") "a: [\n");
    assert_next(&lab, 0, 1, 0);
    assert_true(has(&lab, "a2") && has(&lab, "a3"));
    // Unreadable as a whole.
    unlink(at(&lab, "a.yaml"));
    assert_int_equal(symlink("loop.yaml", at(&lab, "loop.yaml")), 0);
    write_file(&lab, "a.yaml", SA("a1"));
    assert_next(&lab, 0, 1, 2);
    s = status(&lab);
    assert_int_equal(s.n_errors, 0);
    assert_int_equal(s.n_kept, 0);
    assert_true(s.last_good_at_s > 0);
    lab_fini(&lab);
}

static void test_dir_gone(void **state) {
    struct lab lab;
    char moved[80];
    lab_init(&lab);
    write_file(&lab, "a.yaml", SA("a"));
    lab_start(&lab, NULL);
    snprintf(moved, sizeof(moved), "%s-moved", lab.dir);
    assert_int_equal(rename(lab.dir, moved), 0);
    assert_next(&lab, 0, 0, 0);
    assert_true(has(&lab, "a"));
    assert_int_equal(status(&lab).dir_error, -ENOENT);
    assert_int_equal(source_file_news(lab.source)->n_errors, 1);
    assert_int_equal(rename(moved, lab.dir), 0);
    assert_next(&lab, 0, 0, 0); // found again by the retry
    assert_int_equal(status(&lab).dir_error, 0);
    write_file(&lab, "b.yaml", SA("b"));
    assert_next(&lab, 1, 0, 0);
    lab_fini(&lab);
}

// One file by name: its neighbours do not count, and it may come and go.
static void test_one_file(void **state) {
    struct lab lab;
    lab_init(&lab);
    write_file(&lab, "mesh.conf", SA("a"));
    write_file(&lab, "other.yaml", SA("b"));
    assert_int_equal(lab_start(&lab, "mesh.conf")->n_added, 1);
    write_file(&lab, "other.yaml", SA("c"));
    assert_null(next(&lab, 60));
    write_file(&lab, "mesh.conf", SA("a") SA("d"));
    assert_next(&lab, 1, 0, 0);
    unlink(at(&lab, "mesh.conf"));
    assert_next(&lab, 0, 0, 0);
    assert_true(has(&lab, "d"));
    assert_int_equal(status(&lab).dir_error, -ENOENT);
    write_file(&lab, "mesh.conf", SA("a"));
    assert_next(&lab, 0, 0, 1);
    assert_int_equal(status(&lab).dir_error, 0);
    lab_fini(&lab);
}

// A mounted ConfigMap: files are links through ..data, which is swapped by a rename.
static void test_config_map(void **state) {
    struct lab lab;
    lab_init(&lab);
    mkdir(at(&lab, "..1"), 0755);
    write_file(&lab, "..1/a.yaml", SA("a"));
    write_file(&lab, "..1/b.yaml", SA("b"));
    assert_int_equal(symlink("..1", at(&lab, "..data")), 0);
    assert_int_equal(symlink("..data/a.yaml", at(&lab, "a.yaml")), 0);
    assert_int_equal(symlink("..data/b.yaml", at(&lab, "b.yaml")), 0);
    assert_int_equal(lab_start(&lab, NULL)->n_added, 2);
    mkdir(at(&lab, "..2"), 0755);
    write_file(&lab, "..2/a.yaml", SA("a") SA("a2"));
    write_file(&lab, "..2/b.yaml", SA_L("b", "x"));
    assert_null(next(&lab, 60));
    assert_int_equal(symlink("..2", at(&lab, "..data_tmp")), 0);
    assert_int_equal(rename(at(&lab, "..data_tmp"), at(&lab, "..data")), 0);
    assert_next(&lab, 1, 1, 0);
    lab_fini(&lab);
}

static void collect(void *arg, const struct source_file_entry *entry) {
    buf_printf(arg, "%s objects %u kept %u errors %u duplicates %u\n",
               strrchr(entry->path, '/') + 1, entry->n_objects, entry->n_kept,
               entry->errors->n_errors, entry->duplicates->n);
}

static void test_status(void **state) {
    struct lab lab;
    struct buf text;
    lab_init(&lab);
    buf_init(&text, SIZE_MAX);
    write_file(&lab, "b.yaml", SA("a") SA("b"));
    write_file(&lab, "a.yaml", SA("a"));
    write_file(&lab, "c.yaml", "a: [");
    lab_start(&lab, NULL);
    source_file_each(lab.source, collect, &text);
    assert_string_equal(buf_cstr(&text), "a.yaml objects 1 kept 0 errors 0 duplicates 0\n"
                                         "b.yaml objects 2 kept 0 errors 0 duplicates 1\n"
                                         "c.yaml objects 0 kept 0 errors 1 duplicates 0\n");
    buf_fini(&text);
    assert_int_equal(source_file_news(lab.source)->n, 2);
    // Reading another file again does not repeat the duplicate.
    write_file(&lab, "a.yaml", SA_L("a", "x"));
    assert_next(&lab, 0, 1, 0);
    assert_int_equal(source_file_news(lab.source)->n, 0);
    assert_int_equal(status(&lab).n_warnings, 1);
    lab_fini(&lab);
}

// A second process, later: what is broken then is what it was before, also after copies were
// damaged.
static void test_state_dir(void **state) {
    struct lab lab;
    lab_init(&lab);
    char *dir = xasprintf("%s/state", lab.dir), *config = xasprintf("%s/config", lab.dir);
    struct source_file_options options = {.path = config, .state_dir = dir};
    mkdir(config, 0755);
    static const char secret[] = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"
                                 "stringData: {key: hidden}\n---\n";

    struct { // of file a: what it is now; then which objects there are
        const char *text;
        bool a, b;
        uint32_t n_kept;
        const char *damage; // of the copies, before
    } rows[] = {
        {SA("a") SA("b"), true, true, 0, NULL},
        {SA("a") "kind: ServiceAccount\napiVersion: v1\nmetadata: {name: b, oops: 1}\n", true, true,
         1, NULL},
        {"a: [", true, true, 2, NULL},
        {"a: [", false, false, 0, "echo x >>"},
        {SA("a"), true, false, 0, NULL},
        {"a: [", true, false, 1, NULL},
        {"a: [", false, false, 0, "truncate -s 20"},
        {SA("a"), true, false, 0, NULL},
        {NULL, false, false, 0, NULL}, // gone: that is no damage
        {"a: [", true, false, 1, NULL}, // it came again, but nobody saw that it was gone
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char command[256];
        if (rows[i].damage != NULL) {
            snprintf(command, sizeof(command), "for f in %s/*; do %s $f; done", dir,
                     rows[i].damage);
            assert_int_equal(system(command), 0);
        }
        if (rows[i].text != NULL) {
            write_file(&lab, "config/a.yaml", rows[i].text);
        } else {
            unlink(at(&lab, "config/a.yaml"));
        }
        assert_int_equal(source_file_new(&options, &lab.source), 0);
        source_file_load(lab.source);
        if (has(&lab, "a") != rows[i].a || has(&lab, "b") != rows[i].b ||
            status(&lab).n_kept != rows[i].n_kept) {
            fail_msg("row %zu: %d %d, %u kept", i, has(&lab, "a"), has(&lab, "b"),
                     status(&lab).n_kept);
        }
        assert_int_equal(status(&lab).state_error, 0);
        assert_int_equal(status(&lab).n_bad_files, rows[i].text != NULL && rows[i].text[0] == 'a' &&
                                                           strstr(rows[i].text, "[") != NULL
                                                       ? 1
                                                       : rows[i].n_kept);
        source_file_free(lab.source);
    }
    // While it runs: a file that goes takes its copy along; one with a Secret has none.
    write_file(&lab, "config/a.yaml", SA("a"));
    assert_int_equal(source_file_new(&options, &lab.source), 0);
    source_file_load(lab.source);
    unlink(at(&lab, "config/a.yaml"));
    assert_next(&lab, 0, 0, 1);
    assert_int_equal(rmdir(dir), 0);
    mkdir(dir, 0700);
    write_file(&lab, "config/a.yaml", SA("a"));
    assert_next(&lab, 1, 0, 0);
    char *text = xasprintf("%s%s", secret, SA("a"));
    write_file(&lab, "config/a.yaml", text);
    assert_next(&lab, 1, 0, 0);
    free(text);
    assert_int_equal(rmdir(dir), 0);
    // The directory cannot be written to: told, and that is all.
    write_file(&lab, "config/a.yaml", SA("a") SA("c"));
    assert_next(&lab, 1, 0, 1);
    assert_int_equal(status(&lab).state_error, -ENOENT);
    free(dir);
    free(config);
    lab_fini(&lab);
}

static void test_state_dir_unusable(void **state) {
    struct lab lab;
    lab_init(&lab);
    write_file(&lab, "file", "x");
    struct source_file_options options = {.path = lab.dir, .state_dir = at(&lab, "file")};
    assert_int_equal(source_file_new(&options, &lab.source), -ENOTDIR);
    options.state_dir = at(&lab, "none/below");
    assert_int_equal(source_file_new(&options, &lab.source), -ENOENT);
    lab_fini(&lab);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_changes),     cmocka_unit_test(test_batch),
        cmocka_unit_test(test_open_writer), cmocka_unit_test(test_last_good),
        cmocka_unit_test(test_dir_gone),    cmocka_unit_test(test_one_file),
        cmocka_unit_test(test_config_map),  cmocka_unit_test(test_status),
        cmocka_unit_test(test_state_dir),   cmocka_unit_test(test_state_dir_unusable),
        cmocka_unit_test(test_pending),     cmocka_unit_test(test_writer_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
