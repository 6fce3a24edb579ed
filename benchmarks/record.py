"""The record of a run: what was asked, what was measured, on which machine; and how it compares with the accepted one.

The record is JSON: ``machine``, ``versions`` and ``results``, by benchmark. A result has ``title``,
``problem`` (what was solved, in words), ``rows`` (contestants) and ``targets``, and the ``date`` and the ``commit`` of
the code that was measured. A target has ``what``, ``at_least`` or ``at_most``, and ``measured``: first quartile,
median, third quartile of a ratio, or of another number, infinite where a run failed.
"""

import datetime
import json
import math
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parent.parent
ACCEPTED = ROOT / "benchmarks" / "accepted.json"
ACCEPTED_ON_ACCELERATOR = ROOT / "benchmarks" / "accepted_on_accelerator.json"
LATEST = ROOT / "_build" / "bench.json"
REGRESSION = 0.75  # of the accepted ratio


def result(title: str, problem: str, rows: list[dict], targets: list[dict], **more) -> dict:
    """A benchmark's part of the record; the times of single rounds are not kept."""
    rows = [{key: value for key, value in row.items() if key != "times"} for row in rows]
    return {"title": title, "problem": problem, "rows": rows, "targets": targets, **more}


def target(what: str, measured, *, at_least=None, at_most=None, unit="", how="measured") -> dict:
    """What was asked, and the quartiles of what was measured; one number stands for all three."""
    measured = [float(value) for value in measured] if isinstance(measured, list) else [float(measured)] * 3
    asked = {"at_least": at_least} if at_most is None else {"at_most": at_most}
    return {"what": what, **asked, "unit": unit, "measured": measured, "how": how}


def reached(target: dict) -> bool:
    median = target["measured"][1]
    return median >= target["at_least"] if "at_least" in target else median <= target["at_most"]


def machine() -> dict:
    """The machine without its name: processor, cores, memory, system, and the accelerator if JAX uses one."""
    device = jax.devices()[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        **({} if device.platform == "cpu" else {"accelerator": device.device_kind}),
    }


def _processor():
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() or platform.machine()
    pairs = (line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
    about = {key.strip(): value.strip() for key, value in pairs}
    vectors = [name for name in ("avx512f", "avx2") if name in about.get("flags", "").split()]
    return " ".join([about.get("model name", platform.machine()), *vectors[:1]])


def state() -> dict:
    """The day, and the commit of the code: "changed" where kdlib or the benchmarks differ from it, None without git."""

    def git(*arguments):
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=ROOT, check=True)
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "--short", "HEAD")
        commit += ", changed" if git("status", "--porcelain", "--", "kdlib", "benchmarks/*.py") else ""
    except (OSError, subprocess.CalledProcessError):
        commit = None
    return {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "commit": commit}


def changed(result: dict) -> bool:
    """Whether it was measured with code that no commit holds."""
    return "changed" in (result.get("commit") or "")


def empty() -> dict:
    """A record of this machine without results."""
    packages = ("kdlib", "jax", "diffrax", "numpy", "scipy")
    return {
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "results": {},
    }


def read(path: Path) -> dict | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write(record: dict, path: Path) -> None:
    """Write atomically: what stands there is always one whole record. Four digits are kept of each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(_rounded(record), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(path)


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def score(target: dict, accepted: dict) -> float:
    """How good the measured number is relative to the accepted one: 1 is as good, below 1 is worse."""
    now, before = target["measured"][1], accepted["measured"][1]
    better, worse = (now, before) if "at_least" in target else (before, now)
    if worse > 0:
        return better / worse
    return 1.0 if better >= worse else 0.0


def regressions(record: dict, accepted: dict) -> list[str]:
    """A line for each target that fell below `REGRESSION` of its accepted number, is no longer reached, or is gone.

    Seconds are compared only with those of the same machine; ratios, counts and memory with those of any.
    """
    lines, same = [], record["machine"] == accepted["machine"]
    for name, result in record["results"].items():
        before = {target["what"]: target for target in accepted["results"].get(name, {"targets": []})["targets"]}
        for target in result["targets"]:
            old = before.pop(target["what"], None)
            if old is None or (target["unit"] == "s" and not same):
                continue
            lost = reached(old) and not reached(target)
            if lost or score(target, old) < REGRESSION:
                line = f"{name}: {target['what']}: {target['measured'][1]:.3g}, was {old['measured'][1]:.3g}"
                lines.append(line + (", no longer reached" if lost else ""))
        lines += [f"{name}: {what}: no longer measured" for what in before]
    return lines


def table(record: dict) -> str:
    """Contestants and targets as lines of text."""
    lines = []
    for name, result in record["results"].items():
        lines += ["", f"{name}: {result['title']}", f"  {result['problem']}"]
        lines += [f"    {row['name']:44} {describe(row)}" for row in result["rows"]]
        for target in result["targets"]:
            verdict = "reached" if reached(target) else "NOT REACHED"
            lines.append(f"  {target['what']}: {measured(target)}, asked {asked(target)}: {verdict}")
    return "\n".join(lines)


def spread(quartiles: list[float]) -> str:
    """The median, and in brackets the quartiles where they differ."""
    low, median, high = (f"{value:.3g}" for value in quartiles)
    return median if low == high else f"{median} [{low}, {high}]"


def measured(target: dict) -> str:
    if math.isinf(target["measured"][1]):
        return "failed"
    how = target.get("how", "measured")
    return f"{spread(target['measured'])} {target['unit']}".strip() + ("" if how == "measured" else f", {how}")


def asked(target: dict) -> str:
    number = f"≥ {target['at_least']:g}" if "at_least" in target else f"≤ {target['at_most']:g}"
    return f"{number} {target['unit']}".strip()


def describe(row: dict) -> str:
    """A contestant's time and how it came about, in a few words."""
    if "seconds" not in row:
        return row["how"]
    said = f"{'> ' if row['how'].startswith('stopped') else ''}{spread(row['seconds'])} s"
    if "error" in row:
        said += f", error {row['error']:.0e}" + ("" if row["accurate"] else ": misses the accuracy")
    for counted in ("products", "velocities"):
        if counted in row:
            said += f", {row[counted]} {counted}"
    if "gb" in row:
        said += f", {row['gb']:.3g} GB"
    return said if row["how"] == "measured" else f"{said}, {row['how']}"
