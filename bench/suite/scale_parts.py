# SPDX-License-Identifier: Apache-2.0
"""10 000 services with 100 000 endpoints: what they cost the control thread, and what traffic feels
of their changes."""

import json
import os
import subprocess
import time

from . import series as series_mod
from . import topo
from .conn_parts import settle
from .istiod import Istiod
from .stats import median, number
from .windows import Windows, long_turns, machines_part, span

N_SERVICES, N_ENDPOINTS = 10000, 100000
FILES = 100  # of the configuration: a change rewrites one
LOAD_TIMEOUT_S = 120


def build(ctx):
    """Each step by itself (scale_probe), in a process without anything else."""
    argv = [ctx.tools / "scale_probe", f"--services={N_SERVICES}", f"--endpoints={N_ENDPOINTS}"]
    rounds = [json.loads(subprocess.run(argv, capture_output=True, text=True, check=True,
                                        timeout=LOAD_TIMEOUT_S).stdout)
              for _ in range(1 if ctx.quick else 3)]
    best = min(rounds, key=lambda r: r["publish_cpu_s"])
    ctx.results["scale-build"] = dict(best, rounds=rounds)
    ctx.say(f"  scale-build          {best['services']} services, {best['endpoints']} endpoints: "
            f"libyaml {best['libyaml_cpu_s']:.2f} s, decode {best['decode_cpu_s']:.2f} s, publish "
            f"{best['publish_cpu_s']:.2f} s, {best['bytes_kb'] / 1024:.0f} MB, a change "
            f"{best['change_us']:.0f} us (worst {best['change_max_us']:.0f})")


def documents(ctx):
    """The text of the probe, by files of whole services."""
    text = subprocess.run([ctx.tools / "scale_probe", "--write", f"--services={N_SERVICES}",
                           f"--endpoints={N_ENDPOINTS}"], capture_output=True, text=True,
                          check=True).stdout
    services = text.split("---\napiVersion: v1\nkind: Service\n")[1:]
    a_file = len(services) // FILES
    return ["".join("---\napiVersion: v1\nkind: Service\n" + s
                    for s in services[i * a_file:(i + 1) * a_file]) for i in range(FILES)]


def change_one(directory, number_of_file, texts, generation):
    """One pod of one file gets another label."""
    text = texts[number_of_file].replace("version: v1", f"version: v{generation}", 1)
    with open(f"{directory}/.next", "w", encoding="utf-8") as out:
        out.write(text)
    return lambda: os.rename(f"{directory}/.next", f"{directory}/scale{number_of_file}.yaml")


def traffic(ctx):
    """A ztun with all of it: load time, memory, p99 of running flows in windows in which one of a
    thousand-document file changes, against quiet ones."""
    texts, directory = documents(ctx), f"{ctx.work_dir}/mesh"
    ctx.ztun.stop()
    made = [f"{directory}/scale{i}.yaml" for i in range(FILES)]
    seen = {}
    try:
        for path, text in zip(made, texts):
            with open(path, "w", encoding="utf-8") as out:
                out.write(text)
        begin = time.monotonic()

        def alone(proc):
            seen["load_s"] = time.monotonic() - begin
            seen["load_cpu_s"] = proc.cpu_s()
            seen["pss_kb"] = settle(proc)["Pss"]

        series = ctx.ztun.start(on_first=alone)
        series_mod.first_exchange(ctx.tools, series, ctx.log_dir)
        near = series.halves[0][0]
        argv = [ctx.tools / "reqload", series.req]
        windows = Windows(ctx, argv, series.client_ns, topo.NODE1)
        change = {}

        def prepare(kind, i):
            if kind == "event":
                change["now"] = change_one(directory, i % FILES, texts, i + 1)

        before = long_turns(topo.NODE1, "config_turn_seconds")
        pairs = windows.run(3 if ctx.quick else 20, 2, lambda: change["now"](), near, prepare)
        seen["change_cpu_s"] = median([changed["cpu_s"] - quiet["cpu_s"]
                                       for quiet, changed in pairs])
        seen["machine"] = machines_part(ctx, argv, series.client_ns, topo.NODE1,
                                        seen["change_cpu_s"], len(series.halves))
        seen.update(windows.p99(), long_turns=dict(windows.long),
                    long_config_turns=long_turns(topo.NODE1, "config_turn_seconds") - before)
    finally:
        ctx.ztun.stop()
        for path in made:
            if os.path.exists(path):
                os.unlink(path)
    ctx.results["scale-traffic"] = seen
    ctx.say(f"  scale-traffic        ztun ready after {seen['load_s']:.1f} s "
            f"({seen['load_cpu_s']:.1f} s of CPU), Pss {seen['pss_kb'] / 1024:.0f} MB; p99 "
            f"{number(seen['p99_ratio'])} ({number(seen['p99_low'])}-{number(seen['p99_high'])}) of "
            f"quiet, programs that compute {span(seen['machine'])}, turns above 1 ms {seen['long_turns']}, for configuration "
            f"{seen['long_config_turns']}")


