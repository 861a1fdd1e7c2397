"""Where in the user's script a mistake is: the first frame outside this package, its line, and that line rewritten."""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections.abc import Mapping
from types import FrameType

from kappa.exceptions import KappaError, PlanError

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def user_frame() -> FrameType | None:
    """The innermost frame that is not the package's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and os.path.abspath(frame.f_code.co_filename).startswith(_PACKAGE):
        frame = frame.f_back
    return frame


def locate(frame: FrameType | None) -> str | None:
    """`  job.py, line 14:` and the line itself, as far as the source is there."""
    if frame is None:
        return None
    name, number = frame.f_code.co_filename, frame.f_lineno
    line = linecache.getline(name, number, frame.f_globals).strip()
    shown = name if name.startswith("<") else os.path.relpath(name) if _is_near(name) else name
    return f"  {shown}, line {number}:\n    {line}" if line else f"  {shown}, line {number}"


def _is_near(path: str) -> bool:
    return os.path.abspath(path).startswith(os.getcwd() + os.sep)


def plan_error(
    message: str, *, code: str = "invalid_plan", context: Mapping[str, str] | None = None, hint: str | None = None
) -> PlanError:
    """A `PlanError` that shows the line of the script that caused it."""
    error = PlanError(message, code=code, context=context, hint=hint)
    error.location = locate(user_frame())
    return error


def with_location(error: KappaError) -> KappaError:
    """The same error, with the line of the script that caused it."""
    if error.location is None:
        error.location = locate(user_frame())
    return error


def truth_error(what: str) -> TypeError:
    """The `TypeError` for `and`, `or`, `not`, `if` and chained comparisons: shows the line written with `&`, `|`, `~`."""
    frame = user_frame()
    message = (
        f"the truth of {what} is not known while the plan is built: it has a value for each row only.\n"
        "Python cannot overload `and`, `or`, `not`, `if` and chained comparisons; write `&`, `|`, `~`, `kappa.when`"
    )
    located = locate(frame)
    if located:
        message += f"\n{located}"
    rewritten = _rewritten(frame)
    if rewritten:
        message += f"\n  write:\n    {rewritten}"
    return TypeError(message)


def _rewritten(frame: FrameType | None) -> str | None:
    if frame is None:
        return None
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    try:
        tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError):
        return None
    start, column = _position(frame)
    best: ast.expr | None = None
    for node in ast.walk(tree):  # outermost first
        if isinstance(node, ast.expr) and _takes_truth(node) and _covers(node, start, column):
            best = node
            break
    if best is None:
        return None
    new = ast.unparse(ast.fix_missing_locations(_Rewrite().visit(best)))
    return _spliced(lines, best, new)


def _position(frame: FrameType) -> tuple[int, int | None]:
    """Line and (Python 3.11 and newer) column in bytes of what is being evaluated."""
    positions = getattr(frame.f_code, "co_positions", None)
    if positions is not None:
        found = list(positions())[frame.f_lasti // 2]
        if found[0] is not None:
            return found[0], found[2]
    return frame.f_lineno, None


def _takes_truth(node: ast.expr) -> bool:
    if isinstance(node, ast.Compare):
        return len(node.ops) > 1
    return isinstance(node, ast.BoolOp | ast.IfExp) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def _covers(node: ast.expr, line: int, column: int | None) -> bool:
    end = node.end_lineno or node.lineno
    if not node.lineno <= line <= end:
        return False
    if column is None:
        return True
    if line == node.lineno and column < node.col_offset:
        return False
    return not (line == end and node.end_col_offset is not None and column >= node.end_col_offset)


def _spliced(lines: list[str], node: ast.expr, new: str) -> str:
    """The source lines of `node` with `new` in its place, on one line."""
    end = (node.end_lineno or node.lineno) - 1
    first, last = lines[node.lineno - 1].encode(), lines[end].encode()
    head = first[: node.col_offset].decode()
    tail = last[node.end_col_offset :].decode()
    return (head + new + tail).strip()


class _Rewrite(ast.NodeTransformer):
    """`and` → `&`, `or` → `|`, `not` → `~`, `a < b < c` → `(a < b) & (b < c)`, `x if p else y` → `kappa.when(p)…`."""

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        values = [self.visit(value) for value in node.values]
        return _joined(values, ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr())

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        operand = self.visit(node.operand)
        return ast.UnaryOp(ast.Invert(), operand) if isinstance(node.op, ast.Not) else ast.UnaryOp(node.op, operand)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        values = [self.visit(value) for value in [node.left, *node.comparators]]
        pairs: list[ast.expr] = [
            ast.Compare(left, [op], [right]) for left, op, right in zip(values, node.ops, values[1:], strict=False)
        ]
        return _joined(pairs, ast.BitAnd())

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        when = _call(ast.Attribute(ast.Name("kappa", ast.Load()), "when", ast.Load()), self.visit(node.test))
        then = _call(ast.Attribute(when, "then", ast.Load()), self.visit(node.body))
        return _call(ast.Attribute(then, "otherwise", ast.Load()), self.visit(node.orelse))


def _joined(values: list[ast.expr], op: ast.operator) -> ast.expr:
    result = values[0]
    for value in values[1:]:
        result = ast.BinOp(result, op, value)
    return result


def _call(function: ast.expr, argument: ast.expr) -> ast.expr:
    return ast.Call(function, [argument], [])
