// SPDX-License-Identifier: Apache-2.0
//
// Tells AddressSanitizer which bytes of our own pools are dead, so that a use after free inside one
// is reported like that of a malloc'ed object. Nothing in other builds.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define ZTUN_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ZTUN_ASAN 1
#endif
#endif

#ifdef ZTUN_ASAN
#include <sanitizer/asan_interface.h>
#define ASAN_POISON(ptr, len) __asan_poison_memory_region((ptr), (len))
#define ASAN_UNPOISON(ptr, len) __asan_unpoison_memory_region((ptr), (len))
#else
#define ASAN_POISON(ptr, len) ((void)(ptr), (void)(len))
#define ASAN_UNPOISON(ptr, len) ((void)(ptr), (void)(len))
#endif
