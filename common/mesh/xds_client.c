// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/xds_client.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/hmap.h"
#include "common/base/list.h"
#include "common/base/rand.h"
#include "common/mesh/xds.pb-c.h"

#define MS_TO_NS(ms) ((uint64_t)(ms)*1000000)

enum {
    RETRY_MIN_MS = 10,
    RETRY_MAX_MS = 15000,
    GOOD_STREAM_MS = 30000,
    SUBSCRIBE_BYTES = 1 << 20, // names in one request
    NACK_MAX = 4096, // bytes of the reasons
    STATUS_INVALID_ARGUMENT = 3,
    ENTRY_OVERHEAD = 16, // tags and lengths of an entry of the versions, at most
};

struct known { // a resource that was applied
    struct hmap_node by_name;
    uint32_t round; // of the type, when it came last
    uint32_t name_len, version_len;
    uint8_t text[]; // name, version
};

struct demand {
    struct hmap_node by_name;
    struct list in_answered;
    struct list in_absent; // while it is known not to be there
    bool is_waiting;
    bool exists, was_absent; // as it was answered last; neither before
    uint32_t len;
    uint8_t name[];
};

struct message {
    struct list in_queue;
    struct buf bytes;
};

struct subscription {
    struct hmap known;
    uint32_t round; // counts responses that are to have everything
    bool has_response; // ever
    bool is_sweeping; // the next response has all that there is
};

struct xds_client {
    struct xds_client_params params;
    uint8_t *node;
    struct rand rand;
    struct subscription types[XDS_N_TYPES];
    struct hmap demands;
    size_t n_demands;
    struct list absent; // struct demand, the one that was wanted last behind
    unsigned marker; // of the next question that is asked again: 0 or 1
    struct list queue; // struct message
    struct message *pulled; // the last one
    bool is_open;
    uint64_t opened_at, retry_at;
    uint32_t delay_ms;
};

struct xds_client *xds_client_new(const struct xds_client_params *params) {
    struct xds_client *c = xcalloc(1, sizeof(*c));
    c->params = *params;
    c->node = (uint8_t *)slice_dup(params->node);
    c->params.node = slice_make(c->node, params->node.len);
    if (c->params.request_max == 0) {
        c->params.request_max = XDS_REQUEST_MAX;
    }
    rand_seed(&c->rand, params->seed);
    for (size_t i = 0; i < XDS_N_TYPES; i++) {
        hmap_init(&c->types[i].known);
    }
    hmap_init(&c->demands);
    list_init(&c->absent);
    list_init(&c->queue);
    return c;
}

static void message_free(struct message *message) {
    if (message != NULL) {
        buf_fini(&message->bytes);
        free(message);
    }
}

static void drop_queue(struct xds_client *c) {
    struct list *pos;
    while ((pos = list_pop_front(&c->queue)) != NULL) {
        message_free(LIST_ITEM(pos, struct message, in_queue));
    }
    message_free(c->pulled);
    c->pulled = NULL;
}

void xds_client_free(struct xds_client *c) {
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < XDS_N_TYPES; i++) {
        HMAP_EACH_SAFE(pos, &c->types[i].known) {
            free(HMAP_ITEM(pos, struct known, by_name));
        }
        hmap_fini(&c->types[i].known);
    }
    HMAP_EACH_SAFE(pos, &c->demands) {
        free(HMAP_ITEM(pos, struct demand, by_name));
    }
    hmap_fini(&c->demands);
    drop_queue(c);
    free(c->node);
    free(c);
}

// ---- requests

static ProtobufCBinaryData bytes_of(struct slice s) {
    return (ProtobufCBinaryData){.len = s.len, .data = (uint8_t *)s.ptr};
}

static void put_request(struct xds_client *c, Xds__Request *request, enum xds_type type) {
    struct message *message = xcalloc(1, sizeof(*message));
    if (request->type_url.len == 0) {
        request->type_url = bytes_of(slice_str(xds_type_url(type)));
    }
    size_t len = xds__request__get_packed_size(request);
    buf_init(&message->bytes, SIZE_MAX);
    buf_commit(&message->bytes, xds__request__pack(request, buf_reserve(&message->bytes, len)));
    list_push_back(&c->queue, &message->in_queue);
}

static struct slice known_name(const struct known *known) {
    return slice_make(known->text, known->name_len);
}

static bool is_on_demand(const struct xds_client *c, enum xds_type type) {
    return c->params.on_demand && type == XDS_ADDRESS;
}

