# SPDX-License-Identifier: Apache-2.0
"""Pods that istio-cni's node agent hands over (ZDS), with redirection rules of its own. Node 1 has the
agent; node 2 finds its pods in the files, as both find their workloads."""

import contextlib
import json
import os
import time
from collections import Counter

import pytest
from lablib import ZTUN, wait_until
from mesh.cni import ADD, DEL, Agent, add_message, field, redirect, uid_of
from mesh.fixtures import shown  # noqa: F401
from mesh.netns import ip_batch
from mesh.topology import Mesh, echo, read_exactly, who

NAMELESS = {"ztun.io/netns": ""}
LOCAL = ("client", "server", "other", "spare")


@pytest.fixture(scope="module")
def mesh():
    made = Mesh()
    made.agent = Agent(made.dir / "zds.sock")
    try:
        for name in LOCAL:
            made.pod(name, 1, annotations=NAMELESS, port=8080)
            redirect(made, made.pods[name])
        made.pod("far", 2, port=8080)
        made.vips = {name: made.service(name) for name in ("server", "far")}
        node = made.nodes[1]
        node.args = ["--inpod-uds", made.agent.path]
        node.start(wait=False)
        made.nodes[2].start(wait=False)
        made.agent.conn = made.agent.snapshot(made.pods[name] for name in LOCAL)
        for each in made.nodes.values():
            each.wait_ready()
        yield made
        made.gauges_are_zero()
    finally:
        made.agent.close()
        bad = made.stop()
    assert not bad, "\n".join(bad)


@pytest.fixture
def conn(mesh):
    """The connection, as the last test has left it."""
    return mesh.agent.conn


def status(node):
    return json.loads(node.get("/status")[1])


def state(node, uid):
    found = [pod for pod in status(node)["pods"] if pod["uid"] == uid]
    return found[0] if found else None


def reconnect(mesh, *names):
    """A new connection; its snapshot names these pods, or all."""
    mesh.agent.conn = mesh.agent.snapshot(mesh.pods[name] for name in names or LOCAL)
    mesh.nodes[1].wait_ready()
    return mesh.agent.conn


@contextlib.contextmanager
def running_flow(mesh, source="client", to="far"):
    """A connection that has to work until the end of the block."""
    with mesh.serve(to, 8080, echo), mesh.connect(source, (mesh.vips[to], 80)) as flow:
        def beat():
            flow.sendall(b"12345678")
            assert read_exactly(flow, 8) == b"12345678"

        beat()
        yield beat
        beat()


@contextlib.contextmanager
def no_fd_stays(node):
    """The block leaves as many descriptors as there were."""
    def all_of():
        directory = f"/proc/{node.process.pid}/fd"
        out = []
        for fd in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):
                out.append(os.readlink(f"{directory}/{fd}").split(":[")[0])
        return Counter(out)

    before = all_of()
    yield

    def is_quiet():
        more = all_of() - before
        assert not more, more
        return True

    wait_until(is_quiet, 5)


@pytest.mark.main
def test_traffic(mesh):
    """To another node, from there, and on the node; with identities, and the client's address."""
    node, far = mesh.nodes[1], mesh.nodes[2]
    mark, mark_far = node.mark(), far.mark()
    with mesh.serve("far", 8080, who), mesh.serve("server", 8080, who):
        assert mesh.ask("client", (mesh.vips["far"], 80)).decode() == mesh.pods["client"].ip
        assert mesh.ask("far", (mesh.vips["server"], 80)).decode() == mesh.pods["far"].ip
        assert mesh.ask("other", (mesh.vips["server"], 80)).decode() == mesh.pods["other"].ip
    line = far.access(mark_far, direction="inbound")[0]
    assert line["src.identity"] == mesh.pods["client"].identity
    assert line["dst.identity"] == mesh.pods["far"].identity
    sources = {line["src.identity"] for line in node.access(mark, n=2, direction="inbound")}
    assert sources == {mesh.pods["far"].identity, mesh.pods["other"].identity}


