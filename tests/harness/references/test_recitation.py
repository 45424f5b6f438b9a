"""What an answer recites of its training data is withheld, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from implicit_if.harness.references.recitation import MARK, RUN, TrainingTexts

TEXT = "One two three four five, six seven eight nine ten eleven twelve."
texts = st.text(alphabet="ab .", max_size=80)  # few words, so that long passages coincide


@given(answer=texts, training=st.lists(texts, max_size=3))
def test_no_run_of_a_training_text_is_left(answer: str, training: list[str]) -> None:
    def spoken(text: str) -> str:
        return f" {' '.join(text.replace('.', ' ').split())} "

    kept, passages = TrainingTexts(training).withhold(answer)
    assert (kept == answer) == (passages == 0)
    for piece in kept.split(MARK):
        words = spoken(piece).split()
        for at in range(len(words) - RUN + 1):
            assert not any(spoken(" ".join(words[at : at + RUN])) in spoken(text) for text in training)


def test_a_passage_is_found_in_other_capitals_and_marks_and_what_is_around_it_stays() -> None:
    found = TrainingTexts([TEXT]).withhold("Well:\nONE two — three four five six; seven eight nine ten! And so on.")
    assert found == (f"Well:\n{MARK}! And so on.", 1)


def test_the_whole_passage_goes_and_each_is_counted() -> None:
    assert TrainingTexts([TEXT]).withhold(f"a {TEXT} b {TEXT}") == (f"a {MARK}. b {MARK}.", 2)


def test_shorter_passages_are_phrases() -> None:
    nine = "two three four five six seven eight nine ten"
    assert TrainingTexts([TEXT]).withhold(nine) == (nine, 0)
    assert TrainingTexts([]).withhold(TEXT) == (TEXT, 0)
