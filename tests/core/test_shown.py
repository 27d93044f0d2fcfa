from bitproof.core.shown import MOST_ROWS, as_html


def test_text_of_users_is_no_markup() -> None:
    shown = as_html("<script>", {"<b>": "&"}, header=("<i>",), rows=[("<u>",)])
    assert "<script>" not in shown
    assert "<u>" not in shown
    assert "<i>" not in shown
    assert "&lt;script&gt;" in shown
    assert "&lt;u&gt;" in shown
    assert "<td>&amp;</td>" in shown


def test_long_tables_are_cut_and_say_so() -> None:
    shown = as_html("x", {}, header=("n",), rows=[(str(n),) for n in range(MOST_ROWS + 5)])
    assert shown.count("<td>") == MOST_ROWS
    assert "and 5 more" in shown
