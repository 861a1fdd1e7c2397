"""`and`, `or`, `not`, `if` and chained comparisons: a `TypeError` that shows the same line, written right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kappa import col


def message(function: Callable[[], object]) -> str:
    with pytest.raises(TypeError) as caught:
        function()
    return str(caught.value)


def test_and_becomes_ampersand() -> None:
    text = message(lambda: col("status") == "captured" and col("amount") > 0)
    assert "write:" in text
    assert "(col('status') == 'captured') & (col('amount') > 0)" in text


def test_or_and_not() -> None:
    text = message(lambda: col("a") > 1 or not col("b"))
    assert "(col('a') > 1) | ~col('b')" in text


def test_not_alone() -> None:
    text = message(lambda: not col("b").is_null())
    assert "~col('b').is_null()" in text


def test_a_chained_comparison() -> None:
    text = message(lambda: 0 < col("amount") <= 100)
    assert "(0 < col('amount')) & (col('amount') <= 100)" in text


def test_a_conditional_expression() -> None:
    text = message(lambda: 1 if col("a") > 0 else 2)
    assert "kappa.when(col('a') > 0).then(1).otherwise(2)" in text


def test_an_if_statement_shows_its_line() -> None:
    def branch() -> None:
        if col("a") > 0:
            raise AssertionError("never")

    text = message(branch)
    assert 'if col("a") > 0:' in text
    assert "test_truth.py" in text


def test_only_the_part_that_needs_it_is_rewritten_and_the_rest_of_the_line_stays() -> None:
    def keep(x: object) -> object:
        return x

    text = message(lambda: keep(col("a") > 0 and col("b") > 0))
    assert "keep((col('a') > 0) & (col('b') > 0))" in text


def test_an_expression_over_several_lines() -> None:
    text = message(
        lambda: (
            col("a") > 0
            and col("b") > 0
        )
    )  # fmt: skip
    assert "(col('a') > 0) & (col('b') > 0)" in text


def test_without_source_the_message_still_helps() -> None:
    with pytest.raises(TypeError, match="write `&`"):
        eval(compile("a and b", "<nowhere>", "eval"), {"a": col("a"), "b": col("b")})
