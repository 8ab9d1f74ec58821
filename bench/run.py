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
import sys
import tempfile
import time
import traceback

from suite import goals, l7_goals, l7_parts, parts, report, series, topo
from suite.procs import BenchError, Proc, wait_listening
from suite.stats import median

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALL_PARTS = {**parts.PARTS, **l7_parts.PARTS}


class Context:
    """What the parts share: the tools, the series as they are first needed, the results."""

    def __init__(self, args):
        self.args = args
        self.quick = args.quick
        self.rounds = args.rounds or (2 if args.quick else 6)
        self.latency_rounds = args.rounds or (3 if args.quick else 10)
        self.seconds = args.seconds or (2 if args.quick else 4)
        self.bin_dir = pathlib.Path(args.bin).resolve()
        self.tools = self.bin_dir / "bench"
        self.work_dir = tempfile.mkdtemp(prefix="zb-")
        self.log_dir = args.log_dir or f"{self.work_dir}/log"
        os.makedirs(self.log_dir, exist_ok=True)
        self.access_log = not args.no_access_log
        self.skipped = {name for name in args.skip.split(",") if name}
        self.ztun = None
        self.results, self.warnings, self.made, self.servers = {}, [], {}, {}
        self.paths = {}
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

    def set_up(self):
        topo.build()
        for netns in (topo.SERVER, topo.MESH_SERVER):
            self.servers[netns] = (
                Proc("reqserver", [self.tools / "reqserver", f"0.0.0.0:{series.REQ_PORT}"], netns,
                     self.log_dir),
                Proc("bulk-server", [self.tools / "bulk", "--serve",
                                     f"0.0.0.0:{series.BULK_PORT}"], netns, self.log_dir))
            wait_listening(netns, series.REQ_PORT, self.servers[netns])
            wait_listening(netns, series.BULK_PORT, self.servers[netns])
        self.ztun = series.Ztun(self.bin_dir / "ztun", self.work_dir, self.log_dir,
                                self.args.ztun_option)

    def server_ns(self, path):
        return topo.MESH_SERVER if path.client_ns == topo.MESH_CLIENT else topo.SERVER

    def req_server(self, path):
        return self.servers[self.server_ns(path)][0]

    def bulk_server(self, path):
        return self.servers[self.server_ns(path)][1]

    def series(self, name):
        if name == "ztun":
            path = self.ztun.get()
        elif name not in self.made:
            floor, peer = series.Place(self.args.floor_place), series.Place(self.args.peer_place)
            path = self.made[name] = {
                "direct": series.direct,
                "relay": lambda: series.relay(self.tools, floor, self.log_dir),
                "pair": lambda: series.pair(self.tools, floor, self.log_dir),
                "haproxy": lambda: series.haproxy(peer, self.work_dir, self.log_dir,
                                                  self.args.haproxy_bufsize),
            }[name]()
        else:
            return self.made[name]
        if not path.is_tried:
            path.is_tried = True
            tls = series.first_exchange(self.tools, path, self.log_dir) \
                if name in ("haproxy", "ztun") else None
            self.paths[name] = {"tls": tls, "note": path.note}
            if tls:
                self.say(f"  {name}: {tls['version']}, {tls['cipher']}, {tls['group']}")
        return path

    def tear_down(self):
        if self.ztun:
            self.ztun.stop()
        for path in self.made.values():
            path.stop()
        for procs in self.servers.values():
            for proc in procs:
                proc.stop(0.1)
        topo.remove()


def check_control(ctx):
    """The direct path is the control: it says how quiet the machine was."""
    for key, pick in (("bulk-1", lambda r: r["gbit_s"]),
                      ("requests-saturated", lambda r: r["load"]["rate"])):
        values = [pick(r) for r in ctx.results.get(key, {}).get("direct", [])]
        if len(values) > 1 and max(values) - min(values) > 0.15 * median(values):
            ctx.warnings.append(f"{key}: the direct path moved by "
                                f"{(max(values) - min(values)) / median(values) * 100:.0f} %: the "
                                "machine was not quiet, take ratios with care")
    shares = [r["foreign_share"] for part in ctx.results.values() if isinstance(part, dict)
              for rounds in part.values() if isinstance(rounds, list)
              for r in rounds if isinstance(r, dict) and "foreign_share" in r]
    if shares and median(shares) > 0.1:
        ctx.warnings.append(f"other programs used {median(shares) * 100:.0f} % of the machine "
                            "(median over the rounds)")


def run(ctx, chosen):
    env = report.environment(ROOT, ctx.bin_dir / "ztun" if ctx.has("ztun") else None)
    failed = []
    for name in chosen:
        begin = time.monotonic()
        ctx.say(f"== {name}")
        try:
            ALL_PARTS[name](ctx)
        except (BenchError, OSError) as error:
            failed.append(name)
            ctx.warn(f"{name} failed: {error}")
        ctx.say(f"   {time.monotonic() - begin:.0f} s")
    check_control(ctx)
    return {"environment": env, "command": ctx.args.command, "quick": ctx.quick,
            "parts_asked": ctx.args.part, "parts": chosen, "failed": failed, "access_log": ctx.access_log,
            "rounds": ctx.rounds, "seconds": ctx.seconds, "warnings": ctx.warnings,
            "floor_place": ctx.args.floor_place, "peer_place": ctx.args.peer_place,
            "paths": ctx.paths, "goals": goals.goal_rows(ctx) + l7_goals.goal_rows(ctx), "results": ctx.results}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", help="; ".join(ALL_PARTS))
    parser.add_argument("--bin", required=True, help="directory of ztun and of bench/")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--skip", default="", help="series to leave out, with commas")
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
        chosen = parts.select(ALL_PARTS, args.part, args.quick)
        ctx.set_up()
        data = run(ctx, chosen)
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
