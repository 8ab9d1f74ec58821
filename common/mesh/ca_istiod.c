// SPDX-License-Identifier: Apache-2.0
#include "common/mesh/ca_istiod.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/mesh/citadel.pb-c.h"
#include "common/net/grpc_client.h"
#include "common/tls/tls_cert.h"

static const char method[] = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

struct ca_istiod {
    struct ca ca;
    struct grpc_client *client;
    struct loop *loop;
    bool impersonates;
    uint32_t n_calls;
};

struct call {
    struct ca_istiod *ca;
    struct ca_request *request;
    struct grpc_stream stream;
    char *key_pem;
    struct buf chain, roots; // of the answer
    const char *error; // why it is of no use
    uint32_t n_answers;
};

static void call_free(struct call *call) {
    call->ca->n_calls--;
    tls_key_pem_free(call->key_pem);
    buf_fini(&call->chain);
    buf_fini(&call->roots);
    free(call);
}

// ---- answers -----------------------------------------------------------------------------------

static void append_pem(struct buf *out, const char *pem) {
    struct slice text = slice_str(pem);
    buf_append(out, text);
    if (!slice_has_suffix(text, SLICE_LIT("\n"))) {
        buf_append_byte(out, '\n');
    }
}

static void on_message(struct grpc_stream *stream, struct slice message) {
    struct call *call = CONTAINER_OF(stream, struct call, stream);
    if (++call->n_answers > 1) {
        call->error = "the CA sent more than one answer";
        return;
    }
    Citadel__Response *response = citadel__response__unpack(NULL, message.len, message.ptr);
    if (response == NULL) {
        call->error = "the CA's answer cannot be read";
        return;
    }
    if (response->n_cert_chain < 2) {
        call->error = "the CA's answer lacks the certificate or the roots";
    } else {
        for (size_t i = 0; i + 1 < response->n_cert_chain; i++) {
            append_pem(&call->chain, response->cert_chain[i]);
        }
        append_pem(&call->roots, response->cert_chain[response->n_cert_chain - 1]);
    }
    citadel__response__free_unpacked(response, NULL);
}

// What only the CA's operator can mend, in a word.
static const char *advice(enum grpc_status status) {
    switch (status) {
    case GRPC_UNAUTHENTICATED:
        return "; is the token's audience istio-ca, and its pod still there?";
    case GRPC_PERMISSION_DENIED:
        return "; does CA_TRUSTED_NODE_ACCOUNTS of istiod name our service account?";
    default:
        return "";
    }
}

static void on_closed(struct grpc_stream *stream, enum grpc_status status, const char *text) {
    struct call *call = CONTAINER_OF(stream, struct call, stream);
    struct ca_request *request = call->request;
    struct ca_answer answer = {
        .cert_chain_pem = buf_slice(&call->chain),
        .key_pem = slice_str(call->key_pem),
        .roots_pem = buf_slice(&call->roots),
        .error = call->n_answers == 0 ? "the CA gave no answer" : call->error,
        .label = "answer",
        .now_mono_ns = call->ca->loop->now,
        .now_wall_s = clock_wall_s(),
    };
    char *error = NULL;
    if (status != GRPC_OK) {
        answer.error = error = xasprintf("%s%s", text, advice(status));
        answer.label = grpc_status_label(status);
    }
    request->ca_data = NULL;
    request->done(request, &answer);
    free(error);
    call_free(call);
}

static const struct grpc_stream_events events = {.on_message = on_message, .on_closed = on_closed};

// ---- requests ----------------------------------------------------------------------------------

static void send_request(struct call *call, char *csr_pem) {
    Citadel__Struct__Value id = CITADEL__STRUCT__VALUE__INIT;
    Citadel__Struct__Entry entry = CITADEL__STRUCT__ENTRY__INIT, *entries[] = {&entry};
    Citadel__Struct metadata = CITADEL__STRUCT__INIT;
    Citadel__Request message = CITADEL__REQUEST__INIT;
    static char key[] = "ImpersonatedIdentity";
    entry.key = key;
    entry.value = &id;
    id.string_value = (char *)(uintptr_t)call->request->spiffe_id;
    metadata.n_fields = 1;
    metadata.fields = entries;
    message.csr = csr_pem;
    message.validity_duration = call->request->ttl_s;
    message.metadata = call->ca->impersonates ? &metadata : NULL;
    size_t len = citadel__request__get_packed_size(&message);
    uint8_t *bytes = xmalloc(len);
    (void)citadel__request__pack(&message, bytes);
    grpc_stream_open(&call->stream, call->ca->client, method, CA_ISTIOD_TIMEOUT_MS);
    grpc_stream_send(&call->stream, slice_make(bytes, len), true);
    free(bytes);
}

static void issue(struct ca *base, struct ca_request *request) {
    struct ca_istiod *ca = CONTAINER_OF(base, struct ca_istiod, ca);
    char *key_pem = tls_key_new_pem(), *error = NULL;
    char *csr_pem = tls_csr_new(slice_str(key_pem), slice_str(request->spiffe_id), &error);
    if (csr_pem == NULL) {
        struct ca_answer answer = {.error = error};
        tls_key_pem_free(key_pem);
        request->done(request, &answer);
        free(error);
        return;
    }
    struct call *call = xcalloc(1, sizeof(*call));
    call->ca = ca;
    call->request = request;
    call->key_pem = key_pem;
    buf_init(&call->chain, CA_ISTIOD_ANSWER_MAX);
    buf_init(&call->roots, CA_ISTIOD_ANSWER_MAX);
    grpc_stream_init(&call->stream, &events);
    ca->n_calls++;
    request->ca_data = call;
    send_request(call, csr_pem);
    free(csr_pem);
}

static void cancel(struct ca *base, struct ca_request *request) {
    struct call *call = request->ca_data;
    request->ca_data = NULL;
    grpc_stream_cancel(&call->stream);
    call_free(call);
}

// ---- life --------------------------------------------------------------------------------------

struct ca_istiod *ca_istiod_open(const struct ca_istiod_params *params, char **ret_error) {
    static const struct ca_ops ops = {.issue = issue, .cancel = cancel};
    struct grpc_client_config config = {
        .loop = params->loop,
        .address = params->address,
        .roots = params->roots,
        .alt_name = params->alt_name,
        .token = params->token,
        .metadata = params->metadata,
        .n_metadata = params->n_metadata,
        .message_max = CA_ISTIOD_ANSWER_MAX,
        .mark = params->mark,
        .compliance = params->compliance,
    };
    struct grpc_client *client = grpc_client_new(&config, ret_error);
    if (client == NULL) {
        return NULL;
    }
    if (!grpc_client_is_secure(client)) {
        *ret_error = xasprintf("\"%s\" is plain text: certificates are asked for over https:// "
                               "alone, with a token",
                               params->address);
        grpc_client_free(client);
        return NULL;
    }
    struct ca_istiod *ca = xcalloc(1, sizeof(*ca));
    ca->ca.ops = &ops;
    ca->client = client;
    ca->loop = params->loop;
    ca->impersonates = params->impersonates;
    return ca;
}

struct ca *ca_istiod_ca(struct ca_istiod *ca) {
    return &ca->ca;
}
