"""What the page *Performance* shows of the accepted record: tables in Markdown, and two figures."""

import numpy as np

from benchmarks import record
from kdlib import linear_system

SHARE = 0.75  # of a machine's memory


def targets(run: dict) -> str:
    """What was asked, and what was measured."""
    lines = ["| | asked | measured | |", "|:--|--:|--:|:--|"]
    for result in run["results"].values():
        lines.append(f"| **{result['title']}** | | | |")
        for target in result["targets"]:
            verdict = "reached" if record.reached(target) else "**not reached**"
            asked = record.asked(target).replace(" ", "\u00a0")
            lines.append(f"| {target['what']} | {asked} | {record.measured(target)} | {verdict} |")
    return "\n".join(lines)


def missed(run: dict) -> str:
    """How many targets were missed, and what a later run is held to."""
    verdicts = [record.reached(target) for result in run["results"].values() for target in result["targets"]]
    return (
        f"{verdicts.count(False)} of {len(verdicts)} targets are missed. `make bench` fails when a target that was "
        f"reached is missed or no longer measured, when a number that should be large falls below "
        f"{record.REGRESSION:.0%} of the accepted one, or when one that should be small rises above "
        f"{1 / record.REGRESSION:.0%} of it; times in seconds are compared on the same machine only."
    )


def contestants(run: dict, name: str) -> str:
    """The contestants of one benchmark, and on what they ran."""
    result = run["results"][name]
    rows = [f"| {row['name']} | {record.describe(row)} |" for row in result["rows"]]
    return "\n".join([f"Problem: {result['problem']}.", "", "| | time |", "|:--|:--|", *rows])


