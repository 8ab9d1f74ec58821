// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_retry.h"

#include "common/l7/l7_fields.h"

static const char *const texts[] = {
#define L7_RETRY_ON(name, text) text,
#include "common/l7/l7_retry_on.def"
#undef L7_RETRY_ON
};

enum { GRPC_BITS_FIRST = L7_RETRY_BIT_GRPC_CANCELLED };

const char *l7_reset_text(enum l7_reset reset) {
    static const char *const resets[] = {
#define L7_RESET(name, text, flag, status) text,
#include "common/l7/l7_reset.def"
#undef L7_RESET
    };
    return (size_t)reset < ARRAY_LEN(resets) ? resets[reset] : "?";
}

// The next item of a comma-separated list, trimmed; empty ones are skipped. False: no more.
static bool next_item(struct slice *rest, struct slice *ret_item) {
    while (rest->len > 0) {
        struct slice item = *rest;
        if (!slice_split(*rest, ',', &item, rest)) {
            *rest = slice_make(NULL, 0);
        }
        *ret_item = slice_trim(item);
        if (ret_item->len > 0) {
            return true;
        }
    }
    return false;
}

static bool find_condition(struct slice item, size_t first, size_t end, uint32_t *on) {
    for (size_t i = first; i < end; i++) {
        if (slice_eq_str(item, texts[i])) {
            *on |= 1U << i;
            return true;
        }
    }
    return false;
}

static bool add_code(struct l7_retry_codes *codes, struct slice item) {
    uint64_t code;
    if (!slice_to_u64(item, 599, &code) || code < 100 || codes->n == ARRAY_LEN(codes->items)) {
        return false;
    }
    codes->items[codes->n++] = (uint16_t)code;
    return true;
}

bool l7_retry_parse(struct slice text, uint32_t *on, struct l7_retry_codes *codes,
                    struct slice *ret_unknown) {
    struct slice item;
    bool is_ok = true;
    while (next_item(&text, &item)) {
        if (find_condition(item, 0, ARRAY_LEN(texts), on)) {
            continue;
        }
        if (add_code(codes, item)) {
            *on |= L7_RETRY_ON_STATUS_CODES;
        } else if (is_ok) {
            is_ok = false;
            *ret_unknown = item;
        }
    }
    return is_ok;
}

struct l7_retry_policy l7_retry_default(void) {
    return (struct l7_retry_policy){.on = L7_RETRY_ON_DEFAULT,
                                    .attempts = L7_RETRY_ATTEMPTS,
                                    .base_ms = L7_RETRY_BASE_MS,
                                    .max_ms = L7_RETRY_BASE_MS * L7_RETRY_MAX_FACTOR,
                                    .avoids_tried_hosts = true};
}

static bool header(const struct http_head *head, const char *name, struct slice *ret_value) {
    const struct http_field *field = l7_fields_find(head->fields, head->n_fields, slice_str(name));
    if (field == NULL) {
        return false;
    }
    *ret_value = field->value;
    return true;
}

// What a client asks for.
static void read_headers(struct l7_retry *retry, const struct http_head *request) {
    struct slice value, item;
    if (header(request, "x-envoy-retry-on", &value)) {
        while (next_item(&value, &item)) {
            find_condition(item, 0, GRPC_BITS_FIRST, &retry->on);
        }
    }
    if (header(request, "x-envoy-retry-grpc-on", &value)) {
        while (next_item(&value, &item)) {
            find_condition(item, GRPC_BITS_FIRST, ARRAY_LEN(texts), &retry->on);
        }
    }
    if (header(request, "x-envoy-retriable-status-codes", &value)) {
        while (next_item(&value, &item)) {
            if (!add_code(&retry->codes, item)) {
                break;
            }
        }
    }
    if (header(request, "x-envoy-retriable-header-names", &value)) {
        while (retry->n_names < L7_RETRY_NAMES_MAX && next_item(&value, &item)) {
            retry->names[retry->n_names++] = item;
        }
    }
    uint64_t n;
    if (header(request, "x-envoy-max-retries", &value) && slice_to_u64(value, UINT32_MAX, &n)) {
        retry->n_left = (uint32_t)n;
    }
}

