// SPDX-License-Identifier: Apache-2.0
//
// TLS 1.3 record layer (RFC 8446 section 5), in place, after a handshake by BoringSSL; and that of
// TLS 1.2, for servers outside of the mesh.
//
// Pure: no fds, clock, log or randomness. One tls_record per connection holds both directions'
// traffic keys and sequence numbers; it is a plain value that can be exported to a successor.
//
// Seal: each plaintext segment with >= 5 bytes headroom and >= 17 tailroom is encrypted where it
// lies and becomes one record (<= 2^14 bytes of plaintext); neighbouring small segments are copied
// together into one record. Open: whole records are decrypted where they were received.
#pragma once

#include "common/base/chain.h"
#include "common/base/slice.h"

// X-macro table tls_err.def: TLS_ERR(name, alert code or -1, metric label, text).
enum tls_err {
#define TLS_ERR(name, alert, label, text) TLS_##name,
#include "common/tls/tls_err.def"
#undef TLS_ERR
};
enum { // how many there are, for tables
    TLS_N_ERRS = 0
#define TLS_ERR(name, alert, label, text) +1
#include "common/tls/tls_err.def"
#undef TLS_ERR
};
const char *tls_err_label(enum tls_err err);
const char *tls_err_text(enum tls_err err);
int tls_err_alert(enum tls_err err); // alert description to send, -1 = none

enum tls_suite { TLS_SUITE_AES_128_GCM_SHA256 = 0x1301, TLS_SUITE_AES_256_GCM_SHA384 = 0x1302 };

struct tls_record;

// Starts from the application traffic secrets (32 or 48 bytes by suite) and next sequence numbers.
// Returns NULL for an unknown suite or a wrong secret length. Secrets are copied (and wiped on
// free).
struct tls_record *tls_record_new(enum tls_suite suite, struct slice read_secret, uint64_t read_seq,
                                  struct slice write_secret, uint64_t write_seq);
void tls_record_free(struct tls_record *record); // NULL ok; wipes keys

// TLS 1.2 with an AEAD, of a client towards a server outside of the mesh: the same object from then
// on, but for updates of keys, which there are none of, and the hand-over, which it has not. A
// request for another handshake is an error.
enum tls_aead_12 { TLS_12_AES_128_GCM, TLS_12_AES_256_GCM, TLS_12_CHACHA20_POLY1305 };
size_t tls_record_12_key_len(enum tls_aead_12 aead);
size_t tls_record_12_iv_len(enum tls_aead_12 aead); // of the part that is not in records
struct tls_keys_12 { // copied
    enum tls_aead_12 aead;
    struct slice read_key, read_iv, write_key, write_iv;
    uint64_t read_seq, write_seq; // of the next records
};
// NULL: a key or an IV of the wrong length. `suite`: its number, for tls_record_suite.
struct tls_record *tls_record_new_12(uint16_t suite, const struct tls_keys_12 *keys);

// Moves plaintext from `plain` to records in `out` (same pool), about `budget` bytes. Queues our
// own KeyUpdate before `key_update_records` (default 2^23) records went out under one key, and asks
// the peer for one when it sent as many. Bytes of a segment that has no room of its own are never
// written to (they may be shared): they are encrypted into a fresh block. Returns bytes appended to
// out.
size_t tls_record_seal(struct tls_record *record, struct chain *plain, struct chain *out,
                       size_t budget);
// Queues an alert record (close_notify: TLS_OK) directly to `out`; nothing can be sealed after it.
void tls_record_close(struct tls_record *record, enum tls_err err, struct chain *out);

// Result of opening one record.
enum tls_open {
    TLS_OPEN_MORE, // no whole record: *ret_need = bytes the record at the front has in all (0 =
                   // header incomplete)
    TLS_OPEN_DATA, // application data at [ret_off, ret_off + ret_len) in the input
    TLS_OPEN_NONE, // a record was consumed that carries none (post-handshake message, empty record)
    TLS_OPEN_CLOSED, // close_notify: the clean end of the peer's side
    TLS_OPEN_ERROR, // tls_record_error() says which; send its alert and reset
};
// Looks at in[0, len): decrypts the first record in place. *ret_used = its size when consumed.
// A KeyUpdate(update_requested) makes tls_record_wants_write() true: call tls_record_seal.
enum tls_open tls_record_open(struct tls_record *record, uint8_t *in, size_t len, size_t *ret_used,
                              size_t *ret_off, size_t *ret_len, size_t *ret_need);
enum tls_err tls_record_error(const struct tls_record *record);
bool tls_record_wants_write(const struct tls_record *record); // a KeyUpdate waits to be sealed
bool tls_record_is_write_closed(const struct tls_record *record);

// Tests and long-lived tunnels: rotate our key now; set the automatic limit.
void tls_record_key_update(struct tls_record *record, bool request_peer);
void tls_record_set_key_update_limit(struct tls_record *record, uint64_t n_records);

// Tells the layer that it is the server's: a NewSessionTicket is unexpected then.
// tls_handshake_take does it.
void tls_record_set_server(struct tls_record *record);
// What an end of the transport's input means here: TLS_OK after close_notify or after an error that
// was reported already, else TLS_TRUNCATED (a cut connection must not look complete).
enum tls_err tls_record_eof(const struct tls_record *record);

struct tls_record_stats { // counts under the present keys
    uint64_t read_seq, write_seq;
    uint32_t n_read_updates, n_write_updates; // KeyUpdates received, sent
};
void tls_record_stats(const struct tls_record *record, struct tls_record_stats *ret_stats);
enum tls_suite tls_record_suite(const struct tls_record *record);

// Hand-over to a successor process. Contains secrets: the buffer is the caller's to wipe.
struct buf;
// False for a record in error, and with TLS 1.2: such connections are not handed over.
MUST_USE bool tls_record_export(const struct tls_record *record, struct buf *out);
struct tls_record *tls_record_import(struct slice bytes); // NULL: malformed
