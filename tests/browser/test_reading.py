"""Quizzes, solutions, definitions behind links, proofs that fold, copying and searching, by key, by mouse, on paper."""

import re
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest
from bs4 import BeautifulSoup

from tests.browser.test_pages import OPEN, PAGES, THEMES, check_fits, in_both_themes, violations
from tools import ledger

BOOK = Path(__file__).resolve().parents[2] / "book"
CHAPTERS = [chapter for chapter, _ in ledger.by_chapter()]
QUIZZES = {path.stem: path.read_text().count(":::{quiz}") for path in sorted(BOOK.glob("*.md"))}
QUIZZED = [chapter for chapter, quizzes in QUIZZES.items() if quizzes]
ORIGINS = ("http", "file")
ONE_ORIGIN = ("http", pytest.param("file", marks=pytest.mark.verify))  # both in the long run
CARD = "#link-card"


def pages(*sample, of=CHAPTERS):
    """A sample of chapters in the normal run, all of them in the long one."""
    rest = [chapter for chapter in of if chapter not in sample]
    return [*sample, *(pytest.param(chapter, marks=pytest.mark.verify) for chapter in rest)]


def typeset(tab):
    tab.evaluate("async () => await window.MathJax?.startup?.promise")


# Quizzes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", pages("your-own-teacher", "scaling", of=QUIZZED))
def test_a_quiz_is_answered_by_mouse(visit, chapter):
    with visit(f"book/{chapter}", width=320) as tab:
        assert tab.locator("fieldset.quiz").count() == QUIZZES[chapter]
        assert QUIZZES[chapter] in ((2, 3) if chapter in CHAPTERS else (1, 2, 3))
        for quiz in tab.locator("fieldset.quiz").all():
            assert quiz.locator("details[open]").count() == 0
            for answer in quiz.locator("details").all():
                answer.locator("summary").click()
                verdict = answer.locator(".quiz-verdict")
                assert verdict.is_visible()
                right = "quiz-right" in answer.get_attribute("class")
                assert verdict.inner_text() == ("Right." if right else "Not quite.")
        check_fits(tab)
        assert tab.complaints == []


@pytest.mark.parametrize("origin", ONE_ORIGIN)
def test_a_quiz_is_answered_by_key_without_any_script(visit, origin):
    with visit("book/your-own-teacher", origin=origin, java_script_enabled=False) as tab:
        quiz = tab.locator("fieldset.quiz").first
        first, second = quiz.locator("summary").nth(0), quiz.locator("summary").nth(1)
        first.focus()
        tab.keyboard.press("Enter")
        assert quiz.locator(".quiz-why").nth(0).is_visible()
        tab.keyboard.press("Tab")
        tab.keyboard.press("Space")
        assert quiz.locator(".quiz-why").nth(1).is_visible()
        assert second.evaluate("summary => summary === document.activeElement")


def test_quizzes_are_named_groups_and_meet_wcag_22_aa(visit):
    """With all their answers open; all of every page is for the long run of test_pages.py."""
    with visit("book/your-own-teacher", width=320, reduced_motion="reduce") as tab:
        question = "The verdict on the regime is a clear no. What are the other four answers worth?"
        assert tab.get_by_role("group", name=question).count() == 1
        for answer in tab.locator(".quiz summary").all():
            answer.click()
        for theme in in_both_themes(tab):
            assert violations(tab, "fieldset.quiz") == [], theme
        check_fits(tab)


# Solutions ------------------------------------------------------------------------------------------------------------


def test_a_solution_opens_by_key(visit):
    with visit("book/your-own-teacher") as tab:
        solution = tab.locator(".solution").first
        button, text = solution.locator("button.toggle-button"), solution.locator("> :not(.admonition-title)")
        assert button.get_attribute("aria-expanded") == "false"
        assert text.is_hidden()
        solution.locator("a").first.focus()
        tab.keyboard.press("Tab")
        assert button.evaluate("button => button === document.activeElement")
        assert button.evaluate("button => getComputedStyle(button).outlineStyle") != "none"
        tab.keyboard.press("Enter")
        assert button.get_attribute("aria-expanded") == "true"
        assert text.is_visible()
        tab.keyboard.press("Space")
        assert button.get_attribute("aria-expanded") == "false"
        assert text.is_hidden()


