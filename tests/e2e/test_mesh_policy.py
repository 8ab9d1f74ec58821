# SPDX-License-Identifier: Apache-2.0
"""AuthorizationPolicy and PeerAuthentication on real connections, new and running."""

import socket
import time

import pytest
from lablib import wait_until
from mesh.fixtures import module_mesh, shown  # noqa: F401
from mesh.topology import echo, read_exactly

CLOSED = "istio_tcp_connections_closed_total"


def build(mesh):
    mesh.write_namespace("other")
    mesh.pod("client", 1, families=(4, 6))
    mesh.pod("friend", 1)
    mesh.pod("stranger", 1, ns="other")
    mesh.pod("plain", 1, captured=False, families=(4, 6))
    mesh.pod("server", 2, port=[8080, 8081], families=(4, 6))
    mesh.pod("near", 1, port=8080)
    mesh.nodes[2].env = {**mesh.nodes[2].env, "AUTHZ_POLICY_INFO_LOGGING": "true"}


mesh = module_mesh(build)


@pytest.fixture(autouse=True)
def servers(mesh):
    for name, port in (("server", 8080), ("server", 8081), ("near", 8080)):
        mesh.serve(name, port, echo)


@pytest.fixture
def policies(mesh):
    """policies(callable...): puts them into force; afterwards all policies are gone."""
    before = set(mesh.config.iterdir())

    def put(*makers):
        mesh.settle(lambda: [make() for make in makers])

    yield put

    def remove():
        for path in set(mesh.config.iterdir()) - before:
            path.unlink()

    if set(mesh.config.iterdir()) - before:
        mesh.settle(remove)


def passes(mesh, source, to=("server", 8080)):
    assert mesh.ask(source, to) == b"hello world"


def who_passes(mesh, to=("server", 8080), sources=("client", "friend", "stranger", "plain")):
    out = set()
    for source in sources:
        try:
            if mesh.ask(source, to) == b"hello world":
                out.add(source)
        except socket.timeout:
            raise AssertionError(f"{source}: hangs") from None
        except OSError:
            pass
    return out


EVERYONE = {"client", "friend", "stranger", "plain"}
CLIENT = "cluster.local/ns/demo/sa/client"
FRIEND = "cluster.local/ns/demo/sa/friend"


def source(**fields):
    return [{"from": [{"source": fields}]}]


def to_ports(*ports):
    return [{"to": [{"operation": {"ports": [str(p) for p in ports]}}]}]


CASES = {
    # name: (action, rules, who may pass)
    "allow principal": ("ALLOW", source(principals=[CLIENT]), {"client"}),
    "allow principal prefix": ("ALLOW", source(principals=["cluster.local/ns/demo/*"]),
                               {"client", "friend"}),
    "allow principal suffix": ("ALLOW", source(principals=["*/sa/stranger"]), {"stranger"}),
    "allow any identity": ("ALLOW", source(principals=["*"]), EVERYONE - {"plain"}),
    "allow not principal": ("ALLOW", source(notPrincipals=[CLIENT]), EVERYONE - {"client"}),
    "allow namespace": ("ALLOW", source(namespaces=["other"]), {"stranger"}),
    "allow not namespace": ("ALLOW", source(notNamespaces=["demo"]), {"stranger", "plain"}),
    "allow ip": ("ALLOW", "client ip", {"client"}),
    "allow cidr": ("ALLOW", source(ipBlocks=["10.77.0.0/16"]), EVERYONE),
    "allow other cidr": ("ALLOW", source(ipBlocks=["10.78.0.0/16"]), set()),
    "allow port": ("ALLOW", to_ports(8080), EVERYONE),
    "allow other port": ("ALLOW", to_ports(8081), set()),
    "allow nothing": ("ALLOW", None, set()),
    "allow all": ("ALLOW", [{}], EVERYONE),
    "deny principal": ("DENY", source(principals=[CLIENT]), EVERYONE - {"client"}),
    "deny not principal": ("DENY", source(notPrincipals=[CLIENT]), {"client"}),
    "deny namespace": ("DENY", source(namespaces=["demo"]), {"stranger", "plain"}),
    "deny port": ("DENY", to_ports(8080), set()),
    "allow AND of fields": ("ALLOW", [{"from": [{"source": {
        "principals": [CLIENT], "namespaces": ["other"]}}]}], set()),
    "allow OR of rules": ("ALLOW", source(principals=[CLIENT]) + source(namespaces=["other"]),
                          {"client", "stranger"}),
    # fields of L7 are not for a node proxy: an ALLOW rule with them never matches
    "allow with method": ("ALLOW", [{**source(principals=[CLIENT])[0],
                                     "to": [{"operation": {"methods": ["GET"]}}]}], set()),
    # and a DENY rule keeps what it says at L4; an operation of which nothing is left never matches
    "deny with method": ("DENY", [{**source(principals=[CLIENT])[0],
                                   "to": [{"operation": {"methods": ["GET"], "ports": ["8080"]}}]}],
                         EVERYONE - {"client"}),
    "deny with method only": ("DENY", [{"to": [{"operation": {"methods": ["GET"]}}]}], EVERYONE),
}


