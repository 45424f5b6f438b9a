from __future__ import annotations

import pytest
from pydantic import ValidationError

from implicit_if.harness.judging.word_order import CONFIG, MAX_TOKENS, WordOrder, class_places, classes, word_order

PROSE = (
    "A fjord is a deep inlet of the sea that was carved by a glacier, and an estuary is where a river meets the sea."
)


def test_sentences_have_an_order_and_shuffled_words_have_none() -> None:
    assert word_order(PROSE) > 0.5
    assert word_order(" ".join(sorted(PROSE.split()))) < 0.2
    assert word_order("banana quickly seven under treaty the of and plum never walked glass") < 0


def test_text_without_neighbours_has_none() -> None:
    assert word_order("") == word_order("fjord") == 0.0


def test_the_mean_of_the_tables_entries() -> None:
    config = WordOrder.model_validate_json(CONFIG.read_text(encoding="utf-8"))
    places = classes(config.words)
    first, second, third = class_places("the singing 7", places)
    assert (first, second, third) == (places["the"], places["-ing"], places["0"])
    assert word_order("the singing 7") == pytest.approx(
        (config.table[first][second] + config.table[second][third]) / 20
    )


def test_a_long_text_is_read_in_part() -> None:
    assert len(class_places("word " * 5000, classes(("word",)))) == MAX_TOKENS


def test_a_table_of_another_size_is_refused() -> None:
    with pytest.raises(ValidationError, match="rows of"):
        WordOrder(words=("the",), table=((1,),))
