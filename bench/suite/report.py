# SPDX-License-Identifier: Apache-2.0
"""Writes a run as JSON (everything, all rounds) and as Markdown (for people)."""

import json
import os
import platform
import re
import subprocess
import time

from . import topo
from .stats import number, ratio, spread


def run(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        match = re.search(r"model name\s*:\s*(.*)", f.read())
    return match.group(1).strip() if match else platform.machine()


def environment(root, ztun):
    virtual = run("systemd-detect-virt", "--vm")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "commit": run("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"),
        "ztun": run(str(ztun), "--version") if ztun else "",
        "kernel": platform.release(),
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "congestion_control": topo.congestion_control(topo.CLIENT),
        "virtual": virtual if virtual not in ("", "none") else "",
        "load_average": list(os.getloadavg()),
    }


def host_kind(env):
    """Short and without names: "2cpu-amd-epyc-kvm"."""
    model = re.sub(r"\(.*?\)|@.*|\b(cpu|processor|core)\b", " ", env["cpu"].lower())
    words = re.findall(r"[a-z0-9]+", model)[:2]
    return "-".join([f"{env['cpus']}cpu", *words] + ([env["virtual"]] if env["virtual"] else []))


def cell(values, digits=3):
    middle, low, high = spread(values)
    if middle is None:
        return "-"
    if len(values) == 1:
        return number(middle, digits)
    return f"{number(middle, digits)} ({number(low, digits)}-{number(high, digits)})"


def pick(results, name, *keys):
    values = []
    for round_ in results[name]:
        for key in keys:
            round_ = round_[key]
        values.append(round_)
    return values


def halves(results, name, key):
    """Median of each half as "a + b"."""
    both = pick(results, name, key)
    return " + ".join(number(spread([h[i] for h in both])[0]) for i in range(2)) \
        if both and name != "direct" else "-"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]


def versus(results, name, *keys):
    """Ratio to the HAProxy pair."""
    if name in ("direct", "haproxy") or "haproxy" not in results:
        return "-"
    r = ratio(pick(results, name, *keys), pick(results, "haproxy", *keys))
    return f"{number(r[0])} ({number(r[1])}-{number(r[2])})"


def bulk_tables(results):
    lines = []
    for key in ("bulk-1", "bulk-8"):
        if key not in results:
            continue
        part = results[key]
        streams = key.split("-")[1]
        rows = []
        for name in part:
            up = [r["up"]["cpu_s_per_gb"] for r in part[name]]
            down = [r["down"]["cpu_s_per_gb"] for r in part[name]]
            is_proxy = name != "direct"
            rows.append([name, cell(pick(part, name, "gbit_s")),
                         cell(pick(part, name, "cpu_s_per_gb")) if is_proxy else "-",
                         cell(up) if is_proxy else "-", cell(down) if is_proxy else "-",
                         versus(part, name, "cpu_s_per_gb")])
        lines += ["", f"### Bulk, {streams} stream{'s' if streams != '1' else ''}", ""]
        lines += table(["path", "Gb/s", "CPU s/GB", "upwards", "downwards", "/ HAProxy"], rows)
    return lines


def request_tables(results):
    titles = {"requests-1000": "1 KB requests, 1000/s open loop, 4 connections",
              "requests-saturated": "1 KB requests, saturated, 32 connections",
              "requests-64": "64 B requests and answers, saturated, 32 connections",
              "requests-16k": "16 KB requests and answers, saturated, 32 connections"}
    lines = []
    for key, title in titles.items():
        if key not in results:
            continue
        part = results[key]
        rows = []
        for name in part:
            is_proxy = name != "direct"
            rows.append([name, cell(pick(part, name, "load", "rate")),
                         cell(pick(part, name, "cpu_us")) if is_proxy else "-",
                         halves(part, name, "halves_us"),
                         cell(pick(part, name, "switches_per_request")) if is_proxy else "-",
                         *[cell(pick(part, name, "load", p + "_us"))
                           for p in ("p50", "p90", "p99")],
                         versus(part, name, "cpu_us")])
        lines += ["", f"### {title}", ""]
        lines += table(["path", "requests/s", "CPU us/request, pair", "client + server half",
                        "context switches", "p50 us", "p90 us", "p99 us", "CPU / HAProxy"], rows)
    return lines


