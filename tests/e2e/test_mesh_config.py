# SPDX-License-Identifier: Apache-2.0
"""Configuration that changes while traffic runs: labels, reloads, broken files, pods that go."""

import json
import re
import subprocess
import time

import pytest
from lablib import stays, wait_until
from mesh.fixtures import make_mesh, module_mesh, shown  # noqa: F401
from mesh.topology import Load, echo, read_exactly, say


def build(mesh):
    mesh.pod("client", 1)
    mesh.pod("server", 2, port=8080)
    mesh.vips["server"] = mesh.service("server")


mesh = module_mesh(build)


def flow(mesh, source="client", to=("server", 8080)):
    conn = mesh.connect(source, to)
    assert lives(conn)
    return conn


def lives(conn):
    conn.sendall(b"ping")
    return read_exactly(conn, 4) == b"ping"


def active(node):
    return node.metric("workload_manager_active_proxy_count")


# The label


@pytest.mark.main
def test_label_on_and_off_client(make_mesh):
    """The client joins and leaves the mesh; flows of before go on, none fails on the way."""
    mesh = make_mesh(lambda m: (m.pod("client", 1, captured=False), m.pod("server", 2, port=8080),
                                m.pod("other", 1)))
    one = mesh.nodes[1]
    with mesh.serve("server", 8080, echo):
        conns = [flow(mesh)]
        with Load(mesh, "client", ("server", 8080)):
            for label, n, is_tunnelled in (("ambient", 2, True), ("none", 1, False),
                                           ("ambient", 2, True)):
                mesh.set_label("client", "istio.io/dataplane-mode", label)
                wait_until(lambda: active(one) == n, 5, f"{n} pods served")  # noqa: B023
                time.sleep(0.2)
                mark = one.mark()
                conns.append(flow(mesh))
                opened = wait_until(lambda: one.log(mark, message="connection opened",  # noqa: B023
                                                    direction="outbound")
                                    or not is_tunnelled, 2)  # noqa: B023
                assert bool(opened) and (opened is True) != is_tunnelled
                for conn in conns:
                    assert lives(conn), "older flows live on"
        for conn in conns:
            assert lives(conn)
            conn.close()


@pytest.mark.main
def test_label_on_and_off_server(make_mesh):
    """The server leaves the mesh and comes back under load. The client's ztun may hear of that before
    the server's has opened port 15008: connections of these milliseconds wait for it."""
    mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("server", 2, port=8080),
                                m.pod("other", 2)))
    two = mesh.nodes[2]
    with mesh.serve("server", 8080, echo):
        conns = [flow(mesh)]
        with Load(mesh, "client", ("server", 8080)):
            for label, n in (("none", 1), ("ambient", 2), ("none", 1)):
                mesh.set_label("server", "istio.io/dataplane-mode", label)
                wait_until(lambda: active(two) == n, 5)  # noqa: B023
                time.sleep(0.3)
                conns.append(flow(mesh))
                for conn in conns:
                    assert lives(conn), f"older flows live on ({label})"
        for conn in conns:
            conn.close()


def kill(node):
    node.process.kill()
    node.process.wait()


def rules_of(mesh, pod):
    return mesh.run(pod, "nft", "list", "ruleset").stdout.decode()


def listeners_of(mesh, pod):
    out = mesh.run(pod, "ss", "-Htln").stdout.decode()
    return set(map(int, re.findall(r":(15\d\d\d) ", out)))


def test_nothing_is_left_in_a_pod_that_left(make_mesh):
    mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("server", 2, port=8080)))
    assert listeners_of(mesh, "client") >= {15001, 15006, 15008}
    assert "redirect" in rules_of(mesh, "client")
    mesh.set_label("client", "istio.io/dataplane-mode", "none")
    wait_until(lambda: active(mesh.nodes[1]) == 0, 5)
    wait_until(lambda: not listeners_of(mesh, "client"), 5)
    assert rules_of(mesh, "client").strip() == ""
    rules = mesh.run("client", "ip", "rule").stdout.decode()
    assert "0x111" not in rules, rules


