# SPDX-License-Identifier: Apache-2.0
"""Plots of a run as SVG, written by hand: a plot is some lines, two axes and a legend."""

import math
import os

from .stats import median, number

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 40, 50
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")
SIZES = {"64": 128, "1k": 1152, "16k": 32768}  # bytes of a request with its answer


class Axis:
    """A range of values on `length` pixels, linear from 0 or logarithmic."""

    def __init__(self, values, length, is_log):
        values = [v for v in values if v is not None and (v > 0 or not is_log)]
        self.is_log, self.length = is_log, length
        if is_log:
            self.low = 10 ** math.floor(math.log10(min(values)))
            self.high = 10 ** math.ceil(math.log10(max(values)))
            self.high = self.high if self.high > self.low else self.low * 10
        else:
            self.low, self.high = 0, max(values) * 1.05 or 1

    def at(self, value):
        if self.is_log:
            share = math.log10(value / self.low) / math.log10(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return share * self.length

    def ticks(self):
        if self.is_log:
            n = round(math.log10(self.high / self.low))
            return [self.low * 10 ** i for i in range(n + 1)]
        step = 10 ** math.floor(math.log10(self.high / 4))
        step *= next(m for m in (1, 2, 5, 10) if self.high / (step * m) <= 6)
        return [step * i for i in range(int(self.high / step) + 1)]


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def text_at(x, y, text, anchor="middle", size=12, more=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{more}>'
            f"{escape(text)}</text>")


def draw(title, x_title, y_title, lines, log_x=False, log_y=False, has_marks=True):
    """`lines`: {name: [(x, y), ...]}. Returns the text of the SVG."""
    points = [p for line in lines.values() for p in line]
    x_axis = Axis([p[0] for p in points], WIDTH - LEFT - RIGHT, log_x)
    y_axis = Axis([p[1] for p in points], HEIGHT - TOP - BOTTOM, log_y)

    def place(point):
        return LEFT + x_axis.at(point[0]), HEIGHT - BOTTOM - y_axis.at(point[1])

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="sans-serif">', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           text_at(LEFT, 22, title, "start", 15)]
    for tick in x_axis.ticks():
        x = LEFT + x_axis.at(tick)
        out += [f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>',
                text_at(x, HEIGHT - BOTTOM + 16, number(tick))]
    for tick in y_axis.ticks():
        y = HEIGHT - BOTTOM - y_axis.at(tick)
        out += [f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>',
                text_at(LEFT - 6, y + 4, number(tick), "end")]
    out += [text_at((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_title),
            text_at(16, HEIGHT / 2, y_title, more=f' transform="rotate(-90 16 {HEIGHT / 2})"')]
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, line))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if has_marks:
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
                    for x, y in map(place, line)]
        y = TOP + 14 + 20 * i
        out += [f'<path d="M{WIDTH - RIGHT + 12} {y - 4}h22" stroke="{colour}" stroke-width="2"/>',
                text_at(WIDTH - RIGHT + 40, y, name, "start")]
    return "\n".join([*out, "</svg>"]) + "\n"


# ---- What is plotted -----------------------------------------------------------------------------

def latency(results):
    """One plot a part with an open loop: the share of requests that took longer."""
    for key, histograms in results.get("histograms", {}).items():
        if not key.endswith("-1000"):
            continue
        lines = {}
        for name, slots in histograms.items():
            total, seen, line = sum(slots.values()), 0, []
            for end in sorted(slots, key=float):
                seen += slots[end]
                left = 1 - seen / total
                if left >= 1e-4 and (not line or line[-1][1] > left * 1.02):
                    line.append((float(end), left))
            if line:
                lines[name] = line
        if lines:
            yield (f"latency-{key}", draw(f"Latency, {key}", "us", "share that took longer", lines,
                                          log_x=True, log_y=True, has_marks=False))


def of_proxies(part):
    return {name: rounds for name, rounds in part.items()
            if isinstance(rounds, list) and not name.startswith("direct")}


def cpu_by_rate(results):
    """CPU per request of 1 KB against the rate that was reached."""
    for prefix in ("l4", "node", "l7-plain", "l7-waypoint"):
        lines = {}
        keys = [f"{prefix}-requests-1000", f"{prefix}-requests-saturated", f"{prefix}-1000",
                f"{prefix}-saturated", f"cell-{prefix}-requests-1k-half"]
        for key in keys:
            for name, rounds in of_proxies(results.get(key, {})).items():
                lines.setdefault(name, []).append((median([r["load"]["rate"] for r in rounds]),
                                                   median([r["cpu_us"] for r in rounds])))
        if lines:
            yield (f"cpu-rate-{prefix}",
                   draw(f"CPU per request, {prefix}", "requests/s", "CPU us",
                        {name: sorted(line) for name, line in lines.items()}, log_x=True))


def cpu_by_streams(results):
    for topology in ("l4", "node"):
        lines = {}
        for streams in (1, 8, 64):
            for key in (f"{topology}-bulk-{streams}", f"cell-{topology}-bulk-both-{streams}"):
                part = of_proxies(results.get(key, {}))
                for name, rounds in part.items():
                    lines.setdefault(name, []).append(
                        (streams, median([r["cpu_s_per_gb"] for r in rounds])))
                if part:
                    break
        if lines:
            yield (f"cpu-streams-{topology}", draw(f"Bulk, CPU per GB, {topology}", "streams",
                                                   "CPU s/GB", lines, log_x=True))


def cpu_by_size(results):
    for topology in ("l4", "node"):
        lines = {}
        for label, size in SIZES.items():
            keys = [f"cell-{topology}-requests-{label}-saturated"]
            keys += [f"{topology}-requests-saturated"] if label == "1k" else []
            part = next((of_proxies(results[k]) for k in keys if k in results), {})
            for name, rounds in part.items():
                lines.setdefault(name, []).append(
                    (size, median([r["cpu_us"] for r in rounds]) / size * 1e3))
        if any(len(line) > 1 for line in lines.values()):
            yield (f"cpu-size-{topology}",
                   draw(f"Requests, saturated, CPU per GB, {topology}",
                        "bytes of a request and its answer", "CPU s/GB", lines, log_x=True,
                        log_y=True))


def memory(results):
    waves = results.get("l4-memory", {}).get("waves", [])
    if not waves:
        return
    before = results["l4-memory"]["before_kb"]
    lines = {side: [(0, before[i] / 1024)] + [(w["count"], w["during_kb"][i] / 1024)
                                              for w in waves]
             for i, side in enumerate(("client half", "server half"))}
    yield "memory", draw("Memory of ztun", "idle flows in one tunnel", "Pss, MB", lines)


def write(stem, results):
    """Writes all plots that the results have figures for as STEM-NAME.svg; returns their names."""
    names = []
    for maker in (latency, cpu_by_rate, cpu_by_streams, cpu_by_size, memory):
        for name, svg in maker(results):
            with open(f"{stem}-{name}.svg", "w", encoding="utf-8") as out:
                out.write(svg)
            names.append(os.path.basename(f"{stem}-{name}.svg"))
    return names