def probe_xds(ctx):
    """From the bytes of a response to a published root (xds_probe), in a process without anything
    else."""
    argv = [ctx.tools / "xds_probe", f"--services={N_SERVICES}", f"--endpoints={N_ENDPOINTS}"]
    rounds = [json.loads(subprocess.run(argv, capture_output=True, text=True, check=True,
                                        timeout=LOAD_TIMEOUT_S).stdout)
              for _ in range(1 if ctx.quick else 3)]
    return dict(min(rounds, key=lambda r: r["load_cpu_s"]), rounds=rounds)


def load_xds(istiod, proc):
    """The whole mesh in one response: CPU of the process (HTTP/2 and TLS are in it) from before it
    is sent until it is acknowledged, which is when its root is published; memory."""
    before_kb, before_s = settle(proc)["Pss"], proc.cpu_s()
    answer = istiod.load()
    cpu_s = proc.cpu_s() - before_s
    return {"cpu_s": cpu_s, "seconds": answer["acked_us"] / 1e6, "bytes": answer["bytes"],
            "server_cpu_s": answer["own_cpu_s"], "pss_kb": settle(proc)["Pss"] - before_kb}


def xds(ctx):
    """The same mesh from a stand-in for istiod: load, memory, one change, p99 of running flows in
    windows in which an endpoint changes, against quiet ones."""
    seen, changes = {"probe": probe_xds(ctx)}, []
    ctx.ztun.stop()
    istiod = Istiod(ctx, N_SERVICES, N_ENDPOINTS)
    try:
        loads = seen["loads"] = []
        for _ in range(0 if ctx.quick else 2):
            ctx.ztun.start_alone(*istiod.options,
                                 then=lambda proc: loads.append(load_xds(istiod, proc)))
        series = ctx.ztun.start(*istiod.options,
                                on_first=lambda proc: loads.append(load_xds(istiod, proc)))
        istiod.load()  # for the half that came later
        series_mod.first_exchange(ctx.tools, series, ctx.log_dir)
        near = series.halves[0][0]
        windows = Windows(ctx, [ctx.tools / "reqload", series.req], series.client_ns, topo.NODE1)
        before = long_turns(topo.NODE1, "config_turn_seconds")
        windows.run(3 if ctx.quick else 20, 2, lambda: changes.append(istiod.change()), near)
        seen.update(windows.p99(), long_turns=dict(windows.long),
                    long_config_turns=long_turns(topo.NODE1, "config_turn_seconds") - before,
                    change_us=median([c["acked_us"] for c in changes]))
    finally:
        ctx.ztun.stop()
        istiod.stop()
    seen["cpu_s"] = median([load["cpu_s"] for load in loads])
    seen["pss_kb"] = median([load["pss_kb"] for load in loads])
    ctx.results["scale-xds"] = seen
    ctx.say(f"  scale-xds            {loads[-1]['bytes'] >> 20} MB: {number(seen['cpu_s'])} s of "
            f"CPU, {seen['pss_kb'] / 1024:.0f} MB; from bytes to root "
            f"{number(seen['probe']['load_cpu_s'])} s, a change {seen['probe']['change_us']:.0f} us "
            f"(acknowledged after {seen['change_us']:.0f} us); p99 {span(seen)} of quiet, turns "
            f"above 1 ms {seen['long_turns']}, for configuration {seen['long_config_turns']}")


def add(parts):
    parts.add("scale-build", build, quick=True)
    for name, run in (("scale-traffic", traffic), ("scale-xds", xds)):
        parts.add(name, run, wants=lambda ctx: None if ctx.has("ztun") else "ztun was left out")
