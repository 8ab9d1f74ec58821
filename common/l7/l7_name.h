// SPDX-License-Identifier: Apache-2.0
//
// Names under a service's wildcard host, where the request says which one is meant (ServiceEntry,
// resolution DYNAMIC_DNS). Pure; any thread.
#pragma once

#include "common/base/slice.h"

enum { L7_NAME_MAX = 254 };

// The name, in lower case, that the authority ("host" or "host:port") asks for. False: it is none
// under the wildcard ("*.example.com"; any number of labels stands for the star).
bool l7_name_under(const char *wildcard, struct slice authority, char ret_name[L7_NAME_MAX]);
