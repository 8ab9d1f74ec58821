# SPDX-License-Identifier: Apache-2.0
"""A large mesh: services and pods that are made through the API alone. What the proxies and the
waypoint need for it, and how long a change takes until it counts, before and with all of them. Nothing
is said about how fast; all has to arrive, and memory has to be given back."""

import contextlib
import json
import statistics
import time

import pytest
from apilib import Api, Crowd
from kubelib import SETTINGS, apply, get, kubectl, metadata, pod, policy, service, wait_until
from test_20_policy import principal
from test_30_istioctl import ask_json
from test_90_charts import install_waypoint, uninstall_waypoint

LOOK = """
import json, os
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        words = open(f"/proc/{pid}/cmdline").read().split(chr(0))
        name = os.path.basename(words[0])
        if words[1:3] == ["proxy", "ztunnel"] or name in ("waypoint", "pilot-discovery"):
            sizes = {line.split(":")[0]: int(line.split()[1])
                     for line in open(f"/proc/{pid}/smaps_rollup").read().splitlines()[1:]}
            ticks = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13]
            found.append({"name": "proxy" if words[1:2] == ["proxy"] else name,
                          "pss": sizes["Pss"] / 1024, "dirty": sizes["Private_Dirty"] / 1024,
                          "cpu": sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")})
    except (OSError, IndexError, ValueError, KeyError):
        pass
print(json.dumps(found))
"""


class Lookers:
    """A pod on each node that sees its processes."""

    def __init__(self, world):
        self.ns, self.nodes = world.plain.name, world.nodes
        for node in self.nodes:
            made = pod(f"looker-{node}", self.ns, node, account="default")
            made["spec"] |= {"hostPID": True, "volumes": [], "containers": [
                {"name": "look", "image": SETTINGS.app_image,
                 "imagePullPolicy": SETTINGS.pull_policy, "securityContext": {"privileged": True},
                 "command": ["python3", "-c", "import time\nwhile True: time.sleep(1000)"]}]}
            apply(made)
        world.plain.wait_ready(*[f"looker-{node}" for node in self.nodes])

    def look(self):
        """{(node, name): {pss, dirty, cpu}}: MiB, MiB, seconds. Of two of a name on a node, the
        larger one."""
        found = {}
        for node in self.nodes:
            rows = json.loads(kubectl("exec", "-n", self.ns, f"looker-{node}", "--", "python3",
                                      "-c", LOOK))
            for row in sorted(rows, key=lambda row: row["pss"]):
                found[node, row["name"]] = row
        return found

    def delete(self):
        kubectl("delete", "pod", "-n", self.ns, *[f"looker-{node}" for node in self.nodes])


class Changes:
    """Changes of the mesh, and the time until a client sees each. The namespace's own pods alone are
    concerned."""

    def __init__(self, api, world):
        self.api, self.world, self.ns = api, world, world.mesh.name
        self.status = 418
        apply(service("moving", self.ns, {"app": "near"}), service("via", self.ns, {"app": "far"}))
        install_waypoint(self.ns)
        kubectl("label", "service", "via", "-n", self.ns, "istio.io/use-waypoint=waypoint")
        apply(self.rule())
        world.client.wait_status("http://via:8080/", {self.status})

    def rule(self):
        return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                "metadata": metadata("via", self.ns), "spec": {"hosts": ["via"], "http": [
                    {"directResponse": {"status": self.status, "body": {"string": "{}"}}}]}}

    def timed(self, source, url, field, value, *call):
        begin = time.monotonic()
        self.api.call(*call)
        answer = source.tell(do="until", url=url, field=field, value=value,
                             timeout=120 * SETTINGS.patience)
        assert "timeout" not in answer, (call, answer)
        return time.monotonic() - begin

    def deny(self, target):
        """A policy of the server's proxy; then it goes. Seconds until each counts."""
        where = f"/apis/security.istio.io/v1/namespaces/{self.ns}/authorizationpolicies"
        rule = {"from": [{"source": {"principals": [principal(self.world, "client")]}}]}
        made = policy("timed", self.ns, {"action": "DENY", "rules": [rule],
                                         "selector": {"matchLabels": {"app": target}}})
        url = f"http://{target}:8080/"
        return (self.timed(self.world.client, url, "status", None, "POST", where, made),
                self.timed(self.world.client, url, "status", 200, "DELETE", f"{where}/timed"))

    def move(self, source, target):
        """A service's other pod; the client's proxy chooses."""
        return self.timed(
            source, "http://moving:8080/", "pod", target, "PATCH",
            f"/api/v1/namespaces/{self.ns}/services/moving",
            {"spec": {"selector": {"app": target}}}, "application/merge-patch+json")

    def reply(self):
        """A VirtualService; the waypoint reads it from the API."""
        self.status = 419 if self.status == 418 else 418
        return self.timed(
            self.world.client, "http://via:8080/", "status", self.status, "PATCH",
            f"/apis/networking.istio.io/v1/namespaces/{self.ns}/virtualservices/via",
            {"spec": self.rule()["spec"]}, "application/merge-patch+json")

    def measure(self, n):
        world, found = self.world, {}
        for _ in range(n):
            for target in ("near", "far"):
                node = world.mesh.apps[target].node
                on, off = self.deny(target)
                found.setdefault(("policy comes", node), []).append(on)
                found.setdefault(("policy goes", node), []).append(off)
            for source in (world.client, world.far):
                key = ("service has another pod", source.node)
                found.setdefault(key, []).append(self.move(source, "far"))
                found[key].append(self.move(source, "near"))
            found.setdefault(("VirtualService changes", "waypoint"), []).append(self.reply())
        return found

    def delete(self):
        kubectl("delete", "virtualservice", "via", "-n", self.ns, "--ignore-not-found")
        kubectl("delete", "service", "via", "moving", "-n", self.ns, "--ignore-not-found")
        uninstall_waypoint(self.ns)