// Fills the versions of all that is known; false: they would not fit into a request.
static bool put_versions(struct xds_client *c, enum xds_type type, Xds__Request *request,
                         Xds__TextEntry **ret_entries) {
    const struct hmap *known = &c->types[type].known;
    Xds__TextEntry *entries = xcalloc(known->n_items + 1, sizeof(*entries));
    Xds__TextEntry **list = xcalloc(known->n_items + 1, sizeof(Xds__TextEntry *));
    size_t n = 0, n_bytes = c->params.node.len + 1024; // the rest of the request
    for (struct hmap_node *pos = hmap_first(known); pos != NULL; pos = hmap_next(known, pos)) {
        const struct known *item = HMAP_ITEM(pos, struct known, by_name);
        xds__text_entry__init(&entries[n]);
        entries[n].key = bytes_of(known_name(item));
        entries[n].value = bytes_of(slice_make(item->text + item->name_len, item->version_len));
        list[n] = &entries[n];
        n_bytes += item->name_len + item->version_len + ENTRY_OVERHEAD;
        n++;
    }
    if (n_bytes > c->params.request_max) {
        free(list);
        free(entries);
        return false;
    }
    request->initial_resource_versions = list;
    request->n_initial_resource_versions = n;
    *ret_entries = entries;
    return true;
}

static void put_subscribe(struct xds_client *c, ProtobufCBinaryData *names, size_t n) {
    Xds__Request request = XDS__REQUEST__INIT;
    request.resource_names_subscribe = names;
    request.n_resource_names_subscribe = n;
    put_request(c, &request, XDS_ADDRESS);
}

// A name is wanted, for the first time or again, and another one, `gone` (NULL: none), not any
// more. istiod answers only what changes the subscriptions, and takes a request that subscribes to
// nothing for the end of all that is: so with a name that is subscribed already a marker, nobody's
// name, comes and the former one goes.
static void put_question(struct xds_client *c, const struct demand *demand, bool is_again,
                         const struct demand *gone) {
    static const char *const markers[] = {"/again-0", "/again-1"};
    Xds__Request request = XDS__REQUEST__INIT;
    ProtobufCBinaryData names[2] = {bytes_of(slice_make(demand->name, demand->len))}, without;
    request.resource_names_subscribe = names;
    request.n_resource_names_subscribe = 1;
    request.resource_names_unsubscribe = &without;
    if (is_again) {
        names[request.n_resource_names_subscribe++] = bytes_of(slice_str(markers[c->marker]));
        c->marker ^= 1;
        without = bytes_of(slice_str(markers[c->marker]));
        request.n_resource_names_unsubscribe = 1;
    } else if (gone != NULL) {
        without = bytes_of(slice_make(gone->name, gone->len));
        request.n_resource_names_unsubscribe = 1;
    }
    put_request(c, &request, XDS_ADDRESS);
}

static void subscribe_demands(struct xds_client *c) {
    ProtobufCBinaryData *names = xcalloc(c->n_demands + 1, sizeof(*names));
    size_t n = 0, n_bytes = 0;
    size_t max = MIN((size_t)SUBSCRIBE_BYTES, c->params.request_max / 2);
    for (struct hmap_node *pos = hmap_first(&c->demands); pos != NULL;
         pos = hmap_next(&c->demands, pos)) {
        const struct demand *demand = HMAP_ITEM(pos, struct demand, by_name);
        if (n > 0 && n_bytes + demand->len > max) {
            put_subscribe(c, names, n);
            n = n_bytes = 0;
        }
        names[n++] = bytes_of(slice_make(demand->name, demand->len));
        n_bytes += demand->len + ENTRY_OVERHEAD;
    }
    if (n > 0) {
        put_subscribe(c, names, n);
    }
    free(names);
}

static void forget_all(struct xds_client *c, enum xds_type type) {
    HMAP_EACH_SAFE(pos, &c->types[type].known) {
        struct known *known = HMAP_ITEM(pos, struct known, by_name);
        hmap_remove(&c->types[type].known, pos);
        c->params.ops->del(c->params.arg, type, known_name(known));
        free(known);
    }
    c->params.ops->applied(c->params.arg, type, "");
}

static void open_type(struct xds_client *c, enum xds_type type) {
    Xds__Request request = XDS__REQUEST__INIT;
    ProtobufCBinaryData all = bytes_of(SLICE_LIT("*"));
    Xds__TextEntry *entries = NULL;
    struct subscription *sub = &c->types[type];
    bool fits = put_versions(c, type, &request, &entries);
    sub->is_sweeping = !fits && !is_on_demand(c, type);
    sub->round += sub->is_sweeping;
    if (is_on_demand(c, type)) {
        // There is no other way to say "nothing": everything is subscribed and given up at once.
        request.resource_names_subscribe = request.resource_names_unsubscribe = &all;
        request.n_resource_names_subscribe = request.n_resource_names_unsubscribe = 1;
        if (!fits) { // the answers will not tell what is gone
            forget_all(c, type);
        }
    }
    request.node = bytes_of(c->params.node);
    put_request(c, &request, type);
    free(request.initial_resource_versions);
    free(entries);
    if (is_on_demand(c, type)) {
        subscribe_demands(c);
    }
}

