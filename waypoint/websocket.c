// SPDX-License-Identifier: Apache-2.0
#include "waypoint/websocket.h"

#include <openssl/base64.h>
#include <openssl/sha.h>

#include "waypoint/exchange.h"

#define KEY SLICE_LIT("sec-websocket-key")
#define PROOF SLICE_LIT("sec-websocket-accept")

void websocket_key(const uint8_t random[16], char ret_key[WEBSOCKET_KEY_LEN]) {
    uint8_t text[WEBSOCKET_KEY_LEN + 1]; // with NUL
    EVP_EncodeBlock(text, random, 16);
    memcpy(ret_key, text, WEBSOCKET_KEY_LEN);
}

bool websocket_key_is_valid(struct slice key) {
    uint8_t bytes[WEBSOCKET_KEY_LEN / 4 * 3];
    size_t len = 0;
    return key.len == WEBSOCKET_KEY_LEN &&
           EVP_DecodeBase64(bytes, &len, sizeof(bytes), key.ptr, key.len) == 1 && len == 16;
}

void websocket_proof(struct slice key, char ret_proof[WEBSOCKET_PROOF_LEN]) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // RFC 6455 1.3
    uint8_t digest[SHA_DIGEST_LENGTH];
    SHA_CTX sha;
    SHA1_Init(&sha);
    SHA1_Update(&sha, key.ptr, key.len);
    SHA1_Update(&sha, guid, sizeof(guid) - 1);
    SHA1_Final(digest, &sha);
    uint8_t text[WEBSOCKET_PROOF_LEN + 1]; // with NUL
    EVP_EncodeBlock(text, digest, sizeof(digest));
    memcpy(ret_proof, text, WEBSOCKET_PROOF_LEN);
}

static bool is_h2_down(const struct exchange *ex) {
    return ex->received.version == HTTP_2;
}

static struct slice client_key(const struct exchange *ex) {
    const struct http_field *field =
        l7_fields_find(ex->received.fields, ex->received.n_fields, KEY);
    return field != NULL ? field->value : (struct slice){0};
}

bool websocket_request(struct exchange *ex, const struct http_conn *conn) {
    ex->is_h2_up = conn->version == HTTP_CONN_2;
    if (ex->is_h2_up && !http_conn_takes_upgrade(conn)) {
        // RFC 8441 3: to a server that has not announced it, it must not be sent.
        exchange_reply_reset(ex, L7_RESET_PROTOCOL_ERROR, "no WebSockets over HTTP/2");
        return false;
    }
    if (ex->is_h2_up == is_h2_down(ex)) {
        return true;
    }
    if (ex->is_h2_up) {
        if (!websocket_key_is_valid(client_key(ex))) {
            exchange_reply_kind(ex, L7_REPLY_BAD_REQUEST); // RFC 6455 4.2.1
            return false;
        }
        return true;
    }
    if (websocket_key_is_valid(client_key(ex))) {
        memcpy(ex->websocket_key, client_key(ex).ptr, WEBSOCKET_KEY_LEN);
    } else {
        uint8_t random[16];
        rand_bytes(&ex->http->worker->rand, random, sizeof(random));
        websocket_key(random, ex->websocket_key);
    }
    l7_fields_set(&ex->fields, KEY, slice_make(ex->websocket_key, WEBSOCKET_KEY_LEN));
    ex->request.fields = ex->fields.items;
    ex->request.n_fields = ex->fields.n;
    return true;
}

bool websocket_response_ok(const struct exchange *ex, const struct http_head *head) {
    if (head->status != 101) {
        // To a client of HTTP/2 any 2xx would be an acceptance (RFC 9113 8.5).
        return !is_h2_down(ex) || head->status < 200 || head->status > 299;
    }
    if (!is_h2_down(ex) || ex->is_h2_up) {
        return true; // the client checks it, or nobody has to
    }
    char proof[WEBSOCKET_PROOF_LEN];
    websocket_proof(slice_make(ex->websocket_key, WEBSOCKET_KEY_LEN), proof);
    const struct http_field *field = l7_fields_find(head->fields, head->n_fields, PROOF);
    return field != NULL && slice_eq(field->value, slice_make(proof, sizeof(proof)));
}

void websocket_response(const struct exchange *ex, const struct http_head *head,
                        struct l7_fields *fields) {
    if (head->status != 101 || ex->is_h2_up == is_h2_down(ex)) {
        return;
    }
    if (!websocket_key_is_valid(client_key(ex))) {
        l7_fields_remove(fields, PROOF); // it asked for none
        return;
    }
    char proof[WEBSOCKET_PROOF_LEN];
    websocket_proof(client_key(ex), proof);
    struct slice copy = l7_fields_printf(fields, "%.*s", (int)sizeof(proof), proof);
    l7_fields_set(fields, PROOF, copy);
}
