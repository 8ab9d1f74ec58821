// SPDX-License-Identifier: Apache-2.0
//
// A packet of the node agent: refused with a reason, or a request whose texts are what they have to
// be. Whatever is said of it fits into an answer.
#include <stdlib.h>
#include <string.h>

#include "common/proto/spiffe.h"
#include "ztun/zds_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_names(const struct zds_request *request) {
    struct spiffe_id id = {.trust_domain = SLICE_LIT("cluster.local"),
                           .ns = slice_str(request->ns),
                           .sa = slice_str(request->service_account)};
    char text[SPIFFE_TEXT_MAX];
    struct slice slice;
    CHECK(spiffe_format(&id, text, &slice));
    CHECK(request->name[0] != '\0' && strchr(request->name, '/') == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    struct zds_request request;
    uint8_t answer[ZDS_ANSWER_MAX];
    const char *error = zds_request_decode(slice_make(data, len), &request);
    if (error == NULL) {
        CHECK((request.uid[0] == '\0') == (request.kind == ZDS_SNAPSHOT_SENT));
        CHECK(strchr(request.uid, '/') == NULL);
        if (request.kind == ZDS_ADD) {
            check_names(&request);
        }
    }
    char *text = slice_dup(slice_make(data, len));
    CHECK(zds_ack(error, answer) <= ZDS_ANSWER_MAX);
    CHECK(zds_ack(text, answer) > 2 && answer[1] != 0); // an error is never a yes
    free(text);
    return 0;
}