void xds_client_open(struct xds_client *c, uint64_t now) {
    CHECK(!c->is_open);
    c->is_open = true;
    c->opened_at = now;
    for (size_t i = 0; i < XDS_N_TYPES; i++) {
        open_type(c, (enum xds_type)i);
    }
}

// What was absent is so for as long as nobody can say anything else.
static void settle_absent(struct xds_client *c) {
    for (struct hmap_node *pos = hmap_first(&c->demands); pos != NULL;
         pos = hmap_next(&c->demands, pos)) {
        struct demand *demand = HMAP_ITEM(pos, struct demand, by_name);
        if (demand->is_waiting && demand->was_absent) {
            demand->is_waiting = false;
            list_push_back(&c->absent, &demand->in_absent);
            c->params.ops->answered(c->params.arg, slice_make(demand->name, demand->len), false);
        }
    }
}

void xds_client_closed(struct xds_client *c, bool is_clean, uint64_t now) {
    bool was_good = c->is_open && now - c->opened_at >= MS_TO_NS(GOOD_STREAM_MS);
    bool is_first = is_clean || was_good || c->delay_ms == 0;
    c->delay_ms = is_first ? RETRY_MIN_MS : MIN(2 * c->delay_ms, (uint32_t)RETRY_MAX_MS);
    uint64_t delay_ns = MS_TO_NS(c->delay_ms);
    // Half of it is a draw: clients of one server do not come back together.
    c->retry_at = now + delay_ns / 2 + rand_below(&c->rand, delay_ns / 2 + 1);
    c->is_open = false;
    drop_queue(c);
    settle_absent(c);
}

uint64_t xds_client_retry_at(const struct xds_client *c) {
    return c->retry_at;
}

bool xds_client_pull(struct xds_client *c, struct slice *ret_message) {
    struct list *pos = list_pop_front(&c->queue);
    message_free(c->pulled);
    c->pulled = pos != NULL ? LIST_ITEM(pos, struct message, in_queue) : NULL;
    if (c->pulled == NULL) {
        return false;
    }
    *ret_message = buf_slice(&c->pulled->bytes);
    return true;
}

// ---- responses

static struct known *find_known(const struct subscription *sub, struct slice name) {
    HMAP_EACH_WITH_HASH(pos, &sub->known, hash_bytes(name)) {
        struct known *known = HMAP_ITEM(pos, struct known, by_name);
        if (slice_eq(known_name(known), name)) {
            return known;
        }
    }
    return NULL;
}

static void forget(struct subscription *sub, struct slice name) {
    struct known *known = find_known(sub, name);
    if (known != NULL) {
        hmap_remove(&sub->known, &known->by_name);
        free(known);
    }
}

static void remember(struct subscription *sub, struct slice name, struct slice version) {
    struct known *known = find_known(sub, name);
    if (known != NULL && known->version_len == version.len) { // as a rule: hashes
        slice_copy(known->text + name.len, version);
        known->round = sub->round;
        return;
    }
    forget(sub, name);
    known = xmalloc(sizeof(*known) + name.len + version.len);
    known->round = sub->round;
    known->name_len = (uint32_t)name.len;
    known->version_len = (uint32_t)version.len;
    slice_copy(known->text, name);
    slice_copy(known->text + name.len, version);
    hmap_insert(&sub->known, &known->by_name, hash_bytes(name));
}

static struct demand *find_demand(const struct xds_client *c, struct slice name) {
    HMAP_EACH_WITH_HASH(pos, &c->demands, hash_bytes(name)) {
        struct demand *demand = HMAP_ITEM(pos, struct demand, by_name);
        if (slice_eq(slice_make(demand->name, demand->len), name)) {
            return demand;
        }
    }
    return NULL;
}

static struct slice slice_of(ProtobufCBinaryData bytes) {
    return slice_make(bytes.data, bytes.len);
}

// What a response does, until its end.
struct response {
    struct xds_client *client;
    enum xds_type type;
    const Xds__Response *message;
    struct buf nack;
    size_t n_refused;
    struct list answered; // struct demand
};