@pytest.mark.parametrize("case", CASES)
def test_authorization_policy(mesh, policies, case):
    action, rules, want = CASES[case]
    if rules == "client ip":
        rules = source(ipBlocks=[mesh.pods["client"].ip])
    policies(lambda: mesh.policy("case", action, rules, {"app": "server"}))
    assert who_passes(mesh) == want
    assert who_passes(mesh, ("near", 8080)) == EVERYONE, "another pod is not concerned"


def test_deny_before_allow(mesh, policies):
    policies(lambda: mesh.policy("allow", "ALLOW", source(namespaces=["demo"])),
             lambda: mesh.policy("deny", "DENY", source(principals=[FRIEND])))
    assert who_passes(mesh) == {"client"}


def test_root_namespace_policy(mesh, policies):
    """A policy of the root namespace is for all."""
    policies(lambda: mesh.policy("all", "DENY", source(principals=[FRIEND]), ns="istio-system"))
    assert who_passes(mesh) == EVERYONE - {"friend"}
    assert who_passes(mesh, ("near", 8080)) == EVERYONE - {"friend"}


def test_policy_of_another_namespace(mesh, policies):
    policies(lambda: mesh.policy("all", "DENY", [{}], ns="other"))
    assert who_passes(mesh) == EVERYONE


def test_dry_run_only_logs(mesh, policies):
    def make():
        mesh.apply({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                    "metadata": {"name": "dry", "namespace": "demo",
                                 "annotations": {"istio.io/dry-run": "true"}},
                    "spec": {"action": "DENY", "rules": [{}]}})

    policies(make)
    mark = mesh.nodes[2].mark()
    assert who_passes(mesh) == EVERYONE
    wait_until(lambda: [x for x in mesh.nodes[2].log(mark) if "demo/dry" in str(x)], 3,
               "the log says what would have been denied")
    would = ("dry run: would be denied", "demo/dry")
    assert decided(mesh, "near") == [would]
    assert decided(mesh, "server") == [("dry-run: deny policy match", "demo/dry"),
                                       ("no allow policies, allow", ""), would]


def decided(mesh, pod):
    """What the log tells of the policies for a connection."""
    node = mesh.nodes[mesh.pods[pod].node]
    mark = node.mark()
    try:
        mesh.ask("client", (pod, 8080))
    except OSError:
        pass
    node.access(mark, direction="inbound")
    return [(line["message"], line["policy"]) for line in node.log(mark, level="info", scope="ztun::rbac")]


@pytest.mark.parametrize("action, rule, want", [
    (None, None, ("no allow policies, allow", "")),
    ("DENY", [{}], ("deny policy match", "demo/case")),
    ("ALLOW", [{}], ("allow policy match", "demo/case")),
    ("ALLOW", to_ports("9"), ("no allow policies matched", "")),
])
def test_decisions_in_the_log(mesh, policies, action, rule, want):
    """Of node 2, which has AUTHZ_POLICY_INFO_LOGGING."""
    if action:
        policies(lambda: mesh.policy("case", action, rule))
    assert decided(mesh, "server") == [want]
    assert decided(mesh, "near") == []


def test_ipv6_source_blocks(mesh, policies):
    policies(lambda: mesh.policy("case", "ALLOW", source(ipBlocks=["fd77:1::/64"]),
                                 {"app": "server"}))
    assert mesh.ask("client", (mesh.pods["server"].v6, 8080)) == b"hello world"
    mesh.fails("client", (mesh.pods["server"].v4, 8080))


# PeerAuthentication


@pytest.mark.main
def test_strict(mesh, policies):
    policies(lambda: mesh.peer_authentication("default", "STRICT"))
    mark = mesh.nodes[2].mark()
    assert who_passes(mesh) == EVERYONE - {"plain"}
    line = mesh.nodes[2].access(mark, direction="inbound", src__workload="plain")[0]
    assert "STRICT" in line["error"] or "strict" in line["error"], line


