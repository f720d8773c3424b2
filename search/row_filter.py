"""A person's condition on the rows of a table, such as `loss == "dice" and depth > 3`."""

import ast
import operator
import re
from collections.abc import Callable
from typing import Any

import pandas as pd

from data.input_error import InputError, unknown_name

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
CONSTANTS = {"true": True, "false": False}
LONGEST = 2000  # characters of a condition
HOW = """write comparisons with and, or, not, as in 'loss == "dice" and depth > 3'"""


def rows_where(frame: pd.DataFrame, condition: str) -> pd.DataFrame:
    """The rows for which a condition holds, in their order; where a cell is empty, no comparison with it does.

    condition: compares columns with numbers, texts, true and false, or each other (== != < <= > >=, in, not in), with
    and, or, not and brackets; a column whose name is no word stands in backticks. Nothing in it is run as code. Raises
    InputError for what cannot be read, a column that is not there, and a number compared with a text.
    """
    return frame[_Reader(frame, condition).holds()]


class _Reader:
    """One condition over one table."""

    def __init__(self, frame: pd.DataFrame, condition: str) -> None:
        self._frame = frame
        self._condition = condition
        self._quoted: dict[str, str] = {}  # the word that stands for a name in backticks -> the name

    def holds(self) -> "pd.Series[bool]":
        """For each row, whether the condition holds."""
        if len(self._condition) > LONGEST:
            raise InputError(f"where is {len(self._condition)} characters long, of {LONGEST} at most: make it shorter.")
        text = re.sub("`([^`]*)`", self._stand_in, self._condition.strip())
        try:
            node = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # a ValueError of a zero byte
            raise self._unreadable() from None
        try:
            return self._truth(node).fillna(False).astype(bool)
        except RecursionError:
            raise self._unreadable() from None

    def _stand_in(self, found: re.Match[str]) -> str:
        word = f"_column_{len(self._quoted)}_"
        self._quoted[word] = found[1]
        return word

    def _unreadable(self) -> InputError:
        return InputError(f"where {self._condition!r} cannot be read: {HOW}.")

    def _truth(self, node: ast.expr) -> "pd.Series[Any]":
        """For each row true, false, or NA where it hangs on an empty cell."""
        if isinstance(node, ast.BoolOp):
            first, *others = map(self._truth, node.values)
            for one in others:
                first = first & one if isinstance(node.op, ast.And) else first | one
            return first
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self._truth(node.operand)
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            each = [self._compared(*one) for one in zip(parts, node.ops, parts[1:], strict=False)]
            return pd.concat(each, axis=1).all(axis=1, skipna=False) if len(each) > 1 else each[0]
        value = self._value(node)
        if isinstance(value, pd.Series) and value.dtype == "boolean":
            return value
        raise self._unreadable()

    def _compared(self, left: ast.expr, how: ast.cmpop, right: ast.expr) -> "pd.Series[Any]":
        if isinstance(how, ast.In | ast.NotIn) and isinstance(right, ast.List | ast.Tuple | ast.Set):
            if not right.elts:
                raise self._unreadable()
            first, *others = (self._compared(left, ast.Eq(), option) for option in right.elts)
            for one in others:
                first = first | one
            return ~first if isinstance(how, ast.NotIn) else first
        if type(how) not in COMPARISONS:
            raise self._unreadable()
        values = [self._value(left), self._value(right)]
        if not any(isinstance(one, pd.Series) for one in values):
            raise self._unreadable()
        if _kind(values[0]) != _kind(values[1]):
            pairs = zip((left, right), values, strict=True)
            told = " and ".join(f"{ast.unparse(one)} is {_kind(value)}" for one, value in pairs)
            for word, name in self._quoted.items():
                told = told.replace(word, name)
            raise InputError(f"where {self._condition!r} compares what is not alike: {told}; texts stand in quotes.")
        result = pd.Series(COMPARISONS[type(how)](*values), index=self._frame.index).astype("boolean")
        for one in values:
            if isinstance(one, pd.Series):
                result = result.mask(one.isna())
        return result

    def _value(self, node: ast.expr) -> Any:
        """A column, or one value."""
        if isinstance(node, ast.Name):
            name = self._quoted.get(node.id, node.id)
            if name in self._frame.columns:
                return self._frame[name]
            if name.lower() in CONSTANTS:
                return CONSTANTS[name.lower()]
            raise unknown_name(f"where {self._condition!r}: column", name, self._frame.columns)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self._value(node.operand)
            if _kind(value) != "a number" or isinstance(value, pd.Series):
                raise self._unreadable()
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
            return node.value
        raise self._unreadable()


def _kind(value: Any) -> str:
    """What sort of values a column, or one value, has."""
    if isinstance(value, pd.Series):
        if value.dtype == "boolean":
            return "true or false"
        return "a number" if pd.api.types.is_numeric_dtype(value) else "a text"
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else "a text"