def machine(run: dict) -> str:
    """The machine and the packages, in a sentence each."""
    about = run["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    chips = "; ".join(about[part] for part in ("accelerator", "processor") if part in about)
    return (
        f"{chips}, {about['cores']} cores, {about['memory_gb']} GB of memory, {about['system']}; "
        f"measured {states(run)}.\n\nVersions: {versions}."
    )


def states(run: dict) -> str:
    """When, and with which code: one for all, or benchmark by benchmark."""
    found: dict[str, list[str]] = {}
    for result in run["results"].values():
        day, commit = result.get("date") or run["date"], result.get("commit") or "not recorded"
        found.setdefault(f"on {day}, commit {commit}", []).append(result["title"])
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{state} (*{'*, *'.join(titles)}*)" for state, titles in found.items())


def keeps_slopes(m: float, n: int) -> bool:
    """Whether `kernel_flow` keeps its slopes, in 64-bit on one CPU."""
    return 8 * m * n <= linear_system._KEPT_BYTES


def constants(run: dict) -> dict | None:
    """Of GB = base + samples·mn + inputs·md and seconds = rate·mnd, with slopes that are kept, and without.

    Three processes that kept them give base, samples and inputs; one that did not, the other ``samples``. The rates are
    those of the largest of each. None where the record has too few: a run may have failed.
    """
    rows = [row for row in run["results"]["memory"]["rows"] if "gb" in row]
    kept = [row for row in rows if keeps_slopes(row["m"], row["n"])]
    streamed = [row for row in rows if row not in kept]
    if len(kept) < 3 or not streamed:
        return None
    design = [[1, row["m"] * row["n"], row["m"] * row["d"]] for row in kept]
    scale = np.max(design, axis=0)
    base, samples, inputs = np.linalg.lstsq(design / scale, [row["gb"] for row in kept])[0] / scale
    large, largest = (max(part, key=lambda row: row["m"] * row["n"]) for part in (kept, streamed))
    without = (largest["gb"] - base - inputs * largest["m"] * largest["d"]) / (largest["m"] * largest["n"])
    return {
        "base": base,
        "inputs": inputs,
        "samples": (samples, without),
        "rates": [row["seconds"][1] / (row["m"] * row["n"] * row["d"]) for row in (large, largest)],
    }


def fits(run: dict) -> str:
    """Memory and time of a trajectory by formula, and for machines of some memories the widest network."""
    known = constants(run)
    if known is None:
        return "This record has too few runs of *Memory* for it."
    limit = linear_system._KEPT_BYTES
    formulas = [
        f"| {case} | {known['base']:.2f} GB + {1e9 * samples:.0f} mn bytes + {1e9 * known['inputs']:.0f} md bytes | "
        f"{rate:.1e} mnd s |"
        for case, samples, rate in zip(("up to there", "beyond"), known["samples"], known["rates"])
    ]
    cores = run["machine"]["cores"]
    return "\n".join([
        f"Slopes of up to {limit / 2**30:g} GiB are kept, which is $mn \\le {limit // 8}$ numbers; beyond, each "
        "product computes them anew: a step takes $8mnd$ flops in place of $4mnd$, and evaluates the slopes twice. "
        f"Seconds are those of the machine above, with its {cores} cores.", "",
        "| | memory | a trajectory |", "|:--|--:|--:|", *formulas, "",
        f"With {SHARE:.0%} of a machine's memory and $d = 64$:", "", sizes(known),
    ])  # fmt: skip


def sizes(known: dict, d: int = 64) -> str:
    """For machines of some memories the widest network, and what its trajectory then takes."""
    lines = ["| memory | samples n | widest network m | a trajectory |", "|--:|--:|--:|--:|"]
    for memory in (4, 8, 16, 32, 64):
        for n in (1000, 10_000):
            free = SHARE * memory - known["base"]
            with_slopes, without = (free / (each * n + known["inputs"] * d) for each in known["samples"])
            most_kept = linear_system._KEPT_BYTES / (8 * n)
            # what fits without may be too small for kdlib to do without
            m = with_slopes if with_slopes <= most_kept else max(most_kept, without)
            m = int(float(f"{m:.1e}"))
            seconds = known["rates"][0 if keeps_slopes(m, n) else 1] * m * n * d
            lines.append(f"| {memory} GB | {n} | {m} | {duration(seconds)} |")
    return "\n".join(lines)


def gains(run: dict) -> str:
    """How many times faster than the best alternative kdlib is, and the textbook method that the reference follows."""
    rows, said = run["results"]["trajectory"]["rows"], []
    for row in rows:
        if "the reference" not in row["name"]:
            continue
        label = row["name"].split(": ")[0]
        others = [other for other in rows if other["name"].startswith(label) and other is not row and other["accurate"]]
        ours = next(other for other in others if other["name"].endswith("kdlib"))
        best = min(other["seconds"][1] for other in others if other is not ours)
        textbook, gain = (best / contestant["seconds"][1] for contestant in (row, ours))
        said.append(
            f"At {label} the reference is {textbook:.3g} times as fast as the best alternative, kdlib {gain:.3g} times."
        )
    return " ".join(said)


def slower_there(run: dict, there: dict) -> str:
    """Which functions take longer on the accelerator than on the CPU of the other record."""
    rows = [each["results"]["compilation"]["rows"] for each in (run, there)]
    seconds = [{row["name"]: row["seconds"][1] for row in part} for part in rows]
    slower = [
        f"`{name.split(',')[0]}` ({theirs:.3g} s, on the CPU {ours:.3g} s)"
        for name, theirs in seconds[1].items()
        if name.endswith("second problem") and theirs > (ours := seconds[0][name])
    ]
    if not slower:
        return ""
    where = "On the small problem of *Compilation*, once compiled, the card is slower than the CPU above at"
    return f"{where} {', '.join(slower)}."


def duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size:
            return f"{float(f'{seconds / size:.2g}'):g} {unit}"
    return f"{float(f'{1000 * seconds:.2g}'):g} ms"


def draw_trajectory(run: dict, ax, ours: str, theirs: str) -> None:
    """Bars of the times of all that reached the accuracy; hatched what is extrapolated."""
    rows = [row for row in run["results"]["trajectory"]["rows"] if row.get("accurate", True)][::-1]
    for place, row in enumerate(rows):
        color = ours if row["name"].endswith("kdlib") else theirs
        hatch = None if row["how"] == "measured" else "///"
        ax.barh(place, row["seconds"][1], color="none" if hatch else color, edgecolor=color, hatch=hatch)
    ax.set_yticks(range(len(rows)), [row["name"] for row in rows])
    ax.set(xscale="log", xlabel="seconds for 40 times")


def draw_growth(run: dict, ax, letter: str, ours: str, line: str) -> None:
    """Times of one product over m or n, and a line of slope 1 through the last."""
    fixed = "n" if letter == "m" else "m"
    rows = [row for row in run["results"]["growth"]["rows"] if "products" in row and row[fixed] == 1000]
    rows.sort(key=lambda row: row[letter])
    sizes, times = np.array([[row[letter], row["seconds"][1]] for row in rows]).T
    ax.loglog(sizes, times, "o", color=ours)
    ax.loglog(sizes, times[-1] * sizes / sizes[-1], "--", color=line, lw=1)
    ax.set(xlabel=f"{letter}, with {fixed} = 1000", ylabel="seconds of one product")
