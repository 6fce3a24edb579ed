"""The rendered book in a real browser that reaches nothing but this machine."""

import fcntl
import functools
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tools import browser as chromium
from tools.build import PAGES

ROOT = Path(__file__).resolve().parents[2]


def readers_environment():
    """Without the quick compilation of the tests (Makefile), for it rounds otherwise than a reader's machine."""
    return {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}


@pytest.fixture(scope="session")
def book():
    """The folder of the rendered pages; builds them if they are missing or out of date."""
    lock = ROOT / "_build/.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # tests run in several processes
        subprocess.run([sys.executable, "-m", "tools.build"], cwd=ROOT, env=readers_environment(), check=True)
    return ROOT / PAGES


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def origins(book):
    """The two ways to read the book: from a server, and by a double click."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(book)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield {"http": f"http://127.0.0.1:{server.server_port}", "file": book.as_uri()}
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    path = chromium.find()
    assert path, "no Chromium on this machine: run `python -m tools.browser`"
    offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    arguments = [offline, "--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, origins):
    """``with visit(page) as tab``: a page of the book, with its complaints and its outside requests in lists."""

    @contextmanager
    def visit(name, *, origin="http", theme="light", width=1280, **options):
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=theme, **options)
        tab = context.new_page()
        tab.complaints, tab.outside = [], []
        local = (origins[origin], "data:", "blob:")
        tab.on("console", lambda m: m.type in ("error", "warning") and tab.complaints.append(m.text))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.on("requestfailed", lambda request: tab.complaints.append(f"failed: {request.url}"))
        tab.on("request", lambda request: request.url.startswith(local) or tab.outside.append(request.url))
        tab.goto(f"{origins[origin]}/{name}.html")
        try:
            yield tab
        finally:
            context.close()

    return visit