def connection_tables(results):
    lines = []
    if "flows" in results:
        part = results["flows"]
        rows = [[name, cell(pick(part, name, "load", "rate")),
                 cell(pick(part, name, "cpu_us")) if name != "direct" else "-",
                 halves(part, name, "halves_us"), cell(pick(part, name, "load", "p50_us")),
                 cell(pick(part, name, "load", "p99_us"))] for name in part]
        lines += ["", "### One TCP connection a request", "",
                  "ztun puts each on a pooled tunnel; HAProxy makes a full handshake for each.", ""]
        lines += table(["path", "connections/s", "CPU us, pair", "client + server half", "p50 us",
                        "p99 us"], rows)
    rows = []
    if "memory" in results:
        pooled = results["memory"]["pooled"]
        rows.append(["idle flows on one tunnel", pooled["count"],
                     *[" + ".join(number(v) for v in pooled[k]) for k in (
                         "cpu_us", "kb", "before_kb", "during_kb", "after_kb")]])
    for r in results.get("tunnels", {}).get("rounds", ()):
        for label, key in (("flow with a new tunnel", "first"), ("flow on that tunnel", "second")):
            rows.append([label, r[key]["count"],
                         *[" + ".join(number(v) for v in r[key][k]) for k in (
                             "cpu_us", "kb", "before_kb", "during_kb")], "-"])
    if rows:
        lines += ["", "### Tunnels and memory of ztun, client half + server half", ""]
        lines += table(["what", "count", "CPU us to open one", "KB each", "Pss kB before",
                        "with them", "after"], rows)
    if "tunnels" in results:
        bare, flights = ([[r[k][i] for r in results["tunnels"]["rounds"]] for i in range(2)]
                         for k in ("bare_us", "bare_flights_us"))
        lines += ["", f"Bare TCP connection, CPU us, client and server: {cell(bare[0])}, "
                  f"{cell(bare[1])}. With messages of a handshake's sizes: {cell(flights[0])}, "
                  f"{cell(flights[1])}."]
    return lines


def http_tables(results, access_log):
    titles = {"l7-plain-1000": "HTTP, plain reverse proxy, 1000/s open loop, 4 connections",
              "l7-plain-saturated": "HTTP, plain reverse proxy, saturated, 32 connections",
              "l7-waypoint-1000": "HTTP, waypoint between two ztuns, 1000/s open loop, 4 connections",
              "l7-waypoint-saturated": "HTTP, waypoint between two ztuns, saturated, 32 connections",
              "l7-routes": "HTTP, many rules, plain, saturated, 32 connections"}
    lines = []
    for key, title in titles.items():
        if key not in results:
            continue
        part = results[key]
        first = "one" if key == "l7-routes" else "waypoint"
        rows = []
        for name in part:
            is_proxy = name != "direct"
            r = ratio(pick(part, name, "cpu_us"), pick(part, first, "cpu_us")) \
                if is_proxy and name != first and first in part else None
            rows.append([name, cell(pick(part, name, "load", "rate")),
                         cell(pick(part, name, "cpu_us")) if is_proxy else "-",
                         cell(pick(part, name, "switches_per_request")) if is_proxy else "-",
                         *[cell(pick(part, name, "load", p + "_us"))
                           for p in ("p50", "p90", "p99")],
                         f"{number(r[0])} ({number(r[1])}-{number(r[2])})" if r else "-"])
        lines += ["", f"### {title}{'' if access_log else ', no access log'}", ""]
        lines += table(["path", "requests/s", "CPU us/request, proxy", "context switches", "p50 us",
                        "p90 us", "p99 us", f"CPU / {first}"], rows)
        pss = results.get(key.replace("saturated", "pss")) if "saturated" in key else None
        if pss:
            lines += ["", "Pss after it: " + ", ".join(f"{n} {number(v / 1024)} MB"
                                                       for n, v in pss.items()) + "."]
    return lines


