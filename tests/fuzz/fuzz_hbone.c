// SPDX-License-Identifier: Apache-2.0
//
// CONNECT heads from arbitrary peers. Byte 0: request or response; then lines "name=value". What
// was read from a request is written and read again, with the same meaning.
#include <stdlib.h>

#include "common/proto/hbone.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { MAX_FIELDS = 16 };

static void must(bool ok) {
    if (!ok) {
        abort();
    }
}

static void check_slice(struct slice slice, const uint8_t *data, size_t len, const char *scratch) {
    const uint8_t *low = (const uint8_t *)scratch;
    bool in_data = slice.ptr >= data && slice.ptr + slice.len <= data + len;
    bool in_scratch = slice.ptr >= low && slice.ptr + slice.len <= low + HBONE_BAGGAGE_MAX;
    must(slice.len == 0 || in_data || in_scratch);
}

static void check_request(const struct hbone_connect *connect, const uint8_t *data, size_t len,
                          const char *scratch) {
    check_slice(connect->host, data, len, scratch);
    check_slice(connect->network, data, len, scratch);
    check_slice(connect->baggage.ns, data, len, scratch);
    check_slice(connect->baggage.zone, data, len, scratch);
    must(connect->target.addr.port != 0);
    struct hbone_head head;
    must(hbone_connect_build(connect, &head));
    char scratch2[HBONE_BAGGAGE_MAX];
    struct hbone_connect again;
    must(hbone_connect_parse(head.fields, head.n_fields, scratch2, &again) == HBONE_OK);
    must(addr_eq(&again.target.addr, &connect->target.addr));
    must(slice_eq(again.target.host, connect->target.host));
    must(slice_eq(again.host, connect->host));
    must(slice_eq(again.network, connect->network));
    must(ip_eq(&again.source.ip, &connect->source.ip));
    must(again.has_trace == connect->has_trace);
    // Items at the end may have been left out; what is there is the same.
    must(again.baggage.cluster.len == 0 ||
         slice_eq(again.baggage.cluster, connect->baggage.cluster));
    must(again.baggage.zone.len == 0 || slice_eq(again.baggage.zone, connect->baggage.zone));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    if (len < 1) {
        return 0;
    }
    struct http_field fields[MAX_FIELDS];
    size_t n_fields = 0;
    struct slice rest = slice_make(data + 1, len - 1);
    while (rest.len > 0 && n_fields < MAX_FIELDS) {
        struct slice line = rest, name = {0}, value = {0};
        if (!slice_split(rest, '\n', &line, &rest)) {
            rest.len = 0;
        }
        if (slice_split(line, '=', &name, &value)) {
            fields[n_fields++] = (struct http_field){.name = name, .value = value};
        }
    }
    char scratch[HBONE_BAGGAGE_MAX];
    if ((data[0] & 1) != 0) {
        struct hbone_baggage baggage;
        uint16_t status = hbone_response_parse(fields, n_fields, scratch, &baggage);
        must(status == 0 || (status >= 100 && status <= 999));
        check_slice(baggage.ns, data, len, scratch);
        return 0;
    }
    struct hbone_connect connect;
    if (hbone_connect_parse(fields, n_fields, scratch, &connect) == HBONE_OK) {
        check_request(&connect, data, len, scratch);
    }
    return 0;
}
