"""Figures: named numbers with a unit, and where there is an aim, whether it is met.

    python benchmarks/common.py

prints all that were stored.
"""

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


class Figures:
    """The figures of one benchmark, kept in ``benchmarks/results/<name>.json``."""

    def __init__(self, name):
        self.name = name
        self.figures = []

    def add(self, name, value, unit, aim=None, met=None):
        """Note a figure; ``aim`` says in words what it should be (">= 140"), ``met`` whether it is."""
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, float):
            value = float(f"{value:.4g}") if abs(value) < 1000 else round(value)
        self.figures.append({"name": name, "value": value, "unit": unit, "aim": aim,
                             "met": None if met is None else bool(met)})

    def write(self):
        """Print the figures and store them."""
        content = {"machine": machine(), "date": datetime.date.today().isoformat(), "commit": commit(),
                   "figures": self.figures}
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1) + "\n")
        part.replace(path)
        print(table(self.name, content))


def machine():
    """The machine in words: processor, cores, memory, system."""
    model = platform.machine()
    memory = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
        kilobytes = int(Path("/proc/meminfo").read_text().split()[1])
        memory = f", {kilobytes / 2**20:.0f} GiB"
    except (OSError, ValueError, IndexError):
        pass
    return f"{model}, {os.cpu_count()} cores{memory}, {platform.system()}, Python {platform.python_version()}"


def commit():
    """The checked-out commit, with a + when files differ from it; empty outside a checkout."""
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True,
                              check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def table(name, content):
    """The figures as lines of text."""
    lines = [f"[{name}] {content['date']}, {content['commit']}, {content['machine']}"]
    rows = [(figure["name"], f"{figure['value']:,}" if isinstance(figure["value"], (int, float)) else figure["value"],
             figure["unit"], f"aim {figure['aim']}" if figure["aim"] is not None else "",
             {True: "met", False: "missed", None: ""}[figure["met"]]) for figure in content["figures"]]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
    for title, value, *rest in rows:
        cells = [title.ljust(widths[0]), value.rjust(widths[1]),
                 *(cell.ljust(width) for cell, width in zip(rest, widths[2:], strict=True))]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    for stored in sorted(RESULTS.glob("*.json")):
        print(table(stored.stem, json.loads(stored.read_text())), end="\n\n")
