#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The tests on a Kubernetes cluster (tests/kube/README.md):
#
#   scripts/test-kube.sh [PYTEST-ARGUMENT...]
#
# The cluster is the one that KUBECONFIG names, with istiod and istio-cni (ambient) in it.
set -euo pipefail
cd "$(dirname "$0")/.."

[[ -n ${KUBECONFIG:-} ]] || { echo "test-kube: KUBECONFIG names no cluster (tests/kube/README.md)" >&2; exit 2; }
exec /usr/bin/python3 -m pytest -c tests/kube/pytest.ini --rootdir=tests/kube -v tests/kube "$@"
