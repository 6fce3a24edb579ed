"""Self-check questions: a Sphinx directive whose source is a Markdown task list.

    :::{quiz}
    A question of one paragraph, $\\lambda>0$?

    - [ ] A wrong answer.

      Why it is tempting, and why it is wrong.
    - [x] The right answer.

      Why it is right.
    :::

In JupyterLab this reads as a question with ticked and unticked boxes. On the page it is a ``<fieldset>`` with one
``<details>`` an answer: it needs no script, and keys, screen readers and paper come for free.
"""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TICKED, EMPTY = 'checked="checked"', "task-list-item-checkbox"  # as MyST renders a task list
VERDICTS = {True: "Right.", False: "Not quite."}


class quiz(nodes.General, nodes.Element):
    """A question, then answers."""


class quiz_question(nodes.General, nodes.TextElement):
    """What is asked: inline content."""


class quiz_answer(nodes.General, nodes.Element):
    """A choice, then the blocks that explain it; ``right`` says whether it is the right one."""


class quiz_choice(nodes.General, nodes.TextElement):
    """What can be chosen: inline content."""


class Quiz(SphinxDirective):
    """The directive ``quiz``."""

    has_content = True

    def run(self):
        body = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, body)
        blocks = [child for child in body.children if not isinstance(child, nodes.comment)]
        match blocks:
            case [nodes.paragraph() as question, nodes.bullet_list() as answers]:
                pass
            case _:
                found = ", ".join(str(getattr(block, "tagname", block)) for block in blocks) or "nothing"
                raise self.error(
                    f"a quiz is one paragraph, the question, and one task list, the answers; found {found}"
                )
        choices = [self.answer(item) for item in answers.children]
        right = sum(choice["right"] for choice in choices)
        if len(choices) < 2 or right != 1:
            raise self.error(
                f"a quiz has at least two answers, one of them right ([x]); found {len(choices)}, {right} right"
            )
        result = quiz("", quiz_question("", "", *question.children), *choices)
        self.set_source_info(result)
        return [result]

    def answer(self, item):
        choice, *explanation = item.children
        box = choice[0] if isinstance(choice, nodes.paragraph) and choice.children else None
        if not isinstance(box, nodes.raw) or EMPTY not in box.astext():
            raise self.error(f"an answer of a quiz begins with [ ] or [x]; found {item.astext()[:40]!r}")
        words = "".join(part.astext() for part in choice.children[1:]).strip()
        if not explanation:
            raise self.error(f"an answer of a quiz is explained in paragraphs below it; {words[:40]!r} is not")
        if any(isinstance(node, (nodes.reference, pending_xref)) for node in choice.findall()):
            raise self.error(f"an answer of a quiz is clicked, so it holds no link; {words[:40]!r} does")
        spoken = [part for part in choice.children[1:] if not isinstance(part, nodes.math) and part.astext().strip()]
        if not spoken:
            raise self.error(
                f"an answer of a quiz has words, for a formula alone has no name to read out; found {words!r}"
            )
        right = TICKED in box.astext()
        parts = choice.children[1:]
        parts[0] = nodes.Text(parts[0].astext().lstrip())  # the space after the box
        return quiz_answer("", quiz_choice("", "", *parts), *explanation, right=right)


# HTML -----------------------------------------------------------------------------------------------------------------


def visit_quiz(self, node):
    self.body.append(self.starttag(node, "fieldset", CLASS="quiz"))


def depart_quiz(self, node):
    self.body.append("</fieldset>\n")


def visit_question(self, node):
    self.body.append('<legend><span class="quiz-label">Check yourself</span> ')


def depart_question(self, node):
    self.body.append("</legend>\n")


def visit_answer(self, node):
    self.body.append(f'<details class="{"quiz-right" if node["right"] else "quiz-wrong"}">\n')


def depart_answer(self, node):
    self.body.append("</div></details>\n")


def visit_choice(self, node):
    self.body.append("<summary><span>")


def depart_choice(self, node):
    verdict = VERDICTS[node.parent["right"]]
    self.body.append(f'</span></summary>\n<div class="quiz-why"><p class="quiz-verdict">{verdict}</p>\n')


# LaTeX: all is shown --------------------------------------------------------------------------------------------------


def visit_quiz_latex(self, node):
    self.body.append("\n\n\\begin{quote}\n")


def depart_quiz_latex(self, node):
    self.body.append("\\end{enumerate}\n\\end{quote}\n\n")


def visit_question_latex(self, node):
    self.body.append("\\textbf{Check yourself.} ")


def depart_question_latex(self, node):
    self.body.append("\n\\begin{enumerate}\n")


def visit_answer_latex(self, node):
    self.body.append("\\item ")


def depart_answer_latex(self, node):
    pass


def visit_choice_latex(self, node):
    pass


def depart_choice_latex(self, node):
    self.body.append(f"\n\n\\emph{{{VERDICTS[node.parent['right']]}}} ")


def setup(app: Sphinx):
    app.add_directive("quiz", Quiz)
    app.add_node(quiz, html=(visit_quiz, depart_quiz), latex=(visit_quiz_latex, depart_quiz_latex))
    app.add_node(
        quiz_question,
        html=(visit_question, depart_question),
        latex=(visit_question_latex, depart_question_latex),
    )
    app.add_node(quiz_answer, html=(visit_answer, depart_answer), latex=(visit_answer_latex, depart_answer_latex))
    app.add_node(quiz_choice, html=(visit_choice, depart_choice), latex=(visit_choice_latex, depart_choice_latex))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