def n_endpoints(node):
    """Endpoints of all services, as the proxy of a node knows them."""
    return sum(len(s["endpoints"]) for s in ask_json(node, "service"))


@contextlib.contextmanager
def two_kinds(world, proxies):
    """The other proxy, if there is one, has the far node. Gives names for the nodes' proxies."""
    near, far = world.nodes
    if not SETTINGS.peer_image:
        yield {near: SETTINGS.image, far: SETTINGS.image}
        return
    with proxies.with_peer(far, SETTINGS.peer_image):
        yield {near: SETTINGS.image, far: SETTINGS.peer_image}


class Report:
    def __init__(self, kinds):
        self.kinds, self.sizes, self.lines = kinds, [], []

    def size(self, when, found):
        self.sizes.append((when, found))

    def text(self, changes):
        columns = sorted({key for _, found in self.sizes for key in found}, key=str)
        names = [f"{self.kinds[node]} ({node})" if name == "proxy" else f"{name} ({node})"
                 for node, name in columns]
        lines = ["| Pss (Private_Dirty), MiB; CPU s | " + " | ".join(names) + " |",
                 "|---|" + "---|" * len(columns)]
        for when, found in self.sizes:
            cells = [f"{row['pss']:.1f} ({row['dirty']:.1f}); {row['cpu']:.1f}" if row else ""
                     for row in (found.get(key) for key in columns)]
            lines.append(f"| {when} | " + " | ".join(cells) + " |")
        lines += ["", "| Seconds until it counts: median (least to most) | by | before | with all |",
                  "|---|---|---|---|"]
        for key in changes[0]:
            cells = [f"{statistics.median(found[key]):.2f} ({min(found[key]):.2f} to "
                     f"{max(found[key]):.2f})" for found in changes]
            lines.append(f"| {key[0]} | {self.kinds.get(key[1], key[1])} | "
                         + " | ".join(cells) + " |")
        return "\n".join([*self.lines, "", *lines, ""])


@pytest.mark.timeout(7200 * SETTINGS.patience)
def test_many_services_and_pods(world, proxies, record_property):
    n_services, n_pods = SETTINGS.scale_services, SETTINGS.scale_pods
    api = Api()
    crowd = Crowd(api, f"{SETTINGS.prefix}-scale", n_services, n_pods)
    with contextlib.ExitStack() as stack:
        stack.callback(api.close)
        kinds = stack.enter_context(two_kinds(world, proxies))
        report, lookers = Report(kinds), Lookers(world)
        stack.callback(lookers.delete)
        changes = Changes(api, world)
        stack.callback(changes.delete)
        before = changes.measure(SETTINGS.scale_rounds)
        report.size("before", lookers.look())
        base = {node: n_endpoints(node) for node in world.nodes}

        stack.callback(crowd.delete)
        begin = time.monotonic()
        crowd.create()
        written = time.monotonic()
        wait_until(lambda: all(n_endpoints(node) >= base[node] + n_pods for node in world.nodes),
                   1800, 2)
        settled = time.monotonic()
        report.lines.append(
            f"{n_services} services, {n_pods} pods: written in {written - begin:.0f} s, known to the "
            f"proxies of both nodes {settled - written:.0f} s later.")
        time.sleep(10)  # what allocators give back late
        report.size("with all", lookers.look())
        full = changes.measure(SETTINGS.scale_rounds)
        report.size("after the changes", lookers.look())

        crowd.delete()
        wait_until(lambda: all(n_endpoints(node) <= base[node] for node in world.nodes), 1800, 2)
        time.sleep(10)
        report.size("deleted", lookers.look())
        answers = world.client.get("http://server:8080/", n=20)
        assert all(answer.get("status") == 200 for answer in answers), answers
    text = report.text([before, full])
    print(text)
    record_property("scale", text)
    if SETTINGS.scale_results:
        with open(SETTINGS.scale_results, "a", encoding="utf-8") as results:
            results.write(text + "\n")
    small, large, gone = (report.sizes[i][1] for i in (0, 1, 3))
    for node, kind in kinds.items():
        if kind == SETTINGS.image:
            key = (node, "proxy")
            assert gone[key]["dirty"] < small[key]["dirty"] + (
                large[key]["dirty"] - small[key]["dirty"]) / 2 + 2, "memory is given back"
