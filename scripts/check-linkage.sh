#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# No program may load OpenSSL (BoringSSL is linked statically), and each is a hardened PIE.
set -euo pipefail

bin=${1:-build/bin}
status=0
n=0
while IFS= read -r -d '' program; do
    n=$((n + 1))
    if ldd "$program" | grep -E 'lib(ssl|crypto|gnutls|nss3)\.so'; then
        echo "$program: loads a TLS library of the system" >&2
        status=1
    fi
    if ldd "$program" | grep 'not found'; then
        echo "$program: a library is missing" >&2
        status=1
    fi
    if ! readelf -hW "$program" | grep -q 'Type: *DYN' || ! readelf -dW "$program" | grep -q 'BIND_NOW\|NOW'; then
        echo "$program: not a PIE with immediate binding" >&2
        status=1
    fi
done < <(find -L "$bin" -type f -perm -u+x -print0)
echo "$n programs"
exit $status
