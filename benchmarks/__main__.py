"""`python -m benchmarks [name ...] [--accept]`: run benchmarks, print the table, compare with the accepted record."""

import argparse
import importlib
import sys
import time

import jax

from benchmarks import record

NAMES = ("trajectory", "product", "memory", "growth", "kernels", "training", "compilation")
# what is measured on an accelerator too; memory is the host's, neural-tangents needs an older JAX, in trajectory SciPy
# would carry each product to the host and back, and the large rows of growth factor units in small batches
ON_ACCELERATOR = ("product", "training", "compilation")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(NAMES)}; all of them by default")
    parser.add_argument("--accept", action="store_true", help="take the last run as what later ones are compared with")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"expected names out of {', '.join(NAMES)}; got {', '.join(unknown)}")
    names, path = NAMES, record.ACCEPTED
    if "accelerator" in record.machine():
        names, path = ON_ACCELERATOR, record.ACCEPTED_ON_ACCELERATOR
    return accept(names, path) if options.accept else bench(options.names or names, path)


def bench(names, accepted_path) -> int:
    """Run, with a record after each benchmark: what was measured is not lost when a later one fails."""
    jax.config.update("jax_enable_x64", True)
    new, state = record.empty(), record.state()
    for name in names:
        _say(f"{name} ({time.strftime('%H:%M:%S')})")
        new["results"][name] = importlib.import_module(f"benchmarks.{name}").run(_say) | state
        if record.state()["commit"] != state["commit"]:  # what it measured may be of both
            new["results"][name]["commit"] = f"{state['commit']}, changed meanwhile"
        kept = record.read(record.LATEST)
        same = kept is not None and all(kept[key] == new[key] for key in ("machine", "versions"))
        record.write(new | {"results": (kept["results"] if same else {}) | new["results"]}, record.LATEST)
    _say(record.table(new))
    accepted = record.read(accepted_path)
    if accepted is None:
        _say("\nThere is no accepted record to compare with.")
    worse = record.regressions(new, accepted or record.empty())
    if accepted is not None:
        _say("\n" + "\n".join(["Worse than accepted:", *worse] if worse else ["Nothing is worse than accepted."]))
    _say("Accept the last run of each benchmark with: .venv/bin/python -m benchmarks --accept")
    return 1 if worse else 0


def accept(names, path) -> int:
    latest = record.read(record.LATEST) or record.empty()
    if missing := [name for name in names if name not in latest["results"]]:
        print(f"Not accepted, for these have not run yet on this machine: {', '.join(missing)}", file=sys.stderr)
        return 1
    results = {name: latest["results"][name] for name in names}
    if changed := [name for name, result in results.items() if record.changed(result)]:
        print(f"Not accepted, for these measured code that no commit holds: {', '.join(changed)}", file=sys.stderr)
        return 1
    record.write(latest | {"results": results}, path)
    print(f"Accepted: {path.relative_to(record.ROOT)}")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