@pytest.mark.main
def test_rules_are_the_agents(mesh):
    """None of ours are made; the agent's are seen."""
    for name in LOCAL:
        assert b"inet ztun" not in mesh.run(name, "nft", "list", "ruleset").stdout
        pod = state(mesh.nodes[1], uid_of(mesh.pods[name]))
        assert pod["state"] == "Up" and pod["isRedirected"] and pod["isKnown"], pod
        assert pod["identity"] == mesh.pods[name].identity
    assert not mesh.nodes[1].log(message="nothing redirects the pod's connections: it is not in the mesh")
    agent = status(mesh.nodes[1])["nodeAgent"]
    assert agent["isConnected"] and agent["hasSnapshot"] and agent["pods"] >= len(LOCAL), agent
    assert mesh.nodes[1].metric("workload_manager_active_proxy_count") == len(LOCAL)
    dump = mesh.nodes[1].config_dump()
    info = dump["workloadState"][uid_of(mesh.pods["client"])]["info"]
    assert info == {"name": "client", "namespace": "demo", "trustDomain": "cluster.local",
                    "serviceAccount": "client"}
    assert dump["config"]["inpodUds"] == mesh.agent.path and dump["config"]["redirect"] is False


def test_missing_rules_are_told_once(mesh, conn):
    mesh.pod("bare", 1, annotations=NAMELESS)
    node, pod, mark = mesh.nodes[1], mesh.pods["bare"], mesh.nodes[1].mark()
    assert conn.add(pod) == ""
    message = "nothing redirects the pod's connections: it is not in the mesh"
    wait_until(lambda: node.log(mark, message=message, uid=uid_of(pod)), 5)
    wait_until(lambda: not state(node, uid_of(pod))["isRedirected"], 5)
    assert node.get("/healthz/ready", 15021)[0] == 200
    mesh.delete("Pod", "bare")
    assert conn.add(pod) == ""
    assert conn.delete(uid_of(pod)) == ""
    wait_until(lambda: state(node, uid_of(pod)) is None, 5)
    assert len(node.log(mark, message=message)) == 1


@pytest.mark.main
def test_the_same_again_is_nothing(mesh, conn):
    """Adds that are repeated, and deletes of what is not there."""
    node = mesh.nodes[1]
    with running_flow(mesh), no_fd_stays(node):
        since = node.since()
        for _ in range(20):
            assert conn.add(mesh.pods["client"]) == ""
        assert conn.delete("never-heard-of") == ""
        assert since("workload_manager_proxies_started_total") == 0
        assert since("workload_manager_proxies_stopped_total") == 0


def bad_packets(mesh):
    """(what, packet, descriptors, what the error says)"""
    pod = mesh.pods["spare"]
    netns = os.open(f"/run/netns/{pod.netns}", os.O_RDONLY)
    other = os.open(f"/run/netns/{mesh.pods['other'].netns}", os.O_RDONLY)
    own = os.open(f"/run/netns/{mesh.nodes[1].netns}", os.O_RDONLY)
    file = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    add = add_message("bad", pod)
    try:
        yield "garbage", b"\xff\xfe\xfd", [], "no WorkloadRequest"
        yield "nothing", b"", [], "empty"
        yield "nothing with a descriptor", b"", [netns], "empty"
        yield "unknown kind", field(9, b"what is this"), [], "kind that is not known"
        yield "unknown kind with descriptors", field(9, b"x"), [netns, other], "not known"
        yield "cut", add[:-2], [netns], "no WorkloadRequest"
        yield "too long", add + field(15, bytes(8000)), [netns], "too long"
        yield "no uid", add_message("", pod), [netns], "names no uid"
        yield "no info", field(ADD, field(1, "bad")), [netns], "without its info"
        yield "bad account", add_message("bad", pod, "a/b"), [netns], "service account"
        yield "no namespace", add, [], "without its network namespace"
        yield "two namespaces", add, [netns, other], "more than one"
        yield "253 descriptors", add, [netns] * 253, "more than one"
        yield "no namespace at all", add, [file], "no network namespace"
        yield "the proxy's own", add, [own], "the proxy's own"
        yield "a delete with a descriptor", field(DEL, field(2, "bad")), [netns], "descriptor"
    finally:
        for fd in (netns, other, own, file):
            os.close(fd)


@pytest.mark.main
def test_bad_packets(mesh, conn):
    """Each is answered with its error, leaves no descriptor, and the next one is served."""
    node = mesh.nodes[1]
    with running_flow(mesh) as beat, no_fd_stays(node):
        since = node.since()
        for what, packet, fds, error in bad_packets(mesh):
            assert error in conn.ask(packet, fds), what
            beat()
        assert conn.add(mesh.pods["client"]) == "", "the connection is as good as before"
        assert since("workload_manager_proxies_started_total") == 0
        assert node.get("/healthz/ready", 15021)[0] == 200


