"""Reading aids that the build makes from what the chapters say already: proofs that fold, places where lines may break,
symbols that lead to the notation table, statements that lead to their checks, the index of statements, and the
definitions that a link shows.

The definitions of a page stand beside it in `<page>.definitions.js`, a script that hands them to
`book/_static/reading.js`. The first link that asks for one loads it; a script works from a file too, where a page may
not read another one.
"""

import json
import re
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag
from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx_exercise.nodes import solution_node
from sphinx_proof.nodes import proof_node

from tools import ledger
from tools.quiz import quiz_choice

# Proofs that fold -----------------------------------------------------------------------------------------------------

OPENING = "Proof. "  # what sphinx-proof puts before the first word; here it is the handle


def visit_proof(self, node):
    first = next(node.findall(nodes.Text))
    first.parent.replace(first, nodes.Text(first.removeprefix(OPENING)))
    self.body.append('<details class="fold" open><summary>Proof</summary>\n')


def depart_proof(self, node):
    self.body.append("</details>\n")


def leave_as_it_is(self, node):
    pass


# Where lines may break ------------------------------------------------------------------------------------------------


class Punctuation(SphinxPostTransform):
    """Keeps brackets, commas, full stops and the -th of n-th with their formula: browsers would break between them."""

    default_priority = 900
    formats = ("html",)

    def run(self, **options):
        for formula in list(self.document.findall(nodes.math)):
            if "symbol" in formula.parent.get("classes", []):
                formula = formula.parent
            parent, at = formula.parent, formula.parent.index(formula)
            beside = [parent[i] if 0 <= i < len(parent) else None for i in (at - 1, at + 1)]
            before, after = (str(text) if isinstance(text, nodes.Text) else "" for text in beside)
            left, right = before.rstrip("([“"), re.sub(r"^(-\w+)?[)\],.;:?!”]*", "", after)
            opening, closing = before[len(left) :], after[: len(after) - len(right)]
            if opening:
                parent[at - 1] = nodes.Text(left)
            if closing:
                parent[at + 1] = nodes.Text(right)
            if opening or closing:
                parts = nodes.Text(opening), formula, nodes.Text(closing)
                parent[at] = nodes.inline("", "", *parts, classes=["unbroken"])


class SolutionTitles(SphinxPostTransform):
    """The space before the name of a solution's exercise is no part of the link."""

    default_priority = 900
    formats = ("html",)

    def run(self, **options):
        for solution in self.document.findall(solution_node):
            for link in list(solution[0].findall(nodes.reference)):
                name = next(link.findall(nodes.Text))
                name.parent.replace(name, nodes.Text(name.lstrip()))
                link.parent.insert(link.parent.index(link), nodes.Text(" "))


class Names(SphinxPostTransform):
    """Lets a long name in a table's cell break behind its underscores: the style lets it break nowhere else."""

    default_priority = 900
    formats = ("html", "latex")

    def run(self, **options):
        form = self.app.builder.format
        hint = nodes.raw("", {"html": "<wbr>", "latex": r"\allowbreak{}"}[form], format=form)
        for cell in self.document.findall(nodes.entry):
            for name in [name for name in cell.findall(nodes.literal) if len(name.astext()) > 8]:
                first, *rest = re.split(r"(?<=_)(?=[^_])", name.astext())
                name[:] = [nodes.Text(first), *(node for part in rest for node in (hint.deepcopy(), nodes.Text(part)))]


# Symbols --------------------------------------------------------------------------------------------------------------

NOTATION = "book/notation"
ROW = re.compile(r"\[\$(?P<tex>[^$]+)\$\]\{#(?P<place>symbol-[a-z-]+)\}(?P<rest>.*)")
HOME = re.compile(r"\{doc\}`[^`]*<([a-z-]+)>`")


