"""What names and URLs of strangers look like once they are shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.input_error import InputError
from data.printable import printable, printable_lines, without_secrets, without_secrets_in
from tests.toys import PROPERTY


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("im0001", "im0001"),
        ("Gefäß 血管 \u3000x", "Gefäß 血管 \u3000x"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\x00", "a\\nb\\tc\\x00"),
        ("gpj\u202egnp", "gpj\\u202egnp"),
        ("\u2066x\u2069\ufeff", "\\u2066x\\u2069\\ufeff"),
        ("\x9b2J", "\\x9b2J"),
        ("undecoded \udcff", "undecoded \\udcff"),
        ("क्\u200dष", "क्\u200dष"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    shown.encode()


@PROPERTY
@given(st.text())
def test_nothing_steers_a_terminal_and_nothing_changes_twice(text: str) -> None:
    shown = printable(text)
    assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in shown)
    assert "\u202e" not in shown
    assert printable(shown) == shown
    assert printable_lines(text).count("\n") == text.count("\n")


def test_an_input_error_is_one_printable_line() -> None:
    assert str(InputError("class '\x1b]0;x\x07' and\n 'b'")) == "class '\\x1b]0;x\\x07' and 'b'"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://anna:hunter2@db:5432/studies", "postgresql://anna:***@db:5432/studies"),
        ("postgresql+psycopg://anna:p%40ss:w@db/x", "postgresql+psycopg://anna:***@db/x"),
        ("postgresql://anna@db/x", "postgresql://anna@db/x"),
        ("postgresql://db/x?user=anna&password=hunter2", "postgresql://db/x?user=anna&password=***"),
        ("s3://AKIA1:hunter2@bucket/runs", "s3://***@bucket/runs"),
        ("s3://AKIA1@bucket/runs", "s3://***@bucket/runs"),
        ("s3://bucket/runs?secret_key=hunter2&region=eu", "s3://bucket/runs?secret_key=***&region=eu"),
        ("abfs://x@account.dfs/y?sig=hunter2", "abfs://***@account.dfs/y?sig=***"),
        ("https://host/x#access_token=hunter2", "https://host/x#access_token=***"),
        ("gs://bucket/a b", "gs://bucket/a b"),
        ("http://[hunter2", "http://***"),
        ("runs/anna:x@y", "runs/anna:x@y"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_what_lets_somebody_in(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
    assert without_secrets(shown) == shown
    assert without_secrets_in(f"cannot connect to {url!r}: no") == f"cannot connect to {shown!r}: no"