def test_requests_that_do_not_wait(mesh, conn):
    """An agent that sends many at once gets as many answers, in order."""
    with no_fd_stays(mesh.nodes[1]):
        for i in range(10):
            conn.add(mesh.pods["client"], wait=False)
            conn.send(field(9, b"x") if i % 2 else field(DEL, field(2, "nobody")))
        answers = [conn.answer() for _ in range(20)]
    assert answers[::2] == [""] * 10
    assert [bool(answer) for answer in answers[1::2]] == [False, True] * 5


@pytest.mark.main
@pytest.mark.parametrize("kind", ["second snapshot", "late keep"])
def test_out_of_order(mesh, conn, kind):
    """Refused, and settled by a new connection with a new snapshot."""
    with running_flow(mesh):
        error = conn.snapshot_sent() if kind == "second snapshot" else conn.keep("zds-client")
        assert "snapshot" in error.lower()
        assert conn.has_ended()
        reconnect(mesh)


@pytest.mark.main
def test_reconnect_under_flows(mesh, conn):
    """The agent restarts: flows run, new ones are served, readiness waits for the new snapshot; what
    it does not name goes when that ends, not before."""
    node = mesh.nodes[1]
    with running_flow(mesh) as beat:
        mesh.agent.stop_listening()
        conn.close()
        wait_until(lambda: "node agent: " in node.get("/healthz/ready", 15021)[1], 5)
        beat()
        assert mesh.ask("other", (mesh.vips["far"], 80)) == b"hello world"
        mesh.agent.listen()
        conn = mesh.agent.conn = mesh.agent.accept()
        assert conn.add(mesh.pods["client"]) == ""
        assert conn.keep(uid_of(mesh.pods["server"])) == ""
        assert conn.keep(uid_of(mesh.pods["other"])) == ""
        assert conn.keep("never-here") == ""
        beat()
        assert state(node, uid_of(mesh.pods["spare"]))["state"] == "Up"
        assert "snapshot is not complete" in node.get("/healthz/ready", 15021)[1]
        assert conn.snapshot_sent() == ""
        wait_until(lambda: state(node, uid_of(mesh.pods["spare"])) is None, 5)
        node.wait_ready()
        beat()
        assert mesh.ask("other", (mesh.vips["far"], 80)) == b"hello world"
    assert conn.add(mesh.pods["spare"]) == ""
    node.wait_ready()


def test_reset_in_the_middle(mesh, conn):
    """The agent goes between a request and its answer, again and again."""
    node = mesh.nodes[1]
    with running_flow(mesh) as beat, no_fd_stays(node):
        for _ in range(3):
            conn.delete(uid_of(mesh.pods["spare"]))
            conn.add(mesh.pods["spare"], wait=False)
            conn.close()
            beat()
            conn = reconnect(mesh)
        assert state(node, uid_of(mesh.pods["spare"]))["state"] == "Up"


@pytest.mark.main
def test_a_pod_that_cannot_be_served(mesh, conn):
    """Its port is taken: an error with the reason, pending, served later; asked again: what is."""
    node, pod = mesh.nodes[1], mesh.pods["spare"]
    assert conn.delete(uid_of(pod)) == ""
    wait_until(lambda: b":15006" not in mesh.run("spare", "ss", "-Hltn").stdout, 5)
    with contextlib.closing(mesh.listen("spare", 15006)):
        assert "cannot listen on port 15006" in conn.add(pod)
        assert "15006" in conn.add(pod), "still so"
        assert "15006" in node.get("/healthz/ready", 15021)[1]
        assert node.metric("workload_manager_pending_proxy_count") == 1
    wait_until(lambda: state(node, uid_of(pod))["state"] == "Up", 10)
    assert conn.add(pod) == ""
    node.wait_ready()


