// SPDX-License-Identifier: Apache-2.0
//
// The first message of a TLS client, looked at from outside: which server it asks for (SNI,
// RFC 6066 3). Pure; nothing is kept.
#pragma once

#include "common/base/slice.h"

enum {
    TLS_HELLO_MAX = 16 * 1024
}; // with the headers of its records; a longer one has no name here

enum tls_hello {
    TLS_HELLO_MORE, // the message is not complete
    TLS_HELLO_NAME, // ret_name: of 1 to TLS_NAME_MAX bytes
    TLS_HELLO_NO_NAME, // TLS, but without SNI
    TLS_HELLO_NOT_TLS,
};
enum { TLS_NAME_MAX = 255 };

// `in`: what came so far, from the first byte on. The name is written in lower case, NUL behind it.
enum tls_hello tls_hello_name(struct slice in, char ret_name[TLS_NAME_MAX + 1]);
