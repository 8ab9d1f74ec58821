// SPDX-License-Identifier: Apache-2.0
//
// Rules as text, for dumps.
#include "common/l7/l7_routes_priv.h"

struct kobj_pos l7_routes_pos_at(const struct l7_routes *routes, size_t index) {
    return index < l7_routes_count(routes) ? routes->entries[index].pos : (struct kobj_pos){0};
}

static void put_path(const struct l7_entry *entry, struct buf *out) {
    const char *text = (const char *)entry->path.ptr;
    switch ((enum l7_path_kind)entry->path_kind) {
    case L7_PATH_ANY:
        buf_append_str(out, "/*");
        break;
    case L7_PATH_IS:
        buf_append_str(out, text);
        break;
    case L7_PATH_STARTS:
        buf_printf(out, "%s*", text);
        break;
    case L7_PATH_UNDER:
        buf_printf(out, "%s, %s/*", text, text);
        break;
    case L7_PATH_MATCHES:
        buf_printf(out, "regex %s", text);
        break;
    }
    buf_append_str(out, entry->ignores_case ? " (any case)" : "");
}

static void put_cond(const struct l7_cond *cond, struct buf *out) {
    static const char *const subjects[] = {[L7_MISS_METHOD] = "method",
                                           [L7_MISS_SCHEME] = "scheme",
                                           [L7_MISS_AUTHORITY] = "authority",
                                           [L7_MISS_HEADER] = "header",
                                           [L7_MISS_WITHOUT_HEADER] = "without header",
                                           [L7_MISS_QUERY] = "query"};
    static const char *const ways[] = {[L7_COND_PRESENT] = "",
                                       [L7_COND_EXACT] = " ",
                                       [L7_COND_PREFIX] = " prefix ",
                                       [L7_COND_REGEX] = " regex "};
    buf_printf(out, ", %s%s%.*s%s%.*s", subjects[cond->miss], cond->name.len > 0 ? " " : "",
               SLICE_ARG(cond->name), ways[cond->match],
               cond->match == L7_COND_PRESENT ? 0 : (int)cond->text.len,
               (const char *)cond->text.ptr);
}

static void put_selector(const struct l7_selector *selector, struct buf *out) {
    if (selector->port != 0) {
        buf_printf(out, ", port %u", selector->port);
    }
    for (uint32_t i = 0; i < selector->n_gateways; i++) {
        buf_printf(out, ", gateway %s", selector->gateways[i]);
    }
    for (uint32_t i = 0; i < selector->n_labels; i++) {
        buf_printf(out, ", client %s=%s", selector->labels[i].key, selector->labels[i].value);
    }
    if (selector->ns[0] != '\0') {
        buf_printf(out, ", client namespace %s", selector->ns);
    }
}

void l7_routes_match_text(const struct l7_routes *routes, size_t index, struct buf *out) {
    if (index >= l7_routes_count(routes)) {
        return;
    }
    const struct l7_entry *entry = &routes->entries[index];
    put_path(entry, out);
    for (uint32_t i = 0; i < entry->n_conds; i++) {
        put_cond(&entry->conds[i], out);
    }
    if (entry->selector != NULL) {
        put_selector(entry->selector, out);
    }
}
