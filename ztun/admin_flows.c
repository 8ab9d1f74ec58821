// SPDX-License-Identifier: Apache-2.0
//
// Live flows: each worker appends its own to one list, one worker after the other, so that no two
// threads touch it at a time.
#include <stdlib.h>

#include "ztun/admin.h"
#include "ztun/admin_priv.h"
#include "ztun/control.h"

// ---- gathering ---------------------------------------------------------------------------------

static int by_pod(const void *a, const void *b) {
    const struct flow_info *x = a, *y = b;
    int order = strcmp(x->pod_uid, y->pod_uid);
    return order != 0 ? order : (x->id > y->id) - (x->id < y->id);
}

static void ask_next(struct admin_flows *flows) {
    struct ztun *ztun = flows->control->ztun;
    if (flows->n_asked < ztun->n_workers) {
        struct zworker *worker = ztun->workers[flows->n_asked++];
        zworker_send_list(worker, &flows->mail, &flows->list);
        return;
    }
    if (flows->list.n_items > 0) {
        qsort(flows->list.items, flows->list.n_items, sizeof(struct flow_info), by_pod);
    }
    flows->done(flows);
}

static void on_listed(struct mail *mail, void *owner) {
    (void)owner;
    ask_next(CONTAINER_OF(mail, struct admin_flows, mail));
}

void admin_flows_gather(struct control *control, struct http_exchange *exchange,
                        const struct http_query *query, void (*done)(struct admin_flows *flows)) {
    struct admin_flows *flows = xcalloc(1, sizeof(*flows));
    flows->mail.fn = on_listed;
    flows->control = control;
    flows->exchange = exchange;
    flows->query = query;
    flows->done = done;
    uint64_t max = ADMIN_FLOWS_MAX;
    struct slice limit;
    if (http_query_get(query->query, "limit", &limit)) {
        (void)slice_to_u64(limit, ADMIN_FLOWS_MAX, &max); // anything else: the default
    }
    flow_list_init(&flows->list, max);
    ask_next(flows);
}

void admin_flows_free(struct admin_flows *flows) {
    flow_list_fini(&flows->list);
    free(flows);
}

// ---- as JSON -----------------------------------------------------------------------------------

const char *admin_flow_protocol(const struct flow_info *flow) {
    return flow->kind == FLOW_INBOUND_HBONE || (flow->kind == FLOW_OUTBOUND && flow->is_mtls)
               ? "HBONE"
               : "TCP";
}

static void put_addr(struct json_out *out, const char *key, const struct addr *addr) {
    char text[ADDR_TEXT_MAX];
    json_out_kv_str(out, key, ip_is_set(&addr->ip) ? addr_text(addr, text) : "");
}

static void put_pod_flow(struct json_out *out, const struct flow_info *flow) {
    bool is_outbound = flow->kind == FLOW_OUTBOUND;
    bool is_tunnelled = is_outbound && ip_is_set(&flow->hbone_addr.ip);
    json_out_begin_object(out);
    put_addr(out, "src", &flow->src);
    if (is_outbound) {
        put_addr(out, "originalDst", &flow->dst);
    } else {
        json_out_kv_str(out, "originalDst", flow->service);
    }
    put_addr(out, "actualDst", is_tunnelled ? &flow->hbone_addr : &flow->target);
    json_out_kv_str(out, "protocol", admin_flow_protocol(flow));
    json_out_end(out);
}

static size_t first_of_pod(const struct flow_list *list, const char *pod_uid) {
    size_t low = 0, high = list->n_items;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(list->items[mid].pod_uid, pod_uid) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

void admin_write_pod_flows(struct json_out *out, const struct flow_list *list,
                           const char *pod_uid) {
    json_out_begin_object(out);
    for (int pass = 0; pass < 2; pass++) {
        json_out_kv_array(out, pass == 0 ? "inbound" : "outbound");
        for (size_t i = first_of_pod(list, pod_uid);
             i < list->n_items && strcmp(list->items[i].pod_uid, pod_uid) == 0; i++) {
            if ((list->items[i].kind == FLOW_OUTBOUND) == (pass == 1)) {
                put_pod_flow(out, &list->items[i]);
            }
        }
        json_out_end(out);
    }
    json_out_end(out);
}

static void put_flow(struct json_out *out, const struct flow_info *flow) {
    json_out_begin_object(out);
    json_out_kv_u64(out, "id", flow->id);
    json_out_kv_str(out, "pod", flow->pod_uid);
    json_out_kv_str(out, "direction", flow->kind == FLOW_OUTBOUND ? "outbound" : "inbound");
    json_out_kv_str(out, "protocol", admin_flow_protocol(flow));
    json_out_kv_str(out, "state", flow->is_joined ? "established" : "connecting");
    json_out_kv_u64(out, "ageMs", flow->age_ns / NS_PER_MS);
    json_out_kv_u64(out, "bytesSent", flow->bytes_sent);
    json_out_kv_u64(out, "bytesReceived", flow->bytes_received);
    put_addr(out, "src", &flow->src);
    put_addr(out, "dst", &flow->dst);
    put_addr(out, "target", &flow->target);
    put_addr(out, "hboneAddr", &flow->hbone_addr);
    json_out_kv_str(out, "source", flow->source);
    json_out_kv_str(out, "destination", flow->destination);
    json_out_kv_str(out, "service", flow->service);
    json_out_kv_str(out, "peerIdentity", flow->peer_identity);
    json_out_kv_bool(out, "mtls", flow->is_mtls);
    json_out_end(out);
}

static void answer_connections(struct admin_flows *flows) {
    struct json_out out;
    struct buf body;
    buf_init(&body, PROC_ADMIN_BODY_MAX);
    proc_admin_json_init(&out, &body, flows->query);
    json_out_begin_object(&out);
    json_out_kv_array(&out, "connections");
    for (size_t i = 0; i < flows->list.n_items; i++) {
        put_flow(&out, &flows->list.items[i]);
    }
    json_out_end(&out);
    json_out_kv_u64(&out, "skipped", flows->list.n_skipped);
    json_out_end(&out);
    proc_admin_reply(flows->exchange, flows->query, 200, "application/json", &body);
    admin_flows_free(flows);
}

void admin_connections(void *arg, struct http_exchange *exchange, const struct http_query *query) {
    admin_flows_gather(arg, exchange, query, answer_connections);
}
