"""What the page *Performance* shows of the accepted record: tables in Markdown, and two figures."""

import numpy as np

from benchmarks import record


def targets(run: dict) -> str:
    """What was asked, and what was measured."""
    lines = ["| | asked | measured | |", "|:--|--:|--:|:--|"]
    for result in run["results"].values():
        lines.append(f"| **{result['title']}** | | | |")
        for target in result["targets"]:
            verdict = "reached" if record.reached(target) else "**not reached**"
            lines.append(f"| {target['what']} | {record.asked(target)} | {record.measured(target)} | {verdict} |")
    return "\n".join(lines)


def missed(run: dict) -> str:
    """How many targets were missed, and what a later run is held to."""
    verdicts = [record.reached(target) for result in run["results"].values() for target in result["targets"]]
    return (
        f"{verdicts.count(False)} of {len(verdicts)} targets are missed. `make bench` fails when a target falls below "
        f"{record.REGRESSION:.0%} of its accepted value; times in seconds are compared on the same machine only."
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
        f"measured on {run['date']}.\n\nVersions: {versions}."
    )


def constants(run: dict) -> dict:
    """Of the memory GB = base + each·m(n + d), and of the time of a product seconds = rate·m·n·d."""
    small, large = (row for row in run["results"]["memory"]["rows"][:2])
    entries = [row["m"] * (row["n"] + row["d"]) for row in (small, large)]
    each = (large["gb"] - small["gb"]) / (entries[1] - entries[0])
    products = [row for row in run["results"]["growth"]["rows"] if "products" in row]
    longest = max(products, key=lambda row: row["m"] * row["n"])
    return {
        "base": small["gb"] - each * entries[0],
        "each": each,
        "rate": longest["seconds"][1] / (longest["m"] * longest["n"] * longest["d"]),
        "products": max(row["products"] for row in products),
    }


def sizes(run: dict, d: int = 64) -> str:
    """For machines of some memories the widest network, and what its trajectory then takes."""
    known = constants(run)
    lines = ["| memory | samples n | widest network m | one product | a trajectory |", "|--:|--:|--:|--:|--:|"]
    for memory in (4, 8, 16, 32, 64):
        for n in (1000, 10_000):
            m = (0.75 * memory - known["base"]) / known["each"] / (n + d)
            m = int(float(f"{m:.1e}"))
            product = known["rate"] * m * n * d
            lines.append(
                f"| {memory} GB | {n} | {m} | {duration(product)} | up to {duration(product * known['products'])} |"
            )
    return "\n".join(lines)


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