def test_namespace_label(make_mesh):
    """The namespace's label decides for pods without one of their own."""
    mesh = make_mesh(lambda m: (m.pod("a", 1), m.pod("b", 1, captured=True)))
    one = mesh.nodes[1]
    assert active(one) == 2
    mesh.write_namespace("demo", ambient=False)
    wait_until(lambda: active(one) == 1, 5)
    mesh.write_namespace("demo")
    wait_until(lambda: active(one) == 2, 5)


def test_pods_that_are_not_enrolled(make_mesh):
    """Host-network pods, pods with a sidecar, pods that are done, pods of other nodes."""
    def objects(mesh):
        mesh.pod("a", 1)
        mesh.pod("host", 1, host_network=True)
        mesh.pod("sidecar", 1, annotations={"sidecar.istio.io/status": "{}"})
        mesh.pod("elsewhere", 2)
        done = mesh.pod("done", 1)
        done.doc["status"]["phase"] = "Succeeded"
        mesh.apply(done.doc)

    mesh = make_mesh(objects)
    assert active(mesh.nodes[1]) == 1 and active(mesh.nodes[2]) == 1
    assert not listeners_of(mesh, "sidecar") and not listeners_of(mesh, "done")
    assert 15001 not in listeners_of(mesh, "node1")


def test_pending_pod(make_mesh):
    """A namespace that is not there yet: not ready, with the reason; then served."""
    mesh = make_mesh(lambda m: m.pod("client", 1))
    pod = mesh.pod("late", 1, wire=False)
    one = mesh.nodes[1]

    def is_pending():
        status, text = one.get("/healthz/ready", 15021)
        return status == 500 and "late" in text

    wait_until(is_pending, 5)
    assert one.metric("workload_manager_pending_proxy_count") == 1
    mesh.wire_pod(pod)
    wait_until(lambda: one.get("/healthz/ready", 15021)[0] == 200, 10)
    assert active(one) == 2


# Reloads


@pytest.mark.main
def test_reload_under_load(mesh):
    """Objects come, change and go, many a second: no request fails, running flows do not notice."""
    with mesh.serve("server", 8080, echo):
        conn = flow(mesh)
        with Load(mesh, "client", (mesh.vips["server"], 80), threads=2):
            for i in range(60):
                mesh.service(f"extra{i % 7}", port=1000 + i)
                mesh.policy(f"allow{i % 3}", "DENY", [{"from": [{"source": {
                    "namespaces": [f"nobody{i}"]}}]}])
                mesh.pods["server"].doc["metadata"]["labels"]["round"] = str(i)
                mesh.apply(mesh.pods["server"].doc)
                time.sleep(0.02)
                assert lives(conn)
            for i in range(7):
                mesh.delete("Service", f"extra{i}")
            for i in range(3):
                mesh.delete("AuthorizationPolicy", f"allow{i}")
            time.sleep(0.2)
        assert lives(conn)
        conn.close()


@pytest.mark.main
def test_broken_yaml_keeps_the_last_good_state(mesh):
    """Counted, logged once, shown; the rest goes on. A repaired file is taken at once."""
    two = mesh.nodes[2]
    path = mesh.config / "extra.yaml"
    good = ("apiVersion: v1\nkind: Service\nmetadata: {name: extra, namespace: demo}\n"
            "spec: {clusterIP: 10.96.9.9, selector: {app: server}, "
            "ports: [{port: 80, targetPort: 8080}]}\n")
    with mesh.serve("server", 8080, echo):
        mesh.settle(lambda: path.write_text(good))
        try:
            assert mesh.ask("client", ("10.96.9.9", 80)) == b"hello world"
            for broken, kind in (("apiVersion: v1\nkind: Service\nmetadata: {name: [\n", "unknown"),
                                 (good.replace("port: 80,", "port: 99999,"), "Service"),
                                 (good.replace("ports:", "prots:"), "Service")):
                mark, since = two.mark(), two.since()
                path.write_text(broken)
                lines = wait_until(lambda: two.log(mark, scope="ztun::config",  # noqa: B023
                                                   level="error"), 5, "an error is logged")
                assert "extra.yaml" in str(lines[0])
                assert since("config_objects_rejected_total", kind=kind) == 1
                assert since("config_objects_rejected_total") == 1
                assert since("config_reload_total", result="partial") >= 1
                # another change does not log it once more
                mesh.settle(lambda: mesh.service("unrelated", port=int(time.time()) % 9999 + 1))
                assert len(two.log(mark, scope="ztun::config", level="error")) == len(lines)
                assert mesh.ask("client", ("10.96.9.9", 80)) == b"hello world", broken
            mesh.settle(lambda: path.write_text(good.replace("10.96.9.9", "10.96.9.10")))
            assert mesh.ask("client", ("10.96.9.10", 80)) == b"hello world"
        finally:
            path.unlink()
            mesh.delete("Service", "unrelated")


