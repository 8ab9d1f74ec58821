// SPDX-License-Identifier: Apache-2.0
#include "common/l7/l7_reply.h"

#include <stdio.h>
#include <string.h>

#include "common/proto/grpc.h"
#include "common/proto/http_rules.h"

static const struct {
    uint16_t status;
    uint32_t flags;
    struct slice body, details;
} replies[] = {
#define L7_REPLY(name, status, flag, body, details)                                                \
    {status, L7_FLAG_##flag, SLICE_LIT(body), SLICE_LIT(details)},
#include "common/l7/local_reply.def"
#undef L7_REPLY
};

static const struct {
    uint16_t status;
    uint32_t flags;
} resets[] = {
#define L7_RESET(name, text, flag, status) {status, L7_FLAG_##flag},
#include "common/l7/l7_reset.def"
#undef L7_RESET
};

static const struct {
    const char *name, *meaning;
} flag_texts[] = {
#define L7_FLAG(name, meaning) {#name, meaning},
#include "common/l7/l7_flag.def"
#undef L7_FLAG
};

void l7_flags_append(uint32_t flags, struct buf *out) {
    if (flags == 0) {
        buf_append_byte(out, '-');
        return;
    }
    bool is_first = true;
    for (size_t i = 0; i < ARRAY_LEN(flag_texts); i++) {
        if ((flags >> i & 1) != 0) {
            buf_append_str(out, is_first ? "" : ",");
            buf_append_str(out, flag_texts[i].name);
            is_first = false;
        }
    }
}

const char *l7_flag_meaning(enum l7_flag_bit bit) {
    return (size_t)bit < ARRAY_LEN(flag_texts) ? flag_texts[bit].meaning : "?";
}

uint32_t l7_reply_reset_flags(enum l7_reset reset) {
    return (size_t)reset < ARRAY_LEN(resets) ? resets[reset].flags : 0;
}

// Details are one word in the log.
static struct slice underscored(struct slice text) {
    uint8_t *bytes = (uint8_t *)(uintptr_t)text.ptr; // printed into the arena just before
    for (size_t i = 0; i < text.len; i++) {
        bytes[i] = bytes[i] == ' ' || bytes[i] == '\t' ? '_' : bytes[i];
    }
    return text;
}

const char *l7_reply_cut_details(enum l7_reset reset, struct arena *arena) {
    static const char start[] = "upstream_reset_after_response_started";
    const char *why = l7_reset_text(reset);
    size_t len = sizeof(start) + strlen(why) + 2;
    char *text = arena_alloc(arena, len);
    if (text == NULL) {
        return start;
    }
    snprintf(text, len, "%s{%s}", start, why);
    (void)underscored(slice_make(text, len - 1));
    return text;
}

static void build_reset(const struct l7_reply_spec *spec, struct l7_reply *reply) {
    const char *text = l7_reset_text((enum l7_reset)spec->reset);
    bool has_failure = spec->failure.len > 0;
    reply->status = resets[spec->reset].status;
    reply->flags = resets[spec->reset].flags;
    reply->body = l7_fields_printf(
        &reply->fields,
        "upstream connect error or disconnect/reset before headers. %sreset reason: %s%s%.*s",
        spec->is_retried ? "retried and the latest " : "", text,
        has_failure ? ", transport failure reason: " : "", SLICE_ARG(spec->failure));
    reply->details =
        underscored(l7_fields_printf(&reply->fields,
                                     "upstream_reset_before_response_started{%s%s%.*s}", text,
                                     has_failure ? "|" : "", SLICE_ARG(spec->failure)));
    if (spec->reset == L7_RESET_OVERFLOW) {
        l7_fields_add(&reply->fields, SLICE_LIT("x-envoy-overloaded"), SLICE_LIT("true"));
    }
}

static void build_status(const struct l7_reply_spec *spec, struct l7_reply *reply) {
    switch (spec->kind) {
    case L7_REPLY_RESET:
        build_reset(spec, reply);
        return;
    case L7_REPLY_DIRECT:
    case L7_REPLY_REDIRECT:
        reply->body = spec->body;
        reply->details = SLICE_LIT("direct_response");
        if (spec->kind == L7_REPLY_REDIRECT) {
            l7_fields_add(&reply->fields, SLICE_LIT("location"), spec->location);
        }
        break;
    case L7_REPLY_DNS_FAILURE:
        reply->status = replies[spec->kind].status;
        reply->flags = replies[spec->kind].flags;
        reply->body = replies[spec->kind].body;
        reply->details =
            underscored(l7_fields_printf(&reply->fields, "dns_resolution_failure{%.*s}",
                                         SLICE_ARG(spec->failure)));
        break;
    default:
        reply->status = replies[spec->kind].status;
        reply->flags = replies[spec->kind].flags;
        reply->body = replies[spec->kind].body;
        reply->details = replies[spec->kind].details;
    }
    if (spec->status != 0) {
        reply->status = spec->status;
    }
}

static void as_grpc(const struct l7_reply_spec *spec, struct l7_reply *reply) {
    reply->grpc_status = spec->grpc_status >= 0 && spec->kind == L7_REPLY_FAULT_ABORT
                             ? spec->grpc_status
                             : (int)grpc_status_of_http(reply->status);
    reply->status = 200;
    l7_fields_set(&reply->fields, SLICE_LIT("content-type"), SLICE_LIT("application/grpc"));
    l7_fields_set_u64(&reply->fields, SLICE_LIT("grpc-status"), (uint64_t)reply->grpc_status);
    if (reply->body.len > 0) {
        struct buf message;
        struct slice copy = slice_make(NULL, 0);
        buf_init(&message, SIZE_MAX);
        grpc_message_append(reply->body, &message);
        if (arena_copy(reply->fields.arena, buf_slice(&message), &copy)) {
            l7_fields_set(&reply->fields, SLICE_LIT("grpc-message"), copy);
        } else {
            reply->fields.is_overflowed = true;
        }
        buf_fini(&message);
    }
    reply->body = slice_make(NULL, 0);
}

bool l7_reply_build(const struct l7_reply_spec *spec, struct arena *arena,
                    struct l7_reply *ret_reply) {
    *ret_reply = (struct l7_reply){.grpc_status = -1};
    struct l7_reply *reply = ret_reply;
    l7_fields_init(&reply->fields, arena, NULL, 0);
    build_status(spec, reply);
    if (spec->details.len > 0) {
        reply->details = spec->details;
    }
    if (spec->is_retried) {
        reply->flags |= L7_FLAG_URX;
    }
    // A fault with a status of gRPC has no other one, whoever asks.
    bool has_grpc_status = spec->kind == L7_REPLY_FAULT_ABORT && spec->grpc_status >= 0;
    // A redirect is one for any client.
    if ((spec->is_grpc && spec->kind != L7_REPLY_REDIRECT) || has_grpc_status) {
        as_grpc(spec, reply);
    } else if (http_rules_has_no_body(reply->status, false)) {
        reply->body = slice_make(NULL, 0);
    } else if (reply->body.len > 0) {
        l7_fields_set(&reply->fields, SLICE_LIT("content-type"), SLICE_LIT("text/plain"));
        l7_fields_set_u64(&reply->fields, SLICE_LIT("content-length"), reply->body.len);
    } else {
        l7_fields_set(&reply->fields, SLICE_LIT("content-length"), SLICE_LIT("0"));
    }
    if (l7_fields_ok(&reply->fields)) {
        return true;
    }
    *ret_reply = (struct l7_reply){
        .status = reply->status, .grpc_status = reply->grpc_status, .flags = reply->flags};
    return false;
}
