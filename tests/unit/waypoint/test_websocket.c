// SPDX-License-Identifier: Apache-2.0
#include "waypoint/websocket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_proof(void **state) {
    (void)state;
    char proof[WEBSOCKET_PROOF_LEN];
    websocket_proof(SLICE_LIT("dGhlIHNhbXBsZSBub25jZQ=="), proof); // RFC 6455 1.3
    assert_memory_equal(proof, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", sizeof(proof));
}

static void test_key(void **state) {
    (void)state;
    char key[WEBSOCKET_KEY_LEN];
    websocket_key((const uint8_t *)"the sample nonce", key);
    assert_memory_equal(key, "dGhlIHNhbXBsZSBub25jZQ==", sizeof(key));
    assert_true(websocket_key_is_valid(slice_make(key, sizeof(key))));
    static const char *const bad[] = {
        "",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQAA",
        "dGhlIHNhbXBsZSBub25jZ!==",
        "dGhlIHNhbXBsZSBub25jZQ== ",
        "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(websocket_key_is_valid(slice_str(bad[i])));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_proof), cmocka_unit_test(test_key)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
