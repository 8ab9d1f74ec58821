#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a script of this tree with the given arguments, or says that it is not there yet.
set -euo pipefail
cd "$(dirname "$0")/.."

script=$1
shift
if [[ ! -x $script ]]; then
    echo "$script does not exist yet" >&2
    exit 1
fi
exec "$script" "$@"
