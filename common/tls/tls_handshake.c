// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls_handshake.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pool.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/tls/tls_ctx_priv.h"
#include "common/tls/tls_err_priv.h"
#include "common/tls/tls_secrets.h"
#include "common/tls/tls_shares_priv.h"
#include "common/tls/tls_verify_priv.h"

enum { INPUT_MAX = 96 * 1024 }; // of one handshake, in all

struct tls_handshake {
    struct tls_ctx *ctx;
    SSL *ssl; // NULL after the end
    bool is_server;
    bool has_begun;
    bool is_verified; // the peer was accepted
    enum tls_step step;
    enum tls_err err;
    size_t n_input;
    // Set for the time of one tls_handshake_recv.
    struct slice in;
    struct chain *out;
    int64_t now_s;
    // The result.
    struct tls_record *record;
    struct tls_peer peer;
    bool is_h2;
    uint8_t *rest;
    size_t rest_len;
    char detail[TLS_DETAIL_MAX];
    // Client: whom it talks to, as tls_shares_priv.h has it, and what the hello brought.
    uint64_t server;
    struct tls_shares shares;
    // Client: identities of which the server must have one; texts behind the array.
    size_t n_expected;
    struct slice expected[];
};

static const uint8_t alpn_h2[] = {2, 'h', '2'};
static const uint8_t alpn_any[] = {2, 'h', '2', 8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
static const uint8_t alpn_http1[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

static struct tls_handshake *hs_of(const SSL *ssl) {
    return SSL_get_app_data(ssl);
}

// ---- BIO: reads from the caller's input, writes to the caller's chain

static int bio_read(BIO *bio, char *dst, int len) {
    struct tls_handshake *hs = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (hs->in.len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t n = MIN((size_t)len, hs->in.len);
    memcpy(dst, hs->in.ptr, n);
    hs->in = slice_skip(hs->in, n);
    return (int)n;
}

static int bio_write(BIO *bio, const char *src, int len) {
    struct tls_handshake *hs = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    chain_copy(hs->out, slice_make(src, (size_t)len));
    return len;
}

static long bio_ctrl(BIO *bio, int cmd, long arg, void *ptr) {
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *bio_method;

static void bio_method_init(void) {
    bio_method = BIO_meth_new(0, NULL);
    CHECK(bio_method != NULL);
    CHECK(BIO_meth_set_read(bio_method, bio_read) == 1);
    CHECK(BIO_meth_set_write(bio_method, bio_write) == 1);
    CHECK(BIO_meth_set_ctrl(bio_method, bio_ctrl) == 1);
}

static BIO *bio_new(struct tls_handshake *hs) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, bio_method_init);
    BIO *bio = BIO_new(bio_method);
    CHECK(bio != NULL);
    BIO_set_data(bio, hs);
    BIO_set_init(bio, 1);
    return bio;
}

// ---- Callbacks of the SSL_CTX

static bool is_h2_selected(const SSL *ssl) {
    const uint8_t *proto;
    unsigned len;
    SSL_get0_alpn_selected(ssl, &proto, &len);
    return len == 2 && memcmp(proto, alpn_h2 + 1, 2) == 0;
}

static int on_alpn_select(SSL *ssl, const uint8_t **ret_proto, uint8_t *ret_len, const uint8_t *in,
                          unsigned len, void *arg) {
    uint8_t *proto;
    if (SSL_select_next_proto(&proto, ret_len, alpn_h2, sizeof(alpn_h2), in, len) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *ret_proto = proto;
    return SSL_TLSEXT_ERR_OK;
}

static size_t peer_certs(const SSL *ssl, struct slice certs[TLS_CHAIN_MAX + 1]) {
    const STACK_OF(CRYPTO_BUFFER) *list = SSL_get0_peer_certificates(ssl);
    size_t n = list != NULL ? sk_CRYPTO_BUFFER_num(list) : 0;
    n = MIN(n, (size_t)TLS_CHAIN_MAX + 1);
    for (size_t i = 0; i < n; i++) {
        const CRYPTO_BUFFER *cert = sk_CRYPTO_BUFFER_value(list, i);
        certs[i] = slice_make(CRYPTO_BUFFER_data(cert), CRYPTO_BUFFER_len(cert));
    }
    return n;
}

static enum tls_err verify_outside(struct tls_handshake *hs, const SSL *ssl) {
    struct slice certs[TLS_CHAIN_MAX + 1];
    size_t n = peer_certs(ssl, certs);
    if (hs->ctx->skips_verify) {
        return TLS_OK;
    }
    return tls_verify_outside(hs->ctx->trust, certs, n, hs->now_s, hs->expected, hs->n_expected,
                              hs->detail);
}

static enum tls_err verify_peer(struct tls_handshake *hs, const SSL *ssl) {
    struct slice certs[TLS_CHAIN_MAX + 1];
    size_t n = peer_certs(ssl, certs);
    // Settled by now on both sides: the client's hello or EncryptedExtensions came before.
    if (!is_h2_selected(ssl)) {
        return TLS_NO_ALPN;
    }
    struct tls_chain *chain = NULL;
    enum tls_err err =
        tls_verify_chain(hs->ctx, !hs->is_server, certs, n, hs->now_s, &chain, hs->detail);
    if (err != TLS_OK) {
        return err;
    }
    err = tls_verify_identity(hs->ctx, chain, hs->expected, hs->n_expected, hs->detail);
    if (err != TLS_OK) {
        tls_chain_unref(chain);
        return err;
    }
    tls_chain_fill_peer(chain, &hs->peer);
    return TLS_OK;
}

static enum ssl_verify_result_t on_verify(SSL *ssl, uint8_t *ret_alert) {
    struct tls_handshake *hs = hs_of(ssl);
    // One Certificate message a handshake.
    hs->err = hs->is_verified       ? TLS_UNEXPECTED_MESSAGE
              : hs->ctx->is_outside ? verify_outside(hs, ssl)
                                    : verify_peer(hs, ssl);
    if (hs->err == TLS_OK) {
        hs->is_verified = true;
        return ssl_verify_ok;
    }
    *ret_alert = (uint8_t)tls_err_alert(hs->err);
    return ssl_verify_invalid;
}

void tls_handshake_set_callbacks(SSL_CTX *ssl, bool is_outside) {
    SSL_CTX_set_custom_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
    if (is_outside) {
        return; // each connection has its own ALPN
    }
    SSL_CTX_set_alpn_select_cb(ssl, on_alpn_select, NULL);
    CHECK(SSL_CTX_set_alpn_protos(ssl, alpn_h2, sizeof(alpn_h2)) == 0);
}

// ---- Life

static struct tls_handshake *hs_new(struct tls_ctx *ctx, bool is_server,
                                    const struct slice *expected, size_t n_expected) {
    size_t size = sizeof(struct tls_handshake) + n_expected * sizeof(*expected);
    size_t texts = size;
    for (size_t i = 0; i < n_expected; i++) {
        size += expected[i].len;
    }
    struct tls_handshake *hs = xcalloc(1, size);
    hs->ctx = tls_ctx_ref(ctx);
    hs->is_server = is_server;
    hs->n_expected = n_expected;
    uint8_t *p = (uint8_t *)hs + texts;
    for (size_t i = 0; i < n_expected; i++) {
        hs->expected[i] = slice_make(p, expected[i].len);
        slice_copy(p, expected[i]);
        p += expected[i].len;
    }
    hs->ssl = SSL_new(ctx->ssl);
    CHECK(hs->ssl != NULL);
    SSL_set_app_data(hs->ssl, hs);
    BIO *bio = bio_new(hs);
    SSL_set_bio(hs->ssl, bio, bio); // takes the one reference for both
    if (is_server) {
        SSL_set_accept_state(hs->ssl);
    } else {
        SSL_set_connect_state(hs->ssl);
    }
    return hs;
}

struct tls_handshake *tls_handshake_new_client(struct tls_ctx *ctx, const struct slice *expected,
                                               size_t n_expected) {
    return hs_new(ctx, false, expected, n_expected);
}

struct tls_handshake *tls_handshake_new_server(struct tls_ctx *ctx) {
    return hs_new(ctx, true, NULL, 0);
}

void tls_handshake_set_server(struct tls_handshake *hs, struct slice server) {
    CHECK(!hs->is_server && !hs->has_begun);
    hs->server = hash_bytes(server);
}

static void set_sni(SSL *ssl, struct slice name) {
    char text[256];
    if (name.len > 0 && name.len < sizeof(text)) {
        slice_copy(text, name);
        text[name.len] = '\0';
        if (SSL_set_tlsext_host_name(ssl, text) != 1) {
            ERR_clear_error(); // no name that could be sent
        }
    }
}

struct tls_handshake *tls_handshake_new_outside(struct tls_ctx *ctx,
                                                const struct tls_outside_server *server) {
    CHECK(ctx->is_outside);
    struct tls_handshake *hs = hs_new(ctx, false, server->names, server->n_names);
    set_sni(hs->ssl, server->sni);
    if (server->alpn == TLS_ALPN_H2) {
        CHECK(SSL_set_alpn_protos(hs->ssl, alpn_h2, sizeof(alpn_h2)) == 0);
    } else if (server->alpn == TLS_ALPN_HTTP1) {
        CHECK(SSL_set_alpn_protos(hs->ssl, alpn_http1, sizeof(alpn_http1)) == 0);
    } else if (server->alpn == TLS_ALPN_ANY) {
        CHECK(SSL_set_alpn_protos(hs->ssl, alpn_any, sizeof(alpn_any)) == 0);
    }
    return hs;
}

void tls_handshake_free(struct tls_handshake *hs) {
    if (hs == NULL) {
        return;
    }
    SSL_free(hs->ssl);
    tls_record_free(hs->record);
    tls_chain_unref(hs->peer.chain);
    tls_ctx_unref(hs->ctx);
    free(hs->rest);
    free(hs);
}

// ---- Steps

static enum tls_err err_of_reason(int reason) {
    if (reason > SSL_AD_REASON_OFFSET) {
        return tls_err_from_peer_alert((uint8_t)(reason - SSL_AD_REASON_OFFSET));
    }
    switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return TLS_NO_CERTIFICATE;
    case SSL_R_NO_APPLICATION_PROTOCOL:
    case SSL_R_INVALID_ALPN_PROTOCOL:
        return TLS_NO_ALPN;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_WRONG_SSL_VERSION:
        return TLS_VERSION;
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
        return TLS_NOT_TLS;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_UNKNOWN_CIPHER_RETURNED:
    case SSL_R_WRONG_CIPHER_RETURNED:
        return TLS_NO_SUITE;
    case SSL_R_NO_SHARED_GROUP:
    case SSL_R_WRONG_CURVE:
        return TLS_NO_GROUP;
    case SSL_R_BAD_SIGNATURE:
        return TLS_BAD_SIGNATURE;
    case SSL_R_KEY_USAGE_BIT_INCORRECT:
        return TLS_BAD_USAGE;
    case SSL_R_CANNOT_PARSE_LEAF_CERT:
    case SSL_R_ECC_CERT_NOT_FOR_SIGNING:
        return TLS_BAD_CERTIFICATE;
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
        return TLS_BAD_RECORD_MAC;
    case SSL_R_ENCRYPTED_LENGTH_TOO_LONG:
    case SSL_R_DATA_LENGTH_TOO_LONG:
        return TLS_RECORD_OVERFLOW;
    case SSL_R_EXCESSIVE_MESSAGE_SIZE:
        return TLS_HANDSHAKE_TOO_LARGE;
    case SSL_R_TOO_MANY_EMPTY_FRAGMENTS:
    case SSL_R_TOO_MANY_WARNING_ALERTS:
        return TLS_EMPTY_RECORD_FLOOD;
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_UNEXPECTED_RECORD:
    case SSL_R_INVALID_OUTER_RECORD_TYPE:
    case SSL_R_APP_DATA_IN_HANDSHAKE:
    case SSL_R_EXCESS_HANDSHAKE_DATA:
    case SSL_R_BAD_CHANGE_CIPHER_SPEC:
        return TLS_UNEXPECTED_MESSAGE;
    case SSL_R_DECODE_ERROR:
    case SSL_R_CLIENTHELLO_PARSE_FAILED:
    case SSL_R_PARSE_TLSEXT:
    case SSL_R_ERROR_PARSING_EXTENSION:
    case SSL_R_BAD_ALERT:
        return TLS_DECODE_ERROR;
    default:
        return TLS_HANDSHAKE_FAILURE;
    }
}

// The first error of libssl in the queue names the cause; what lies on top are consequences.
static void read_error_queue(struct tls_handshake *hs) {
    uint32_t code;
    hs->err = TLS_HANDSHAKE_FAILURE;
    while ((code = ERR_get_error()) != 0) {
        const char *text = ERR_reason_error_string(code);
        if (hs->detail[0] == '\0' && text != NULL) {
            snprintf(hs->detail, sizeof(hs->detail), "%s", text);
        }
        if (ERR_GET_LIB(code) == ERR_LIB_SSL) {
            hs->err = err_of_reason(ERR_GET_REASON(code));
            if (hs->err != TLS_HANDSHAKE_FAILURE) {
                break;
            }
        }
    }
    ERR_clear_error();
}

static enum tls_step fail(struct tls_handshake *hs, enum tls_err err) {
    hs->err = err;
    SSL_free(hs->ssl);
    hs->ssl = NULL;
    return TLS_STEP_ERROR;
}

static bool aead_12_of(const SSL *ssl, enum tls_aead_12 *ret_aead) {
    switch (SSL_CIPHER_get_cipher_nid(SSL_get_current_cipher(ssl))) {
    case NID_aes_128_gcm:
        *ret_aead = TLS_12_AES_128_GCM;
        return true;
    case NID_aes_256_gcm:
        *ret_aead = TLS_12_AES_256_GCM;
        return true;
    case NID_chacha20_poly1305:
        *ret_aead = TLS_12_CHACHA20_POLY1305;
        return true;
    default:
        return false;
    }
}

// RFC 5246 6.3: the client's key, the server's, then both IVs; AEADs have no keys for a MAC. We
// are the client. NULL: not one of our suites.
static struct tls_record *take_over_12(struct tls_handshake *hs, uint16_t suite) {
    uint8_t block[2 * (32 + 12)];
    enum tls_aead_12 aead;
    if (!hs->ctx->is_outside || hs->is_server || !aead_12_of(hs->ssl, &aead)) {
        return NULL;
    }
    size_t key_len = tls_record_12_key_len(aead), iv_len = tls_record_12_iv_len(aead);
    size_t size = 2 * (key_len + iv_len);
    if (SSL_get_key_block_len(hs->ssl) != size ||
        SSL_generate_key_block(hs->ssl, block, size) != 1) {
        return NULL;
    }
    const uint8_t *ivs = block + 2 * key_len;
    struct tls_keys_12 keys = {
        .aead = aead,
        .write_key = slice_make(block, key_len),
        .read_key = slice_make(block + key_len, key_len),
        .write_iv = slice_make(ivs, iv_len),
        .read_iv = slice_make(ivs + iv_len, iv_len),
        .read_seq = SSL_get_read_sequence(hs->ssl), // the Finished messages have gone before
        .write_seq = SSL_get_write_sequence(hs->ssl),
    };
    struct tls_record *record = tls_record_new_12(suite, &keys);
    wipe(block, sizeof(block));
    return record;
}

static struct tls_record *take_over_13(struct tls_handshake *hs, uint16_t suite) {
    struct tls_secrets secrets;
    // Without tickets and early data nothing has gone under the application keys yet.
    if (SSL_get_read_sequence(hs->ssl) != 0 || SSL_get_write_sequence(hs->ssl) != 0 ||
        !tls_secrets_of(hs->ssl, &secrets)) {
        return NULL;
    }
    struct tls_record *record =
        tls_record_new((enum tls_suite)suite, slice_make(secrets.read, secrets.read_len), 0,
                       slice_make(secrets.write, secrets.write_len), 0);
    wipe(&secrets, sizeof(secrets));
    return record;
}

// libssl is done: its traffic secrets go to our record layer, and it is freed.
static enum tls_step take_over(struct tls_handshake *hs) {
    uint16_t suite = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(hs->ssl));
    // on_verify refused the others before.
    bool is_settled = hs->ctx->is_outside || (is_h2_selected(hs->ssl) && hs->peer.chain != NULL);
    if (!hs->is_verified || !is_settled) {
        return fail(hs, TLS_INTERNAL);
    }
    hs->record =
        SSL_version(hs->ssl) == TLS1_3_VERSION ? take_over_13(hs, suite) : take_over_12(hs, suite);
    if (hs->record == NULL) {
        return fail(hs, TLS_NO_SUITE);
    }
    if (hs->is_server) {
        tls_record_set_server(hs->record);
    }
    hs->peer.suite = (enum tls_suite)suite;
    hs->peer.group = SSL_get_group_id(hs->ssl);
    hs->is_h2 = is_h2_selected(hs->ssl);
    if (!hs->is_server) {
        tls_shares_note(hs->ctx, hs->server, hs->now_s, &hs->shares, hs->peer.group);
    }
    SSL_free(hs->ssl);
    hs->ssl = NULL;
    if (hs->in.len > 0) { // libssl reads record by record: what is left is not its own
        hs->rest = xmalloc(hs->in.len);
        hs->rest_len = hs->in.len;
        memcpy(hs->rest, hs->in.ptr, hs->in.len);
    }
    return TLS_STEP_DONE;
}

static enum tls_step advance(struct tls_handshake *hs) {
    ERR_clear_error();
    int rc = SSL_do_handshake(hs->ssl);
    if (rc == 1) {
        return take_over(hs);
    }
    switch (SSL_get_error(hs->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return TLS_STEP_MORE;
    case SSL_ERROR_ZERO_RETURN:
        return fail(hs, TLS_PEER_ALERT); // close_notify in the handshake
    default:
        break;
    }
    if (hs->err == TLS_OK) { // else on_verify said why
        read_error_queue(hs);
    }
    if (hs->ctx->is_outside && (hs->err == TLS_PEER_PROTOCOL_VERSION || hs->err == TLS_VERSION)) {
        // It wants an older one: no newer one exists.
        hs->err = hs->ctx->compliance == TLS_COMPLIANCE_PQC ? TLS_VERSION : TLS_OLD_VERSION;
        hs->detail[0] = '\0';
    }
    ERR_clear_error();
    return fail(hs, hs->err);
}

static void begin(struct tls_handshake *hs) {
    hs->has_begun = true;
    if (hs->is_server) {
        return;
    }
    hs->shares = tls_shares_choose(hs->ctx, hs->server, hs->now_s);
    if (hs->shares.n > 0) {
        CHECK(SSL_set1_client_key_shares(hs->ssl, hs->shares.groups, hs->shares.n) == 1);
    }
}

enum tls_step tls_handshake_recv(struct tls_handshake *hs, struct slice in, int64_t now_s,
                                 struct chain *out) {
    if (hs->step != TLS_STEP_MORE) {
        CHECK(hs->step == TLS_STEP_ERROR); // DONE: take the record layer, feed that
        return TLS_STEP_ERROR;
    }
    hs->in = in;
    hs->out = out;
    hs->now_s = now_s;
    if (!hs->has_begun) {
        begin(hs);
    }
    hs->step = advance(hs);
    hs->n_input += in.len - hs->in.len;
    if (hs->step == TLS_STEP_MORE && hs->n_input > INPUT_MAX) {
        hs->step = fail(hs, TLS_HANDSHAKE_TOO_LARGE);
    }
    hs->in = slice_make(NULL, 0);
    hs->out = NULL;
    return hs->step;
}

enum tls_err tls_handshake_error(const struct tls_handshake *hs) {
    return hs->err;
}

const char *tls_handshake_error_detail(const struct tls_handshake *hs) {
    return hs->detail;
}

const struct tls_peer *tls_handshake_peer(const struct tls_handshake *hs) {
    CHECK(hs->step == TLS_STEP_DONE);
    return &hs->peer;
}

bool tls_handshake_is_h2(const struct tls_handshake *hs) {
    CHECK(hs->step == TLS_STEP_DONE);
    return hs->is_h2;
}

struct tls_record *tls_handshake_take(struct tls_handshake *hs, struct slice *ret_rest) {
    CHECK(hs->record != NULL);
    struct tls_record *record = hs->record;
    hs->record = NULL;
    *ret_rest = slice_make(hs->rest, hs->rest_len);
    return record;
}
