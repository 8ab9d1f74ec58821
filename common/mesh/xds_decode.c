// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/xds_decode.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/mesh/xds_decode_priv.h"

const char *xds_type_url(enum xds_type type) {
    static const char *const urls[XDS_N_TYPES] = {
        [XDS_ADDRESS] = "type.googleapis.com/istio.workload.Address",
        [XDS_AUTHORIZATION] = "type.googleapis.com/istio.security.Authorization",
    };
    return urls[type];
}

void xds_fail(struct xds_decoder *d, const char *fmt, ...) {
    if (d->has_failed) {
        return;
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(d->error, XDS_ERROR_MAX, fmt, args);
    va_end(args);
    d->has_failed = true;
}

void *xds_array(struct xds_decoder *d, size_t n, size_t size) {
    static _Alignas(max_align_t) uint8_t nothing[256]; // for one item, which nobody looks at
    CHECK(size <= sizeof(nothing));
    void *items = arena_array(d->arena, MAX(n, 1U), size);
    if (items == NULL) {
        xds_fail(d, "needs too much memory");
        memset(nothing, 0, sizeof(nothing));
        return nothing;
    }
    return items;
}

// Length of the UTF-8 sequence at the beginning of `text`, which is a printable character; else 0.
static size_t utf8_len(struct slice text) {
    uint8_t first = text.ptr[0];
    if (first < 0x80) {
        return first >= 0x20 && first != 0x7f;
    }
    size_t len = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || text.len < len) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((text.ptr[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    // Overlong forms, surrogates and what is above U+10FFFF
    uint8_t second = text.ptr[1];
    bool is_wrong = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
                    (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
    return is_wrong ? 0 : len;
}

static bool is_text(struct slice text) {
    while (text.len > 0) {
        size_t len = utf8_len(text);
        if (len == 0) {
            return false;
        }
        text = slice_skip(text, len);
    }
    return true;
}

const char *xds_text(struct xds_decoder *d, ProtobufCBinaryData bytes, const char *field,
                     size_t max) {
    struct slice text = xds_slice(bytes);
    if (text.len == 0) {
        return "";
    }
    if (text.len > max) {
        xds_fail(d, "%s: %zu bytes, at most %zu are allowed", field, text.len, max);
        return "";
    }
    if (!is_text(text)) {
        xds_fail(d, "%s: has bytes that are not printable UTF-8", field);
        return "";
    }
    const char *copy = arena_strdup(d->arena, text);
    if (copy == NULL) {
        xds_fail(d, "needs too much memory");
        return "";
    }
    return copy;
}

const char *xds_required(struct xds_decoder *d, ProtobufCBinaryData bytes, const char *field,
                         size_t max) {
    if (bytes.len == 0) {
        xds_fail(d, "%s: is missing", field);
    }
    return xds_text(d, bytes, field, max);
}

struct ip xds_ip(struct xds_decoder *d, ProtobufCBinaryData bytes, const char *field) {
    struct ip ip = {0};
    if (!ip_from_bytes(xds_slice(bytes), &ip)) {
        xds_fail(d, "%s: %zu bytes, an address has 4 or 16", field, bytes.len);
    }
    return ip;
}

uint16_t xds_port_of(struct xds_decoder *d, uint32_t value, const char *field) {
    if (value > UINT16_MAX) {
        xds_fail(d, "%s: %u is not a port", field, value);
        return 0;
    }
    return (uint16_t)value;
}

uint8_t xds_enum(struct xds_decoder *d, int32_t value, int32_t n, const char *field) {
    if (value < 0 || value >= n) {
        xds_fail(d, "%s: %d is not known", field, value);
        return 0;
    }
    return (uint8_t)value;
}

bool xds_list_ok(struct xds_decoder *d, size_t n, size_t max, const char *field) {
    if (n > max) {
        xds_fail(d, "%s: %zu items, at most %zu are allowed", field, n, max);
    }
    return n <= max;
}

const char *xds_copy(struct xds_decoder *d, const char *text) {
    const char *copy = arena_strdup(d->arena, slice_str(text));
    if (copy == NULL) {
        xds_fail(d, "needs too much memory");
    }
    return copy != NULL ? copy : "";
}

const char *xds_join(struct xds_decoder *d, const char *a, const char *b) {
    size_t len_a = strlen(a), len_b = strlen(b);
    char *text = arena_alloc(d->arena, len_a + len_b + 2);
    if (text == NULL) {
        xds_fail(d, "needs too much memory");
        return "";
    }
    snprintf(text, len_a + len_b + 2, "%s/%s", a, b);
    return text;
}

// Messages are unpacked into the arena, too.

static void *unpack_alloc(void *arena, size_t size) {
    return arena_alloc(arena, size);
}

static void unpack_free(void *arena, void *ptr) {
    (void)arena, (void)ptr; // the arena's end
}

static ProtobufCMessage *unpack(struct xds_decoder *d, const ProtobufCMessageDescriptor *type,
                                struct slice body) {
    ProtobufCAllocator allocator = {unpack_alloc, unpack_free, d->arena};
    if (body.len > XDS_RESOURCE_MAX) {
        xds_fail(d, "%zu bytes, at most %d are allowed", body.len, XDS_RESOURCE_MAX);
        return NULL;
    }
    static const uint8_t none = 0; // protobuf-c asks for a pointer of an empty message, too
    ProtobufCMessage *message =
        protobuf_c_message_unpack(type, &allocator, body.len, body.len > 0 ? body.ptr : &none);
    if (message == NULL) {
        xds_fail(d, "is not a valid message");
    }
    return message;
}

static void decode_address(struct xds_decoder *d, struct slice body,
                           struct xds_resource *ret_resource) {
    const Xds__Address *address = (const Xds__Address *)unpack(d, &xds__address__descriptor, body);
    if (address == NULL) {
        return;
    }
    switch (address->type_case) {
    case XDS__ADDRESS__TYPE_WORKLOAD:
        xds_decode_workload(d, address->workload, ret_resource);
        break;
    case XDS__ADDRESS__TYPE_SERVICE:
        xds_decode_service(d, address->service, ret_resource);
        break;
    default:
        xds_fail(d, "is neither a workload nor a service");
    }
}

static struct slice key_of(const struct xds_resource *resource) {
    switch ((enum xds_kind)resource->kind) {
    case XDS_WORKLOAD:
        return resource->workload.leaf.key;
    case XDS_SERVICE:
        return resource->service.leaf.key;
    case XDS_POLICY:
        return resource->policy.leaf.key;
    }
    return slice_make(NULL, 0);
}

bool xds_decode(enum xds_type type, struct slice name, struct slice body, const char *network,
                struct arena *arena, struct xds_resource *ret_resource, char error[XDS_ERROR_MAX]) {
    struct xds_decoder d = {.arena = arena, .network = network, .error = error};
    struct xds_resource resource = {0};
    if (type == XDS_AUTHORIZATION) {
        const Xds__Authorization *policy =
            (const Xds__Authorization *)unpack(&d, &xds__authorization__descriptor, body);
        if (policy != NULL) {
            xds_decode_policy(&d, policy, &resource);
        }
    } else {
        decode_address(&d, body, &resource);
    }
    if (!d.has_failed && !slice_eq(key_of(&resource), name)) {
        xds_fail(&d, "is what should be called '%.*s'", SLICE_ARG(key_of(&resource)));
    }
    if (d.has_failed) {
        return false;
    }
    *ret_resource = resource;
    return true;
}
