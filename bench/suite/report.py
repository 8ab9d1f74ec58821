# SPDX-License-Identifier: Apache-2.0
"""Writes a run as JSON (everything, all rounds) and as Markdown (for people)."""

import json
import os
import platform
import re
import subprocess
import time

from . import checks, plots, topo
from .stats import confidence, number, ranged, ratio, spread


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
    """That figure of all rounds; None where a tool does not give it."""
    values = []
    for round_ in results[name]:
        for key in keys:
            round_ = round_.get(key) if round_ else None
        values.append(round_)
    return values


def halves(results, name, key):
    """Median of each half as "a + b"."""
    both = pick(results, name, key)
    return " + ".join(number(spread([h[i] for h in both])[0]) for i in range(2)) \
        if both and not name.startswith("direct") else "-"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]


BASES = ("haproxy", "ztunnel")


def versus(results, name, *keys):
    """Ratio to the peer of the topology."""
    base = next((b for b in BASES if b in results), None)
    if name.startswith("direct") or base is None or name == base:
        return "-"
    return ranged(ratio(pick(results, name, *keys), pick(results, base, *keys)))


def base_of(results):
    return {"haproxy": "HAProxy", "ztunnel": "ztunnel"}.get(
        next((b for b in BASES if b in results), None), "peer")


def parts_with(results, *texts):
    """(key, part) of the parts of L4 whose key has one of the texts."""
    return [(key, part) for key, part in results.items()
            if key.startswith(("l4-", "node-", "cell-")) and any(t in key for t in texts)]


def bulk_tables(results):
    lines = []
    for key, part in parts_with(results, "-bulk-"):
        rows = []
        for name, rounds in part.items():
            is_proxy = not name.startswith("direct")
            both = [cell([r[way]["cpu_s_per_gb"] for r in rounds])
                    if is_proxy and way in rounds[0] else "-" for way in ("up", "down")]
            rows.append([name, cell(pick(part, name, "gbit_s")),
                         cell(pick(part, name, "cpu_s_per_gb")) if is_proxy else "-", *both,
                         versus(part, name, "cpu_s_per_gb")])
        lines += ["", f"### Bulk: `{key}`", ""]
        lines += table(["path", "Gb/s", "CPU s/GB", "upwards", "downwards",
                        f"/ {base_of(part)}"], rows)
    return lines


def request_tables(results):
    lines = []
    for key, part in parts_with(results, "-requests-", "-connections-"):
        rows = []
        for name in part:
            is_proxy = not name.startswith("direct")
            rows.append([name, cell(pick(part, name, "load", "rate")),
                         cell(pick(part, name, "cpu_us")) if is_proxy else "-",
                         halves(part, name, "halves_us"),
                         cell(pick(part, name, "switches_per_request")) if is_proxy else "-",
                         *[cell(pick(part, name, "load", p + "_us"))
                           for p in ("p50", "p90", "p99")],
                         versus(part, name, "cpu_us")])
        lines += ["", f"### Requests: `{key}`", ""]
        lines += table(["path", "requests/s", "CPU us/request, all proxies",
                        "client + server half", "context switches", "p50 us", "p90 us", "p99 us",
                        f"CPU / {base_of(part)}"], rows)
    return lines


def connection_tables(results):
    lines = []
    for key, part in parts_with(results, "-flows"):
        rows = [[name, cell(pick(part, name, "load", "rate")),
                 cell(pick(part, name, "cpu_us")) if not name.startswith("direct") else "-",
                 halves(part, name, "halves_us"), cell(pick(part, name, "load", "p50_us")),
                 cell(pick(part, name, "load", "p99_us"))] for name in part]
        lines += ["", f"### One TCP connection a request: `{key}`", "",
                  "ztun, ztunnel and Envoy put each on a pooled tunnel; HAProxy makes a full "
                  "handshake for each.", ""]
        lines += table(["path", "connections/s", "CPU us, all proxies", "client + server half",
                        "p50 us", "p99 us"], rows)
    rows = []
    for made in results.get("l4-memory", {}).get("waves", ()):
        rows.append(["idle flows on one tunnel", made["count"],
                     *[" + ".join(number(v) for v in made[k]) for k in (
                         "cpu_us", "kb", "before_kb", "during_kb")]])
    for r in results.get("l4-tunnels", {}).get("rounds", ()):
        for label, key in (("flow with a new tunnel", "first"), ("flow on that tunnel", "second")):
            rows.append([label, r[key]["count"],
                         *[" + ".join(number(v) for v in r[key][k]) for k in (
                             "cpu_us", "kb", "before_kb", "during_kb")]])
    if rows:
        lines += ["", "### Tunnels and memory of ztun, client half + server half", ""]
        lines += table(["what", "count", "CPU us to open one", "KB each", "Pss kB before",
                        "with them"], rows)
    if "l4-tunnels" in results:
        bare, flights = ([[r[k][i] for r in results["l4-tunnels"]["rounds"]] for i in range(2)]
                         for k in ("bare_us", "bare_flights_us"))
        lines += ["", f"Bare TCP connection, CPU us, client and server: {cell(bare[0])}, "
                  f"{cell(bare[1])}. With messages of a handshake's sizes: {cell(flights[0])}, "
                  f"{cell(flights[1])}."]
    return lines