def probe_lines(results):
    lines = []
    for key, value in results.items():
        if not key.startswith("tls-probe-"):
            continue
        shake = value["handshake"]
        lines.append(f"- TLS probe, {shake['group']}: BoringSSL without chain check "
                     f"{shake['boringssl_no_chain_check']['client_us']} us client, "
                     f"{shake['boringssl_no_chain_check']['server_us']} us server; with it "
                     f"{shake['boringssl']['client_us']}, {shake['boringssl']['server_us']}.")
        record = [a for a in value["aead"] if a["suite"] == "aes_128_gcm"][-1]
        lines.append(f"- AEAD probe, AES-128-GCM {record['size']} B: seal {record['seal_ns']:.0f} "
                     f"ns, open {record['open_ns']:.0f} ns "
                     f"({(record['seal_ns'] + record['open_ns']) / record['size']:.3f} s/GB).")
    return lines


def self_lines(results):
    lines = []
    for what, part in results.get("self", {}).items():
        r = ratio(part["a"], part["b"])
        lines.append(f"- Self-check, {part['series']} against itself, {what}: {number(r[0])} "
                     f"({number(r[1])}-{number(r[2])}); it has to be 1 within that range.")
    return lines


def goal_table(goals):
    rows = []
    for g in goals:
        by = "R" if g["peer"] is not None else "F" if g["floor"] is not None else "value"
        rows.append([f"`{g['id']}`", f"{g['figure']}, {g['unit']}", number(g["ours"]),
                     number(g["peer"]), number(g["floor"]),
                     "-" if g["ratio"] is None else
                     f"{number(g['ratio'])} ({number(g['ratio_spread'][0])}-"
                     f"{number(g['ratio_spread'][1])})",
                     number(g["f"]), f"{by} <= {g['goal']}",
                     {True: "yes", False: "**no**", None: "-"}[g["met"]],
                     "-" if g["noise"] is None else f"{g['noise'] * 100:.0f} %"])
    return table(["goal", "figure", "ours", "peer", "floor", "R", "F", "wanted", "met", "noise"],
                 rows)


def markdown(run_data):
    env, results = run_data["environment"], run_data["results"]
    virtual = f" ({env['virtual']})" if env["virtual"] else ""
    lines = [f"# Bench, {env['date']}", "",
             f"- Made by `{run_data['command']}`; {run_data['rounds']} interleaved rounds, "
             f"{run_data['seconds']} s each; medians, in brackets lowest and highest.",
             f"- {env['cpus']} x {env['cpu']}{virtual}, Linux {env['kernel']}, {env['congestion_control']}; load average at the "
             f"start {env['load_average'][0]:.2f}.",
             f"- {env['ztun'] or 'no ztun'}, source {env['commit']}."]
    for name, info in run_data["paths"].items():
        tls = info["tls"]
        if tls:
            lines.append(f"- {name}: {tls['version']}, {tls['cipher']}, {tls['group']} (read from "
                         f"the wire). {info['note']}".rstrip())
    lines += probe_lines(results) + self_lines(results)
    for warning in run_data["warnings"]:
        lines.append(f"- **Note:** {warning}")
    lines += ["", "What each figure means, and what it cannot show: "
              "[bench/README.md](../README.md)."]
    if run_data["goals"]:
        lines += ["", "## Goals", "",
                  "A row with a peer is met when R holds or F <= 1.15. Noise: the share of the "
                  "machine that other programs used meanwhile.", ""]
        lines += goal_table(run_data["goals"])
        notes = [f"- `{g['id']}`: " + "; ".join(
            t for t in ("floor: " + g["floor_is"] if g["floor_is"] else "", g["note"]) if t)
                 for g in run_data["goals"] if g["floor_is"] or g["note"]]
        lines += ["", *notes]
    lines += ["", "## Figures"]
    lines += bulk_tables(results) + request_tables(results) + connection_tables(results)
    lines += http_tables(results, run_data["access_log"])
    return "\n".join(lines) + "\n"


def write(directory, run_data):
    """Returns the path of the Markdown file."""
    os.makedirs(directory, exist_ok=True)
    env = run_data["environment"]
    stem = f"{env['date'][:10]}-{host_kind(env)}"
    if run_data["parts_asked"]:
        stem += "-" + "-".join(run_data["parts_asked"])[:40]
    elif run_data["quick"]:
        stem += "-quick"
    path = os.path.join(directory, stem)
    with open(path + ".json", "w", encoding="utf-8") as out:
        json.dump(run_data, out, indent=1)
        out.write("\n")
    with open(path + ".md", "w", encoding="utf-8") as out:
        out.write(markdown(run_data))
    return path + ".md"
