"""A chapter in a real JupyterLab, as `make lab` opens it: its explorer is live, and kdlib computes what it shows."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import TimeoutError

from tests.browser.conftest import readers_environment
from tests.browser.test_explorer import drawn, same_text, settle, sliders

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---

# A chapter

```{code-cell} ipython3
import jax
import kdlib as kd

jax.config.update("jax_enable_x64", True)
explorer = kd.widgets.limit_explorer()
explorer
```

```{code-cell} ipython3
print("strength:", explorer.lam)
```

```{code-cell} ipython3
explorer.lam = 0.5
print("sentence:", explorer.sentence)
```
"""


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab with the settings of `make lab`, in a folder with one chapter."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book/chapter.md").write_text(CHAPTER)
    (tmp_path / "settings").mkdir()
    shutil.copy(ROOT / "tools/lab.json", tmp_path / "settings/overrides.json")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = {name: str(tmp_path / "home") for name in ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    options = f"""--no-browser --allow-root --ServerApp.port={port} --ServerApp.port_retries=0 --IdentityProvider.token=
        --ServerApp.root_dir={tmp_path / "book"} --LabApp.app_settings_dir={tmp_path / "settings"}""".split()
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", *options], env=readers_environment() | home, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urlopen(f"{address}/api").close()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait()


def run(tab, cell, outcome):
    """Run the cell until its outcome is there: JupyterLab may lose what is asked while it connects to the kernel.

    A slow machine is asked meanwhile which kernel it should be: the one that is chosen already.
    """
    for _ in range(8):
        try:
            tab.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=120_000)
            if (question := tab.locator(".jp-Dialog button.jp-mod-accept")).count():
                question.first.click()
            cell.locator(".cm-content").click(timeout=10_000)
            tab.keyboard.press("Shift+Enter")
            return outcome.wait_for()
        except TimeoutError:
            pass
    dialog = tab.locator(".jp-Dialog")
    raise AssertionError(f"the cell shows nothing; {dialog.inner_text() if dialog.count() else 'no dialog'}")


@pytest.mark.verify
def test_an_explorer_is_live_in_jupyterlab(browser, lab):
    context = browser.new_context(viewport={"width": 1280, "height": 1600})
    tab = context.new_page()
    outside = []
    tab.on("request", lambda request: request.url.startswith((lab, "data:", "blob:")) or outside.append(request.url))
    tab.goto(f"{lab}/lab/tree/chapter.md")
    cell = tab.locator(".jp-CodeCell")
    cell.first.wait_for(timeout=120_000)  # as a notebook, not as text
    run(tab, cell.first, tab.locator(".kd-explorer-live"))
    strength = sliders(tab)[0]

    # a key moves it, here and in the kernel
    before, start = drawn(tab), strength.get_attribute("aria-valuetext")
    strength.press("ArrowRight")
    settle(tab)
    assert drawn(tab) != before
    printed = tab.locator(".jp-OutputArea-output pre", has_text="strength:")
    run(tab, cell.nth(1), printed)
    there = float(printed.inner_text().removeprefix("strength:"))
    assert strength.get_attribute("aria-valuetext") == f"λ = {there:g}" != start

    # the kernel moves it, too: it says kdlib's own sentence for a value between those of the table
    printed = tab.locator(".jp-OutputArea-output pre", has_text="sentence:")
    run(tab, cell.nth(2), printed)
    expected = printed.inner_text().removeprefix("sentence:").strip()
    tab.wait_for_function("document.querySelector('.kd-sentence').innerText.includes('λ = 0.5')")
    assert same_text(tab.locator(".kd-sentence").inner_text(), expected)
    assert outside == []
    context.close()