def test_broken_document_at_start(make_mesh):
    """There is no last good version of it yet: ztun goes without, says so and names it."""
    def objects(m):
        m.pod("client", 1)
        (m.config / "bad.yaml").write_text("apiVersion: security.istio.io/v1\n"
                                           "kind: AuthorizationPolicy\n"
                                           "metadata: {name: bad, namespace: demo}\n"
                                           "spec: {action: DENYY}\n")

    mesh = make_mesh(objects)
    for node in mesh.nodes.values():
        line = node.log(level="error")[0]
        assert "as if it were not there" in line["message"], line
        assert "bad.yaml:4:" in line["problem"] and "did you mean `DENY`" in line["problem"], line
        assert "bad.yaml" in node.get("/status")[1]


@pytest.mark.main
def test_broken_policy_at_a_restart(make_mesh):
    """With --state-dir the last good version of it is in force in the next process, too."""
    def objects(m):
        m.pod("client", 1)
        m.pod("server", 2, port=8080)
        m.policy("no", "DENY", [{"from": [{"source": {"namespaces": ["demo"]}}]}])

    mesh = make_mesh(objects, start=False)
    one, two = mesh.nodes[1], mesh.nodes[2]
    one.start()
    two.start(f"--state-dir={mesh.dir}/state")
    path = mesh.config / "AuthorizationPolicy-demo-no.json"
    good = path.read_text()
    with mesh.serve("server", 8080, echo):
        mesh.fails("client", ("server", 8080))
        path.write_text(good.replace("DENY", "DENYY"))
        wait_until(lambda: two.log(level="error", scope="ztun::config"), 5)
        for _ in range(2):
            kill(two)
            mark = two.mark()
            two.start(f"--state-dir={mesh.dir}/state")
            line = wait_until(lambda: two.log(mark, scope="ztun::config", level="error"), 2)[0]
            assert "last good state" in line["message"]
            mesh.fails("client", ("server", 8080))
        mesh.settle(lambda: path.write_text(good.replace('"demo"', '"other"')), [two])
        assert mesh.ask("client", ("server", 8080)) == b"hello world"


def test_no_rules_in_a_deny_policy_is_an_error(mesh):
    """As Istio's validation: it would be a policy without any effect."""
    mark = mesh.nodes[2].mark()
    mesh.policy("void", "DENY")
    wait_until(lambda: "void" in str(mesh.nodes[2].log(mark, level="error")), 5)
    mesh.delete("AuthorizationPolicy", "void")


def test_kubectl_list_of_many(mesh):
    """One file with a List, as `kubectl get -o json` prints it; written in place, not renamed."""
    path = mesh.config / "list.json"
    items = [{"apiVersion": "v1", "kind": "Service",
              "metadata": {"name": f"many{i}", "namespace": "demo", "resourceVersion": "1",
                           "creationTimestamp": "2026-01-01T00:00:00Z", "uid": f"u{i}"},
              "spec": {"clusterIP": f"10.96.7.{i}", "selector": {"app": "server"},
                       "type": "ClusterIP", "sessionAffinity": "None",
                       "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]},
              "status": {"loadBalancer": {}}} for i in range(1, 200)]
    with mesh.serve("server", 8080, echo):
        try:
            mesh.settle(lambda: path.write_text(json.dumps(
                {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""},
                 "items": items})))
            assert mesh.ask("client", ("10.96.7.1", 80)) == b"hello world"
            assert mesh.ask("client", ("10.96.7.199", 80)) == b"hello world"
        finally:
            mesh.settle(path.unlink)