def symbols(page: str, table: str) -> dict[str, str]:
    """The symbols that a page's formulas can be looked up for, with the places of their rows in the notation table.

    A single letter, which other chapters may use for something else, counts in the chapters that its row names; but λ
    and m are the same in all.
    """
    found = {}
    for row in ROW.finditer(table):
        tex = row["tex"].partition("=")[0].strip()
        at_home = any(page == f"book/{name}" for name in HOME.findall(row["rest"]))
        if at_home or tex in (r"\lambda", "m") or not re.fullmatch(r"\\?[A-Za-z]+", tex):
            found[tex] = row["place"]
    return found


class Symbols(SphinxPostTransform):
    """Where a chapter first uses a symbol by itself, it leads to the symbol's row in the notation table."""

    default_priority = 890
    formats = ("html",)

    def run(self, **options):
        page = self.env.docname
        chapters = {f"book/{chapter}" for chapter, _ in ledger.by_chapter(Path(self.env.srcdir))}
        if page not in chapters or NOTATION not in self.env.found_docs:
            return
        places = symbols(page, Path(self.env.doc2path(NOTATION)).read_text(encoding="utf-8"))
        to_notation = self.app.builder.get_relative_uri(page, NOTATION)
        for formula in list(self.document.findall(nodes.math)):
            if formula.astext() in places and not _in_a_title_or_a_thing_to_click(formula):
                address = f"{to_notation}#{places.pop(formula.astext())}"
                link = nodes.reference("", "", formula.deepcopy(), refuri=address, internal=True, classes=["symbol"])
                formula.replace_self(link)


def _in_a_title_or_a_thing_to_click(node):
    while node := node.parent:
        if isinstance(node, nodes.title | nodes.reference | nodes.caption | nodes.term | quiz_choice):
            return True
    return False


# Places ---------------------------------------------------------------------------------------------------------------

REPEATED = {"proof", "proof-content", "exercise-content", "solution-content"}  # what the extensions call every one


class Places(SphinxTransform):
    """A title gives way to a statement whose label reads like it: a link to the one must not lead to the other."""

    default_priority = 400

    def apply(self, **options):
        labels = {box["label"] for box in self.document.findall(nodes.Element) if box.get("label")}
        for section in self.document.findall(nodes.section):
            section["ids"] = [f"section-{name}" if name in labels else name for name in section["ids"]]


class Nameless(SphinxPostTransform):
    """Parts that all have the same name have none."""

    default_priority = 900
    formats = ("html",)

    def run(self, **options):
        for element in self.document.findall(nodes.Element):
            element["ids"] = [name for name in element["ids"] if name not in REPEATED]


# Statements and their checks ------------------------------------------------------------------------------------------

CLAIMS = "book/claims"


class Checks(SphinxPostTransform):
    """Under a statement: the cell that asserts it, the random problems that it held in, and the code that checks it."""

    default_priority = 5  # before references are resolved
    formats = ("html",)

    def run(self, **options):
        root, page = Path(self.env.srcdir), self.env.docname
        statements, rows = {one.label: one for one in ledger.statements(root)}, ledger.rows(root)
        boxes = {box["label"]: box for box in self.document.findall(nodes.Element) if box.get("label") in statements}
        for cell in self.document.findall(nodes.container):
            for label in (name.removeprefix("tag_claim-") for name in cell["classes"]):
                if label not in boxes:
                    continue
                cell["ids"].append(f"check-{label}")
                said = nodes.paragraph("", "Checked ", classes=["checked"])
                said += nodes.reference("", "on this page", refid=f"check-{label}", internal=True)
                if label in rows:
                    there = f"{self.app.builder.get_relative_uri(page, CLAIMS)}#swept-{label}"
                    problems = nodes.reference("", f"{rows[label]['cases']:,} problems", refuri=there, internal=True)
                    one = statements[label]
                    code = addnodes.pending_xref("", nodes.literal("", one.checker), refdomain="py", reftype="func")
                    code.update_all_atts({"refdoc": page, "reftarget": f"kdlib.claims.{one.module}.{one.checker}"})
                    said += [nodes.Text(" and in "), problems, nodes.Text(" by "), code]
                boxes[label] += said


# The index of statements ----------------------------------------------------------------------------------------------