static void answer(struct response *r, struct slice name, bool exists) {
    struct demand *demand = is_on_demand(r->client, r->type) ? find_demand(r->client, name) : NULL;
    if (demand == NULL) {
        return;
    }
    demand->exists = exists;
    demand->was_absent = !exists;
    list_del(&demand->in_absent);
    if (!exists) {
        list_push_back(&r->client->absent, &demand->in_absent);
    }
    if (demand->is_waiting) {
        demand->is_waiting = false;
        list_push_back(&r->answered, &demand->in_answered);
    }
}

static void refuse(struct response *r, struct slice name, const char *reason) {
    size_t len = r->nack.len;
    if (r->n_refused++ == 0 || len < NACK_MAX - XDS_ERROR_MAX - XDS_NAME_MAX) {
        buf_printf(&r->nack, "%s%.*s: %s", len > 0 ? "; " : "",
                   SLICE_ARG(slice_head(name, XDS_NAME_MAX / 2)), reason);
    }
}

static bool apply(struct response *r, const Xds__Resource *resource, char error[XDS_ERROR_MAX]) {
    const struct xds_client_params *params = &r->client->params;
    struct slice name = slice_of(resource->name);
    const char *reason = NULL;
    if (name.len == 0 || name.len > XDS_NAME_MAX) {
        reason = "a resource needs a name of at most 1024 bytes";
    } else if (resource->resource == NULL) {
        reason = "has no content";
    } else if (!slice_eq_str(slice_of(resource->resource->type_url), xds_type_url(r->type))) {
        reason = "is of another type than the response";
    }
    if (reason != NULL) {
        memcpy(error, reason, strlen(reason) + 1);
        return false;
    }
    return params->ops->set(params->arg, r->type, name, slice_of(resource->resource->value), error);
}

static void apply_all(struct response *r) {
    struct subscription *sub = &r->client->types[r->type];
    char error[XDS_ERROR_MAX];
    for (size_t i = 0; i < r->message->n_resources; i++) {
        const Xds__Resource *resource = r->message->resources[i];
        struct slice name = slice_of(resource->name);
        bool is_good = apply(r, resource, error);
        if (is_good) {
            remember(sub, name, slice_of(resource->version));
        } else {
            struct known *known = find_known(sub, name);
            refuse(r, name, error);
            if (known != NULL) {
                known->round = sub->round; // its last good version is not swept
            }
        }
        answer(r, name, true);
        for (size_t k = 0; k < resource->n_aliases; k++) {
            answer(r, slice_of(resource->aliases[k]), true);
        }
    }
}

static void remove_one(struct response *r, struct slice name) {
    const struct xds_client_params *params = &r->client->params;
    params->ops->del(params->arg, r->type, name);
    forget(&r->client->types[r->type], name);
    answer(r, name, false);
}

static void sweep(struct response *r) {
    struct subscription *sub = &r->client->types[r->type];
    const struct xds_client_params *params = &r->client->params;
    if (!sub->is_sweeping) {
        return;
    }
    sub->is_sweeping = false;
    HMAP_EACH_SAFE(pos, &sub->known) {
        struct known *known = HMAP_ITEM(pos, struct known, by_name);
        if (known->round != sub->round) {
            params->ops->del(params->arg, r->type, known_name(known));
            hmap_remove(&sub->known, pos);
            free(known);
        }
    }
}

// `error` is made ASCII: a message with half a character in it is not one for the server.
static void put_ack(struct xds_client *c, const Xds__Response *response, char *error) {
    Xds__Request request = XDS__REQUEST__INIT;
    Xds__Status status = XDS__STATUS__INIT;
    request.type_url = response->type_url;
    request.response_nonce = response->nonce;
    for (char *at = error; *at != '\0'; at++) {
        bool is_ascii = *at >= 0x20 && *at < 0x7f;
        *at = is_ascii ? *at : '?';
    }
    if (error[0] != '\0') {
        status.code = STATUS_INVALID_ARGUMENT;
        status.message = bytes_of(slice_str(error));
        request.error_detail = &status;
    }
    put_request(c, &request, XDS_ADDRESS);
}

static void take(struct response *r) {
    struct xds_client *c = r->client;
    struct list *pos;
    apply_all(r);
    for (size_t i = 0; i < r->message->n_removed_resources; i++) {
        remove_one(r, slice_of(r->message->removed_resources[i]));
    }
    sweep(r);
    if (r->nack.len > 0 && r->n_refused > 1) {
        buf_printf(&r->nack, " (%zu of %zu resources were refused)", r->n_refused,
                   r->message->n_resources);
    }
    char *nack = buf_take(&r->nack, &(size_t){0});
    put_ack(c, r->message, nack);
    c->types[r->type].has_response = true;
    c->params.ops->applied(c->params.arg, r->type, nack);
    free(nack);
    while ((pos = list_pop_front(&r->answered)) != NULL) {
        const struct demand *demand = LIST_ITEM(pos, struct demand, in_answered);
        c->params.ops->answered(c->params.arg, slice_make(demand->name, demand->len),
                                demand->exists);
    }
}

