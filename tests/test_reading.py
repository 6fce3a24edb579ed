"""Quizzes, proofs that fold, the index of statements and the definitions behind links: what the build makes of them.

A book of two pages in a folder of its own. How they feel in a browser is tested in tests/browser/test_reading.py.
"""

import io
import json
import re

import pytest
from bs4 import BeautifulSoup
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

pytestmark = pytest.mark.filterwarnings("ignore")  # Sphinx and its extensions are not ours to keep quiet

QUIZ = """:::{quiz}
Is $a+b=b+a$ for all numbers?

- [ ] Only for whole ones.

  Tempting, as these are what one tries.
- [x] $a$ and $b$ may be any numbers, as $e$.

  See {prf:ref}`sum-rule`.

  A second paragraph.
:::
"""
CHAPTER = f"""---
file_format: mystnb
kernelspec:
  name: python3
---

# A chapter

By {{prf:ref}}`sum-rule` and {{eq}}`eq-sum`, a {{term}}`sum` is a sum.

```{{prf:theorem}} Sums commute
:label: sum-rule

For *all*, $a$, $b$ ($c$ too, and $c$), $n$-fold, or $d$. With $m$, $S_k$, and again $m$.

$$
a + b = b + a.
$$ (eq-sum)
```

```{{prf:proof}}
By *inspection* of {{doc}}`words`.
```

## Sum rule

```{{prf:proof}}
Again.
```

```{{code-cell}} ipython3
:tags: [claim-sum-rule]
claims.sum_rule(1, 2).require()
```

{QUIZ}
"""
GLOSSARY = """---
orphan: true
---

# Words

```{glossary}
sum
  What [$+$](#symbol-sum) gives. It is {doc}`chapter`'s subject.

  More about it.
```

```{statement-index}
```
"""
NOTATION = r"""---
orphan: true
---

# Notation

| Symbol | Code | Shape | Meaning | Where |
|---|---|---|---|---|
| [$+$]{#symbol-sum} | `__add__all` | `add_one` | adds *two* numbers | {doc}`A chapter <chapter>` |
| $n$, [$m$]{#symbol-width} | | | as many as | {doc}`words` |
| [$c$]{#symbol-summand} | | | adds | {doc}`A chapter <chapter>` |
| [$e$]{#symbol-number} | | | in an answer to a question | {doc}`A chapter <chapter>` |
| [$d$]{#symbol-other} | | | elsewhere | {doc}`The words <words>` |
| [$S_k = a + b$]{#symbol-both} | | | a sum | {doc}`The words <words>` |
"""


def build(root, builder="html", extensions=(), **pages):
    """Build the pages; returns the output folder and what Sphinx complained about."""
    book = root / "book"
    book.mkdir(exist_ok=True)
    for name, text in ({"chapter": CHAPTER, "words": GLOSSARY, "notation": NOTATION} | pages).items():
        (book / f"{name}.md").write_text(text)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/chapter\nchapters:\n- file: book/words\n")
    settings = {
        "extensions": ["myst_nb", "sphinx_proof", "tools.quiz", "tools.reading", *extensions],
        "myst_enable_extensions": ["attrs_inline", "colon_fence", "dollarmath", "tasklist"],
        "nb_execution_mode": "off",
        "suppress_warnings": ["myst-nb.lexer"],
        "root_doc": "book/chapter",
    }
    complaints, out = io.StringIO(), root / builder
    with patch_docutils(root), docutils_namespace():
        Sphinx(root, None, out, root / "doctrees", builder, settings, None, complaints, freshenv=True).build()
    return out, complaints.getvalue()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out, complaints = build(tmp_path_factory.mktemp("book"))
    assert complaints == ""
    return out


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    table = "| Code | |\n|---|---|\n| `__add__all` | adds |\n"
    out, _ = build(tmp_path_factory.mktemp("paper"), "latex", chapter=CHAPTER + table)
    return next(out.glob("*.tex")).read_text()


