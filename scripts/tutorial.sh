#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The well-known exercises, one row each: see scripts/tutorial/__main__.py. BIN_DIR, EX, KEEP, MODE.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck disable=SC2086
exec /usr/bin/python3 -B scripts/tutorial ${EX:-} "$@"
