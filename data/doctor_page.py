"""Writes what the data doctor found as one page that opens in any browser, without a network."""

import base64
from collections.abc import Iterable, Sequence
from html import escape as escape_html
from pathlib import Path

from data.checks.case import LEVELS, Level
from data.contact_sheet import choose_evenly, draw_pair, encode_jpeg
from data.doctor import Finding
from data.input_error import InputError
from data.overlay import class_color
from data.printable import printable
from data.replacing import write_text
from data.segmentation_data import SegmentationData, Split
from data.summary import DataSummary, list_classes, list_facts, write_share

# Characters that a page may have at most; what would be longer is made of smaller pictures.
_LONGEST = 4_800_000
_SIDES = (200, 140, 96, 64)
_ON_SHEET = 60
_WITH_FINDING = 6

_HEADINGS: dict[Level, str] = {
    "error": "Errors: a search stops here",
    "warning": "Warnings: this may spoil a search",
    "note": "Notes: good to know",
}
_STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --soft: #5d6670; --back: #f6f7f8; --card: #fff; --line: #d9dde1;
  --error: #b3261e; --warning: #8a5a00; --note: #22608f; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8ea; --soft: #9aa4ae; --back: #14171a; --card: #1d2125;
  --line: #343a40; --error: #ff8a80; --warning: #f2b84b; --note: #7cc0f2; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; }
h2.error, h2.warning, h2.note { border-left: .3rem solid; padding-left: .6rem; }
.error { color: var(--error); } .warning { color: var(--warning); } .note { color: var(--note); }
.soft { color: var(--soft); }
.verdict { margin: 0; font-weight: 600; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 8rem; overflow-wrap: break-word; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: .2em; margin-right: .5em;
  border: 1px solid var(--line); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: 0; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem;
  margin-bottom: .8rem; }