@pytest.mark.main
def test_delete(mesh, conn):
    """A pod that has left the mesh keeps its connections; one that is gone does not."""
    node, pod = mesh.nodes[1], mesh.pods["spare"]
    with mesh.serve("far", 8080, echo), mesh.connect("spare", (mesh.vips["far"], 80)) as flow:
        flow.sendall(b"1")
        assert flow.recv(1) == b"1"
        assert conn.delete(uid_of(pod)) == ""
        wait_until(lambda: state(node, uid_of(pod)) is None, 5)
        wait_until(lambda: b":15006" not in mesh.run("spare", "ss", "-Hltn").stdout, 5)
        flow.sendall(b"2")
        assert flow.recv(1) == b"2"
        assert conn.add(pod) == "", "back, while an older flow runs"
        with mesh.connect("spare", (mesh.vips["far"], 80)) as second:
            second.sendall(b"3")
            assert second.recv(1) == b"3"
            mesh.settle(lambda: mesh.delete("Pod", "spare"))
            second.settimeout(0.2)
            with pytest.raises(TimeoutError):
                second.recv(1)  # the agent has not said so
            assert conn.delete(uid_of(pod)) == ""
            second.settimeout(5)
            with pytest.raises(ConnectionResetError):
                second.recv(1)
    mesh.settle(lambda: mesh.apply(pod.doc))
    assert conn.add(pod) == ""


def test_gone_after_it_had_left(mesh, conn):
    """Its Pod goes while its flows run on: they end."""
    pod = mesh.pods["spare"]
    with mesh.serve("far", 8080, echo), mesh.connect("spare", (mesh.vips["far"], 80)) as flow:
        flow.sendall(b"1")
        assert flow.recv(1) == b"1"
        assert conn.delete(uid_of(pod)) == ""
        mesh.settle(lambda: mesh.delete("Pod", "spare"))
        with pytest.raises(ConnectionResetError):
            flow.recv(1)
    mesh.settle(lambda: mesh.apply(pod.doc))
    assert conn.add(pod) == ""


@pytest.mark.main
def test_before_its_workload(mesh, conn):
    """The agent is faster than the configuration: connections from the pod, and plain ones to it, wait
    until the mesh knows it."""
    mesh.pod("early", 1, annotations=NAMELESS)
    node, pod = mesh.nodes[1], mesh.pods["early"]
    redirect(mesh, pod)
    mesh.settle(lambda: mesh.delete("Pod", "early"))
    assert conn.add(pod) == ""
    assert not state(node, uid_of(pod))["isKnown"]
    mark = mesh.nodes[2].mark()
    with mesh.serve("far", 8080, echo), mesh.serve("early", 8080, echo), \
            mesh.connect("early", (mesh.vips["far"], 80)) as flow, \
            mesh.connect("client", (pod.ip, 8080)) as plain:
        for sock in (flow, plain):
            sock.sendall(b"hello")
            sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                sock.recv(1)
        mesh.settle(lambda: mesh.apply(pod.doc))
        for sock in (flow, plain):
            sock.settimeout(5)
            assert sock.recv(5) == b"hello"
    line = mesh.nodes[2].access(mark, direction="inbound")[0]
    assert line["src.identity"] == pod.identity
    mesh.delete("Pod", "early")
    assert conn.delete(uid_of(pod)) == ""


def test_a_workload_that_never_comes(mesh, conn):
    """A plain connection to such a pod ends after a while; one that its client ends is forgotten."""
    mesh.pod("nobody", 1, annotations=NAMELESS)
    node, pod = mesh.nodes[1], mesh.pods["nobody"]
    redirect(mesh, pod)
    mesh.settle(lambda: mesh.delete("Pod", "nobody"))
    assert conn.add(pod) == ""
    mark = node.mark()
    with mesh.connect("client", (pod.ip, 8080)):
        pass
    with mesh.connect("client", (pod.ip, 8080), timeout=20) as plain:
        with pytest.raises(ConnectionResetError):
            plain.recv(1)
    wait_until(lambda: node.access(mark, direction="inbound", error="own workload is unknown"), 5)
    with mesh.connect("client", (pod.ip, 8080)) as plain:
        assert conn.delete(uid_of(pod)) == ""
        plain.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(1) == b""


def test_another_service_account(mesh, conn):
    """Who the pod is, the agent says: a workload of the same name that is somebody else is not it."""
    node, pod = mesh.nodes[1], mesh.pods["spare"]
    mark = node.mark()
    assert conn.delete(uid_of(pod)) == ""
    assert conn.add(pod, account="somebody") == ""
    found = state(node, uid_of(pod))
    assert found["identity"] == "spiffe://cluster.local/ns/demo/sa/somebody"
    assert not found["isKnown"]
    wait_until(lambda: node.log(mark, level="warn", workload="spare", pod="somebody"), 5)
    with mesh.serve("far", 8080, echo) as server:
        with mesh.connect("spare", (mesh.vips["far"], 80), timeout=0.3) as flow:
            with pytest.raises(TimeoutError):
                flow.recv(1)
        assert not server.conns
    assert conn.add(pod) == "", "replaced"
    wait_until(lambda: state(node, uid_of(pod))["isKnown"], 5)


