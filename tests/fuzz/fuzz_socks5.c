// SPDX-License-Identifier: Apache-2.0
//
// A SOCKS5 handshake says the same however it was cut into pieces, and takes nothing behind the
// request.
#include <stdlib.h>
#include <string.h>

#include "common/proto/socks5.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static enum socks5_event feed(struct socks5 *socks, const uint8_t *data, size_t len, size_t step,
                              size_t *ret_taken) {
    enum socks5_event event = SOCKS5_MORE;
    size_t at = 0;
    socks5_init(socks);
    while (at < len && event != SOCKS5_REQUEST && event != SOCKS5_REFUSED) {
        size_t need = socks5_need(socks), n = MIN(MIN(need, step), len - at);
        CHECK(need > 0 && need <= SOCKS5_NEED_MAX);
        event = socks5_recv(socks, slice_make(data + at, n));
        at += n;
    }
    *ret_taken = at;
    return event;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct socks5 whole, bytes;
    size_t n_whole, n_bytes;
    enum socks5_event event = feed(&whole, data, len, SIZE_MAX, &n_whole);
    CHECK(event == feed(&bytes, data, len, 1, &n_bytes) && n_whole == n_bytes);
    CHECK(strcmp(whole.host, bytes.host) == 0 && addr_eq(&whole.to, &bytes.to));
    CHECK(whole.n_reply == bytes.n_reply && memcmp(whole.reply, bytes.reply, whole.n_reply) == 0);
    bool is_done = event == SOCKS5_REQUEST || event == SOCKS5_REFUSED;
    CHECK(is_done == (socks5_need(&whole) == 0));
    CHECK(event != SOCKS5_REFUSED || whole.error != NULL);
    if (event == SOCKS5_REQUEST) {
        CHECK(whole.to.port != 0 && ip_is_set(&whole.to.ip) == (whole.host[0] == '\0'));
        CHECK(strlen(whole.host) <= SOCKS5_HOST_MAX && strstr(whole.host, "..") == NULL);
    }
    return 0;
}
