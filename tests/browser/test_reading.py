"""Quizzes, definitions behind links, proofs that fold, copying and searching, in the browser, by key and by mouse."""

from urllib.parse import quote

import pytest
from bs4 import BeautifulSoup

from tests.browser.test_pages import PAGES, THEMES, violations
from tools import ledger

CHAPTERS = [chapter for chapter, _ in ledger.by_chapter()]
ORIGINS = ("http", "file")
CARD = "#link-card"


def pages(*sample):
    """A sample of chapters in the normal run, all of them in the long one."""
    rest = [chapter for chapter in CHAPTERS if chapter not in sample]
    return [*sample, *(pytest.param(chapter, marks=pytest.mark.verify) for chapter in rest)]


def fits(tab):
    return tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def typeset(tab):
    tab.evaluate("async () => await window.MathJax?.startup?.promise")


# Quizzes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", pages("transfer", "limit"))
def test_a_quiz_is_answered_by_mouse(visit, chapter):
    with visit(f"book/{chapter}", width=320) as tab:
        assert 2 <= tab.locator("fieldset.quiz").count() <= 3
        for quiz in tab.locator("fieldset.quiz").all():
            assert quiz.locator("details[open]").count() == 0
            for answer in quiz.locator("details").all():
                answer.locator("summary").click()
                verdict = answer.locator(".quiz-verdict")
                assert verdict.is_visible()
                right = "quiz-right" in answer.get_attribute("class")
                assert verdict.inner_text() == ("Right." if right else "Not quite.")
        assert fits(tab)
        assert tab.complaints == []


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_quiz_is_answered_by_key_without_any_script(visit, origin):
    with visit("book/limit", origin=origin, java_script_enabled=False) as tab:
        quiz = tab.locator("fieldset.quiz").first
        first, second = quiz.locator("summary").nth(0), quiz.locator("summary").nth(1)
        first.focus()
        tab.keyboard.press("Enter")
        assert quiz.locator(".quiz-why").nth(0).is_visible()
        tab.keyboard.press("Tab")
        tab.keyboard.press("Space")
        assert quiz.locator(".quiz-why").nth(1).is_visible()
        assert second.evaluate("summary => summary === document.activeElement")


def test_a_quiz_is_a_named_group(visit):
    with visit("book/limit") as tab:
        question = "multiplied by a million. What happens to the limit of the kernel flow?"
        assert tab.get_by_role("group", name=question).count() == 1


def test_on_paper_quizzes_and_proofs_are_whole(visit):
    with visit("book/limit") as tab:
        tab.get_by_role("button", name="Fold all proofs").click()
        tab.emulate_media(media="print")
        assert tab.locator(".fold-all").is_hidden()
        for text in (".quiz-why", ".quiz summary", "details.fold > summary", "details.fold .proof"):
            heights = tab.locator(text).evaluate_all("parts => parts.map(p => p.getBoundingClientRect().height)")
            assert min(heights) > 0, text


# What a link leads to -------------------------------------------------------------------------------------------------


def link(tab, target):
    return tab.locator(f".bd-article a.reference.internal[href$='{target}']").first


LINKS = {  # a page, where a link of it leads, and what is shown
    "a statement of this page": ("book/limit", "#interpolation", "The kernel flow converges, from any start"),
    "a statement of another page": ("book/limit", "linear-system.html#least-squares-flow", "the objective is"),
    "an equation": ("book/transfer", "#equation-eq-two-errors", "(1.2)"),
    "a figure": ("book/limit", "#fig-between", "Every output of the student"),
    "a work": ("book/limit", "bibliography.html#id10", "Analysis of knowledge transfer in kernel regime"),
    "a term": ("book/limit", "glossary.html#term-kernel-flow", "every unit kernel frozen"),
    "a symbol": ("book/limit", "notation.html#symbol-projector", "orthogonal projector on the range of"),
    "a symbol of the glossary": ("book/glossary", "notation.html#symbol-projector", "orthogonal projector on"),
    "a function": ("book/limit", "api.html#kdlib.fixed_point", "fixed_point"),
}


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("kind", LINKS)
def test_a_link_shows_what_it_leads_to(visit, kind, origin):
    page, target, text = LINKS[kind]
    with visit(page, origin=origin) as tab:
        typeset(tab)
        card, one = tab.locator(CARD), link(tab, target)
        assert card.is_hidden()
        one.hover()
        card.wait_for(state="visible")
        assert text in card.inner_text()
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
    with visit("book/limit") as tab:
        card = tab.locator(CARD)
        link(tab, "#interpolation").hover()
        card.wait_for(state="visible")
        card.hover()
        tab.wait_for_timeout(600)
        assert card.is_visible()
        tab.mouse.move(5, 5)
        card.wait_for(state="hidden")


@pytest.mark.parametrize("origin", ORIGINS)
def test_keys_show_and_hide_it(visit, origin):
    with visit("book/limit", origin=origin) as tab:
        card, one = tab.locator(CARD), link(tab, "linear-system.html#least-squares-flow")
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
    with visit("book/limit", width=320, has_touch=True, is_mobile=True) as tab:
        one = link(tab, "linear-system.html#least-squares-flow")
        one.scroll_into_view_if_needed()
        one.tap()
        tab.wait_for_url("**/linear-system.html#least-squares-flow")


@pytest.mark.parametrize("theme", THEMES)
def test_the_card_is_readable_and_fits_a_narrow_window(visit, theme):
    with visit("book/limit", width=320, theme=theme) as tab:
        typeset(tab)
        link(tab, "#projected-interpolation").hover()
        tab.locator(CARD).wait_for(state="visible")
        box = tab.locator(CARD).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 320 and fits(tab)
        assert tab.locator(CARD).evaluate("card => card.getAnimations({subtree: true}).length") == 0
        page = tab.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        assert tab.locator(CARD).evaluate("card => getComputedStyle(card).backgroundColor") == page
        assert violations(tab) == []