@pytest.fixture(scope="module")
def chapter(built):
    return BeautifulSoup((built / "book/chapter.html").read_text(), "html.parser")


@pytest.fixture(scope="module")
def definitions(built):
    """All that links can show, by page and identifier."""
    found = {}
    for path in (built / "book").glob("*.definitions.js"):
        page, entries = re.fullmatch(r'defineLinks\("(.+?)",(.*)\)\n', path.read_text()).groups()
        found[page] = {name: BeautifulSoup(text, "html.parser") for name, text in json.loads(entries).items()}
    return found


def test_a_formula_keeps_its_punctuation(chapter):
    said = next(p for p in chapter.select("div.proof p") if "For all" in p.get_text())
    assert said.get_text() == (
        r"For all, \(a\), \(b\) (\(c\) too, and \(c\)), \(n\)-fold, or \(d\). With \(m\), \(S_k\), and again \(m\)."
    )
    kept = r"\(a\),", r"(\(c\)", r"\(c\)),", r"\(n\)-fold,", r"\(d\).", r"\(m\),", r"\(S_k\),", r"\(m\)."
    assert tuple(group.get_text() for group in said.select(".unbroken")) == kept


def test_a_symbol_leads_to_its_row_where_it_is_first_used_by_itself(chapter):
    """A single letter in the chapters of its row only, but m in all.

    Not in a longer formula, nor a second time, nor in an answer, which is itself a thing to click.
    """
    links = [(link.get_text(), link["href"]) for link in chapter.select("a.symbol")]
    assert links == [
        (r"\(c\)", "notation.html#symbol-summand"),
        (r"\(m\)", "notation.html#symbol-width"),
        (r"\(S_k\)", "notation.html#symbol-both"),
    ]


def test_a_statement_leads_to_its_check(tmp_path, chapter):
    """To the cell on its page, and, once it was swept, to its row and to the code."""
    said, cell = chapter.select_one("#sum-rule .checked"), chapter.select_one(".cell")
    assert said.get_text() == "Checked on this page"
    assert said.a["href"] == f"#{cell['id']}" and "claims.sum_rule" in cell.get_text()
    (tmp_path / "book").mkdir()
    (tmp_path / "book/claims.json").write_text('{"sum-rule": {"cases": 10000}}')
    checks = "---\norphan: true\n---\n\n# Checks\n\n```{py:function} kdlib.claims.chapter.sum_rule(a, b)\n```\n"
    out, complaints = build(tmp_path, claims="---\norphan: true\n---\n\n# Claims\n", checks=checks)
    assert complaints == ""
    said = BeautifulSoup((out / "book/chapter.html").read_text(), "html.parser").select_one("#sum-rule .checked")
    assert said.get_text() == "Checked on this page and in 10,000 problems by sum_rule"
    assert [link["href"] for link in said.select("a")][1:] == [
        "claims.html#swept-sum-rule",
        "checks.html#kdlib.claims.chapter.sum_rule",
    ]


def test_no_name_stands_for_two_places(chapter):
    names = [element["id"] for element in chapter.select("[id]")]
    assert len(names) == len(set(names))
    assert chapter.find(id="sum-rule")["class"][0] == "proof"
    assert chapter.find(id="section-sum-rule").h2
    assert chapter.select_one('.bd-toc a[href="#section-sum-rule"], a.headerlink[href="#section-sum-rule"]')


def test_a_long_name_in_a_table_breaks_behind_underscores_only(built):
    long, short = BeautifulSoup((built / "book/notation.html").read_text(), "html.parser").select("td code")[:2]
    assert long.get_text() == "__add__all" and short.get_text() == "add_one"
    assert [wbr.previous_sibling.get_text() for wbr in long.select("wbr")] == ["__", "add__"]
    assert short.select("wbr") == []


def test_and_so_it_does_on_paper(printed):
    assert r"\_\_\allowbreak{}add\_\_\allowbreak{}all" in printed


