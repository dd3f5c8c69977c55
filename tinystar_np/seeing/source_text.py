"""Source text of this package for the page: a function's lines with their numbers, cut into coloured tokens.

Python's own tokenizer cuts them, so the colours are right for whatever Python can run, and the text is that
of the installed files.
"""

import ast
import builtins
import io
import keyword
import tokenize
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

import tinystar_np

PACKAGE = Path(tinystar_np.__file__).parent
Spans = list[tuple[str, str]]
"""One line: (kind of token, its text). Kinds: keyword, string, doc, comment, number, name (of what is
defined), builtin, or "" for the rest."""

BUILTINS = frozenset(dir(builtins)) - {"_"}


@dataclass(frozen=True)
class Source:
    """A function or class as it stands in its file.

    file     in the package: "kernels/norms.py"
    line     the number of its first line
    name     "rms_norm", or "Block.__call__"
    lines    its text, coloured
    summary  the first sentence of its docstring
    formula  the first indented lines of the docstring, or of the nearest docstring around it; "" for none
    essay    the module's docstring
    """

    file: str
    line: int
    name: str
    lines: list[Spans]
    summary: str
    formula: str
    essay: str


@cache
def source_of(file: str, name: str) -> Source:
    """Find a function in a file of the package.

    file  "kernels/norms.py"
    name  of a function, or of a method after its class: "RMSNorm.__call__"
    """
    tree, colours = _parsed(file)
    around: list[ast.AST] = [tree]
    for part in name.split("."):
        if part != "<locals>":
            around.append(_defined(around[-1], part))
    node = around[-1]
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    assert node.end_lineno is not None
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    docs = [ast.get_docstring(each) or "" for each in reversed(around) if isinstance(each, DOCUMENTED)]
    formulas = [formula for doc in docs if (formula := formula_in(doc))]
    return Source(
        file, first, name, _dedented(colours[first - 1 : node.end_lineno]),
        next((summary_of(doc) for doc in docs if doc), ""), formulas[0] if formulas else "", docs[-1],
    )  # fmt: skip


DOCUMENTED = (ast.FunctionDef, ast.ClassDef, ast.Module)


def summary_of(doc: str) -> str:
    """Return the first sentence of a docstring, on one line."""
    paragraph = " ".join(doc.partition("\n\n")[0].split())
    end = paragraph.find(". ")
    return paragraph if end < 0 else paragraph[: end + 1]


def formula_in(doc: str) -> str:
    """Return the first block of indented lines of a docstring that has an empty line before it.

    Indented lines that go on from the line before are of a list of arguments, or what an example prints.
    """
    block: list[str] = []
    before = ""
    for line in [*doc.splitlines(), ""]:
        if (line.startswith("    ") and (block or not before.strip())) or (block and not line.strip()):
            block.append(line)
        elif block:
            break
        before = line
    return dedent("\n".join(block)).strip("\n")


@cache
def _parsed(file: str) -> tuple[ast.Module, list[Spans]]:
    text = (PACKAGE / file).read_text(encoding="utf-8")
    tree = ast.parse(text)
    return tree, coloured(text, tree)


def _defined(node: ast.AST, name: str) -> ast.AST:
    """Return the function or class of that name within a node."""
    inside = (each for each in ast.walk(node) if isinstance(each, ast.FunctionDef | ast.ClassDef))
    return next(each for each in inside if each.name == name)


def coloured(text: str, tree: ast.Module) -> list[Spans]:
    """Cut a file into lines of coloured tokens."""
    lines = text.splitlines()
    docs = {
        (statement.lineno, statement.col_offset)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
        for statement in node.body[:1]
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    }
    spans: list[Spans] = [[] for _ in lines]
    done = (1, 0)  # line and column up to which the text is cut

    def put(start: tuple[int, int], end: tuple[int, int], kind: str) -> None:
        nonlocal done
        for number in range(start[0], end[0] + 1):
            line = lines[number - 1] if number <= len(lines) else ""
            begin = start[1] if number == start[0] else 0
            piece = line[begin : end[1] if number == end[0] else len(line)]
            if piece:
                spans[number - 1].append((kind, piece))
        done = end

    before = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.start > done:
            put(done, token.start, "")
        if token.end > token.start and token.type not in (tokenize.NEWLINE, tokenize.NL):
            put(token.start, token.end, _kind(token, before, docs))
        if token.string.strip():
            before = token.string
    return [_joined(line) for line in spans]


def _kind(token: tokenize.TokenInfo, before: str, docs: set[tuple[int, int]]) -> str:
    match token.type:
        case tokenize.COMMENT:
            return "comment"
        case tokenize.NUMBER:
            return "number"
        case tokenize.STRING:
            # ast counts columns in bytes; what is before a docstring is spaces.
            return "doc" if token.start in docs else "string"
        case tokenize.NAME:
            if keyword.iskeyword(token.string):
                return "keyword"
            if before in ("def", "class"):
                return "name"
            return "builtin" if token.string in BUILTINS and before != "." else ""
    return "string" if "FSTRING" in tokenize.tok_name[token.type] else ""


def _joined(line: Spans) -> Spans:
    """Join neighbours of one kind."""
    joined: Spans = []
    for kind, piece in line:
        if joined and joined[-1][0] == kind:
            joined[-1] = (kind, joined[-1][1] + piece)
        else:
            joined.append((kind, piece))
    return joined


def _dedented(lines: list[Spans]) -> list[Spans]:
    """Take the indentation of the first line away from all."""
    text = "".join(piece for _, piece in lines[0])
    width = len(text) - len(text.lstrip())
    cut: list[Spans] = []
    for line in lines:
        left, rest = width, list[tuple[str, str]]()
        for kind, piece in line:
            blank = min(left, len(piece) - len(piece.lstrip(" ")))
            left = left - blank if blank == len(piece) else 0
            if piece[blank:]:
                rest.append((kind, piece[blank:]))
        cut.append(rest)
    return cut
