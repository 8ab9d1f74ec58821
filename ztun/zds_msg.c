// SPDX-License-Identifier: Apache-2.0
#include "ztun/zds_msg.h"

#include <string.h>

#include "common/base/utf8.h"
#include "common/proto/spiffe.h"
#include "ztun/zds.pb-c.h"

// Bytes of a packet beside the text of its error: three tags with their lengths.
enum { ACK_HEAD_MAX = 16 };

static struct slice text_of(const ProtobufCBinaryData *data) {
    return slice_make(data->data, data->len);
}

// Of a Kubernetes object, and of a part of a SPIFFE id: no NUL, no '/'.
static const char *take_name(char *dst, const ProtobufCBinaryData *data, size_t max,
                             const char *what) {
    struct slice text = text_of(data);
    if (!spiffe_segment_is_valid(text, max)) {
        return what;
    }
    slice_copy(dst, text);
    dst[text.len] = '\0';
    return NULL;
}

// Whatever the agent likes: printed, compared, never taken apart. No '/', which the keys of
// workloads have: beside these our own pod is known by its key.
static const char *take_uid(char dst[ZDS_UID_MAX + 1], const ProtobufCBinaryData *data) {
    struct slice text = text_of(data);
    if (text.len == 0 || text.len > ZDS_UID_MAX) {
        return text.len == 0 ? "the request names no uid" : "the uid is too long";
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] <= ' ' || text.ptr[i] > '~' || text.ptr[i] == '/') {
            return "the uid holds a blank, a slash, or what is no printable ASCII";
        }
    }
    slice_copy(dst, text);
    dst[text.len] = '\0';
    return NULL;
}

static const char *take_add(struct zds_request *request, const Zds__AddWorkload *add) {
    const Zds__WorkloadInfo *info = add->workload_info;
    const char *error = take_uid(request->uid, &add->uid);
    if (error == NULL && info == NULL) {
        error = "the workload comes without its info";
    }
    if (error == NULL) {
        error =
            take_name(request->name, &info->name, ZDS_NAME_MAX, "the workload has no proper name");
    }
    if (error == NULL) {
        error = take_name(request->ns, &info->namespace_, SPIFFE_NS_MAX,
                          "the workload has no proper namespace");
    }
    if (error == NULL) {
        error = take_name(request->service_account, &info->service_account, SPIFFE_SA_MAX,
                          "the workload has no proper service account");
    }
    return error;
}

static const char *take(struct zds_request *request, const Zds__WorkloadRequest *message) {
    switch (message->payload_case) {
    case ZDS__WORKLOAD_REQUEST__PAYLOAD_ADD:
        request->kind = ZDS_ADD;
        return take_add(request, message->add);
    case ZDS__WORKLOAD_REQUEST__PAYLOAD_DEL:
        request->kind = ZDS_DEL;
        return take_uid(request->uid, &message->del->uid);
    case ZDS__WORKLOAD_REQUEST__PAYLOAD_KEEP:
        request->kind = ZDS_KEEP;
        return take_uid(request->uid, &message->keep->uid);
    case ZDS__WORKLOAD_REQUEST__PAYLOAD_SNAPSHOT_SENT:
        request->kind = ZDS_SNAPSHOT_SENT;
        return NULL;
    default:
        return message->base.n_unknown_fields > 0 ? "the request is of a kind that is not known"
                                                  : "the request is empty";
    }
}

const char *zds_request_decode(struct slice packet, struct zds_request *ret) {
    Zds__WorkloadRequest *message =
        zds__workload_request__unpack(NULL, packet.len, packet.len > 0 ? packet.ptr : NULL);
    if (message == NULL) {
        return "the packet is no WorkloadRequest";
    }
    *ret = (struct zds_request){0};
    const char *error = take(ret, message);
    zds__workload_request__free_unpacked(message, NULL);
    return error;
}

size_t zds_hello(uint8_t out[ZDS_ANSWER_MAX]) {
    Zds__ZdsHello hello = ZDS__ZDS_HELLO__INIT;
    hello.version = ZDS__VERSION__V1;
    return zds__zds_hello__pack(&hello, out);
}

// As much of the text as fits and is UTF-8, which the field is on the agent's side.
static size_t error_len(struct slice text) {
    size_t len = 0;
    while (len < text.len) {
        size_t n = utf8_len(slice_skip(text, len));
        if (n == 0 || len + n > ZDS_ANSWER_MAX - ACK_HEAD_MAX) {
            break;
        }
        len += n;
    }
    return len;
}

size_t zds_ack(const char *error, uint8_t out[ZDS_ANSWER_MAX]) {
    Zds__Ack ack = ZDS__ACK__INIT;
    Zds__WorkloadResponse response = ZDS__WORKLOAD_RESPONSE__INIT;
    struct slice text = slice_str(error);
    if (error != NULL) {
        text = error_len(text) > 0 ? text : SLICE_LIT("refused"); // never taken for a yes
        ack.error.len = error_len(text);
        ack.error.data = (uint8_t *)(uintptr_t)text.ptr; // it is only read
    }
    response.payload_case = ZDS__WORKLOAD_RESPONSE__PAYLOAD_ACK;
    response.ack = &ack;
    return zds__workload_response__pack(&response, out);
}
