import pytest

from faultline.base.errors import UserError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("photos/ant 1 – é.png", "photos/ant 1 – é.png"),
        ("a\nerror: b\r", r"a\nerror: b\r"),
        ("\x1b[2J\x9b1m\x07", r"\x1b[2J\x9b1m\x07"),
        ("gpj\u202e.exe\u2028", r"gpj\u202e.exe\u2028"),
        ("\udcff", r"\udcff"),  # how Python reads a name that is no UTF-8
    ],
)
def test_a_text_from_elsewhere_is_one_line_and_moves_no_terminal(text, shown):
    assert printable(text) == str(UserError(text)) == shown
    assert printable(text).encode("utf-8")
