"""The rendered book as one file, its checksum beside it: `python -m tools.archive`, from `make zip`.

Unpacked it is one folder. Its first page is `index.html`, and everything in it works from the disk.
"""

import hashlib
import sys
import tomllib
import zipfile
from pathlib import Path

from tools import build

DATE = (1980, 1, 1, 0, 0, 0)  # the first that the format knows: the same pages give the same bytes


def book_name(root: Path = build.ROOT) -> str:
    """The name of the book's files, with its version."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return f"knowledge-transfer-{version}"


def pack(pages: Path, target: Path) -> Path:
    """Write the rendered `pages` to the archive `target`, in one folder of its name."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(pages.rglob("*")):
            if path.is_file() and not path.name.startswith("."):  # those are marks of the build
                entry = zipfile.ZipInfo(f"{target.stem}/{path.relative_to(pages).as_posix()}", DATE)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return target


def write_checksum(path: Path) -> Path:
    """Write `<path>.sha256`, as `sha256sum --check` reads it."""
    checksum = path.with_name(f"{path.name}.sha256")
    checksum.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    return checksum


def main() -> int:
    pages = build.ROOT / build.PAGES
    target = pack(pages, pages.with_name(f"{book_name()}.zip"))
    print(f"Wrote {target} ({target.stat().st_size / 1e6:.0f} MB) and {write_checksum(target).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
