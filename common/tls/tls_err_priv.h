// SPDX-License-Identifier: Apache-2.0
//
// Inside common/tls: from alert codes to reasons.
#pragma once

#include "common/tls/tls_record.h"

// The reason for a fatal alert that the peer sent (RFC 8446 section 6.2).
enum tls_err tls_err_from_peer_alert(uint8_t alert);
