"""What `make pdf` lacks, it names, and stops. The PDF itself is no part of the tests: it needs TeX."""

import os
import subprocess
import sys
from pathlib import Path

from tools import pdf


def test_what_is_missing_is_named(tmp_path):
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PATH": str(tmp_path)}  # where there is nothing
    run = subprocess.run([sys.executable, "-m", "tools.pdf"], cwd=root, env=environment, capture_output=True, text=True)
    assert run.returncode == 1
    assert all(name in run.stderr for name in pdf.NEEDED)
    assert all(package in run.stderr for package in pdf.NEEDED.values())
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_tex_takes_limits_in_braces():
    assert pdf.LIMIT_WITHOUT_BRACES.sub(r"\1{\\\2}", r"p_\max, a^\min_k, \max_k") == r"p_{\max}, a^{\min}_k, \max_k"
