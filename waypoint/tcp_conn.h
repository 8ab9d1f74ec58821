// SPDX-License-Identifier: Apache-2.0
//
// tcp_serve.c's objects, for the worker's slab.
#pragma once

#include <stddef.h>

size_t tcp_conn_size(void);
