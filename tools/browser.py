"""The browser of the tests: find Chromium, or install it and say so. `python -m tools.browser`, from `make test`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """Path of a Chromium of this machine, of the system or of Playwright; None where there is none."""
    from playwright.sync_api import sync_playwright

    for name in NAMES:
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> None:
    """Install Chromium: Debian's package where this is root on Debian, else Playwright's own build."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("Installing Debian's chromium for the tests of the rendered pages.", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        subprocess.run(command, check=True, env=quiet, stdout=subprocess.DEVNULL)
    else:
        print("Installing Playwright's Chromium for the tests of the rendered pages.", flush=True)
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True)


def main() -> int:
    path = find()
    if path is None:
        try:
            install()
        except subprocess.CalledProcessError as error:
            print(f"Could not install a browser: {error}. Install Chromium by hand and try again.", file=sys.stderr)
            return 1
        path = find()
    if path is None:
        print(
            "No browser is here, even after an installation. Install Chromium by hand and try again.", file=sys.stderr
        )
        return 1
    print(f"Browser of the tests: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
