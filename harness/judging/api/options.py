"""Options of the API judges: validated before anything is asked, keys from the environment only."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from implicit_if.harness.errors import UserError, unknown_name
from implicit_if.harness.judging.api.client import Limits
from implicit_if.harness.safe_text import one_line

_PRICES = Path(__file__).parent.parent / "prices.yaml"
_LOOKS_SECRET = ("key", "token", "secret", "password")

M = TypeVar("M", bound=BaseModel)


class ApiOptions(BaseModel):
    """What every API judge takes. Only `revision`, `max_chars` and `body` shape a verdict and enter the fingerprint.

    Attributes:
        base_url: The API's address without the path of a call, e.g. http://localhost:8000/v1.
        key_env: The environment variable that holds the key.
        revision: Any word that tells this model from others of its name, e.g. a local model's commit.
        max_chars: Characters of the instruction and of each answer that the judge is shown.
        body: Further fields of each request, not the model; null drops a field.
        price_in: US dollars for a million tokens read.
        price_out: US dollars for a million tokens written.
        concurrency, timeout, retries, backoff, deadline, rpm: See `Limits`.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), coerce_numbers_to_str=True, allow_inf_nan=False
    )

    base_url: str | None = None
    key_env: str | None = None
    revision: str | None = None
    max_chars: int = Field(default=24_000, ge=1)
    body: dict[str, Any] = {}
    price_in: float | None = Field(default=None, ge=0)
    price_out: float | None = Field(default=None, ge=0)
    concurrency: int = Field(default=64, ge=1, le=4096)
    timeout: float = Field(default=120.0, gt=0)
    retries: int = Field(default=8, ge=0)
    backoff: float = Field(default=1.0, ge=0)
    deadline: float = Field(default=900.0, gt=0)
    rpm: float | None = Field(default=None, gt=0)

    @field_validator("body", mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except RecursionError:
            raise ValueError("nested too deep") from None

    @field_validator("body")
    @classmethod
    def _not_the_model(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "model" in value:
            raise ValueError("the model belongs to the judge's name, its price and its prior; name it there")
        return value

    @property
    def limits(self) -> Limits:
        return Limits(self.concurrency, self.timeout, self.retries, self.backoff, self.deadline, self.rpm)


def parse_options(model: type[M], judge: str, options: Mapping[str, Any]) -> M:
    """Options as the model validates them; strings from a command line are converted.

    Raises:
        UserError: If one is unknown or has a wrong value; the value of anything that looks like a key is not shown.
    """
    for name in options:
        if name not in model.model_fields:
            secret = any(word in name.lower() for word in _LOOKS_SECRET)
            fix = "Keys are read from the environment only." if secret else ""
            raise unknown_name(f"option of judge {judge!r}", name, model.model_fields, fix=fix)
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        detail = "; ".join(
            f"{'.'.join(map(str, e['loc']))}={one_line(repr(e['input']))}: {e['msg']}" for e in error.errors()
        )
        raise UserError(f"judge {judge!r}: {detail}. Change the option.") from error


def merge_body(settings: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the extra fields; a field that is null is dropped."""
    return {name: value for name, value in {**settings, **extra}.items() if value is not None}


def most_tokens(settings: Mapping[str, Any]) -> int | None:
    """The most tokens an answer to a request with these settings may have; None if they do not say."""
    values = [settings.get(name) for name in ("max_tokens", "max_completion_tokens")]
    return max((value for value in values if isinstance(value, int)), default=None)


class Prices(BaseModel):
    """US dollars for a million tokens; None if not known."""

    per_million_in: float | None = None
    per_million_out: float | None = None

    def cost(self, tokens_in: float | None, tokens_out: float | None) -> float | None:
        """US dollars; None if a price is not known, or a count that has a price."""
        dollars = 0.0
        for price, tokens in ((self.per_million_in, tokens_in), (self.per_million_out, tokens_out)):
            if price == 0:
                continue
            if price is None or tokens is None:
                return None
            dollars += price * tokens / 1e6
        return dollars


def prices_for(model: str, options: ApiOptions, *, local: bool) -> Prices:
    """Prices from the options, else zero for this machine's own server, else from `prices.yaml` by the exact name.

    Raises:
        UserError: If only one of the two prices is given.
    """
    if (options.price_in is None) != (options.price_out is None):
        raise UserError("found one of price_in and price_out, expected both or neither (US dollars a million tokens).")
    if options.price_in is not None:
        return Prices(per_million_in=options.price_in, per_million_out=options.price_out)
    if local:
        return Prices(per_million_in=0.0, per_million_out=0.0)
    known = price_list()[1].get(model)
    return Prices(per_million_in=known[0], per_million_out=known[1]) if known else Prices()


@functools.cache
def price_list() -> tuple[str, dict[str, tuple[float, float]]]:
    """The month of the shipped list prices, and per model US dollars for a million tokens read and written."""
    import yaml

    content = yaml.safe_load(_PRICES.read_text(encoding="utf-8"))
    prices = {name: (float(pair[0]), float(pair[1])) for name, pair in content["usd_per_million_tokens"].items()}
    return str(content["as_of"]), prices
