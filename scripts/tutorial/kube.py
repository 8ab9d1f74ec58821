# SPDX-License-Identifier: Apache-2.0
"""Rows in a Kubernetes cluster: kubectl in the place of `ztunctl local`, a waypoint of charts/waypoint.

tests/kube/README.md says what the cluster has to have, and has the settings.
"""

import json
import os
import re
import shlex
import subprocess
import tempfile
import time

import yaml

from row import ROOT, Failed, Row

KUBE_TESTS = ROOT / "tests" / "kube"
OURS = "ztun.io/tutorial"  # the label of the namespaces that may be deleted
ZONE_LABELS = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone")
WATCHER = "wire"  # the pod with tcpdump
# Verbs after which istiod and the proxies have something to hear of before a pod's traffic relies on it.
CHANGES = {"apply", "delete", "label", "patch", "rollout", "scale", "set"}
PROBE = ("curl -s -o /dev/null --max-time 5 http://{host}:{port}/ || "
         "timeout 5 bash -c 'exec 3<>/dev/tcp/{host}/{port}; echo >&3; head -1 <&3'")


def setting(name, default=""):
    return os.environ.get("ZTUN_KUBE_" + name) or default


SYSTEM = setting("ISTIO_NAMESPACE", "istio-system")
REGISTRY = setting("APP_REGISTRY").rstrip("/")
PATIENCE = float(setting("PATIENCE", "1"))
SETTLE_S = 2 * PATIENCE


def kubectl(*args, stdin=None, timeout=60, check=True):
    """Not one of the row's commands: its output."""
    argv = [*shlex.split(setting("KUBECTL", "kubectl")), *args]
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout * PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{shlex.join(argv)}: {error}") from error
    if check and done.returncode != 0:
        raise Failed(f"{shlex.join(argv)}: {done.stderr.strip()[-300:]}")
    return done.stdout


def get(*args):
    return json.loads(kubectl("get", *args, "-o", "json"))


def node_names():
    return sorted(node["metadata"]["name"] for node in get("nodes")["items"]
                  if not node["spec"].get("unschedulable"))


def check_cluster():
    """What is missing for rows, or nothing."""
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG names no cluster (tests/kube/README.md)"
    try:
        if len(node_names()) < 2:
            return "the cluster has to have two nodes that take pods"
        kubectl("rollout", "status", "-n", SYSTEM, "daemonset/ztunnel", "--timeout=60s", timeout=70)
    except Failed as error:
        return f"the cluster has no ztun that is ready (docs/INSTALL.md): {error}"
    return None


def bring_images():
    """The sample services, by the command that brings an archive of images to all nodes."""
    if load := setting("LOAD_ARCHIVE"):
        with tempfile.TemporaryDirectory() as directory:
            archive = f"{directory}/ztun-apps.tar"
            options = ["--registry", REGISTRY] if REGISTRY else []
            subprocess.run(["/usr/bin/python3", "-B", KUBE_TESTS / "app_images.py", *options, archive],
                           check=True, stdout=subprocess.DEVNULL, timeout=120 * PATIENCE)
            subprocess.run([*shlex.split(load), archive], check=True, timeout=600 * PATIENCE)


def wait_until(what, look, timeout):
    end = time.monotonic() + timeout * PATIENCE
    while not (found := look()):
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {timeout * PATIENCE:.0f} s")
        time.sleep(0.5)
    return found


def delete_pods(ns):
    """At once, and before the namespace goes: of a pod that goes with it istio-cni may not notice that."""
    kubectl("delete", "deployments,replicasets", "--all", "-n", ns, "--cascade=orphan")
    kubectl("delete", "pods", "--all", "-n", ns, "--grace-period=1", "--wait", timeout=120)


def image_of(image):
    return f"{REGISTRY}/{image.rpartition('/')[2]}" if REGISTRY else image


def is_kind(doc, kind):
    return doc.get("kind") == kind


def has_nodes(base):
    return any(re.search(r"(?m)^kind: Node$", path.read_text()) for path in (ROOT / base).glob("*.yaml"))


