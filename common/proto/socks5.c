// SPDX-License-Identifier: Apache-2.0
#include "common/proto/socks5.h"

#include <string.h>

#include "common/base/cur.h"

enum {
    VERSION = 5,
    METHOD_NONE = 0, // no authentication
    METHOD_NO_ACCEPTABLE = 0xff,
    COMMAND_CONNECT = 1,
    TYPE_IPV4 = 1,
    TYPE_HOST = 3,
    TYPE_IPV6 = 4,
    LABEL_MAX = 63,
};

enum state {
    GREETING, // version, number of methods
    METHODS,
    REQUEST, // version, command, reserved, type of the address
    HOST_LEN,
    ADDRESS, // and port
    DONE,
};

static void expect(struct socks5 *socks, enum state state, size_t n) {
    socks->state = (uint8_t)state;
    socks->n_have = 0;
    socks->n_need = (uint16_t)n;
}

void socks5_init(struct socks5 *socks) {
    *socks = (struct socks5){0};
    expect(socks, GREETING, 2);
}

size_t socks5_need(const struct socks5 *socks) {
    return (size_t)socks->n_need - socks->n_have;
}

void socks5_reply(enum socks5_code code, uint8_t ret_reply[SOCKS5_REPLY_LEN]) {
    const uint8_t reply[SOCKS5_REPLY_LEN] = {VERSION, (uint8_t)code, 0, TYPE_IPV4};
    memcpy(ret_reply, reply, sizeof(reply));
}

static enum socks5_event refuse(struct socks5 *socks, const char *error) {
    socks->error = error;
    expect(socks, DONE, 0);
    return SOCKS5_REFUSED;
}

static enum socks5_event refuse_request(struct socks5 *socks, enum socks5_code code,
                                        const char *error) {
    socks5_reply(code, socks->reply);
    socks->n_reply = SOCKS5_REPLY_LEN;
    return refuse(socks, error);
}

static void reply_method(struct socks5 *socks, uint8_t method) {
    socks->reply[0] = VERSION;
    socks->reply[1] = method;
    socks->n_reply = 2;
}

static enum socks5_event on_greeting(struct socks5 *socks) {
    if (socks->bytes[0] != VERSION) {
        return refuse(socks, "not version 5");
    }
    if (socks->bytes[1] == 0) {
        reply_method(socks, METHOD_NO_ACCEPTABLE);
        return refuse(socks, "no authentication method");
    }
    expect(socks, METHODS, socks->bytes[1]);
    return SOCKS5_MORE;
}

static enum socks5_event on_methods(struct socks5 *socks) {
    if (memchr(socks->bytes, METHOD_NONE, socks->n_have) == NULL) {
        reply_method(socks, METHOD_NO_ACCEPTABLE);
        return refuse(socks, "the client insists on authentication");
    }
    reply_method(socks, METHOD_NONE);
    expect(socks, REQUEST, 4);
    return SOCKS5_METHOD;
}

static enum socks5_event on_request(struct socks5 *socks) {
    const uint8_t *bytes = socks->bytes;
    socks->n_reply = 0;
    if (bytes[0] != VERSION || bytes[2] != 0) {
        return refuse_request(socks, SOCKS5_GENERAL_FAILURE, "malformed request");
    }
    if (bytes[1] != COMMAND_CONNECT) {
        return refuse_request(socks, SOCKS5_BAD_COMMAND, "not the command CONNECT");
    }
    socks->type = bytes[3];
    switch (socks->type) {
    case TYPE_IPV4:
        expect(socks, ADDRESS, 4 + 2);
        return SOCKS5_MORE;
    case TYPE_IPV6:
        expect(socks, ADDRESS, 16 + 2);
        return SOCKS5_MORE;
    case TYPE_HOST:
        expect(socks, HOST_LEN, 1);
        return SOCKS5_MORE;
    default:
        return refuse_request(socks, SOCKS5_BAD_ADDRESS_TYPE, "unknown type of address");
    }
}

static enum socks5_event on_host_len(struct socks5 *socks) {
    if (socks->bytes[0] == 0) {
        return refuse_request(socks, SOCKS5_GENERAL_FAILURE, "empty host name");
    }
    expect(socks, ADDRESS, (size_t)socks->bytes[0] + 2);
    return SOCKS5_MORE;
}

// In lower case, '\0' for what no host name has.
static char host_char(uint8_t c) {
    if (c >= 'A' && c <= 'Z') {
        return (char)(c - 'A' + 'a');
    }
    bool is_good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    return is_good ? (char)c : '\0';
}

static bool take_host(struct socks5 *socks, struct slice text) {
    if (text.len > 1 && text.ptr[text.len - 1] == '.') {
        text = slice_head(text, text.len - 1);
    }
    if (text.len > SOCKS5_HOST_MAX) {
        return false;
    }
    size_t label = 0;
    for (size_t i = 0; i < text.len; i++) {
        bool is_dot = text.ptr[i] == '.';
        socks->host[i] = is_dot ? '.' : host_char(text.ptr[i]);
        if (socks->host[i] == '\0' || (is_dot && label == 0) || (!is_dot && label == LABEL_MAX)) {
            return false;
        }
        label = is_dot ? 0 : label + 1;
    }
    socks->host[text.len] = '\0';
    return label > 0;
}

static enum socks5_event on_address(struct socks5 *socks) {
    struct cur cur = cur_make(slice_make(socks->bytes, socks->n_have));
    struct slice address = cur_bytes(&cur, (size_t)socks->n_have - 2);
    socks->to.port = cur_u16(&cur);
    // Many clients send addresses as names.
    bool is_ip = socks->type == TYPE_HOST ? ip_parse(address, &socks->to.ip)
                                          : ip_from_bytes(address, &socks->to.ip);
    if (!is_ip && !take_host(socks, address)) {
        return refuse_request(socks, SOCKS5_GENERAL_FAILURE, "not a host name");
    }
    if (socks->to.port == 0) {
        return refuse_request(socks, SOCKS5_GENERAL_FAILURE, "no port");
    }
    expect(socks, DONE, 0);
    return SOCKS5_REQUEST;
}

enum socks5_event socks5_recv(struct socks5 *socks, struct slice bytes) {
    CHECK(bytes.len <= socks5_need(socks));
    if (bytes.len > 0) {
        memcpy(socks->bytes + socks->n_have, bytes.ptr, bytes.len);
        socks->n_have = (uint16_t)(socks->n_have + bytes.len);
    }
    if (socks->n_have < socks->n_need) {
        return SOCKS5_MORE;
    }
    switch ((enum state)socks->state) {
    case GREETING:
        return on_greeting(socks);
    case METHODS:
        return on_methods(socks);
    case REQUEST:
        return on_request(socks);
    case HOST_LEN:
        return on_host_len(socks);
    case ADDRESS:
        return on_address(socks);
    case DONE:
        break;
    }
    return SOCKS5_MORE;
}
