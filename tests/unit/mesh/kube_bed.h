// SPDX-License-Identifier: Apache-2.0
//
// A client of the Kubernetes API to the server of a test.
#pragma once

#include "common/mesh/kube_client.h"
#include "tests/unit/net/http_client_bed.h"

struct kube_client *kube_bed_client(struct http_bed *bed);
