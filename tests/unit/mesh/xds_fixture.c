// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/mesh/xds_fixture.h"

static struct arena arena;
static bool has_arena;

ProtobufCBinaryData fx_bytes(const char *text) {
    return fx_raw(text, strlen(text));
}

ProtobufCBinaryData fx_raw(const void *ptr, size_t len) {
    return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)ptr};
}

struct slice fx_pack(const ProtobufCMessage *message) {
    if (!has_arena) {
        arena_init(&arena, SIZE_MAX);
        has_arena = true;
    }
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = arena_alloc(&arena, len + 1);
    assert_non_null(bytes);
    assert_int_equal(protobuf_c_message_pack(message, bytes), len);
    return slice_make(bytes, len);
}

void fx_unpack_all(void) {
    if (has_arena) {
        arena_fini(&arena);
        has_arena = false;
    }
}

struct slice fx_address(Xds__Workload *workload, Xds__Service *service) {
    Xds__Address address = XDS__ADDRESS__INIT;
    if (workload != NULL) {
        address.type_case = XDS__ADDRESS__TYPE_WORKLOAD;
        address.workload = workload;
    } else if (service != NULL) {
        address.type_case = XDS__ADDRESS__TYPE_SERVICE;
        address.service = service;
    }
    return FX_PACK(&address);
}

void fx_response_init(struct fx_response *response, enum xds_type type, const char *nonce) {
    memset(response, 0, sizeof(*response));
    xds__response__init(&response->message);
    response->message.type_url = fx_bytes(xds_type_url(type));
    response->message.nonce = fx_bytes(nonce);
    response->message.resources = response->list;
    response->message.removed_resources = response->removed;
}

void fx_response_add(struct fx_response *response, const char *name, const char *version,
                     struct slice body) {
    size_t i = response->message.n_resources++;
    assert_true(i < 64);
    Xds__Resource *resource = response->list[i] = &response->resources[i];
    xds__resource__init(resource);
    xds__any__init(&response->contents[i]);
    response->contents[i].type_url = response->message.type_url;
    response->contents[i].value = fx_raw(body.ptr, body.len);
    resource->name = fx_bytes(name);
    resource->version = fx_bytes(version);
    resource->resource = &response->contents[i];
    resource->aliases = response->aliases[i];
}

void fx_response_alias(struct fx_response *response, const char *alias) {
    Xds__Resource *resource = response->list[response->message.n_resources - 1];
    assert_true(resource->n_aliases < 2);
    resource->aliases[resource->n_aliases++] = fx_bytes(alias);
}

void fx_response_remove(struct fx_response *response, const char *name) {
    assert_true(response->message.n_removed_resources < 64);
    response->removed[response->message.n_removed_resources++] = fx_bytes(name);
}