# Proofs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", pages("limit", "your-own-teacher"))  # the second has a single proof
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
    with visit("book/limit", origin=origin) as tab:
        tab.get_by_role("button", name="Fold all proofs").click()
        tab.goto(tab.url.replace("limit", "transfer"))
        assert tab.locator("details.fold[open]").count() == 0
        tab.goto(tab.url + "#equation-eq-two-squares")
        tab.reload()
        assert tab.locator("details.fold[open]").count() == 1
        assert tab.locator("#equation-eq-two-squares").is_visible()


def test_without_scripts_all_proofs_stand_there(visit):
    with visit("book/limit", java_script_enabled=False) as tab:
        assert tab.locator("details.fold[open]").count() == tab.locator("details.fold").count() > 0
        assert tab.locator(".fold-all").count() == 0


# Copying, searching, the glossary -------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ORIGINS)
def test_code_is_copied(visit, origin):
    with visit("book/limit", origin=origin) as tab:
        button = tab.get_by_role("button", name="Copy").first
        button.wait_for(state="attached")
        code = tab.locator("pre", has=tab.locator("span")).filter(has_text="flip(data.y, 8)").first
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
SAMPLE = [group[0] for _, group in ledger.by_chapter()] + [one for one in EVERY if "'" in one.title]


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_title_typed_into_the_search_leads_to_its_chapter(visit, origin):
    with visit("book/transfer", origin=origin) as tab:
        tab.get_by_role("button", name="Search").locator("visible=true").first.click()
        tab.keyboard.type("Projected interpolation")
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/search.html?q=*")
        assert "book/limit.html#projected-interpolation" in leads(tab)
        assert tab.outside == [] and tab.complaints == []


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("wanted", [SAMPLE, pytest.param(EVERY, marks=pytest.mark.verify)], ids=["sample", "every"])
def test_a_statement_is_found_by_its_title(visit, wanted, origin):
    with visit("search", origin=origin) as tab:
        page = tab.url
        for one in wanted:
            tab.goto(f"{page}?q={quote(one.title)}")
            assert f"book/{one.chapter}.html#{one.label}" in leads(tab).split(), one.title


@pytest.mark.parametrize("system", THEMES)
def test_figures_follow_the_page_s_theme_and_not_the_system_s(visit, system):
    """By the button: a figure's picture is then the one that a system of that theme shows."""
    shown = {}
    for theme in THEMES:
        for way, emulated in (("button", system), ("system", theme)):
            with visit("book/kernels", theme=emulated) as tab:
                button = tab.locator(".theme-switch-button").locator("visible=true").first
                for _ in range(3):  # it goes from the system's to the light and the dark, and back
                    if way == "button" and tab.locator(f"html[data-mode={theme}]").count() == 0:
                        button.click()
                assert tab.locator(f"html[data-theme={theme}]").count() == 1
                tab.mouse.move(0, 0)
                shown[theme, way] = tab.locator("div.cell_output img").first.screenshot()
        assert shown[theme, "button"] == shown[theme, "system"]
    assert shown["light", "button"] != shown["dark", "button"]


@pytest.mark.parametrize("theme", THEMES)
def test_quizzes_and_glossary_meet_wcag_22_aa(visit, theme):
    for page in ("book/kernels", "book/glossary"):
        with visit(page, theme=theme, width=320) as tab:
            for answer in tab.locator(".quiz summary").all():
                answer.click()
            assert violations(tab) == []
            assert fits(tab)


def test_every_statement_leads_to_its_check(book):
    """To the cell that runs it on its page, to the outcome of the sweep and to the code."""
    names = (*CHAPTERS, "claims", "api-claims")
    pages = {name: BeautifulSoup((book / f"book/{name}.html").read_text(), "html.parser") for name in names}
    for page in pages.values():
        places = [element["id"] for element in page.select("[id]")]
        assert len(places) == len(set(places))
    for one in EVERY:
        page, row = pages[one.chapter], ledger.rows()[one.label]
        cell, swept, checker = (a["href"].partition("#") for a in page.find(id=one.label).select(".checked a"))
        assert one.checker in page.find(id=cell[2]).get_text()
        assert swept[0] == "claims.html" and pages["claims"].find(id=swept[2]).get_text() == str(row["cases"])
        assert checker[0] == "api-claims.html" and one.checker in pages["api-claims"].find(id=checker[2]).get_text()


def test_the_glossary_lists_every_statement_and_leads_to_the_notation_and_back(visit):
    assert "book/glossary" in PAGES
    with visit("book/glossary") as tab:
        assert tab.locator(".statement-index li").count() == len(EVERY)
        there = {a.split("#")[1] for a in hrefs(tab, "notation.html#symbol-")}
        terms = {a.split("#")[1] for a in tab.locator("dt").evaluate_all("all => all.map(dt => '#' + dt.id)")}
    with visit("book/notation") as tab:
        assert there == set(tab.locator("span[id^=symbol-]").evaluate_all("all => all.map(one => one.id)"))
        back = {a.split("#")[1] for a in hrefs(tab, "glossary.html#term-")}
    assert len(there) > 20 and len(back) > 20 and back <= terms


def hrefs(tab, part, within="body"):
    return tab.locator(f"{within} a[href*='{part}']").evaluate_all("all => all.map(a => a.getAttribute('href'))")