article p { margin: .25rem 0; overflow-wrap: anywhere; } .what { font-weight: 600; }
article h3 { margin: 0; font-size: .85rem; font-weight: 400; color: var(--soft); }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .8rem; }
article .sheet { margin-top: .7rem; }
figure { margin: 0; } .card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .5rem; }
figure img { display: block; width: 100%; height: auto; border-radius: .25rem; }
figcaption { font-size: .85rem; margin-top: .3rem; overflow-wrap: anywhere; }
"""


def check_page_path(path: Path) -> None:
    """Raises InputError unless a page can be put there: before any picture is read."""
    if path.is_dir():
        raise InputError(f"--html {str(path)!r} is a folder: name a file in it, such as {str(path / 'data.html')!r}.")
    if not path.parent.is_dir():
        raise InputError(f"--html {str(path)!r} is in a folder that does not exist: make {str(path.parent)!r} first.")


def write_page(
    path: Path, data: SegmentationData, splits: tuple[Split, ...], summary: DataSummary, findings: Sequence[Finding]
) -> None:
    """Writes the page: facts, classes, findings with their pictures, and pictures with their masks.

    A page that is there is replaced as a whole. Raises InputError when the file cannot be written.
    """
    for side in _SIDES:
        page = _draw_page(data, splits, summary, findings, side)
        if len(page) <= _LONGEST:
            break
    try:
        write_text(path, page)
    except OSError as error:
        raise InputError(f"--html {str(path)!r} cannot be written ({error.strerror}): name another file.") from error


def _draw_page(
    data: SegmentationData, splits: tuple[Split, ...], summary: DataSummary, findings: Sequence[Finding], side: int
) -> str:
    """The page, its pictures fitting into squares of `side` pixels."""
    chosen = choose_evenly(len(data.names), _ON_SHEET)
    title = f"Data: {Path(data.source).name or data.source}"
    body = [
        f"<h1>{_escape(title)}</h1>",
        f'<p class="verdict">{_verdict(findings)}</p>',
        "<h2>What there is</h2>",
        _facts(summary),
        "<h2>Classes: share of the pixels, and in how many pictures</h2>",
        _class_table(summary),
        *_findings(data, splits, findings, side),
        f"<h2>{len(chosen)} of {len(data.names)} pictures, with their masks</h2>",
        '<p class="soft">Pixels that do not count are dark on the right.</p>',
        _sheet(data, splits, chosen, side, "card"),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _verdict(findings: Sequence[Finding]) -> str:
    """How many findings of each level there are."""
    counts = {level: sum(found.level == level for found in findings) for level in LEVELS}
    words = [
        f'<span class="{level}">{count} {level}{"s" * (count != 1)}</span>' for level, count in counts.items() if count
    ]
    return ", ".join(words) or "Nothing was found that stands in the way."


def _facts(summary: DataSummary) -> str:
    rows = "".join(f"<dt>{_escape(name)}</dt><dd>{_escape(value)}</dd>" for name, value in list_facts(summary))
    return f"<dl>{rows}</dl>"


def _class_table(summary: DataSummary) -> str:
    header, *rows = list_classes(summary)
    lines = ["<tr>" + "".join(f"<th>{_escape(cell)}</th>" for cell in header) + "</tr>"]
    for index, (name, *cells) in enumerate(rows):
        red, green, blue = class_color(index)
        swatch = f'<span class="swatch" style="background: rgb({red}, {green}, {blue})"></span>'
        values = "".join(f"<td>{_escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr><td>{swatch}{_escape(name)}</td>{values}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def _findings(
    data: SegmentationData, splits: tuple[Split, ...], findings: Sequence[Finding], side: int
) -> Iterable[str]:
    """A heading for each level that was found, and each finding with the pictures that it names."""
    places = {name: place for place, name in enumerate(data.names)}
    for level, heading in _HEADINGS.items():
        members = [found for found in findings if found.level == level]
        if members:
            yield f'<h2 class="{level}">{heading}</h2>'
        for found in members:
            concerned = [places[name] for name in found.pictures[:_WITH_FINDING]]
            pictures = _sheet(data, splits, concerned, side, "") if concerned else ""
            yield (
                f"<article><h3>{_escape(found.check)} &middot; {found.sure}</h3>"
                f'<p class="what">{_escape(found.what)}</p><p>{_escape(found.why)}</p>'
                f"<p>&rarr; {_escape(found.remedy)}</p>{pictures}</article>"
            )


def _sheet(data: SegmentationData, splits: tuple[Split, ...], places: Sequence[int], side: int, style: str) -> str:
    """Pictures beside their masks, each with its name, where it stands and what it holds."""
    return f'<div class="sheet">{"".join(_figure(data, splits, place, side, style) for place in places)}</div>'


def _figure(data: SegmentationData, splits: tuple[Split, ...], place: int, side: int, style: str) -> str:
    pair = draw_pair(data, place, side)
    source = "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(pair)).decode("ascii")
    name = _escape(data.names[place])
    size = f'width="{pair.shape[1]}" height="{pair.shape[0]}"'
    held = data.statistics.class_pixels[place] / max(1, int(data.statistics.valid_pixels[place]))
    shares = [
        f"{class_name} {write_share(share)}" for class_name, share in zip(data.class_names, held, strict=True) if share
    ]
    details = _escape(", ".join([*_part(splits, place), *shares[:4], *["..."] * (len(shares) > 4)]))
    return (
        f'<figure class="{style}"><img src="{source}" {size} loading="lazy" alt="{name} and its mask">'
        f'<figcaption>{name} <span class="soft">{details}</span></figcaption></figure>'
    )


def _part(splits: tuple[Split, ...], place: int) -> list[str]:
    """The part that a picture stands in, where there is one split only."""
    if len(splits) > 1:
        return []
    return [part for part, members in splits[0].parts.items() if place in members]


def _escape(text: str) -> str:
    """The text as it stands on a page: neither a browser nor the order of letters obeys anything in it."""
    return escape_html(printable(text))
