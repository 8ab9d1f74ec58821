// SPDX-License-Identifier: Apache-2.0
//
// The header of the PROXY protocol, versions 1 and 2: who the client of a connection is and what it
// called, ahead of its first byte. Pure.
#pragma once

#include "common/base/addr.h"

enum { PROXY_HEADER_MAX = 107 }; // of version 1, with CRLF; version 2 of TCP takes 52

// Writes the header, returns its length. When an address is not known (not set) the header says so:
// UNKNOWN, LOCAL. Addresses of two families are both written as IPv6 (mapped).
size_t proxy_header_v1(const struct addr *client, const struct addr *called,
                       uint8_t ret_header[PROXY_HEADER_MAX]);
// Type of the TLV in which ztunnel tells the client's SPIFFE id.
enum { PROXY_TLV_IDENTITY = 0xd0, PROXY_TLV_HEAD = 3 };
size_t proxy_header_v2(const struct addr *client, const struct addr *called,
                       uint8_t ret_header[PROXY_HEADER_MAX]);
// Adds a TLV to a header of version 2 of `len` bytes, in a buffer that has room for PROXY_TLV_HEAD
// bytes and the value more. Returns the new length.
size_t proxy_header_add_tlv(uint8_t *header, size_t len, uint8_t type, struct slice value);