class StatementIndex(SphinxDirective):
    """Every statement of the book in the order of reading, with its title and its checker."""

    def run(self):
        text = []
        for chapter, group in ledger.by_chapter(Path(self.env.srcdir)):
            text += [f"{{doc}}`{chapter}`", ""]
            for one in group:
                check = f"{{py:func}}`check <kdlib.claims.{one.module}.{one.checker}>`"
                text.append(f"- {{prf:ref}}`{one.label}` {one.title} ({check})")
            text.append("")
        found = nodes.container(classes=["statement-index"])
        self.state.nested_parse(StringList(text, source="the index of statements"), self.content_offset, found)
        return [found]


# What a link leads to -------------------------------------------------------------------------------------------------


def definitions(body: str) -> dict[str, str]:
    """What can be shown of a page, by the identifiers that links use."""
    soup = BeautifulSoup(body, "html.parser")
    found = {}
    for statement in soup.select("div.proof[id], div.exercise[id]"):
        title = statement.select_one(".admonition-title")
        if title:
            title["class"] = "definition-title"
        for check in statement.select(".checked"):
            check.decompose()
        found[statement["id"]] = _inside(statement)
        for second_name in statement.select(":scope > span[id]"):
            found[second_name["id"]] = found[statement["id"]]
    for equation in soup.select('div.math[id^="equation-"]'):
        found[equation["id"]] = _inside(equation, keep=True)
    for figure in soup.select("figure[id]"):
        parts = [figure.select_one("img"), figure.select_one("figcaption")]
        found[figure["id"]] = "".join(_inside(part, keep=part.name == "img") for part in parts if part)
    for term in soup.select('dt[id^="term-"]'):
        found[term["id"]] = _entry(term)
    for citation in soup.select("div.citation[id]"):
        for label in citation.select(".label"):
            label.decompose()
        found[citation["id"]] = _inside(citation)
    for symbol in soup.select('span[id^="symbol-"]'):
        cells = [_inside(cell.p or cell) for row in symbol.find_parents("tr") for cell in row.find_all("td")]
        found[symbol["id"]] = f"<p>{cells[0]}: {cells[3]}</p>"
    for name in soup.select("dl.py dt.sig[id]"):
        found[name["id"]] = _entry(name)
    return found


def _entry(term: Tag) -> str:
    """A term, and the first paragraph of what is said about it."""
    said = term.find_next_sibling("dd")
    first = said.find("p") if said else None
    return f'<p class="definition-title">{_inside(term)}</p>' + (_inside(first, keep=True) if first else "")


def _inside(element: Tag, keep: bool = False) -> str:
    """The content of an element as it can stand anywhere: no identifiers, no links, nothing to click.

    `keep` keeps the element's own tag, too.
    """
    copy = BeautifulSoup(str(element), "html.parser")
    whole = copy.find(True)
    for extra in copy.select(".headerlink, .viewcode-link, button, script"):
        extra.decompose()
    for link in copy.select("a"):
        link.unwrap()
    for tag in copy.find_all(True):
        for name in ("id", "role", "tabindex", "href"):
            tag.attrs.pop(name, None)
    return (str(whole) if keep or whole is None else whole.decode_contents()).strip()


def write_definitions(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree) -> None:
    if doctree is None or app.builder.format != "html":
        return
    name = pagename.rsplit("/", 1)[-1]
    path = Path(app.outdir) / f"{pagename}.definitions.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = json.dumps(definitions(context["body"]), ensure_ascii=False, separators=(",", ":"))
    path.write_text(f'defineLinks("{name}.html",{entries})\n', encoding="utf-8")


def setup(app: Sphinx):
    app.add_node(proof_node, override=True, html=(visit_proof, depart_proof), latex=(leave_as_it_is, leave_as_it_is))
    app.add_transform(Places)
    app.add_post_transform(Nameless)
    app.add_post_transform(Symbols)
    app.add_post_transform(Checks)
    app.add_post_transform(Punctuation)
    app.add_post_transform(SolutionTitles)
    app.add_post_transform(Names)
    app.add_directive("statement-index", StatementIndex)
    app.connect("html-page-context", write_definitions)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