# On paper -------------------------------------------------------------------------------------------------------------


def test_on_a_dark_reader_s_paper_a_page_is_light_and_whole(visit):
    with visit("book/your-own-teacher", theme="dark", reduced_motion="reduce") as tab:
        tab.get_by_role("button", name="Fold all proofs").click()
        tab.emulate_media(media="print", color_scheme="dark", reduced_motion="reduce")
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert tab.locator("html[data-theme=dark]").count() == 1
        assert tab.locator("body").evaluate("body => getComputedStyle(body).backgroundColor") == "rgb(255, 255, 255)"
        assert violations(tab, ".bd-article") == []
        assert tab.locator(".fold-all").is_hidden()
        quizzes = (".quiz-why", ".quiz summary")
        for text in (*quizzes, "details.fold > summary", "details.fold .proof", ".solution > *", "details.hide pre"):
            parts = tab.locator(text).all()
            assert len(parts) > 0, text
            assert all(part.is_visible() and part.bounding_box()["height"] > 0 for part in parts), text


def glyphs(pdf):
    """How many a PDF shows."""
    streams = (
        zlib.decompressobj().decompress(part)
        for part in re.findall(rb"FlateDecode.*?stream\n(.*?)endstream", pdf, re.S)
    )
    return sum(len(text) // 4 for stream in streams for text in re.findall(rb"<([0-9A-F]+)> Tj", stream))


@pytest.mark.verify
@pytest.mark.parametrize("theme", THEMES)
def test_a_page_is_printed_whole(visit, theme):
    """Printed as it comes or with all of it open before, it is the same text."""
    shown = []
    for opened in (False, True):
        with visit("book/your-own-teacher", theme=theme, reduced_motion="reduce") as tab:
            tab.wait_for_selector("html.stands", state="attached")  # the fonts of its formulas are there, too
            if opened:
                tab.evaluate(OPEN)
            shown.append(glyphs(tab.pdf()))
    assert shown[0] == shown[1] > 10_000


# What a link leads to -------------------------------------------------------------------------------------------------


def link(tab, target):
    return tab.locator(f".bd-article a.reference.internal[href$='{target}']").locator("visible=true").first


LINKS = {  # of a page: where a link leads, and what is shown
    "book/transfer": {
        "#cheapest-features": "and nowhere else",
        "gradient-flow.html#time-unit": "A factor of the energy is a unit of time",
        "#equation-eq-two-errors": "(1.2)",
        "bibliography.html#id10": "Analysis of knowledge transfer in kernel regime",
        "glossary.html#term-kernel-regime": "kernels hardly move during training",
        "notation.html#symbol-strength": "strength of the transfer",
        "api.html#kdlib.TransferProblem": "A student, its data",
    },
    "book/scaling": {"#fig-billion": "the fewest devices whose memory suffices"},
    "book/glossary": {"notation.html#symbol-projector": "orthogonal projector on"},  # the glossary's own symbols
}


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("page", LINKS)
def test_a_link_shows_what_it_leads_to(visit, page, origin):
    with visit(page, origin=origin) as tab:
        typeset(tab)
        card = tab.locator(CARD)
        for target, text in LINKS[page].items():
            tab.keyboard.press("Escape")
            assert card.is_hidden()
            one = link(tab, target)
            one.hover()
            card.filter(has_text=text).wait_for()
            assert card.get_attribute("role") == "tooltip"
            assert one.get_attribute("aria-describedby") == "link-card"
            assert card.locator("a, [id]:not(mjx-container *)").count() == 0
            assert card.locator(".math:not(:has(mjx-container))").count() == 0  # all of it is set
            box = card.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 1280
        assert tab.outside == [] and tab.complaints == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_symbols_of_every_chapter_lead_to_the_notation_table(book, chapter):
    assert (book / f"book/{chapter}.html").read_text().count('<a class="symbol reference internal"') >= 2


def test_the_mouse_can_go_to_the_card_and_leave_it(visit):
    with visit("book/your-own-teacher") as tab:
        card = tab.locator(CARD)
        link(tab, "#leave-one-out").hover()
        card.wait_for(state="visible")
        card.hover()
        tab.wait_for_timeout(600)
        assert card.is_visible()
        tab.mouse.move(5, 5)
        card.wait_for(state="hidden")


@pytest.mark.parametrize("origin", ONE_ORIGIN)
def test_keys_show_and_hide_it(visit, origin):
    with visit("book/your-own-teacher", origin=origin) as tab:
        card, one = tab.locator(CARD), link(tab, "limit.html#relative-capacity")
        one.focus()
        tab.keyboard.press("Shift+Tab")
        tab.keyboard.press("Tab")
        card.wait_for(state="visible")
        assert one.evaluate("a => a === document.activeElement")
        tab.keyboard.press("Escape")
        assert card.is_hidden()
        assert one.evaluate("a => a === document.activeElement")
        assert one.get_attribute("aria-describedby") is None
        tab.keyboard.press("Tab")
        tab.keyboard.press("Shift+Tab")
        card.wait_for(state="visible")
        tab.keyboard.press("Tab")
        card.wait_for(state="hidden")


def test_a_finger_follows_the_link(visit):
    with visit("book/your-own-teacher", width=320, has_touch=True, is_mobile=True) as tab:
        one = link(tab, "glossary.html#term-kernel-regime")
        one.scroll_into_view_if_needed()
        one.tap()
        tab.wait_for_url("**/glossary.html#term-kernel-regime")


def test_the_card_is_readable_and_fits_a_narrow_window(visit):
    with visit("book/limit", width=320, reduced_motion="reduce") as tab:
        typeset(tab)
        link(tab, "#projected-interpolation").hover()
        tab.locator(CARD).wait_for(state="visible")
        box = tab.locator(CARD).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 320
        check_fits(tab)
        assert tab.locator(CARD).evaluate("card => card.getAnimations({subtree: true}).length") == 0
        for theme in in_both_themes(tab):
            page = tab.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
            assert tab.locator(CARD).evaluate("card => getComputedStyle(card).backgroundColor") == page
            assert violations(tab, CARD) == [], theme
            assert tab.locator(CARD).is_visible()


# Proofs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", pages("your-own-teacher", "transfer"))  # the first has a single proof
def test_proofs_fold_one_by_one_and_all_at_once(visit, chapter):
    with visit(f"book/{chapter}") as tab:
        proofs = tab.locator("details.fold")
        assert proofs.count() == tab.locator("details.fold[open]").count() > 0
        for proof in proofs.all():
            tab.get_by_role("button", name="Fold all proofs").wait_for()  # as long as one is open
            proof.locator("summary").press("Enter")
            assert proof.locator(".proof").is_hidden()
        tab.get_by_role("button", name="Show all proofs").click()
        tab.get_by_role("button", name="Fold all proofs").press("Enter")
        assert tab.locator("details.fold[open]").count() == 0
        tab.get_by_role("button", name="Show all proofs").click()
        assert tab.locator("details.fold[open]").count() == proofs.count()
        assert tab.complaints == []


@pytest.mark.parametrize("origin", ORIGINS)
def test_folding_is_remembered_and_links_into_proofs_open_them(visit, origin):
    with visit("book/your-own-teacher", origin=origin) as tab:
        tab.get_by_role("button", name="Fold all proofs").click()
        tab.goto(tab.url.replace("your-own-teacher", "transfer"))
        assert tab.locator("details.fold[open]").count() == 0
        tab.goto(tab.url + "#equation-eq-two-squares")
        tab.reload()
        assert tab.locator("details.fold[open]").count() == 1
        assert tab.locator("#equation-eq-two-squares").is_visible()


def test_without_scripts_all_proofs_stand_there(visit):
    with visit("book/transfer", java_script_enabled=False) as tab:
        assert tab.locator("details.fold[open]").count() == tab.locator("details.fold").count() > 0
        assert tab.locator(".fold-all").count() == 0


# Copying, searching, the glossary -------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ONE_ORIGIN)
def test_code_is_copied(visit, origin):
    with visit("book/your-own-teacher", origin=origin) as tab:
        button = tab.get_by_role("button", name="Copy").first
        button.wait_for(state="attached")
        code = tab.locator("pre", has=tab.locator("span")).filter(has_text="kd.diagnose(data)").first
        cell = code.locator("xpath=..")
        cell.locator("button.copybtn").press("Enter")
        tab.evaluate("document.body.append(Object.assign(document.createElement('textarea'), {id: 'paste'}))")
        tab.locator("#paste").press("Control+V")
        assert tab.locator("#paste").input_value().strip() == code.text_content().strip()


def leads(tab):
    """Where the results of a search lead, once it has finished."""
    tab.wait_for_function("/found|did not match/.test(document.querySelector('#search-results')?.textContent)")
    return " ".join(hrefs(tab, ".html", "#search-results"))


EVERY = [one for _, group in ledger.by_chapter() for one in group]
APOSTROPHES = [one for one in EVERY if "'" in one.title]
FIRST = [group[0] for _, group in ledger.by_chapter()]


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_title_typed_into_the_search_leads_to_its_chapter(visit, origin):
    with visit("book/transfer", origin=origin) as tab:
        tab.get_by_role("button", name="Search").locator("visible=true").first.click()
        tab.keyboard.type("Projected interpolation")
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/search.html?q=*")
        assert "book/limit.html#projected-interpolation" in leads(tab)
        assert tab.outside == [] and tab.complaints == []


@pytest.mark.parametrize(
    ("wanted", "origin"),
    [
        pytest.param(APOSTROPHES + FIRST[:2], "http", id="sample-http"),
        pytest.param(APOSTROPHES + FIRST, "file", id="sample-file"),  # where a search asks for no summaries
        *(pytest.param(EVERY, origin, id=f"every-{origin}", marks=pytest.mark.verify) for origin in ORIGINS),
    ],
)
def test_a_statement_is_found_by_its_title(visit, wanted, origin):
    with visit("search", origin=origin) as tab:
        page = tab.url
        for one in wanted:
            tab.goto(f"{page}?q={quote(one.title)}")
            assert f"book/{one.chapter}.html#{one.label}" in leads(tab).split(), one.title


def test_results_of_a_search_meet_wcag_22_aa(visit):
    """With their summaries, which a page from a server gets."""
    with visit("search", width=320, reduced_motion="reduce") as tab:
        tab.goto(f"{tab.url}?q=kernel")
        assert leads(tab)
        tab.wait_for_load_state("networkidle")
        assert tab.locator("#search-results .context").count() > 5
        for theme in in_both_themes(tab):
            assert violations(tab) == [], theme
        check_fits(tab)


APART = """() => {
  const apart = [];
  let judged = 0;
  for (const group of document.querySelectorAll(".bd-article .unbroken")) {
    const formula = group.querySelector("mjx-container")?.getBoundingClientRect();
    if (!formula?.width) continue; // in a solution that is closed
    const text = document.createRange();
    for (const node of group.childNodes) {
      if (node.nodeType !== Node.TEXT_NODE || !node.data) continue;
      text.selectNodeContents(node);
      const {top, bottom, right} = text.getBoundingClientRect();
      const block = group.parentElement.closest(":not(a, em, span, strong)").getBoundingClientRect();
      judged += 1;
      if (top >= formula.bottom || bottom <= formula.top || right > block.right + 1) apart.push(group.textContent);
    }
  }
  return [judged, apart];
}"""


def test_on_a_phone_a_formula_and_its_comma_share_a_line(visit):
    with visit("book/lazy-training", width=320, reduced_motion="reduce") as tab:
        typeset(tab)
        judged, apart = tab.evaluate(APART)
        assert judged > 50 and apart == []
        tab.add_style_tag(content=".unbroken { white-space: normal }")
        assert tab.evaluate(APART)[1] != []


def test_on_a_phone_a_figure_scrolls_in_itself_under_its_caption(visit):
    """Shrunk to 288 pixels, its labels would be six pixels high."""
    with visit("book/lazy-training", width=320, reduced_motion="reduce") as tab:
        figure = tab.locator("figure.align-default").first
        picture, caption = figure.locator("img"), figure.locator("figcaption")
        assert picture.bounding_box()["width"] == 24 * 16
        figure.focus()
        before = picture.bounding_box()["x"], caption.bounding_box()["x"]
        for _ in range(10):
            tab.keyboard.press("ArrowRight")
        tab.wait_for_function("figure => figure.scrollLeft > 60", arg=figure.element_handle())
        assert picture.bounding_box()["x"] < before[0] - 60 and caption.bounding_box()["x"] == before[1]
        assert tab.evaluate("document.documentElement.scrollWidth") == 320
        tab.set_viewport_size({"width": 1280, "height": 900})
        tab.wait_for_function("figure => !figure.hasAttribute('tabindex')", arg=figure.element_handle())


def test_figures_follow_the_page_s_theme_and_not_the_system_s(visit):
    """By the button: a figure's picture is then the one that a system of that theme shows."""
    with visit("book/your-own-teacher", reduced_motion="reduce") as tab:
        button = tab.locator(".theme-switch-button").locator("visible=true").first

        def pictures(mode):
            for _ in range(3):  # it goes from the system's to the light and the dark, and back
                if tab.locator(f"html[data-mode={mode}]").count() == 0:
                    button.click()
            tab.mouse.move(0, 0)
            for system in THEMES:
                tab.emulate_media(color_scheme=system, reduced_motion="reduce")
                theme = system if mode == "auto" else mode
                tab.wait_for_selector(f"html[data-mode={mode}][data-theme={theme}]", state="attached")
                yield tab.locator("div.cell_output img").first.screenshot()

        light, dark = pictures("auto")
        assert light != dark
        assert [*pictures("light")] == [light, light]
        assert [*pictures("dark")] == [dark, dark]


def test_every_statement_leads_to_its_check(book):
    """To the cell that runs it on its page, to the outcome of the sweep and to the code."""
    names = (*CHAPTERS, "claims", "api-claims")
    pages = {name: BeautifulSoup((book / f"book/{name}.html").read_text(), "html.parser") for name in names}
    places = {}
    for name, page in pages.items():
        elements = page.select("[id]")
        places[name] = {element["id"]: element for element in elements}
        assert len(places[name]) == len(elements), name
    rows = ledger.rows()
    for one in EVERY:
        here = places[one.chapter]
        cell, swept, checker = (a["href"].partition("#") for a in here[one.label].select(".checked a"))
        assert one.checker in here[cell[2]].get_text()
        assert swept[0] == "claims.html" and places["claims"][swept[2]].get_text() == str(rows[one.label]["cases"])
        assert checker[0] == "api-claims.html" and one.checker in places["api-claims"][checker[2]].get_text()


def test_the_glossary_lists_every_statement_and_leads_to_the_notation_and_back(visit):
    assert "book/glossary" in PAGES
    with visit("book/glossary", width=320, reduced_motion="reduce") as tab:
        check_fits(tab)
        for theme in in_both_themes(tab):
            assert violations(tab) == [], theme
        assert tab.locator(".statement-index li").count() == len(EVERY)
        there = {a.split("#")[1] for a in hrefs(tab, "notation.html#symbol-")}
        terms = {a.split("#")[1] for a in tab.locator("dt").evaluate_all("all => all.map(dt => '#' + dt.id)")}
    with visit("book/notation") as tab:
        assert there == set(tab.locator("span[id^=symbol-]").evaluate_all("all => all.map(one => one.id)"))
        back = {a.split("#")[1] for a in hrefs(tab, "glossary.html#term-")}
    assert len(there) > 20 and len(back) > 20 and back <= terms


def hrefs(tab, part, within="body"):
    return tab.locator(f"{within} a[href*='{part}']").evaluate_all("all => all.map(a => a.getAttribute('href'))")
