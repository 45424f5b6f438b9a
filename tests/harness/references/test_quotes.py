"""What an answer quotes of its instruction is stored as places, and comes back unchanged."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from implicit_if.harness.references.quotes import SHORTEST, lift_quotes, put_quotes_back

INSTRUCTION = "  Name three rivers of Asia, and say where each begins.\n"

texts = st.text(alphabet="ab \n", max_size=60)  # few letters, so that long passages coincide
repeated = st.lists(texts, max_size=4).flatmap(lambda parts: st.permutations(parts * 2).map("".join))


@given(answer=repeated, instruction=repeated)
@example(answer="", instruction="")
@example(answer=INSTRUCTION * 3, instruction=INSTRUCTION)
def test_an_answer_comes_back_and_nothing_stored_quotes(answer: str, instruction: str) -> None:
    stored = lift_quotes(answer, instruction)
    assert put_quotes_back(stored, instruction) == answer
    own = [stored] if isinstance(stored, str) else [piece for piece in stored if isinstance(piece, str)]
    passages = {piece[i : i + SHORTEST] for piece in own for i in range(len(piece) - SHORTEST + 1)}
    assert not any(passage in instruction.strip() for passage in passages)


def test_a_quote_is_its_place_in_the_stripped_text() -> None:
    assert lift_quotes("You asked: Name three rivers of Asia. Ob, Lena, Amur.", INSTRUCTION) == [
        "You asked: ",
        [0, len("Name three rivers of Asia")],
        ". Ob, Lena, Amur.",
    ]


def test_the_longest_passage_is_taken() -> None:
    instruction = "abcdefghijklm1 abcdefghijklmnop2"
    assert lift_quotes("abcdefghijklmnop", instruction) == [[15, 31]]


def test_an_answer_without_quotes_stays_text() -> None:
    assert lift_quotes("Ob, Lena and Amur.", INSTRUCTION) == "Ob, Lena and Amur."
    assert put_quotes_back("Ob, Lena and Amur.", INSTRUCTION) == "Ob, Lena and Amur."
