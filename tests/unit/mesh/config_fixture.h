// SPDX-License-Identifier: Apache-2.0
//
// Shared by the tests of configuration: a text, read and decoded, with the messages it gave.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/mesh/config_doc.h"
#include "common/mesh/kobj.h"

enum { FIXTURE_MAX_OBJS = 64 };

struct config_fixture {
    struct arena arena;
    struct config_errors errors;
    struct kobj *objs[FIXTURE_MAX_OBJS];
    uint32_t n_objs;
    unsigned flags;
};

static inline void fixture_init(struct config_fixture *f) {
    *f = (struct config_fixture){.flags = KOBJ_KEEP_TREE};
    arena_init(&f->arena, SIZE_MAX);
    config_errors_init(&f->errors);
}

static inline void fixture_fini(struct config_fixture *f) {
    for (uint32_t i = 0; i < f->n_objs; i++) {
        kobj_unref(f->objs[i]);
    }
    config_errors_fini(&f->errors);
    arena_fini(&f->arena);
}

static inline int fixture_on_object(void *arg, const struct cfg_node *node) {
    struct config_fixture *f = arg;
    struct kobj *obj = kobj_decode(node, "f.yaml", f->flags, &f->arena, &f->errors);

    if (obj != NULL) {
        assert_true(f->n_objs < FIXTURE_MAX_OBJS);
        f->objs[f->n_objs++] = obj;
    }
    return 0;
}

static inline void fixture_read(struct config_fixture *f, const char *text,
                                enum config_format format) {
    // An exact heap copy, so that a read past the end is seen.
    size_t len = strlen(text);
    char *copy = malloc(len > 0 ? len : 1);
    struct config_doc_reader reader;
    struct cfg_node root;
    int r;

    memcpy(copy, text, len);
    config_doc_reader_init(&reader, "f.yaml", slice_make(copy, len), format, NULL);
    while ((r = config_doc_next(&reader, &f->arena, &f->errors, &root)) != 0) {
        if (r > 0) {
            config_doc_each(&root, &f->arena, "f.yaml", &f->errors, fixture_on_object, f);
        }
    }
    free(copy);
}

// All messages, one a line, without the file's name. Caller frees.
static inline char *fixture_messages(const struct config_errors *errors) {
    struct buf all;

    buf_init(&all, SIZE_MAX);
    for (uint32_t i = 0; i < errors->n; i++) {
        char *text = config_error_text(&errors->items[i]);
        buf_printf(&all, "%s\n", strncmp(text, "f.yaml:", 7) == 0 ? text + 7 : text);
        free(text);
    }
    char *texts = xstrdup(buf_cstr(&all));
    buf_fini(&all);
    return texts;
}

static inline void assert_messages(const struct config_errors *errors, const char *expected) {
    char *have = fixture_messages(errors);
    assert_string_equal(have, expected);
    free(have);
}
