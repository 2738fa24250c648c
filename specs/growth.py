#!/usr/bin/env python3
"""Counts the states of bounds that differ in one parameter, and draws how they grow: growth.md and growth.svg beside this file.

    cargo build --release && specs/growth.py [BELLWETHER]

The counts are the same on every machine; a bound that takes longer than LIMIT seconds is left out, and the page says so.
Needs Python 3.9.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 60
BASE = {"records": 1, "brokers": 3, "min-isr": 2}
# Each parameter from what it is in the base, with what it needs besides.
GROWTH = [
    ("records", [1, 2, 3], {}),
    ("brokers", [2, 3, 4], {}),
    ("crashes", [0, 1, 2], {}),
    ("lossy", [0, 1], {"crashes": 1}),
    ("fences", [0, 1, 2], {}),
    ("shrinks", [0, 1, 2], {}),
    ("elections", [0, 1, 2], {}),
    ("shutdowns", [0, 1], {}),
    ("configures", [0, 1, 2], {"elr": True}),
    ("reassigns", [0, 1, 2], {"brokers": 2, "spares": 1}),
]
COLOURS = ["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#b6992d", "#b07aa1", "#d37295", "#9c755f", "#555555"]


def states(program, bound):
    """Distinct states of a bound, or None if it was not finished."""
    pairs = ",".join(f"{k}={str(v).lower()}" for k, v in bound.items())
    command = [program, "check", "replication", "--bound", pairs, "--max-seconds", str(LIMIT), "--format", "json"]
    report = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    model = report["models"][0]
    return model["distinct"] if model["complete"] else None


def draw(rows):
    """The rows as lines: steps of the parameter to the right, states upwards, each decade as high as the others."""
    width, height, left, bottom, top = 720, 420, 60, 30, 20
    most = max(math.ceil(math.log10(n)) for _, points in rows for _, n in points)
    steps = max(len(points) for _, points in rows) - 1
    x = lambda i: left + i * (width - left - 170) / steps
    y = lambda n: height - bottom - (math.log10(n) - 1) * (height - bottom - top) / (most - 1)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">']
    out.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    for decade in range(1, most + 1):
        at = y(10**decade)
        out.append(f'<path d="M{left} {at:.1f}H{width - 165}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">10^{decade}</text>')
    for i in range(steps + 1):
        out.append(f'<text x="{x(i):.1f}" y="{height - 8}" text-anchor="middle">{"least" if i == 0 else f"+{i}"}</text>')
    taken = []
    for colour, (name, points) in sorted(zip(COLOURS, rows), key=lambda row: row[1][1][-1][1]):
        path = " ".join(f"{x(i):.1f},{y(n):.1f}" for i, (_, n) in enumerate(points))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        # Names that end at the same height are moved apart.
        at = y(points[-1][1]) + 4
        while any(abs(at - other) < 13 for other in taken):
            at -= 1
        taken.append(at)
        out.append(f'<path d="M{x(len(points) - 1):.1f} {y(points[-1][1]):.1f}L{width - 162} {at - 4:.1f}" stroke="{colour}" stroke-dasharray="2 3"/>')
        out.append(f'<text x="{width - 158}" y="{at:.1f}" fill="{colour}">{name} {points[0][0]} to {points[-1][0]}</text>')
    return "\n".join([*out, "</svg>\n"])


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else HERE.parent / "target/release/bellwether"
    rows, lines = [], []
    for name, values, needs in GROWTH:
        counted = []
        for value in values:
            n = states(program, {**BASE, **needs, name: value})
            print(name, value, n, file=sys.stderr)
            if n is None:
                break
            counted.append((value, n))
        rows.append((name, counted))
        cells = [f"{value}: {n:,}" for value, n in counted] + [f"{value}: not in {LIMIT} s" for value in values[len(counted) :][:1]]
        times = [f"{b / a:.1f}" for (_, a), (_, b) in zip(counted, counted[1:])]
        besides = ", ".join(f"{k}={str(v).lower()}" for k, v in needs.items()) or "–"
        lines.append(f"| `{name}` | {besides} | {'; '.join(cells)} | {', '.join(times)} |")
    base = ", ".join(f"{k}={v}" for k, v in BASE.items())
    text = (HERE / "growth.md.in").read_text().replace("{base}", base).replace("{rows}", "\n".join(lines))
    (HERE / "growth.md").write_text(text)
    (HERE / "growth.svg").write_text(draw([row for row in rows if len(row[1]) > 1]))


if __name__ == "__main__":
    main()
