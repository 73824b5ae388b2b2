"""Mining code: functions from what is said of them, and the reverse; everything else with its reason."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from ingot.data.conversations import Example, mine_code
from ingot.data.document import Document
from ingot.data.mining.code import mine_explanations, mine_functions, mine_python
from ingot.data.mining.skipped import Skipped

PYTHON = '''
def area(width, height):
    """Return the area of a room.

    More about it.
    """
    return width * height


def silent():
    return 1


def test_area():
    """Check the area."""
    assert area(1, 2) == 2


class Room:
    def __len__(self):
        """Return the number of chairs."""
        return 4

    def close(self): "Close the door."; return 0

    def declared(self):
        """Open the window."""

    def odd(self):
        """Odd."""
        return 2
'''


def document(text: str, kind: str) -> Document:
    return Document(f"a.{kind}", f"a.{kind}", text, kind)


def split(found: list[Example | Skipped]) -> tuple[list[Example], Counter[str]]:
    examples = [one for one in found if isinstance(one, Example)]
    return examples, Counter(one.reason for one in found if isinstance(one, Skipped))


def test_python_functions_are_those_of_mine_code_and_all_others_have_a_reason() -> None:
    given = document(PYTHON, "python")
    examples, skipped = split(list(mine_python(given)))
    assert examples == mine_code([given])
    functions = sum(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(PYTHON)))
    assert len(examples) + skipped.total() == functions == 7
    assert skipped == {
        "no docstring": 1,
        "a test": 1,
        "a method that Python calls": 1,
        "a docstring that opens with no sentence": 1,
    }
    _, broken = split(list(mine_python(document("def f(:", "python"))))
    assert broken == {"is not Python that parses": 1}
    assert list(mine_python(document(PYTHON, "text"))) == []


def test_a_function_asks_and_its_docstring_answers() -> None:
    examples, skipped = split(list(mine_explanations(document(PYTHON, "python"))))
    first = examples[0]
    assert first.answer == "Return the area of a room."
    assert first.source == "a.python:2"
    code = first.prompt.split("```python\n")[1].removesuffix("\n```")
    assert code == "def area(width, height):\n    return width * height"
    for one in examples:
        ast.parse(one.prompt.split("```python\n")[1].removesuffix("\n```"))
        assert one.answer not in one.prompt
    assert skipped["nothing but a docstring"] == 1
    assert skipped["a docstring that shares its line"] == 1


JAVASCRIPT = r"""
/**
 * Returns the area of a room, e.g. of a kitchen.
 * @param {number} width
 */
export function area(width, height) {
  const text = "a brace } in a string", other = `and { here ${width}`; // and } here
  if (width) { return width * height; }
  return 0;
}

/** Adds two numbers. */
const add = (a, b) => {
  return a + b;
};

/** A point in the plane. */
class Point { constructor(x) { this.x = x; } }

/** Never closed, but says what it does. */
function open() { if (1) {

"""
GO = """package rooms

// Area returns the area of a room.
// It never fails.
func (r *Room) Area(width int) int {
\treturn width * r.height
}

// Unused is a constant.
const Unused = 1
"""
RUST = """
/// Returns the area of a room.
#[inline]
pub fn area(width: f64, height: f64) -> f64 {
    width * height
}

/// A room.
pub struct Room {
    width: f64,
}

/// ```
fn example() {}
"""
C = """
/**
 * Return the area of a room.
 * @width: of it
 */
static int area(int width, int height)
{
    return width * height;
}

/** Declared only. */
int later(int width);
"""


@pytest.mark.parametrize(
    ("kind", "text", "prompts"),
    [
        (
            "javascript",
            JAVASCRIPT,
            [
                "Write a JavaScript function `export function area(width, height)` that returns the area of "
                "a room, e.g. of a kitchen.",
                "Write a JavaScript function `const add = (a, b)` that adds two numbers.",
            ],
        ),
        (
            "go",
            GO,
            ["Write a Go function `func (r *Room) Area(width int) int` that returns the area of a room."],
        ),
        (
            "rust",
            RUST,
            [
                "Write a Rust function `pub fn area(width: f64, height: f64) -> f64` that returns the area "
                "of a room."
            ],
        ),
        (
            "c",
            C,
            ["Write a C function `static int area(int width, int height)` that returns the area of a room."],
        ),
    ],
)
def test_doc_comments_of_other_languages(kind: str, text: str, prompts: list[str]) -> None:
    examples, _ = split(list(mine_functions(document(text, kind))))
    assert [one.prompt for one in examples] == prompts
    for one in examples:
        code = one.answer.removeprefix(f"```{kind}\n").removesuffix("\n```")
        assert code in text and code.endswith("}")


def test_what_is_no_function_or_not_whole() -> None:
    _, skipped = split(list(mine_functions(document(JAVASCRIPT, "javascript"))))
    assert skipped == {"braces that do not match": 1}
    _, skipped = split(list(mine_functions(document(RUST, "rust"))))
    assert skipped == {"a comment that opens with no sentence": 1}
    examples, _ = split(list(mine_functions(document(JAVASCRIPT, "javascript"))))
    area = examples[0].answer
    assert area.endswith("return 0;\n}\n```")  # braces in strings and comments closed nothing
    assert list(mine_functions(document(JAVASCRIPT, "text"))) == []
