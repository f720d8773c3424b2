"""Keeps texts in CSV files from being taken for formulas, and reads them back as they were."""

# A spreadsheet takes a cell that begins like this for a formula; an apostrophe makes it text again.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")


def defused(text: str) -> str:
    """The text as a cell, or a column's name, that no spreadsheet computes."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def as_it_was(cell: str) -> str:
    """The text that `defused` made this cell of."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA_STARTS) else cell
