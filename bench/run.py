#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The bench suite; scripts/bench.sh starts it in namespaces of its own. See bench/README.md.

    run.py --bin DIR [--quick] [--rounds N] [--seconds S] [--skip NAME,...] [PART ...]
"""

import argparse
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from suite import checks, conn_parts, goals, l7_goals, l7_more, l7_parts, node_series, parts, plan, \
    report, scale_parts, series, topo, ztunnel
from suite.procs import BenchError, Proc, wait_listening

ROOT = pathlib.Path(__file__).resolve().parent.parent


def all_parts():
    """In the order in which a run goes through them."""
    table = plan.Parts()
    conn_parts.add(table)
    parts.add_traffic(table, "l4", parts.PROXIES, None)
    parts.add_traffic(table, "node", parts.NODE_PROXIES, None, is_default=not ztunnel.missing())
    l7_parts.add(table)
    l7_more.add(table)
    scale_parts.add(table)
    parts.add_short_cut(table)
    table.add("self", parts.self_check)
    for topology, names in parts.TOPOLOGIES.items():
        parts.add_matrix(table, topology, names, None)
    return table


class Context:
    """What the parts share: the tools, the series as they are first needed, the results."""

    def __init__(self, args):
        profile = plan.PROFILES["matrix" if "matrix" in args.part else
                                "quick" if args.quick else "default"]
        self.args = args
        self.quick = args.quick
        self.rounds = args.rounds or profile["rounds"]
        self.seconds = args.seconds or profile["seconds"]
        self.bin_dir = pathlib.Path(args.bin).resolve()
        self.tools = self.bin_dir / "bench"
        self.work_dir = tempfile.mkdtemp(prefix="zb-")
        self.log_dir = args.log_dir or f"{self.work_dir}/log"
        os.makedirs(self.log_dir, exist_ok=True)
        self.access_log = not args.no_access_log
        self.skipped = {name for name in args.skip.split(",") if name}
        if args.quick:
            self.skipped.update(plan.NOT_QUICK_SERIES)
        self.ztun = self.node_ztun = None
        self.ztun_options = []  # of the part that runs
        self.results, self.warnings, self.made, self.servers = {}, [], {}, {}
        self.paths, self.reasons = {}, {}
        self.tunnel_pods = None

    def say(self, text):
        print(text, flush=True)

    def warn(self, text):
        self.warnings.append(text)
        self.say(f"  note: {text}")

    def has(self, name):
        return name not in self.skipped

    def names(self, wanted):
        return [name for name in wanted if self.has(name)]

    def usable(self, wanted):
        """Those that are not left out and that start here; says so of the others, once."""
        usable = []
        for name in self.names(wanted):
            try:
                self.series(name)
                usable.append(name)
            except BenchError as error:
                if name in ("ztun", "ztun-node") or name.startswith("direct"):
                    raise
                self.leave_out(name, str(error))
        return usable

    def leave_out(self, name, why):
        self.skipped.add(name)
        self.reasons.update({goal: why for goal in goals.peer_goals(name)})
        self.warn(why)

    def set_up(self):
        topo.build()
        for netns in (topo.SERVER, topo.MESH_SERVER):
            self.servers_of(netns)
        self.ztun = series.Ztun(self.bin_dir / "ztun", self.work_dir, self.log_dir,
                                self.args.ztun_option)
        os.makedirs(f"{self.work_dir}/node", exist_ok=True)
        self.node_ztun = node_series.NodeZtun(
            self.bin_dir / "ztun", f"{self.work_dir}/node", self.log_dir,
            [*self.args.ztun_option, "--prefer-aes-256=true"])

    def servers_of(self, netns):
        """(server of requests, server of bulk) in a pod, started when they are first asked for."""
        if netns not in self.servers:
            self.servers[netns] = (
                Proc(f"reqserver-{netns}", [self.tools / "reqserver",
                                            f"0.0.0.0:{series.REQ_PORT}"], netns, self.log_dir),
                Proc(f"bulk-server-{netns}", [self.tools / "bulk", "--serve",
                                              f"0.0.0.0:{series.BULK_PORT}"], netns, self.log_dir))
            for port in (series.REQ_PORT, series.BULK_PORT):
                wait_listening(netns, port, self.servers[netns])
        return self.servers[netns]

    def req_server(self, path):
        return self.servers_of(path.server_ns)[0]

    def bulk_server(self, path):
        return self.servers_of(path.server_ns)[1]

    def make(self, name):
        floor, peer = series.Place(self.args.floor_place), series.Place(self.args.peer_place)
        return {
            "direct": series.direct,
            "relay": lambda: series.relay(self.tools, floor, self.log_dir),
            "pair": lambda: series.pair(self.tools, floor, self.log_dir),
            "haproxy": lambda: series.haproxy(peer, self.work_dir, self.log_dir,
                                              self.args.haproxy_bufsize),
            "envoy-pair": lambda: series.envoy_pair(peer, self.work_dir, self.log_dir),
            "direct-node": node_series.direct,
            "relay-node": lambda: node_series.relay(self.tools, self.log_dir),
            "bpf-node": lambda: node_series.bpf(self.tools, self.log_dir),
            "ztunnel": lambda: ztunnel.start(self),
        }[name]()

    def series(self, name):
        if name == "ztun":
            self.node_ztun.stop()  # both want the operator's ports of node 1
            path = self.ztun.get(*self.ztun_options)
        elif name == "ztun-node":
            self.ztun.stop()
            path = self.node_ztun.get(*self.ztun_options)
        elif name in self.made:
            return self.made[name]
        else:
            path = self.made[name] = self.make(name)
        if not path.is_tried:
            self.servers_of(path.server_ns)
            path.is_tried = True
            tls = series.first_exchange(self.tools, path, self.log_dir) \
                if name in ("haproxy", "envoy-pair", "ztunnel", "ztun", "ztun-node") else None
            self.paths[name] = {"tls": tls, "note": path.note}
            if tls:
                self.say(f"  {name}: {tls['version']}, {tls['cipher']}, {tls['group']}")
        return path

    def tear_down(self):
        for path in (self.ztun, self.node_ztun, *self.made.values()):
            if path:
                path.stop()
        for procs in self.servers.values():
            for proc in procs:
                proc.stop(0.1)
        topo.remove()


def warn_of(ctx, verdicts):
    """What makes a run worthless comes first in its report."""
    for v in verdicts:
        if not v["ok"] and v["part"] != "self":
            ctx.warnings.append(f"{v['part']}, {v['series']}: {v['what']} {v['value']:.2f}, limit "
                                f"{v['limit']}")


def run_parts(ctx, table, chosen, state):
    """Returns the names of those that failed."""
    failed, done = [], state.load(ctx)
    for name in chosen:
        if name in done:
            continue
        begin = time.monotonic()
        ctx.say(f"== {name}")
        why_not = table.wants[name](ctx)
        if why_not:
            ctx.reasons[name] = why_not
            ctx.say(f"   skipped: {why_not}")
            continue
        try:
            table.all[name](ctx)
            state.save(ctx, name)
        except (BenchError, OSError, subprocess.SubprocessError) as error:
            failed.append(name)
            text = " ".join(str(error).split())
            ctx.reasons[name] = f"the part failed: {text}"
            ctx.warn(f"{name} failed: {text}")
        ctx.say(f"   {time.monotonic() - begin:.0f} s")
    if not failed:
        state.end()
    return failed


def run(ctx, table, chosen):
    env = report.environment(ROOT, ctx.bin_dir / "ztun" if ctx.has("ztun") else None)
    key = [env["commit"], env["ztun"], report.host_kind(env), ctx.rounds, ctx.seconds,
           ctx.args.skip, ctx.args.ztun_option]
    state = plan.State(ctx.args.out, key, ctx.args.resume or "matrix" in ctx.args.part)
    if ztunnel.missing():
        ctx.say(f"bench: {ztunnel.missing()}")
    failed = run_parts(ctx, table, chosen, state)
    verdicts = checks.verdicts(ctx.results)
    warn_of(ctx, verdicts)
    return {"environment": env, "command": ctx.args.command, "quick": ctx.quick,
            "parts_asked": ctx.args.part, "parts": chosen, "failed": failed,
            "access_log": ctx.access_log, "rounds": ctx.rounds, "seconds": ctx.seconds,
            "warnings": ctx.warnings, "floor_place": ctx.args.floor_place,
            "peer_place": ctx.args.peer_place, "paths": ctx.paths, "checks": verdicts,
            "goals": goals.goal_rows(ctx, l7_goals.MAKERS, chosen), "results": ctx.results}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", help="matrix; " + "; ".join(all_parts().all))
    parser.add_argument("--bin", required=True, help="directory of ztun and of bench/")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--skip", default="", help="series to leave out, with commas")
    parser.add_argument("--resume", action="store_true",
                        help="go on where an earlier run of the same was cut short")
    parser.add_argument("--out", default=str(ROOT / "bench" / "results"))
    parser.add_argument("--log-dir", help="keep the logs of all processes here")
    parser.add_argument("--floor-place", choices=("node", "pod"), default="pod")
    parser.add_argument("--peer-place", choices=("node", "pod"), default="node")
    parser.add_argument("--no-access-log", action="store_true",
                        help="the proxies of HTTP write none")
    parser.add_argument("--haproxy-bufsize", type=int, default=16384)
    parser.add_argument("--ztun-option", action="append", default=[], metavar="--FLAG=VALUE")
    parser.add_argument("--command", default="make bench", help="as the report names it")
    return parser.parse_args()


def main():
    args = parse_arguments()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # A kill ends the run the same way as Ctrl-C: through the finally below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    ctx = Context(args)
    try:
        parts.check_names(ctx)
        table = all_parts()
        chosen = table.select(args.part, args.quick)
        ctx.set_up()
        data = run(ctx, table, chosen)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    finally:
        ctx.tear_down()
    path = report.write(args.out, data)
    print()
    print(report.markdown(data))
    print(f"bench: written to {os.path.relpath(path, ROOT)} and .json")
    return 1 if data["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
