// SPDX-License-Identifier: Apache-2.0
//
// The mesh of scale_probe.c as istiod would send it to a ztunnel: DeltaDiscoveryResponses of
// istio.workload.Address, encoded by hand. Endpoints follow their service.
#pragma once

#include "bench/tools/load.h"
#include "common/base/buf.h"

#define XDS_ADDRESS_URL "type.googleapis.com/istio.workload.Address"

enum { XDS_MESH_NAMESPACES = 100, XDS_MESH_TEXT = 192 };

struct xds_mesh {
    uint64_t n_services, n_endpoints;
};

// ---- Protocol Buffers

static void pb_varint(struct buf *out, uint64_t value) {
    for (; value > 127; value >>= 7) {
        buf_append_byte(out, (uint8_t)(value | 128));
    }
    buf_append_byte(out, (uint8_t)value);
}

static void pb_int(struct buf *out, uint32_t field, uint64_t value) {
    pb_varint(out, (uint64_t)field << 3);
    pb_varint(out, value);
}

static void pb_bytes(struct buf *out, uint32_t field, struct slice bytes) {
    pb_varint(out, (uint64_t)field << 3 | 2);
    pb_varint(out, bytes.len);
    buf_append(out, bytes);
}

PRINTF_LIKE(3, 4) static void pb_text(struct buf *out, uint32_t field, const char *fmt, ...) {
    char text[XDS_MESH_TEXT];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    pb_bytes(out, field, slice_make(text, (size_t)len));
}

