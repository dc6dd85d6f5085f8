#!/usr/bin/env python3
"""Draws what things cost against how many there are, from the files in benches/data. Needs Python 3 and nothing else.

    python3 benches/curves.py collect target/criterion > benches/data/parts.csv
    python3 benches/curves.py draw benches/data benches/curves.svg
    python3 benches/curves.py table benches/data
"""

import csv
import json
import math
import sys
from pathlib import Path

# What is drawn: title, axis, and for each line its name and where its points come from.
PANELS = [
    ("one ListOffers", "offers", [
        ("all, by price", "list_offers/all_by_price"),
        ("one model, by price", "list_offers/one_model_by_price"),
        ("five filters, by expected cost", "list_offers/five_filters_by_expected_cost"),
        ("with another disk", "list_offers/with_another_disk"),
        ("a place by text", "list_offers/place_by_text"),
        ("new snapshot", "list_offers/refresh"),
        ("vendor's body to offers", "parse/vastai"),
    ]),
    ("with a history", "ended sessions, ten segments each", [
        ("open and start", "history/open_and_start"),
        ("page of sessions", "history/page_of_sessions"),
        ("page of open sessions", "history/page_of_open_sessions"),
        ("page of ended sessions", "history/page_of_ended_sessions"),
        ("page of the ledger", "history/page_of_the_ledger"),
        ("report of the last day", "history/report_of_the_last_day"),
        ("report of everything", "history/report_of_everything"),
    ]),
    ("one change until all have its bytes", "watchers", [
        ("of its session", "watch/one_change_to_watchers_of_its_session"),
        ("of everything", "watch/one_change_to_watchers_of_everything"),
    ]),
    ("one commit", "transitions", [
        ("in one batch", "commit/transitions_in_one_batch"),
        ("changes of labels", "commit/changes_of_labels_in_one_batch"),
        ("callers at once", "commit/callers_at_once"),
        ("bare SQLite", "commit/bare_sqlite"),
    ]),
]
COLOURS = ["#1b6ca8", "#c8553d", "#3a8f5c", "#8a5fa8", "#b08a1e", "#4f5d75", "#d17ba0"]
WIDE, HIGH, LEFT, TOP, BOTTOM, RIGHT = 560, 330, 70, 34, 44, 20


def collect(folder):
    """Criterion's estimates as lines of name, size, seconds and the bounds of the mean."""
    rows = []
    for path in sorted(Path(folder).glob("**/new/estimates.json")):
        about = json.loads((path.parent / "benchmark.json").read_text())
        mean = json.loads(path.read_text())["mean"]
        name = f"{about['group_id']}/{about['function_id']}"
        bounds = mean["confidence_interval"]
        seconds = [f"{v / 1e9:.4g}" for v in (mean["point_estimate"], bounds["lower_bound"], bounds["upper_bound"])]
        rows.append((name, int(about["value_str"] or 0), *seconds))
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["bench", "size", "seconds", "at_least", "at_most"])
    out.writerows(sorted(rows))


def parts(data):
    found = {}
    path = Path(data) / "parts.csv"
    if path.exists():
        for row in csv.DictReader(path.open()):
            found.setdefault(row["bench"], []).append((int(row["size"]), float(row["seconds"])))
    return {name: sorted(points) for name, points in found.items()}


def loads(data):
    """Reports of `gpu-shopper load`, by file name."""
    return {path.stem: json.loads(path.read_text() or "{}") for path in sorted(Path(data).glob("*.json"))}


def server_panels(data):
    """Memory and processor of a server against sessions and streams."""
    sessions, cpu, each, late = [], [], [], []
    for name, report in loads(data).items():
        kind, _, size = name.rpartition("-")
        if not size.isdigit() or not report.get("parts"):
            continue
        server = report["parts"][0].get("server") or {}
        if kind == "idle" and server:
            sessions.append((int(size), server["memory_after_kib"] / 1024))
            cpu.append((int(size), max(server["cpu_permille"] / 10, 0.05)))
        if kind == "watch" and server:
            each.append((int(size), (report["parts"][0].get("memory_bytes_each") or 0) / 1024))
            late += [(int(size), t[1]["p99_us"] / 1000) for t in report["parts"][1]["times"] if "event" in t[0]]
    panels = []
    if sessions:
        panels.append(("a server that nobody asks", "sessions that run", "MiB, % of one processor", [("memory, MiB", sorted(sessions)), ("processor, %", sorted(cpu))]))
    if each:
        panels.append(("a server with watchers", "streams", "KiB, ms", [("memory of each stream, KiB", sorted(each)), ("commit to client, p99, ms", sorted(late))]))
    return panels


def text_of(seconds):
    for unit, factor in (("s", 1), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if seconds >= factor * 0.9999:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds:.3g}"