void l7_retry_init(struct l7_retry *retry, const struct l7_retry_policy *policy,
                   const struct http_head *request) {
    *retry = (struct l7_retry){.policy = policy, .on = policy->on};
    for (size_t i = 0; i < policy->n_codes && i < L7_RETRY_CODES_MAX; i++) {
        retry->codes.items[retry->codes.n++] = policy->codes[i];
    }
    // A client may ask for retries where the route has none; once, unless it says how many.
    retry->n_left = policy->on != 0 ? policy->attempts : 1;
    if (l7_fields_has_envoys(request->fields, request->n_fields)) {
        read_headers(retry, request);
    }
    if (retry->on == 0) {
        retry->n_left = 0;
    }
}

static bool wants_grpc(uint32_t on, const struct http_head *response) {
    static const struct {
        uint32_t on;
        uint8_t status;
    } statuses[] = {
        {L7_RETRY_ON_GRPC_CANCELLED, 1},          {L7_RETRY_ON_GRPC_DEADLINE_EXCEEDED, 4},
        {L7_RETRY_ON_GRPC_RESOURCE_EXHAUSTED, 8}, {L7_RETRY_ON_GRPC_INTERNAL, 13},
        {L7_RETRY_ON_GRPC_UNAVAILABLE, 14},
    };
    struct slice value;
    uint64_t status;
    if ((on >> GRPC_BITS_FIRST) == 0 || !header(response, "grpc-status", &value) ||
        !slice_to_u64(value, UINT32_MAX, &status)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        if (status == statuses[i].status) {
            return (on & statuses[i].on) != 0;
        }
    }
    return false;
}

bool l7_retry_wants_response(const struct l7_retry *retry, const struct http_head *response) {
    uint32_t on = retry->on;
    uint16_t status = response->status;
    struct slice value;
    // What a proxy behind this one has limited is not a failure of the host.
    if (header(response, "x-envoy-ratelimited", &value)) {
        return (on & L7_RETRY_ON_RATELIMITED) != 0;
    }
    if ((on & L7_RETRY_ON_5XX) != 0 && status >= 500 && status <= 599) {
        return true;
    }
    if ((on & L7_RETRY_ON_GATEWAY_ERROR) != 0 && status >= 502 && status <= 504) {
        return true;
    }
    if ((on & L7_RETRY_ON_RETRIABLE_4XX) != 0 && status == 409) {
        return true;
    }
    for (size_t i = 0; (on & L7_RETRY_ON_STATUS_CODES) != 0 && i < retry->codes.n; i++) {
        if (retry->codes.items[i] == status) {
            return true;
        }
    }
    for (size_t i = 0; (on & L7_RETRY_ON_HEADERS) != 0 && i < retry->n_names; i++) {
        for (size_t f = 0; f < response->n_fields; f++) {
            if (slice_eq_nocase(response->fields[f].name, retry->names[i])) {
                return true;
            }
        }
    }
    return wants_grpc(on, response);
}

bool l7_retry_wants_reset(const struct l7_retry *retry, enum l7_reset reset, bool has_begun) {
    static const uint32_t any =
        L7_RETRY_ON_RESET | L7_RETRY_ON_5XX | L7_RETRY_ON_GATEWAY_ERROR; // it would become a 503
    if (reset == L7_RESET_OVERFLOW) {
        return false; // more of what there was too much of
    }
    if ((retry->on & any) != 0 ||
        ((retry->on & L7_RETRY_ON_RESET_BEFORE_REQUEST) != 0 && !has_begun)) {
        return true;
    }
    bool is_connect = reset == L7_RESET_CONNECT_REFUSED || reset == L7_RESET_CONNECT_LOCAL ||
                      reset == L7_RESET_CONNECT_TIMEOUT;
    return ((retry->on & L7_RETRY_ON_CONNECT_FAILURE) != 0 && is_connect) ||
           ((retry->on & L7_RETRY_ON_REFUSED_STREAM) != 0 && reset == L7_RESET_REMOTE_REFUSED);
}

bool l7_retry_take(struct l7_retry *retry) {
    if (retry->n_left == 0) {
        return false;
    }
    retry->n_left--;
    retry->n_done++;
    return true;
}

uint64_t l7_retry_backoff_ms(const struct l7_retry *retry, struct rand *rand) {
    uint64_t base = retry->policy->base_ms, max = retry->policy->max_ms;
    uint32_t n = MIN(retry->n_done, 32U);
    uint64_t bound = ((UINT64_C(1) << n) - 1) * base;
    uint64_t ms = bound > 0 ? rand_below(rand, bound) : 0;
    return MIN(ms, max);
}