# Pods that go


@pytest.fixture
def pair(make_mesh):
    """A service with an endpoint on each of two nodes, a client on the third."""
    def objects(mesh):
        mesh.pod("client", 3)
        mesh.pod("a", 1, labels={"app": "web"}, port=8080)
        mesh.pod("b", 2, labels={"app": "web"}, port=8080)
        mesh.vips["web"] = mesh.service("web")

    mesh = make_mesh(objects, nodes=3)
    mesh.serve("a", 8080, say("a"))
    mesh.serve("b", 8080, say("b"))
    return mesh


@pytest.mark.main
def test_pod_deletion_tells_the_peers(pair):
    """The object goes: within a second the client's flow is reset, not ended as if complete, and
    the log on both sides says why."""
    mesh = pair
    conn = mesh.connect("client", ("b", 8080))
    conn.sendall(b"x")
    assert read_exactly(conn, 1) == b"b"
    mark, start = mesh.nodes[2].mark(), time.monotonic()
    mesh.delete("Pod", "b")
    conn.settimeout(3)
    with pytest.raises(ConnectionResetError):
        conn.recv(1)
        pytest.fail("looks complete")
    assert time.monotonic() - start < 1
    line = mesh.nodes[2].access(mark, direction="inbound")[0]
    assert "removed" in line["error"], line
    conn.close()


