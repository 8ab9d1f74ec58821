#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Each header compiles by itself: it includes whatever it uses. Needs a configured build/release.
set -euo pipefail
cd "$(dirname "$0")/.."

flags=(-std=gnu17 -D_GNU_SOURCE -I. -Ibuild/release/generated
    -isystem "$(scripts/boringssl.sh)/include"
    -Wall -Wextra -Wno-unused-parameter -Werror -fsyntax-only)
for dir in common ztun waypoint ctl tests bench; do
    [[ ! -d $dir ]] || find "$dir" -name '*.h' -print0
done | xargs -0 -r -I{} -P "$(nproc)" gcc "${flags[@]}" -include {} -x c /dev/null
