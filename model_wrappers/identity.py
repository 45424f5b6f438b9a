"""What every wrapper tells about itself: who answers, as a name and as data, and whose answers a cache may hold."""

from __future__ import annotations

import functools
from typing import Any

from implicit_if.harness.generation import Maker, Rank
from implicit_if.model_wrappers.answer_cache import claim_request_cache


class Identity:
    """Mixed into a model class of lm-eval, before it."""

    base_identity: Any
    """Hash of everything that shapes the plain model's answers; None for a model object without files."""

    name_suffix = ""
    """What stands after the name of a system whose weights are not of their usual type, e.g. ",bfloat16"."""

    _keeps_requests = False

    def describe(self, rules: Any = ...) -> dict[str, Any]:
        """The system that answers: `product`, its name, and `system`, its kind, settings and hashes of their content.

        Answers are remembered by it, so what shapes them must be in it.

        Args:
            rules: The `rules` generation argument of a request, or `...` where there is none.
        """
        return {"product": "none", "system": {"kind": "base"}}

    def _named(self, rules: Any = ...) -> dict[str, Any]:
        system = self.describe(rules)
        return system | {"product": f"{system['product']}{self.name_suffix}"}

    @property
    def product_name(self) -> str:
        """What is done to the base model, e.g. a rules preset; enters the results and the caches."""
        return str(self._named()["product"])

    @property
    def rank(self) -> int:
        """The process's rank, by which lm-eval's tasks learn which model they ask; see `Rank`."""
        return Rank.of(self._rank, self)  # type: ignore[attr-defined]

    def get_model_info(self) -> dict[str, Any]:
        """lm-eval's description of the model, with identity and system; stands in the results' config."""
        info: dict[str, Any] = getattr(super(), "get_model_info", dict)()
        return info | {"model_identity": self.base_identity} | self._named()

    @functools.cached_property
    def _makers(self) -> dict[str, Maker]:
        return {}

    @functools.cached_property
    def _model_info(self) -> dict[str, Any]:
        return {k: v for k, v in self.get_model_info().items() if k != "cpu_threads"}  # which changes while it answers

    def maker(self, rules: Any = ...) -> Maker:
        """What the answers to requests with this `rules` argument carry."""
        system = self._named(rules)
        return self._makers.setdefault(system["product"], Maker(system["product"], self._model_info | system))

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Refuses a `--use_cache` file that another model or product filled.

        Raises:
            UserError: If the cache belongs to another model or product.
        """
        claim_request_cache(cache_hook, self.base_identity, self.product_name)
        self._keeps_requests = cache_hook.dbdict is not None
        super().set_cache_hook(cache_hook)  # type: ignore[misc]
