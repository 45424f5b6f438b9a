"""Where an API judge is asked and as whom: addresses, keys, proxies. No key leaves this module but in a request."""

from __future__ import annotations

import base64
import html
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from implicit_if.harness.errors import UserError

_SHORTEST_SECRET = 8  # "none" and the like are no secrets, and would be struck out of every verdict


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and as whom.

    Attributes:
        url: The full URL requests are posted to.
        headers: Sent with each request; they may hold a key and are never shown.
        secrets: Strings that must not appear in any message or result.
        key_source: Where the key comes from, for messages, e.g. "OPENAI_API_KEY".
        lacks_key: True if there is none.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    key_source: str = "the API key"
    lacks_key: bool = False

    def check_key(self) -> None:
        """Raises `UserError` if there is no key and the server is not this machine's."""
        if self.lacks_key and not self.is_local:
            raise UserError(
                f"no key for {self.host}: {self.key_source} is not set. Set it in the environment; if the server needs "
                f"none, to any word."
            )

    @property
    def host(self) -> str:
        """Host and port, which messages may show; credentials in the URL are left out."""
        from yarl import URL

        return URL(self.url).host_port_subcomponent or self.url

    @property
    def is_local(self) -> bool:
        """True if the URL points at this machine."""
        from yarl import URL

        host = URL(self.url).host or ""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host == "localhost"
        return address.is_loopback or address.is_unspecified

    def redact(self, text: str) -> str:
        """The text without the secrets, also as JSON, URLs and HTML may write their characters."""
        for secret in self.secrets:
            text = re.sub("".join(map(_any_spelling, secret)), "[key]", text)
        return text

    def redact_json(self, value: Any) -> Any:
        """A JSON value without the secrets in any of its texts."""
        if isinstance(value, dict):
            return {self.redact(key): self.redact_json(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.redact_json(item) for item in value]
        return self.redact(value) if isinstance(value, str) else value


def _any_spelling(character: str) -> str:
    r"""A pattern for one character as it is, behind backslashes (`\/`), as `\u002f`, `%2F`, `&#47;` or `&lt;`."""
    code = ord(character)
    digits = "".join(f"[{digit}{digit.upper()}]" for digit in f"{code:02x}")
    named = re.escape(html.escape(character))
    return rf"(?:\\{{0,8}}{re.escape(character)}|\\{{1,8}}u00{digits}|%{digits}|&#(?:{code}|[xX]{digits});|{named})"


def check_url(url: str, option: str) -> str:
    """The URL without trailing slashes.

    Raises:
        UserError: If it is not an http(s) URL with a host, holds credentials, or ends in a query or a fragment.
    """
    from yarl import URL

    try:
        parsed = URL(url)
    except ValueError:
        parsed = URL()
    if "@" in url:
        raise UserError(f"{option} holds credentials. Put the key into the environment and give the URL without them.")
    address, mark, _ = url.partition("?" if "?" in url else "#")
    if mark:
        raise UserError(
            f"{option} goes on after {address!r} with a {mark!r}, but a call's path is added to its end. Expected a "
            f"URL such as http://localhost:8000/v1."
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UserError(f"{option} is {url!r}, expected a URL such as http://localhost:8000/v1.")
    return url.rstrip("/")


def make_endpoint(base_url: str, path: str, key: str | None, key_source: str, headers: Mapping[str, str]) -> Endpoint:
    """The endpoint of an API judge.

    Args:
        base_url: A checked URL.
        path: The call's path, e.g. "/chat/completions".
        key: The key; None where this machine's own server needs none.
        key_source: Where it comes from or should.
        headers: May hold "{key}", which is filled in; a header that does is left out without a key.

    Raises:
        UserError: If the key has characters no header holds.
    """
    if key and not (key.isascii() and key.isprintable()):
        raise UserError(f"{key_source} holds characters that no key has (a line end, a quote?). Set it again.")
    filled = {name: value.replace("{key}", key or "") for name, value in headers.items() if key or "{key}" not in value}
    secrets = (key,) if key and len(key) >= _SHORTEST_SECRET else ()
    return Endpoint(base_url + path, filled, secrets, key_source, lacks_key=not key)


def read_key(variable: str) -> str | None:
    """The key in an environment variable, stripped; None if it is unset or empty."""
    return os.environ.get(variable, "").strip() or None


def proxy_for(url: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The environment's proxy for a URL as aiohttp's arguments, and the header of its login.

    aiohttp's own `trust_env` looks both up for each request, in a thread.
    """
    from urllib.request import getproxies, proxy_bypass

    from yarl import URL

    target = URL(url)
    given = getproxies().get(target.scheme)
    if not given or proxy_bypass(target.host or ""):
        return {}, {}
    try:
        proxy = URL(given if "://" in given else f"http://{given}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        raise UserError(
            f"{target.scheme}_proxy in the environment is not a proxy that can be used. Expected http://HOST:PORT; "
            f"to go without, add {target.host} to no_proxy."
        )
    login = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode("ascii")
    return {"proxy": str(proxy.with_user(None))}, {"Proxy-Authorization": f"Basic {login}"} if proxy.user else {}
