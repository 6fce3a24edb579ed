"""What the pages do not need is taken out of them: most of MathJax, of the theme's icons, and the index of the search.

The theme brings 2,000 icons, once as a script that redraws each page (540 kB gzipped) and once as fonts. The pages keep
one font with the dozen icons that they name. The index is for a search while one types, which the book does not have:
the field leads to the search page, and that one loads it.
"""

import logging
import re
from pathlib import Path

from fontTools import subset

MATHJAX = ("tex-chtml.js", "output/", "input/tex/", "a11y/", "ui/", "sre/mathmaps/base.json", "sre/mathmaps/en.json")
SEARCH_SCRIPT = re.compile(r'\s*<script src="[^"]*/?(searchtools|language_data|searchindex)\.js[^"]*"></script>')
ICON = re.compile(r"\bfa-[a-z0-9-]+")
ICON_SCRIPT = re.compile(r"<script [^>]*/fontawesome\.js[^>]*></script>")
ICON_FONT = re.compile(r"@font-face\{[^}]*webfonts/([a-z0-9-]+)\.woff2[^}]*\}")
ICON_RULE = re.compile(r'((?:\.fa-[a-z0-9-]+:before,?)+)\{content:"([^"]*)"\}')
ICON_FILES = re.compile(r'url\([^)]*\.woff2\) format\("woff2"\),url\([^)]*\.ttf\) format\("truetype"\)')
SOLID = "fa-solid-900"


def trim(pages: Path) -> None:
    trim_mathjax(pages / "_static/mathjax")
    trim_icons(pages)
    for page in pages.rglob("*.html"):
        if page.name != "search.html":
            page.write_text(SEARCH_SCRIPT.sub("", page.read_text()))
    for path in pages.glob("_static/**/*.map"):  # for those who debug the theme
        path.unlink()
    index = pages / "searchindex.js"
    index.write_text(index.read_text().replace(r"\u2019", "'"))  # the apostrophe that a reader types


def trim_mathjax(folder: Path) -> None:
    """Keep what the pages load and what MathJax's own menu can ask for: 6 of 24 MB."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and not path.relative_to(folder).as_posix().startswith(MATHJAX):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def trim_icons(pages: Path) -> None:
    """Keep the icons that a page or a style sheet names, in one font without its script."""
    used = set()
    for page in pages.rglob("*.html"):
        text = page.read_text()
        used.update(ICON.findall(text))
        page.write_text(ICON_SCRIPT.sub("", text))
    for script in pages.glob("_static/scripts/fontawesome.js*"):
        script.unlink()

    sheet = pages / "_static/styles/pydata-sphinx-theme.css"
    text = ICON_RULE.sub(lambda rule: rule[0] if used & set(ICON.findall(rule[1])) else "", sheet.read_text())
    text = ICON_FONT.sub(lambda face: face[0] if face[1] == SOLID else "", text)
    text = ICON_FILES.sub(f'url(../vendor/fontawesome/webfonts/{SOLID}.woff) format("woff")', text)
    sheet.write_text(text)

    logging.getLogger("fontTools").setLevel(logging.WARNING)
    options = subset.Options(flavor="woff", layout_features=[], glyph_names=False, hinting=False)
    fonts = pages / "_static/vendor/fontawesome/webfonts"
    subsetter = subset.Subsetter(options)
    escaped = [int(code, 16) for code in re.findall(r'content:"\\([0-9a-f]{4})"', text)]
    subsetter.populate(unicodes=[*escaped, *(ord(icon) for icon in re.findall("[\ue000-\uf8ff]", text))])
    with subset.load_font(fonts / f"{SOLID}.ttf", options) as font:
        subsetter.subset(font)
        for path in fonts.iterdir():
            path.unlink()
        subset.save_font(font, fonts / f"{SOLID}.woff", options)