@pytest.mark.main
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("port", [15001, 15006, 15008, 15053])
def test_no_source_port_is_a_way_round(mesh, policies, port, family):
    """Plain text that comes from one of ztun's ports is still plain text."""
    policies(lambda: mesh.peer_authentication("default", "STRICT"))
    source = (getattr(mesh.pods["plain"], f"v{family}"), port)
    mesh.fails("plain", (getattr(mesh.pods["server"], f"v{family}"), 8080), source=source)


def test_permissive_is_the_default(mesh):
    assert who_passes(mesh) == EVERYONE


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE", "UNSET"])
def test_modes_that_let_plain_text_in(mesh, policies, mode):
    policies(lambda: mesh.peer_authentication("default", mode))
    assert who_passes(mesh) == EVERYONE


def test_mesh_wide_strict(mesh, policies):
    policies(lambda: mesh.peer_authentication("default", "STRICT", ns="istio-system"))
    assert who_passes(mesh) == EVERYONE - {"plain"}
    policies(lambda: mesh.peer_authentication("default", "PERMISSIVE"))
    assert who_passes(mesh) == EVERYONE, "the namespace's own mode comes first"
    policies(lambda: mesh.peer_authentication("server", "STRICT", {"app": "server"}))
    assert who_passes(mesh) == EVERYONE - {"plain"}, "and the workload's before it"
    assert who_passes(mesh, ("near", 8080)) == EVERYONE


def test_port_level(mesh, policies):
    policies(lambda: mesh.peer_authentication("server", "STRICT", {"app": "server"},
                                              {8081: "PERMISSIVE"}))
    assert who_passes(mesh) == EVERYONE - {"plain"}
    assert who_passes(mesh, ("server", 8081)) == EVERYONE
    policies(lambda: mesh.peer_authentication("server", "PERMISSIVE", {"app": "server"},
                                              {8081: "STRICT"}))
    assert who_passes(mesh) == EVERYONE
    assert who_passes(mesh, ("server", 8081)) == EVERYONE - {"plain"}


# Running flows


def flow(mesh, source, to=("server", 8080)):
    conn = mesh.connect(source, to)
    conn.sendall(b"ping")
    assert read_exactly(conn, 4) == b"ping"
    return conn


def lives(conn):
    conn.sendall(b"again")
    return read_exactly(conn, 5) == b"again"


def is_cut(conn):
    conn.settimeout(3)
    with pytest.raises(ConnectionResetError):
        conn.recv(1)
        pytest.fail("a cut connection must not look complete")
    conn.close()


@pytest.mark.main
def test_live_change_ends_what_is_denied(mesh, policies):
    """The flow of the client ends within a moment and says why; all others go on."""
    two = mesh.nodes[2]
    mine, friends, plain = flow(mesh, "client"), flow(mesh, "friend"), flow(mesh, "plain")
    other = flow(mesh, "client", ("near", 8080))
    mark, since = two.mark(), two.since()
    policies(lambda: mesh.policy("no-client", "DENY", source(principals=[CLIENT]),
                                 {"app": "server"}))
    start = time.monotonic()
    is_cut(mine)
    assert time.monotonic() - start < 1
    for conn in (friends, plain, other):
        assert lives(conn)
        conn.close()
    line = two.access(mark, direction="inbound", src__workload="client")[0]
    assert "denied by policy" in line["error"] and "demo/no-client" in line["error"], line
    assert line["bytes_recv"] == 4
    wait_until(lambda: since(CLOSED, response_flags="DENY", source_workload="client") == 1, 3)


def test_live_strict_ends_plain_text(mesh, policies):
    plain, mine = flow(mesh, "plain"), flow(mesh, "client")
    policies(lambda: mesh.peer_authentication("default", "STRICT"))
    is_cut(plain)
    assert lives(mine)
    mine.close()


def test_live_change_that_allows_all_the_same(mesh, policies):
    """A change that does not forbid a flow does not touch it."""
    conns = [flow(mesh, "client") for _ in range(5)]
    policies(lambda: mesh.policy("a", "ALLOW", source(principals=[CLIENT])))
    policies(lambda: mesh.policy("a", "ALLOW", source(namespaces=["demo"])))
    policies(lambda: mesh.policy("b", "DENY", source(namespaces=["other"])))
    for conn in conns:
        assert lives(conn)
        conn.close()


def test_policy_change_on_pooled_tunnel(mesh, policies):
    """The tunnel is open already: a new request on it is judged anew."""
    passes(mesh, "client")
    policies(lambda: mesh.policy("no", "DENY", [{}]))
    mesh.fails("client", ("server", 8080))
    policies(lambda: mesh.delete("AuthorizationPolicy", "no"))
    passes(mesh, "client")