def panel(x, y, title, axis, unit, lines):
    points = [p for _, line in lines for p in line if p[0] > 0 and p[1] > 0]
    out = [f'<g transform="translate({x},{y})"><text x="{LEFT}" y="20" class="title">{title}</text>']
    if not points:
        return out + ["</g>"]
    low_x, high_x = (f([math.log10(p[0]) for p in points]) for f in (min, max))
    low_y, high_y = math.floor(min(math.log10(p[1]) for p in points)), math.ceil(max(math.log10(p[1]) for p in points))
    high_x, high_y = max(high_x, low_x + 1), max(high_y, low_y + 1)
    to_x = lambda v: LEFT + (math.log10(v) - low_x) / (high_x - low_x) * (WIDE - LEFT - RIGHT - 170)
    to_y = lambda v: HIGH - BOTTOM - (math.log10(v) - low_y) / (high_y - low_y) * (HIGH - TOP - BOTTOM)
    for power in range(low_y, high_y + 1):
        at = to_y(10**power)
        label = text_of(10.0**power) if unit is None else f"{10.0**power:g}"
        out.append(f'<line x1="{LEFT}" x2="{WIDE - RIGHT - 170}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/><text x="{LEFT - 6}" y="{at + 4:.1f}" class="end">{label}</text>')
    shown = 0
    for size in sorted({p[0] for p in points}):
        # Where two would stand in each other, the first one stands.
        if shown and to_x(size) - shown < 8 * len(str(size)):
            continue
        shown = to_x(size)
        out.append(f'<text x="{to_x(size):.1f}" y="{HIGH - BOTTOM + 16}" class="mid">{size}</text>')
    out.append(f'<text x="{LEFT}" y="{HIGH - 8}" class="axis">{axis}{"" if unit is None else " · " + unit}</text>')
    for number, (name, line) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        line = [p for p in line if p[0] > 0 and p[1] > 0]
        path = " ".join(f"{to_x(a):.1f},{to_y(b):.1f}" for a, b in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{to_x(a):.1f}" cy="{to_y(b):.1f}" r="3" fill="{colour}"/>' for a, b in line]
        out.append(f'<text x="{WIDE - RIGHT - 160}" y="{TOP + 12 + number * 17}" style="fill:{colour}">{name}</text>')
    return out + ["</g>"]


def draw(data, target):
    known = parts(data)
    panels = []
    for title, axis, lines in PANELS:
        there = [(name, known[bench]) for name, bench in lines if bench in known]
        if there:
            panels.append((title, axis, None, there))
    panels += server_panels(data)
    rows = math.ceil(len(panels) / 2)
    style = "text{font:12px sans-serif;fill:#333}.title{font-size:14px;font-weight:bold}.end{text-anchor:end}.mid{text-anchor:middle}.axis{fill:#777}.grid{stroke:#ddd}"
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDE}" height="{rows * HIGH}"><style>{style}</style><rect width="100%" height="100%" fill="white"/>']
    for number, (title, axis, unit, lines) in enumerate(panels):
        out += panel(number % 2 * WIDE, number // 2 * HIGH, title, axis, unit, lines)
    Path(target).write_text("\n".join(out + ["</svg>\n"]))


def conditions(data, name):
    """What was measured when and on what, as a line."""
    path = Path(data) / f"{name}.conditions"
    if path.exists():
        print(" · ".join(line.replace("=", " ", 1) for line in path.read_text().splitlines()) + "\n")


def table(data):
    """The same as Markdown, for the README beside this file."""
    conditions(data, "parts")
    print("| bench | size | mean | between |\n| --- | --- | --- | --- |")
    path = Path(data) / "parts.csv"
    for row in csv.DictReader(path.open()) if path.exists() else []:
        low, high = (text_of(float(row[k])) for k in ("at_least", "at_most"))
        print(f"| `{row['bench']}` | {row['size']} | {text_of(float(row['seconds']))} | {low} to {high} |")
    print()
    conditions(data, "server")
    print("| load | what | a second | p50 | p99 | p99.9 | failed | processor each | memory after |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, report in loads(data).items():
        failed = sum(report.get("errors", {}).values()) or ""
        for part in report.get("parts", []):
            server = part.get("server") or {}
            memory = f"{server['memory_after_kib'] / 1024:.1f} MiB" if server else ""
            each = text_of(part["cpu_us_each"] / 1e6) if part.get("cpu_us_each") else ""
            if part.get("memory_bytes_each"):
                memory += f", {part['memory_bytes_each'] / 1024:.1f} KiB each"
            if not part["times"]:
                each = f"{server.get('cpu_permille', 0) / 10:.1f} % of one"
            for what, t in part["times"] or [("", None)]:
                numbers = [text_of(t[k] / 1e6) for k in ("p50_us", "p99_us", "p999_us")] if t else ["", "", ""]
                print(f"| {name} | {part['name']}: {what} | {part['per_second_hundredths'] / 100:.0f} | {' | '.join(numbers)} | {failed} | {each} | {memory} |")
    path = Path(data) / "rest.csv"
    if path.exists():
        print("\n| sessions that run, nobody asks, two minutes | least | median | most |\n| --- | --- | --- | --- |")
        for row in csv.DictReader(path.open()):
            print(f"| {row['sessions']} | " + " | ".join(f"{int(row[k]) / 1024:.0f} MiB" for k in ("least_kib", "median_kib", "most_kib")) + " |")
    path = Path(data) / "json.csv"
    if path.exists():
        print("\n| JSON, 32 at once | bytes | a second | p50 | p99 | failed |\n| --- | --- | --- | --- | --- | --- |")
        for row in csv.DictReader(path.open()):
            print(f"| {row['load']} | {row['bytes']} | {float(row['a_second']):.0f} | {row['p50_ms']} ms | {row['p99_ms']} ms | {row['failed']} |")


if __name__ == "__main__":
    commands = {"collect": collect, "draw": draw, "table": table}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
