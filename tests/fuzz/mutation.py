"""Bad inputs made of good ones: bytes flipped, cut, doubled; words swapped; values that parsers trip over."""

import random
import re
from collections.abc import Callable, Sequence

# fmt: off
NASTY = (
    b"", b"\x00", b"\x1b[31m", "\u202e".encode(), b"\xff\xfe", b"\xed\xa0\x80", b"../../x", b"/etc/passwd", b"..",
    b"C:\\x", b"9" * 5000, b"0x" + b"f" * 4000, b"-1", b"0", b"1e999", b"-0.0", b"nan", b".inf", b"NaN", b"Infinity",
    b"=1+1", b"@SUM(A1)", b"!!python/object/apply:os.system ['touch harm']", b"[[" * 3000, b"{" * 3000, b"&a [*a]",
    b"&a", b"*a", b"<<: *a", b"\n", b"\r\n", b'"', b"'", b"{}", b"[]", b"null", b"true", b"~", b"%s%n",
    b"$(touch harm)",
    b"<script>alert(1)</script>", b"[/red]", b"2001-99-99", b"1:1:1", b"\t", b",", b";", b"|", b":", b"=", b"--",
    b"18446744073709551616",
)
# fmt: on
_WORD = re.compile(rb"[^\s,:=\[\]{}\"']+")


def mutate(content: bytes, draw: random.Random) -> bytes:
    """The content with one to four things wrong with it."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        content = draw.choice(WAYS)(content, draw)
    return content


def mutate_words(words: Sequence[str], draw: random.Random) -> list[str]:
    """The words of a command line with one to three things wrong with them."""
    changed = list(words)
    for _ in range(draw.choice((1, 1, 2, 3))):
        place = draw.randrange(len(changed)) if changed else 0
        way = draw.randrange(5)
        if way == 0 and changed:
            changed[place] = as_word(mutate(changed[place].encode("utf-8", "surrogateescape"), draw))
        elif way == 1 and changed:
            changed[place] = as_word(draw.choice(NASTY))
        elif way == 2:
            changed.insert(place, as_word(draw.choice(NASTY)))
        elif way == 3 and changed:
            del changed[place]
        elif changed:
            other = draw.randrange(len(changed))
            changed[place], changed[other] = changed[other], changed[place]
    return changed


def as_word(content: bytes) -> str:
    """The bytes as a shell would hand them to a program: without NUL, as much as a command line takes."""
    return content.replace(b"\x00", b"")[:6000].decode("utf-8", "surrogateescape")


def _flip(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 3, 20))):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _flip_early(content: bytes, draw: random.Random) -> bytes:
    """Heads are where formats say what comes."""
    return _flip(content[:64], draw) + content[64:]


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _remove(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    return content[:start] + content[start + draw.randrange(1, 40) :]


def _double(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    piece = content[start : start + draw.randrange(1, 200)]
    return content[:start] + piece * draw.choice((2, 2, 50)) + content[start:]


def _insert(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    return content[:start] + draw.choice(NASTY) + content[start:]


def _replace_word(content: bytes, draw: random.Random) -> bytes:
    words = list(_WORD.finditer(content))
    if not words:
        return _insert(content, draw)
    one = draw.choice(words)
    return content[: one.start()] + draw.choice(NASTY) + content[one.end() :]


def _swap_words(content: bytes, draw: random.Random) -> bytes:
    words = list(_WORD.finditer(content))
    if len(words) < 2:
        return _double(content, draw)
    first, second = sorted(draw.sample(words, 2), key=lambda found: found.start())
    between = content[first.end() : second.start()]
    return content[: first.start()] + second[0] + between + first[0] + content[second.end() :]


def _swap_lines(content: bytes, draw: random.Random) -> bytes:
    lines = content.split(b"\n")
    draw.shuffle(lines)
    return b"\n".join(lines[: draw.randrange(len(lines) + 1)])


WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _flip_early, _cut, _remove, _double, _insert, _replace_word, _replace_word, _swap_words, _swap_lines),
)
