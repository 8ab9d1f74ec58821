// SPDX-License-Identifier: Apache-2.0
//
// WebSockets between versions of HTTP. The handshake of HTTP/1.1 (RFC 6455 4) proves with a key
// that the server has understood; that of HTTP/2 (RFC 8441 5) needs none. Between equal versions
// the handshake is the ends' own and passes untouched. Between different ones a client that has
// sent a key gets the proof, whatever the server says; a server of HTTP/1.1 gets the client's key,
// or one that is made here, and its proof is checked. Towards HTTP/2 a key is passed on: it means
// nothing there, but there may be a proxy that needs it for HTTP/1.1 behind it.
//
// Thread: the worker's.
#pragma once

#include "common/base/slice.h"
#include "common/l7/l7_fields.h"
#include "common/net/http_conn.h"

struct exchange;

enum {
    WEBSOCKET_KEY_LEN = 24, // base64 of 16 bytes
    WEBSOCKET_PROOF_LEN = 28, // base64 of SHA-1
};

// Sec-WebSocket-Key of 16 random bytes.
void websocket_key(const uint8_t random[16], char ret_key[WEBSOCKET_KEY_LEN]);
bool websocket_key_is_valid(struct slice key);
// Sec-WebSocket-Accept for a key.
void websocket_proof(struct slice key, char ret_proof[WEBSOCKET_PROOF_LEN]);

// The handshake for the connection of this try, which knows its peer's SETTINGS. False: it cannot
// be, and the exchange has been answered (it may be gone).
bool websocket_request(struct exchange *ex, const struct http_conn *conn);
// The head of the answer: a refusal passes; false: it is neither that nor an acceptance.
bool websocket_response_ok(const struct exchange *ex, const struct http_head *head);
// What the client's version says in the head of an acceptance (101).
void websocket_response(const struct exchange *ex, const struct http_head *head,
                        struct l7_fields *fields);