def test_a_quiz_is_a_group_of_answers_that_open(chapter):
    quiz = chapter.select_one("fieldset.quiz")
    assert quiz.legend.get_text() == r"Check yourself Is \(a+b=b+a\) for all numbers?"
    wrong, right = quiz.select("details")
    assert wrong["class"] == ["quiz-wrong"] and right["class"] == ["quiz-right"]
    assert wrong.summary.get_text() == "Only for whole ones."
    assert [p.get_text() for p in wrong.select("p")] == ["Not quite.", "Tempting, as these are what one tries."]
    assert [p.get_text() for p in right.select("p")] == ["Right.", "See Theorem 1.", "A second paragraph."]
    assert not quiz.select("input, [open]")  # the boxes of the source give nothing away


def test_a_quiz_is_printed_whole(printed):
    for part in ("for all numbers?", "Only for whole ones.", "Not quite.", "Tempting", "Right.", "A second paragraph."):
        assert part in printed
    assert printed.count(r"\item") >= 2


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("- [ ] Only", "- [x] Only", r"one of them right \(\[x\]\); found 2, 2 right"),
        ("- [x] $a$", "- [ ] $a$", r"one of them right \(\[x\]\); found 2, 0 right"),
        ("- [ ] Only", "- Only", r"begins with \[ \] or \[x\]; found 'Only for whole ones"),
        ("  Tempting, as these are what one tries.\n", "", "explained in paragraphs below it; 'Only for whole ones"),
        ("Only for whole ones.", "See {eq}`eq-sum`.", "it holds no link"),
        ("Only for whole ones.", "$a=b$", "has words.*found 'a=b'"),
        ("Is $a+b=b+a$ for all numbers?\n\n", "", "found bullet_list"),
        ("\n:::\n", "\n\nNot an answer.\n:::\n", "found paragraph, bullet_list, paragraph"),
        (QUIZ[len(":::{quiz}\n") : -len(":::\n")], "", "found nothing"),
    ],
)
def test_a_bad_quiz_is_refused_by_name(tmp_path, old, new, complaint):
    assert CHAPTER.count(old) == 1
    _, complaints = build(tmp_path, chapter=CHAPTER.replace(old, new))
    assert re.search(rf"chapter\.md.*: ERROR: .*{complaint}", complaints), complaints


def test_a_proof_opens_and_closes_at_its_first_word(chapter):
    proof = chapter.select_one("details.fold")
    assert proof.has_attr("open")
    assert proof.summary.get_text() == "Proof"
    assert proof.select_one("div.proof").get_text().strip() == "By inspection of Words."


def test_the_index_lists_each_statement_with_its_checker(built):
    words = BeautifulSoup((built / "book/words.html").read_text(), "html.parser")
    index = words.select_one(".statement-index")
    assert index.p.get_text() == "A chapter"
    assert [item.get_text() for item in index.select("li")] == ["Theorem 1 Sums commute (check)"]
    assert index.select_one("li a")["href"] == "chapter.html#sum-rule"


def test_links_can_show_what_they_lead_to(definitions):
    entries = definitions["chapter.html"] | definitions["words.html"] | definitions["notation.html"]
    theorem = entries["sum-rule"]
    assert theorem.p.get_text() == "Theorem 1  (Sums commute)" and theorem.p["class"] == ["definition-title"]
    assert "For all" in theorem.get_text() and "Checked" not in theorem.get_text()
    assert "a + b = b + a." in entries["equation-eq-sum"].get_text()
    assert [p.get_text() for p in entries["term-sum"].select("p")] == [
        "sum",
        r"What \(+\) gives. It is A chapter’s subject.",
    ]
    assert entries["symbol-sum"].get_text() == r"\(+\): adds two numbers"
    assert [part.name for part in entries["symbol-sum"].find_all()].count("p") == 1  # in one line


def test_what_a_link_shows_can_stand_anywhere(definitions):
    for page, entries in definitions.items():
        for name, text in entries.items():
            assert not text.select("a, button, script, [id], [href], [role]"), (page, name)
