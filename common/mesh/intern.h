// SPDX-License-Identifier: Apache-2.0
//
// One copy of each text that many leaves share (namespaces, labels, node names, identities).
//
// Equal texts have equal pointers while they live. Reference counted; thread: any (a worker may
// hold the last reference to a leaf). Finding a text, and letting go of the last reference, is
// under one mutex that no packet path takes; counting is not.
#pragma once

#include <stddef.h>

// The shared copy, with one reference for the caller. NULL and "" give a static "".
const char *intern(const char *text);
// The same, cheaper when `like`, a shared text that the caller has a reference on (or NULL), is
// equal.
const char *intern_like(const char *text, const char *like);
void intern_unref(const char *text); // NULL ok

size_t intern_count(void); // texts alive
size_t intern_bytes(void); // memory they take, the table included