def test_another_namespace(mesh, conn):
    """The same pod with a new network namespace: the old one is let go of, and the kernel frees it."""
    node, pod = mesh.nodes[1], mesh.pods["spare"]
    since = node.since()
    ip_batch([f"link del v{pod.name}"], node.netns)
    ip_batch([f"netns del {pod.netns}"])
    mesh.namespaces.remove(pod.netns)
    mesh.wire_pod(pod)
    redirect(mesh, pod)
    assert conn.add(pod) == ""
    assert since("workload_manager_proxies_started_total") == 1
    assert since("workload_manager_proxies_stopped_total") == 1
    with mesh.serve("far", 8080, echo):
        assert mesh.ask("spare", (mesh.vips["far"], 80)) == b"hello world"


def test_the_successor_of_a_name(mesh, conn):
    """As of a StatefulSet: the new pod comes before the agent says that the old one is gone."""
    node, old = mesh.nodes[1], mesh.pods["spare"]
    with mesh.serve("far", 8080, echo), mesh.connect("spare", (mesh.vips["far"], 80)) as flow:
        flow.sendall(b"1")
        assert flow.recv(1) == b"1"
        mesh.add_namespace(mesh.prefix + "next")
        with open(mesh.path(mesh.prefix + "next"), "rb") as netns:
            assert conn.ask(add_message("zds-next", old), [netns.fileno()]) == ""
        assert conn.delete(uid_of(old)) == ""
        with pytest.raises(ConnectionResetError):
            flow.recv(1)
    wait_until(lambda: state(node, "zds-next")["state"] == "Up", 5)
    wait_until(lambda: state(node, uid_of(old)) is None, 5)
    assert conn.delete("zds-next") == ""
    assert conn.add(old) == ""
    node.wait_ready()


@pytest.mark.main
def test_second_ztun(mesh, conn):
    """A rolling update: the newest connection gets the pods, the first ztun serves on, and leaves."""
    node = mesh.nodes[1]
    first, first_log = node.process, node.log_path
    node.log_path = first_log.with_suffix(".second.log")
    node.start(wait=False)
    mesh.extra.append(first)
    with running_flow(mesh, "far", "server"):
        second = mesh.agent.snapshot(mesh.pods[name] for name in LOCAL)
        wait_until(lambda: len(node.log(message="pod is served")) == len(LOCAL), 10)
        for name in LOCAL:
            assert conn.delete(uid_of(mesh.pods[name])) == "", "deletes go to both"
    first.terminate()
    assert first.wait(10) == 0
    mesh.agent.conn = second
    node.wait_ready()
    with mesh.serve("far", 8080, echo):
        assert mesh.ask("client", (mesh.vips["far"], 80)) == b"hello world"


def test_back_off(mesh, conn):
    """Attempts become rare while nobody is there, and are told once for each reason."""
    node, mark = mesh.nodes[1], mesh.nodes[1].mark()
    mesh.agent.stop_listening()
    os.unlink(mesh.agent.path)
    conn.close()
    message = "no connection to the node agent: pods stay as they are"
    wait_until(lambda: len(node.log(mark, message=message)) >= 2, 5, "closed, and not there")
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        assert len(node.log(mark, message=message)) <= 2
        time.sleep(0.1)
    mesh.agent.listen()
    reconnect(mesh)


@pytest.mark.parametrize("args, error", [
    (["--inpod-uds", ""], "path of 1 to 107 bytes"),
    (["--inpod-uds", "x" * 108], "path of 1 to 107 bytes"),
    (["--inpod-uds", "sock", "--redirect=true"], "--redirect does not go with --inpod-uds"),
    (["--inpod-uds", "sock", "--proxy-mode=dedicated", "--workload=a/b/c"], "does not go with"),
])
def test_settings(mesh, args, error):
    done = mesh.run("node1", ZTUN, "--config", mesh.config, "--ca-dir", mesh.ca, "--node", "n", *args)
    assert done.returncode == 2 and error in done.stderr.decode()
