"""Makes the table of `harness/judging/word_order.py` from English prose, e.g. the answers of LIMA.

    python tools/fit_word_order.py lima_data.jsonl

The file is JSON Lines of objects with `messages`. Writes harness/judging/configs/word_order.json: numbers and the
commonest words, no text of the data.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

from implicit_if.harness.judging.word_order import CONFIG, STEPS, class_places, classes
from implicit_if.harness.storage import atomic_write

COMMON = 150
PRIOR = 20.0
"""How many sightings the independence of neighbours counts as."""
LIMIT = 40


def main() -> None:
    """Counts and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    lines = parser.parse_args().file.read_text(encoding="utf-8").splitlines()
    texts = [m["content"] for line in lines for m in json.loads(line)["messages"]]
    counts = Counter(w for text in texts for w in re.findall(r"[a-z][a-z']*", text.lower()))
    common = tuple(sorted(word for word, _ in counts.most_common(COMMON)))
    places = classes(common)
    pairs = np.zeros((len(places), len(places)))
    for text in texts:
        for paragraph in (text[start : start + 2000] for start in range(0, len(text), 2000)):
            for a, b in pairwise(class_places(paragraph, places)):
                pairs[a, b] += 1
    share = (pairs.sum(axis=0) + 1) / (pairs.sum() + len(places))
    given = (pairs + PRIOR * share) / (pairs.sum(axis=1, keepdims=True) + PRIOR)
    table = np.clip(np.round(STEPS * np.log(given / share)), -LIMIT, LIMIT).astype(int).tolist()
    rows = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in table)
    with atomic_write(CONFIG) as file:
        file.write(f'{{\n "words": {json.dumps(common)},\n "table": [\n{rows}\n ]\n}}\n')


if __name__ == "__main__":
    main()