static void pb_address(struct buf *out, uint32_t field, uint8_t net, uint64_t number) {
    uint8_t ip[4] = {net, (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number};
    pb_bytes(out, field, slice_make(ip, sizeof(ip)));
}

// A message within a message: what was appended behind `at` becomes the field.
static void pb_wrap(struct buf *out, size_t at, uint32_t field) {
    struct buf body;
    buf_init(&body, SIZE_MAX);
    buf_append(&body, slice_skip(buf_slice(out), at));
    buf_truncate(out, at);
    pb_bytes(out, field, buf_slice(&body));
    buf_fini(&body);
}

// ---- Resources

static void xds_mesh_port(struct buf *out, uint32_t field) {
    size_t at = out->len;
    pb_int(out, 1, 80);
    pb_int(out, 2, 8080);
    pb_wrap(out, at, field);
}

static void xds_mesh_workload(struct buf *out, const struct xds_mesh *mesh, uint64_t i,
                              uint64_t version) {
    uint64_t app = i % mesh->n_services;
    size_t at = out->len;
    pb_text(out, 1, "app%lu-5d4f8c7b9f-%06lu", app, i);
    pb_text(out, 2, "ns%lu", app % XDS_MESH_NAMESPACES);
    pb_address(out, 3, 11, i);
    pb_int(out, 5, 1); // HBONE
    pb_text(out, 7, "app%lu", app);
    pb_text(out, 9, "far%lu", i % 1000);
    pb_text(out, 10, "app%lu", app);
    pb_text(out, 11, "v%lu", version);
    pb_text(out, 13, "app%lu", app);
    pb_text(out, 18, "Kubernetes");
    pb_text(out, 20, "Kubernetes//Pod/ns%lu/app%lu-5d4f8c7b9f-%06lu", app % XDS_MESH_NAMESPACES,
            app, i);
    size_t services = out->len;
    pb_text(out, 1, "ns%lu/app%lu.ns%lu.svc.cluster.local", app % XDS_MESH_NAMESPACES, app,
            app % XDS_MESH_NAMESPACES);
    size_t ports = out->len;
    xds_mesh_port(out, 1);
    pb_wrap(out, ports, 2);
    pb_wrap(out, services, 22);
    pb_wrap(out, at, 1);
}

static void xds_mesh_service(struct buf *out, uint64_t i) {
    size_t at = out->len;
    pb_text(out, 1, "app%lu", i);
    pb_text(out, 2, "ns%lu", i % XDS_MESH_NAMESPACES);
    pb_text(out, 3, "app%lu.ns%lu.svc.cluster.local", i, i % XDS_MESH_NAMESPACES);
    size_t vip = out->len;
    pb_address(out, 2, 12, i);
    pb_wrap(out, vip, 4);
    xds_mesh_port(out, 5);
    pb_int(out, 11, 1); // canonical
    pb_wrap(out, at, 2);
}

// A Resource of the response; `body` is an Address.
static void xds_mesh_resource(struct buf *out, const struct buf *body, const char *name,
                              const char *alias, uint64_t version) {
    size_t at = out->len;
    pb_text(out, 1, "%016lx", version * 0x9e3779b97f4a7c15 + out->len); // istiod's are hashes
    size_t any = out->len;
    pb_bytes(out, 1, SLICE_LIT(XDS_ADDRESS_URL));
    pb_bytes(out, 2, buf_slice(body));
    pb_wrap(out, any, 2);
    pb_text(out, 3, "%s", name);
    pb_text(out, 4, "%s", alias);
    pb_wrap(out, at, 2);
}

static void xds_mesh_add_service(struct buf *out, uint64_t i) {
    char name[XDS_MESH_TEXT], alias[64];
    struct buf body;
    buf_init(&body, SIZE_MAX);
    xds_mesh_service(&body, i);
    snprintf(name, sizeof(name), "ns%lu/app%lu.ns%lu.svc.cluster.local", i % XDS_MESH_NAMESPACES, i,
             i % XDS_MESH_NAMESPACES);
    snprintf(alias, sizeof(alias), "/12.%lu.%lu.%lu", i >> 16, (i >> 8) & 255, i & 255);
    xds_mesh_resource(out, &body, name, alias, 1);
    buf_fini(&body);
}

static void xds_mesh_add_workload(struct buf *out, const struct xds_mesh *mesh, uint64_t i,
                                  uint64_t version) {
    char name[XDS_MESH_TEXT], alias[64];
    uint64_t app = i % mesh->n_services;
    struct buf body;
    buf_init(&body, SIZE_MAX);
    xds_mesh_workload(&body, mesh, i, version);
    snprintf(name, sizeof(name), "Kubernetes//Pod/ns%lu/app%lu-5d4f8c7b9f-%06lu",
             app % XDS_MESH_NAMESPACES, app, i);
    snprintf(alias, sizeof(alias), "/11.%lu.%lu.%lu", i >> 16, (i >> 8) & 255, i & 255);
    xds_mesh_resource(out, &body, name, alias, version);
    buf_fini(&body);
}

// ---- Responses; appended to `out`, which the caller frees.

static void xds_mesh_end(struct buf *out, const char *type_url, uint64_t nonce) {
    pb_text(out, 4, "%s", type_url);
    pb_text(out, 5, "%lu", nonce);
}

LOAD_UNUSED static void xds_mesh_all(struct buf *out, const struct xds_mesh *mesh, uint64_t nonce) {
    for (uint64_t i = 0; i < mesh->n_services; i++) {
        xds_mesh_add_service(out, i);
        for (uint64_t pod = i; pod < mesh->n_endpoints; pod += mesh->n_services) {
            xds_mesh_add_workload(out, mesh, pod, 1);
        }
    }
    xds_mesh_end(out, XDS_ADDRESS_URL, nonce);
}

// Change number `i`: one endpoint has another canonical revision.
LOAD_UNUSED static void xds_mesh_change(struct buf *out, const struct xds_mesh *mesh, uint64_t i,
                                        uint64_t nonce) {
    xds_mesh_add_workload(out, mesh, i * 7919 % mesh->n_endpoints, 2 + i / mesh->n_endpoints);
    xds_mesh_end(out, XDS_ADDRESS_URL, nonce);
}
