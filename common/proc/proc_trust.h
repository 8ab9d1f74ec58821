// SPDX-License-Identifier: Apache-2.0
//
// How settings name certificates and tokens, as ztunnel does: where they are, or what they are.
//
// Thread: any.
#pragma once

#include "common/net/http_client.h"

// XDS_ROOT_CA, CA_ROOT_CA: PEM itself, SYSTEM (the certificates that this machine trusts), else a
// file, which need not be there yet. The setting is borrowed.
struct http_client_file proc_trust_roots(const char *setting);
// What may be shown of it: the path, "SYSTEM" or "PEM".
const char *proc_trust_name(const char *setting);

// AUTH_TOKEN: a file, or a token. What looks like a path, having a slash or being the name of
// something that is there, is one.
struct http_client_file proc_trust_token(const char *setting);

// The file of the certificates that this machine trusts: SSL_CERT_FILE of the environment, else
// where distributions keep it.
const char *proc_trust_system(void);
