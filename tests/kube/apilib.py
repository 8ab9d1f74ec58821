# SPDX-License-Identifier: Apache-2.0
"""Many objects, by the Kubernetes API alone: a client with several connections, and nodes that have no
kubelet."""

import http.client
import itertools
import json
import re
import shlex
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from kubelib import program


class Api:
    """The API, by way of `kubectl proxy`, which knows where it is and who we are. A connection for
    each thread."""

    def __init__(self):
        self.proxy = subprocess.Popen([*shlex.split(program("kubectl")), "proxy", "--port=0"],
                                      text=True, stdout=subprocess.PIPE)
        self.port = int(re.search(r":(\d+)$", self.proxy.stdout.readline().strip())[1])
        self.local = threading.local()

    def close(self):
        self.proxy.terminate()
        self.proxy.wait()

    def call(self, method, path, body=None, kind="application/json"):
        """The answer; 429 and connections that end are tried again. 404 of a DELETE and 409 of a
        POST are what an earlier try did."""
        for is_last in [False] * 10 + [True]:
            connection = getattr(self.local, "connection", None)
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                self.local.connection = connection
            try:
                connection.request(method, path, body and json.dumps(body),
                                   {"content-type": kind})
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                self.local.connection = None
                if is_last:
                    raise
                continue
            if answer.status == 429 and not is_last:
                time.sleep(float(answer.headers.get("retry-after", 1)))
                continue
            assert (answer.status < 300 or (method, answer.status) in
                    (("DELETE", 404), ("POST", 409))), (method, path, answer.status, text[:300])
            return json.loads(text)

    def each(self, work, items, n_threads=16):
        """Calls for each item, several at a time."""
        with ThreadPoolExecutor(n_threads) as pool:
            return list(pool.map(work, items))


class Nodes:
    """Node objects without a kubelet. Their leases are renewed, or the cluster would take their pods
    away; nothing is scheduled to them, and no DaemonSet that asks for an operating system."""

    PERIOD = 10

    def __init__(self, api, prefix, n):
        self.api, self.names = api, [f"{prefix}-node-{i}" for i in range(n)]
        self.is_over = threading.Event()
        self.renewer = threading.Thread(target=self.renew, daemon=True)

    def create(self):
        self.api.each(self.create_one, enumerate(self.names))
        self.renewer.start()

    def create_one(self, numbered):
        i, name = numbered
        self.api.call("POST", "/api/v1/nodes", {
            "metadata": {"name": name, "labels": {
                "kubernetes.io/hostname": name, "topology.kubernetes.io/region": "lab",
                "topology.kubernetes.io/zone": f"zone-{i % 3}"}},
            "spec": {"unschedulable": True, "taints": [
                {"key": "ztun-test/no-kubelet", "effect": "NoSchedule"}]}})
        self.api.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "Test"}]}}, "application/merge-patch+json")
        self.api.call("POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
                      {"metadata": {"name": name}, "spec": self.lease(name)})

    def lease(self, name):
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        return {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": stamp}

    def renew(self):
        for name in itertools.cycle(self.names):
            if self.is_over.wait(self.PERIOD / len(self.names)):
                return
            self.api.call("PATCH", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"
                          + name, {"spec": self.lease(name)}, "application/merge-patch+json")

    def delete(self):
        self.is_over.set()
        if self.renewer.is_alive():
            self.renewer.join()
        for name in self.names:
            self.api.call("DELETE", f"/api/v1/nodes/{name}")
            self.api.call("DELETE", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"
                          + name)


class Crowd:
    """Services with pods behind them, in several namespaces: enrolled, ready, and nowhere."""

    N_NODES, PODS_A_NAMESPACE = 40, 1000

    def __init__(self, api, prefix, n_services, n_pods):
        self.api, self.prefix = api, prefix
        self.n_services, self.n_pods = n_services, n_pods
        self.spaces = [f"{prefix}-{i}" for i in range(-(-n_pods // self.PODS_A_NAMESPACE))]
        self.nodes = Nodes(api, prefix, self.N_NODES)
        self.is_deleted = False

    def space(self, i):
        """Of the service with this number; its pods are there, too."""
        return self.spaces[i % len(self.spaces)]

    def pods(self):
        """(namespace, name, service, node, address) of each."""
        for i in range(self.n_pods):
            service = i % self.n_services
            yield (self.space(service), f"pod-{i}", service,
                   self.nodes.names[i % self.N_NODES], f"100.{66 + i // 62500}.{i // 250 % 250}."
                   f"{i % 250 + 1}")

    def create(self):
        """Pods first, so that each service's EndpointSlice is written once."""
        self.nodes.create()
        for name in self.spaces:
            self.api.call("POST", "/api/v1/namespaces", {"metadata": {
                "name": name, "labels": {"istio.io/dataplane-mode": "ambient"}}})
            self.api.call("POST", f"/api/v1/namespaces/{name}/serviceaccounts",
                          {"metadata": {"name": "default"}})
        self.api.each(self.create_pod, self.pods())
        self.api.each(self.create_service, range(self.n_services))

    def create_pod(self, row):
        ns, name, service, node, address = row
        self.api.call("POST", f"/api/v1/namespaces/{ns}/pods", {
            "metadata": {"name": name, "labels": {"app": f"svc-{service}"},
                         "annotations": {"ambient.istio.io/redirection": "enabled"}},
            "spec": {"nodeName": node, "automountServiceAccountToken": False,
                     "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}],
                     "containers": [{"name": "app", "image": "none"}]}})
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.api.call("PATCH", f"/api/v1/namespaces/{ns}/pods/{name}/status", {"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": now,
            "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now}
                           for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")],
        }}, "application/merge-patch+json")

    def create_service(self, i):
        self.api.call("POST", f"/api/v1/namespaces/{self.space(i)}/services", {
            "metadata": {"name": f"svc-{i}"},
            "spec": {"selector": {"app": f"svc-{i}"},
                     "ports": [{"name": "http", "port": 80, "targetPort": 8080},
                               {"name": "grpc", "port": 9090}]}})

    def delete(self):
        """Pods without a grace period: no kubelet would end it. Namespaces go by themselves."""
        if self.is_deleted:
            return
        self.is_deleted = True
        self.api.each(lambda row: self.api.call(
            "DELETE", f"/api/v1/namespaces/{row[0]}/pods/{row[1]}?gracePeriodSeconds=0"),
            self.pods())
        self.api.each(lambda name: self.api.call("DELETE", f"/api/v1/namespaces/{name}"),
                      self.spaces)
        self.nodes.delete()
