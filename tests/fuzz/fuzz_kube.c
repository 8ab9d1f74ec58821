// SPDX-License-Identifier: Apache-2.0
//
// Answers of the Kubernetes API: the objects that are cut out of one are the same however it was
// cut into pieces, and each is read as an event.
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/mesh/kube_split.h"
#include "common/mesh/kube_watch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { OBJECT_MAX = 4096 };

static void read_event(struct slice json) {
    struct config_doc_reader reader;
    struct config_errors errors;
    struct cfg_node root;
    struct arena arena;
    arena_init(&arena, 64 << 20);
    config_errors_init(&errors);
    config_doc_reader_init(&reader, "f", json, CONFIG_JSON, NULL);
    if (config_doc_next(&reader, &arena, &errors, &root) > 0) {
        enum kube_event event = KUBE_N_EVENTS;
        const struct cfg_node *object = NULL;
        if (kube_watch_read_event(&root, &event, &object)) {
            CHECK(event < KUBE_N_EVENTS && object->type == CFG_MAP);
        }
    }
    config_errors_fini(&errors);
    arena_fini(&arena);
}

// A hash of all that comes out, in its order.
static uint64_t split(enum kube_split_mode mode, struct slice text, size_t piece, bool reads) {
    struct kube_split s;
    struct slice json;
    enum kube_split_step step = KUBE_SPLIT_MORE;
    uint64_t parts[3] = {0};
    kube_split_init(&s, mode, OBJECT_MAX);
    for (size_t at = 0; at < text.len && step < KUBE_SPLIT_BROKEN; at += piece) {
        struct slice bytes = slice_head(slice_skip(text, at), piece);
        while ((step = kube_split_next(&s, &bytes, &json)) != KUBE_SPLIT_MORE) {
            parts[1] = step;
            if (step >= KUBE_SPLIT_BROKEN) {
                parts[2] = 0;
                parts[0] = hash_bytes(slice_make(parts, sizeof(parts)));
                break;
            }
            CHECK(json.len <= OBJECT_MAX || step == KUBE_SPLIT_REST);
            parts[2] = hash_bytes(json);
            parts[0] = hash_bytes(slice_make(parts, sizeof(parts)));
            if (reads) {
                read_event(json);
            }
        }
    }
    parts[1] = kube_split_is_between(&s);
    kube_split_fini(&s);
    return parts[0] + parts[1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len < 2) {
        return 0;
    }
    enum kube_split_mode mode = data[0] % 2 == 0 ? KUBE_SPLIT_LIST : KUBE_SPLIT_EVENTS;
    size_t piece = 1 + data[0] / 2;
    struct slice text = slice_make(data + 1, len - 1);
    uint64_t whole = split(mode, text, text.len, true);
    CHECK(split(mode, text, 1, false) == whole);
    CHECK(split(mode, text, piece, false) == whole);
    return 0;
}
