// SPDX-License-Identifier: Apache-2.0
//
// Cuts the objects out of an answer of the Kubernetes API while it arrives: the items of a list one
// by one, with the rest of the document behind them; or the events of a watch, which follow each
// other. So an answer costs the memory of its largest object, however long it is.
//
// Pure, and the same however the bytes were cut into pieces. It looks at quotes and brackets only,
// which must fit: what is between them is the JSON reader's to judge. Thread: the caller's.
#pragma once

#include "common/base/buf.h"

enum kube_split_mode { KUBE_SPLIT_LIST, KUBE_SPLIT_EVENTS };

enum kube_split_step {
    KUBE_SPLIT_MORE, // all bytes are consumed
    KUBE_SPLIT_OBJECT, // an item, or an event
    KUBE_SPLIT_REST, // LIST: the document without its items, when it is whole
    KUBE_SPLIT_BROKEN, // this is no such document; nothing more can be read
    KUBE_SPLIT_TOO_LARGE, // an object beyond the limit; likewise
};

struct kube_split {
    enum kube_split_mode mode;
    struct buf object, rest;
    uint32_t depth;
    uint64_t is_map[4]; // bit per depth
    bool is_in_string, is_escaped;
    bool is_in_items, is_in_object;
    bool is_items_key; // the value that follows is that of the key "items" of the document
    bool is_over; // the list is whole, or broken
    uint8_t n_key; // of the string that is read at depth 1
    char key[8];
};

void kube_split_init(struct kube_split *split, enum kube_split_mode mode, size_t object_max);
void kube_split_fini(struct kube_split *split);
// Consumes from `bytes`. *ret_json is valid until the next call.
enum kube_split_step kube_split_next(struct kube_split *split, struct slice *bytes,
                                     struct slice *ret_json);
// Nothing has begun that is not whole: the stream may end here.
bool kube_split_is_between(const struct kube_split *split);