static void *unpack_alloc(void *arena, size_t size) {
    return arena_alloc(arena, size);
}

static void unpack_free(void *arena, void *ptr) {
    (void)arena, (void)ptr; // the arena's end
}

static int type_of(struct slice url) {
    for (int i = 0; i < XDS_N_TYPES; i++) {
        if (slice_eq_str(url, xds_type_url((enum xds_type)i))) {
            return i;
        }
    }
    return -1;
}

bool xds_client_recv(struct xds_client *c, struct slice bytes, int *ret_type,
                     const char **ret_error) {
    struct arena arena;
    ProtobufCAllocator allocator = {unpack_alloc, unpack_free, &arena};
    CHECK(c->is_open);
    if (bytes.len == 0) {
        *ret_error = "an empty response";
        return false;
    }
    // Small fields take more in memory than on the wire: a message of nothing else is no response.
    arena_init(&arena, 16 * bytes.len + (1 << 20));
    const Xds__Response *message = xds__response__unpack(&allocator, bytes.len, bytes.ptr);
    if (message == NULL) {
        arena_fini(&arena);
        *ret_error = "a response that cannot be read";
        return false;
    }
    int type = type_of(slice_of(message->type_url));
    if (type < 0) {
        char error[] = "this type was not asked for";
        put_ack(c, message, error);
    } else {
        struct response r = {.client = c, .type = (enum xds_type)type, .message = message};
        buf_init(&r.nack, 2 * NACK_MAX);
        list_init(&r.answered);
        take(&r);
        buf_fini(&r.nack);
    }
    arena_fini(&arena);
    *ret_type = type;
    return true;
}

bool xds_client_has_type(const struct xds_client *c, enum xds_type type) {
    return c->types[type].has_response;
}

bool xds_client_is_ready(const struct xds_client *c) {
    for (size_t i = 0; i < XDS_N_TYPES; i++) {
        if (!c->types[i].has_response && !is_on_demand(c, (enum xds_type)i)) {
            return false;
        }
    }
    return true;
}

size_t xds_client_n_known(const struct xds_client *c, enum xds_type type) {
    return c->types[type].known.n_items;
}

size_t xds_client_n_demands(const struct xds_client *c) {
    return c->n_demands;
}

// The one that goes, to be freed. NULL: all are there, or waited for.
static struct demand *make_room(struct xds_client *c) {
    struct list *oldest = list_pop_front(&c->absent);
    if (oldest == NULL) {
        return NULL;
    }
    struct demand *demand = LIST_ITEM(oldest, struct demand, in_absent);
    list_del(&demand->in_answered);
    hmap_remove(&c->demands, &demand->by_name);
    c->n_demands--;
    return demand;
}

static struct demand *add_demand(struct xds_client *c, struct slice name) {
    struct demand *demand = xcalloc(1, sizeof(*demand) + name.len);
    demand->len = (uint32_t)name.len;
    slice_copy(demand->name, name);
    list_init(&demand->in_answered);
    list_init(&demand->in_absent);
    hmap_insert(&c->demands, &demand->by_name, hash_bytes(name));
    c->n_demands++;
    return demand;
}

enum xds_want xds_client_want(struct xds_client *c, struct slice name) {
    struct demand *demand = find_demand(c, name), *gone = NULL;
    bool is_again = demand != NULL;
    CHECK(c->params.on_demand);
    if (demand == NULL) {
        bool is_full = c->n_demands == XDS_DEMANDS_MAX;
        if (name.len == 0 || name.len > XDS_NAME_MAX ||
            (is_full && (gone = make_room(c)) == NULL)) {
            return XDS_WANT_REFUSED;
        }
        demand = add_demand(c, name);
    } else if (demand->is_waiting) {
        return XDS_WANT_WAIT;
    } else if (demand->was_absent) {
        list_del(&demand->in_absent);
        if (!c->is_open) {
            list_push_back(&c->absent, &demand->in_absent);
            return XDS_WANT_ABSENT;
        }
    }
    demand->is_waiting = true;
    if (c->is_open) {
        put_question(c, demand, is_again, gone);
    }
    free(gone);
    return XDS_WANT_WAIT;
}