class KubeRow(Row):
    tool = ("kubectl",)
    patience = PATIENCE
    load_program = ("sh", "-c", 'echo $$ > /tmp/load.pid; exec python3 "$@"', "sh", "/opt/ztun/apps/load.py")

    def __init__(self, entry, bin_dir, lab):
        super().__init__(entry, bin_dir, lab)
        self.programs.update(kubectl=shlex.split(setting("KUBECTL", "kubectl")),
                             helm=shlex.split(setting("HELM", "helm")))
        self.nodes = node_names()[:2]
        self.namespaces = []  # that this row made
        self.old_labels = {}  # of nodes
        self.changed_at = None  # until this is settled

    # The mesh

    def up(self):
        docs = [doc for path in sorted((ROOT / self.entry["base"]).glob("*.yaml"))
                for doc in yaml.safe_load_all(path.read_text()) if doc]
        self.label_nodes([doc for doc in docs if is_kind(doc, "Node")])
        self.make_namespaces([doc for doc in docs if is_kind(doc, "Namespace")])
        self.ns, = self.namespaces
        self.install_waypoint()
        docs = [doc for doc in docs if doc["kind"] not in ("Namespace", "Node", "Gateway")]
        self.place(docs)
        self.run("apply", "-f", "-", stdin=yaml.safe_dump_all(map(self.as_here, docs)), show=2)
        wait_until(f"pods of {self.ns}", lambda: self.are_there(docs), 30)
        self.wait_ready()
        self.wait_programmed()
        self.wait_served([doc for doc in docs if is_kind(doc, "Service")])
        self.changed_at = None

    def down(self):
        for ns in self.namespaces:
            delete_pods(ns)
            if ns == self.ns:
                self.command("helm", "uninstall", "waypoint", "-n", ns, "--ignore-not-found", check=False)
            self.run("delete", "namespace", ns, "--wait", timeout=180, check=False)
        for name, labels in self.old_labels.items():
            kubectl("label", "node", name, "--overwrite",
                    *[f"{key}={value}" if value else f"{key}-" for key, value in labels.items()])

    def label_nodes(self, docs):
        """The base's nodes are the cluster's first ones, for the time of the row."""
        for name, doc in zip(self.nodes, docs):
            had = get("node", name)["metadata"]["labels"]
            self.old_labels[name] = {key: had.get(key) for key in ZONE_LABELS}
            self.run("label", "node", name, "--overwrite",
                     *[f"{key}={doc['metadata']['labels'][key]}" for key in ZONE_LABELS])

    def make_namespaces(self, docs):
        """None that is there and somebody else's; of a former row's nothing is left."""
        for doc in docs:
            name = doc["metadata"]["name"]
            found = kubectl("get", "namespace", name, "--ignore-not-found", "-o", "json")
            if found:
                if OURS not in json.loads(found)["metadata"].get("labels", {}):
                    raise Failed(f"the namespace {name} is there already, and not the exercises'")
                delete_pods(name)
                kubectl("delete", "namespace", name, "--wait", timeout=180)
            self.namespaces.append(name)
            labels = {**doc["metadata"].get("labels", {}), OURS: "row"}
            doc = {**doc, "metadata": {**doc["metadata"], "labels": labels}}
            self.run("apply", "-f", "-", stdin=yaml.safe_dump(doc))
            wait_until(f"service account default of {name}", lambda name=name: kubectl(
                "get", "serviceaccount", "default", "-n", name, "--ignore-not-found"), 30)

    def install_waypoint(self):
        values = {"replicas": 1, "podDisruptionBudget": {"enabled": False}, "preStopSeconds": 0,
                  "terminationGracePeriodSeconds": 6, "args": self.entry["waypoint"],
                  "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
                  "istioNamespace": SYSTEM, "imagePullPolicy": setting("PULL_POLICY", "IfNotPresent")}
        if image := setting("WAYPOINT_IMAGE"):
            values["image"] = image
        self.command("helm", "install", "waypoint", "charts/waypoint", "-n", self.ns, "-f", "-",
                     stdin=json.dumps(values), timeout=120, show=4)

    def place(self, docs):
        """As the lab does: single pods on the first node, Deployments by turns, on the second first."""
        turn = 1
        for doc in docs:
            if is_kind(doc, "Pod"):
                doc["spec"].setdefault("nodeName", self.nodes[0])
            elif is_kind(doc, "Deployment"):
                spec = doc["spec"]["template"]["spec"]
                spec.setdefault("nodeSelector", {"kubernetes.io/hostname": self.nodes[turn % 2]})
                turn += 1

    def as_here(self, doc):
        for spec in (doc.get("spec", {}), doc.get("spec", {}).get("template", {}).get("spec", {})):
            for container in spec.get("containers", []):
                container["image"] = image_of(container["image"])
        return doc

    def are_there(self, docs):
        found = {(item["kind"], item["metadata"]["name"])
                 for item in get("deployments,pods", "-n", self.ns)["items"]}
        return {(doc["kind"], doc["metadata"]["name"]) for doc in docs
                if doc["kind"] in ("Deployment", "Pod")} <= found

    def wait_ready(self):
        """Each pod, and istio-cni has redirected those of the mesh."""
        for ns in self.namespaces:
            for what, condition in (("deployments", "Available"), ("pods", "Ready")):
                if kubectl("get", what, "-n", ns, "-o", "name"):
                    self.run("wait", what, "--all", "-n", ns, f"--for=condition={condition}",
                             f"--timeout={120 * PATIENCE:.0f}s", timeout=130, show=1)
            if get("namespace", ns)["metadata"]["labels"].get("istio.io/dataplane-mode") == "ambient":
                wait_until(f"redirection in {ns}", lambda ns=ns: self.are_redirected(ns), 60)

    @staticmethod
    def are_redirected(ns):
        return all(pod["metadata"].get("annotations", {}).get("ambient.istio.io/redirection") == "enabled"
                   for pod in get("pods", "-n", ns)["items"]
                   if pod["metadata"].get("labels", {}).get("istio.io/dataplane-mode") != "none")

    def wait_programmed(self):
        def look():
            status = get("gateway/waypoint", "-n", self.ns).get("status", {})
            return status.get("addresses") and any(
                c["type"] == "Programmed" and c["status"] == "True" for c in status.get("conditions", []))
        wait_until("an address of the Gateway", look, 60)

    def wait_served(self, services):
        """Until a request of a pod of the mesh to each service was in the waypoint's log."""
        hosts = [(service["metadata"]["name"], service["spec"]["ports"][0]["port"]) for service in services]
        pods = get("pods", "-n", self.ns, "-l", "istio.io/dataplane-mode!=none")["items"]
        # A pod of a service's name has itself for it.
        pod = min({pod["metadata"]["name"] for pod in pods} - {host for host, _ in hosts})
        program = "; ".join(PROBE.format(host=host, port=port) for host, port in hosts)

        def look():
            kubectl("exec", "-n", self.ns, pod, "--", "sh", "-c", program, check=False)
            log = kubectl("logs", "-n", self.ns, "deployment/waypoint")
            return all(f"{host}.{self.ns}" in log for host, _ in hosts)
        wait_until(f"services of {self.ns} by way of the waypoint", look, 60)

    def ztun(self, node):
        pods = get("pods", "-n", SYSTEM, "-l", "app=ztunnel", "--field-selector", f"spec.nodeName={node}")
        return pods["items"][0]["metadata"]["name"]

    def node_log(self, node, show, grep=None):
        time.sleep(0.5)  # lines are written in batches
        return self.run("logs", "-n", SYSTEM, self.ztun(node), show=show, grep=grep)

    def waypoint_metrics(self, grep, show):
        time.sleep(1)  # metrics are up to a second old
        pod = self.pods("gateway.networking.k8s.io/gateway-name=waypoint")[0]
        path = f"/api/v1/namespaces/{self.ns}/pods/{pod}:15020/proxy/stats/prometheus"
        return self.run("get", "--raw", path, show=show, grep=grep)

    def tcpdump(self, node, flags):
        """In a pod that has the node's network, at the interface of its default route."""
        if WATCHER not in kubectl("get", "pods", "-n", self.ns, "-o", "name"):
            container = {"name": WATCHER, "image": image_of("ztun-client"), "imagePullPolicy": "IfNotPresent",
                         "securityContext": {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}}
            kubectl("apply", "-f", "-", stdin=json.dumps({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": WATCHER, "namespace": self.ns},
                "spec": {"nodeName": node, "hostNetwork": True, "terminationGracePeriodSeconds": 1,
                         "containers": [container]}}))
            kubectl("wait", "-n", self.ns, f"pod/{WATCHER}", "--for=condition=Ready", "--timeout=60s", timeout=70)
        program = ("while read interface destination rest; do [ $destination = 00000000 ] && break; done "
                   '< /proc/net/route; exec timeout 20 tcpdump -i "$interface" "$@"')
        return self.start("exec", "-n", self.ns, WATCHER, "--", "sh", "-c", program, "sh", *flags)

    # Commands

    def run(self, *args, **how):
        if args[0] == "exec":
            self.settle()
        out = self.command(*self.tool, *args, **how)
        if args[0] in CHANGES:
            self.changed_at = time.monotonic()
        return out

    def start(self, *args):
        self.settle()
        return super().start(*args)

    def apply(self, *files):
        for file in files:
            text = (ROOT / file).read_text()
            docs = [doc for doc in yaml.safe_load_all(text) if doc]
            if not any(is_kind(doc, "Namespace") for doc in docs):
                self.run("apply", "-f", file)
                continue
            self.make_namespaces([doc for doc in docs if is_kind(doc, "Namespace")])
            docs = [doc for doc in docs if not is_kind(doc, "Namespace")]
            for doc in docs:
                if "nodeName" in doc.get("spec", {}):
                    doc["spec"]["nodeName"] = self.nodes[Row.nodes.index(doc["spec"]["nodeName"])]
            self.run("apply", "-f", "-", stdin=yaml.safe_dump_all(map(self.as_here, docs)))

    def settle(self):
        """Until istiod and the proxies have heard of the last change, on a machine of the given patience."""
        if self.changed_at is not None:
            time.sleep(max(0, self.changed_at + SETTLE_S - time.monotonic()))
            self.changed_at = None

    def image(self, deployment, image, container="recommendation"):
        super().image(deployment, image_of(image), container)

    def stop_load(self, process):
        """The client's end would leave the program running, and its summary unsaid."""
        del process
        kubectl("exec", "-n", self.ns, self.client, "--", "sh", "-c", "kill $(cat /tmp/load.pid)")
