// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/mesh/kube_bed.h"

struct kube_client *kube_bed_client(struct http_bed *bed) {
    char *error = NULL;
    struct kube_access access = {.address = bed->address};
    struct kube_client_config config = {.loop = &bed->loop, .access = &access};
    struct kube_client *client = kube_client_new(&config, &error);
    assert_non_null(client);
    return client;
}