def http_tables(results, access_log):
    lines = []
    for key, part in results.items():
        if not key.startswith("l7-") or key.endswith(("-pss", "-probe", "-memory", "-reload")):
            continue
        first = {"l7-routes": "one", "l7-variants": "bare"}.get(key, "waypoint")
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
                         ranged(r) if r else "-"])
        lines += ["", f"### HTTP: `{key}`{'' if access_log else ', no access log'}", ""]
        lines += table(["path", "requests/s", "CPU us/request, proxy", "context switches", "p50 us",
                        "p90 us", "p99 us", f"CPU / {first}"], rows)
        if key == "l7-grpc":
            lines += ["", "Mean latency, us: " + ", ".join(
                f"{name} {cell(pick(part, name, 'load', 'mean_us'))}" for name in part) + "."]
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


def check_lines(verdicts):
    """The self-check, and in one line what else was checked; what fails is among the notes."""
    lines = [checks.self_line(v) for v in verdicts if v["part"] == "self"]
    others = [v for v in verdicts if v["part"] != "self"]
    if others:
        bad = sum(not v["ok"] for v in others)
        lines.append(f"- Checks of generator, servers, control and noise: {len(others) - bad} hold, "
                     f"{bad} do not" + (" (see the notes)." if bad else "."))
    return lines


def goal_table(goals):
    rows = []
    for g in goals:
        r = "-" if g["ratio"] is None else ranged((g["ratio"], *g["ratio_spread"]))
        if g["id"].split("-")[1:2] == ["latency"] and g["ratio"] is not None:
            r = number(g["ratio"])  # of medians: there is no range
        rows.append([g["line"], f"`{g['id']}`", f"{g['figure']}, {g['unit']}", number(g["ours"]),
                     number(g["peer"]), number(g["floor"]), r,
                     "-" if g["f"] is None else ranged((g["f"], *g["f_spread"]))
                     if g["by"] == "F" else number(g["f"]),
                     g["wanted"], {True: "yes", False: "**no**", None: "-"}[g["met"]],
                     "-" if g["noise"] is None else f"{g['noise'] * 100:.0f} %"])
    return table(["line", "goal", "figure", "ours", "peer", "floor", "R", "F", "wanted", "met",
                  "noise"], rows)


def goal_lines(goals):
    n_met, n_missed = (sum(g["met"] is verdict for g in goals) for verdict in (True, False))
    lines = ["", "## Goals", "",
             f"{n_met} met, {n_missed} missed, {len(goals) - n_met - n_missed} without a verdict in "
             "this run. A row with a peer is met when R holds or F <= 1.15, one with a floor alone "
             "when F holds. Noise: the share of the machine that other programs used meanwhile.", ""]
    lines += goal_table(goals)
    lines.append("")
    for g in goals:
        texts = [f"peer: {g['peer_is']}" if g["peer"] is not None else "",
                 f"floor: {g['floor_is']}" if g["floor"] is not None else "", g["note"],
                 f"`{g['command']}`"]
        lines.append(f"- `{g['id']}`: " + "; ".join(t for t in texts if t))
    return lines


def markdown(run_data):
    env, results = run_data["environment"], run_data["results"]
    virtual = f" ({env['virtual']})" if env["virtual"] else ""
    lines = [f"# Bench, {env['date']}", "",
             f"- Made by `{run_data['command']}`; {run_data['rounds']} rounds A B B A, "
             f"{run_data['seconds']} s each measurement; medians, in brackets lowest and highest. "
             f"Of {run_data['rounds']} rounds such a range holds the true median with "
             f"{confidence(run_data['rounds']) * 100:.0f} %.",
             f"- {env['cpus']} x {env['cpu']}{virtual}, Linux {env['kernel']}, "
             f"{env['congestion_control']}; load average at the start "
             f"{env['load_average'][0]:.2f}.",
             f"- {env['ztun'] or 'no ztun'}, source {env['commit']}."]
    for name, info in run_data["paths"].items():
        tls = info["tls"]
        if tls:
            lines.append(f"- {name}: {tls['version']}, {tls['cipher']}, {tls['group']} (read from "
                         f"the wire). {info['note']}".rstrip())
    lines += probe_lines(results) + check_lines(run_data["checks"])
    for warning in run_data["warnings"]:
        lines.append(f"- **Note:** {warning}")
    lines += ["", "What each figure means, and what it cannot show: "
              "[bench/README.md](../README.md)."]
    lines += goal_lines(run_data["goals"])
    if run_data.get("plots"):
        lines += ["", "## Plots", ""]
        lines += [f"![{name}]({name})" for name in run_data["plots"]]
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
    run_data["plots"] = plots.write(path, run_data["results"])
    with open(path + ".json", "w", encoding="utf-8") as out:
        json.dump(run_data, out, indent=1)
        out.write("\n")
    with open(path + ".md", "w", encoding="utf-8") as out:
        out.write(markdown(run_data))
    return path + ".md"