@pytest.mark.main
def test_pod_deletion_under_load(pair):
    """A rollout as Kubernetes does it: deletionTimestamp, not ready, gone. No request fails."""
    mesh = pair
    with Load(mesh, "client", (mesh.vips["web"], 80), threads=2) as load:
        wait_until(lambda: {b"a", b"b"} <= set(load.answers), 5)
        pod = mesh.pods["b"]
        pod.doc["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        pod.doc["metadata"]["deletionGracePeriodSeconds"] = 30
        mesh.apply(pod.doc)
        time.sleep(0.2)
        mesh.set_ready("b", False)
        time.sleep(0.3)
        n = len(load.answers)
        wait_until(lambda: len(load.answers) > n + 50, 10)
        assert b"b" not in load.answers[n + 5:], "a terminating pod gets no new connections"
        mesh.delete("Pod", "b")
        time.sleep(0.5)


def test_terminating_pod_keeps_running_flows(pair):
    mesh = pair
    conn = mesh.connect("client", ("b", 8080))
    conn.sendall(b"x")
    assert read_exactly(conn, 1) == b"b"
    pod = mesh.pods["b"]
    pod.doc["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    mesh.apply(pod.doc)
    time.sleep(0.3)
    for _ in range(5):
        conn.sendall(b"x")
        assert read_exactly(conn, 1) == b"b"
        time.sleep(0.05)
    # direct calls are still served, on a fresh tunnel
    assert mesh.ask("client", ("b", 8080)) == b"b"
    conn.close()


def test_sudden_pod_deletion_under_load(pair):
    """The object goes without notice, and the pod with it. Requests that begin afterwards meet
    the other endpoint only; those under way on the very pod may fail."""
    mesh = pair
    load = Load(mesh, "client", (mesh.vips["web"], 80))
    with load:
        time.sleep(0.1)
        start = time.monotonic()
        mesh.delete("Pod", "b")
        time.sleep(1)
        load.failures[:] = [(t, text) for t, text in load.failures if t > start + 0.1]


@pytest.mark.main
def test_connect_retry_dead_application(pair):
    """One endpoint is ready, but nothing listens there: its ztun says 503, another is taken."""
    mesh = pair
    mesh.servers[1].close()
    with Load(mesh, "client", (mesh.vips["web"], 80), interval=0) as load:
        wait_until(lambda: len(load.answers) > 100, 10)
    assert set(load.answers) == {b"a"}


def test_connect_retry_dead_ztun(pair):
    """The ztun of one endpoint's node is dead: connections to 15008 are refused."""
    mesh = pair
    mesh.nodes[2].process.kill()
    mesh.nodes[2].process.wait()
    with Load(mesh, "client", (mesh.vips["web"], 80), interval=0) as load:
        wait_until(lambda: len(load.answers) > 50, 10)
    assert set(load.answers) == {b"a"}


def test_connect_retry_plain_endpoint(make_mesh):
    """Of two endpoints outside the mesh one refuses connections."""
    def objects(mesh):
        mesh.pod("client", 1)
        mesh.pod("a", 1, captured=False, labels={"app": "web"}, port=8080)
        mesh.pod("b", 2, captured=False, labels={"app": "web"}, port=8080)
        mesh.vips["web"] = mesh.service("web")

    mesh = make_mesh(objects)
    with mesh.serve("a", 8080, say("a")), Load(mesh, "client", (mesh.vips["web"], 80),
                                               interval=0) as load:
        wait_until(lambda: len(load.answers) > 100, 10)


def test_endpoint_that_is_not_ready(pair):
    mesh = pair
    mesh.settle(lambda: mesh.set_ready("b", False))
    assert {mesh.ask("client", (mesh.vips["web"], 80)) for _ in range(20)} == {b"a"}
    mesh.settle(lambda: mesh.set_ready("b", True))
    assert {mesh.ask("client", (mesh.vips["web"], 80)) for _ in range(40)} == {b"a", b"b"}


def test_publish_not_ready_addresses(pair):
    mesh = pair
    mesh.settle(lambda: (mesh.set_ready("b", False),
                         mesh.service("web2", selector={"app": "web"},
                                      publishNotReadyAddresses=True)))
    vip = "10.96.0.2"
    assert {mesh.ask("client", (vip, 80)) for _ in range(40)} == {b"a", b"b"}


def test_namespace_is_let_go(make_mesh):
    """2 seconds after a pod's removal nothing of ztun's refers to its network namespace: the
    kernel then ends it, and its link with it."""
    mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("server", 2, port=8080),
                                m.pod("other", 2)))
    with mesh.serve("server", 8080, echo):
        conn = flow(mesh)
        assert "vserver" in mesh.run("node2", "ip", "-br", "link").stdout.decode()
        mesh.delete("Pod", "server")
        wait_until(lambda: active(mesh.nodes[2]) == 1, 5)
        conn.close()
    mesh.servers.clear()  # ours would keep it, too
    netns = mesh.pods["server"].netns
    subprocess.run(["ip", "netns", "del", netns], check=True)
    mesh.namespaces.remove(netns)
    wait_until(lambda: "vserver" not in mesh.run("node2", "ip", "-br", "link").stdout.decode(), 3,
               "the namespace is gone")


def test_pod_comes_again(make_mesh):
    """The same name, another uid, another namespace: what a StatefulSet does."""
    mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("server", 2, port=8080)))
    with mesh.serve("server", 8080, say("old")):
        assert mesh.ask("client", ("server", 8080)) == b"old"
    netns = mesh.pods["server"].netns
    mesh.servers.clear()
    subprocess.run(["ip", "netns", "del", netns], check=True)
    mesh.namespaces.remove(netns)
    mesh.delete("Pod", "server")
    wait_until(lambda: active(mesh.nodes[2]) == 0, 5)
    wait_until(lambda: "vserver" not in mesh.run("node2", "ip", "-br", "link").stdout.decode(), 3)
    new = mesh.pod("server", 2, port=8080)
    new.doc["metadata"]["uid"] = "uid-server-2"
    mesh.apply(new.doc)
    wait_until(lambda: active(mesh.nodes[2]) == 1, 5)
    with mesh.serve("server", 8080, say("new")):
        wait_until(lambda: mesh.ask("client", ("server", 8080)) == b"new", 3)
    stays(lambda: active(mesh.nodes[2]) == 1, 0.3)
