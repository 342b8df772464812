"""A judge behind an HTTP endpoint that speaks OpenAI's chat completions, as vLLM, llama.cpp, Ollama and others do.

Only the standard library, and only the URL that was given: a redirect is refused, as it would carry the key elsewhere. The key
comes from the environment, goes into a header, and is in no file, message or representation. What may pass by itself (a full
server, a lost connection) is tried again, waiting twice as long each time, a bounded number of times.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from .judge import BATCH_SIZE, MAX_NEW_TOKENS

_PATH = "/chat/completions"
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)  # what another try may mend
_LONGEST_WAIT = 60.0
_SHOWN = 200


class EndpointJudge:
    """A model that an endpoint serves.

    Args:
        model: the model's name at the endpoint.
        url: base of the endpoint, such as ``http://127.0.0.1:8000/v1``; ``/chat/completions`` is added where it is missing.
        key_env: name of the environment variable that holds the key; None for an endpoint without.
        batch_size: requests at a time.
        max_new_tokens: most tokens of a reply.
        tries: tries of a request, the first included.
        wait: seconds before the second try, doubled for each further one.
        timeout: seconds without an answer after which a try has failed.

    Raises:
        ValueError: no http(s) URL, one with a user in it, or a variable that is not set.
    """

    def __init__(
        self,
        model: str,
        url: str,
        *,
        key_env: str | None = None,
        batch_size: int = BATCH_SIZE,
        max_new_tokens: int = MAX_NEW_TOKENS,
        tries: int = 6,
        wait: float = 1.0,
        timeout: float = 120.0,
    ) -> None:
        try:
            parts = urlsplit(url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number
            known = False
        if not known:
            raise ValueError("--judge-url is no address of a server; expected one as in http://127.0.0.1:8000/v1")
        if parts.username is not None or parts.password is not None:
            raise ValueError("--judge-url holds a user or a password; put the key in the environment (--judge-key-env)")
        path = parts.path.rstrip("/")
        path = path if path.endswith(_PATH) else path + _PATH
        self._request_url = urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
        self._url = urlunsplit(
            (parts.scheme, parts.netloc, path, "", "")
        )  # in files and messages: a query may hold a key
        self._key = _key(key_env)
        self._model, self._batch_size, self._max_new_tokens = model, batch_size, max_new_tokens
        self._tries, self._wait, self._timeout = tries, wait, timeout
        self._opener = urllib.request.build_opener(_NoRedirect)

    @property
    def settings(self) -> Mapping[str, Any]:
        sizes = {"max_new_tokens": self._max_new_tokens, "temperature": 0}
        return {"judge": self._model, "judge_url": self._url, **sizes}

    def replies(self, prompts: Sequence[str]) -> Iterator[tuple[int, str]]:
        with ThreadPoolExecutor(self._batch_size) as pool:
            for start in range(0, len(prompts), self._batch_size):
                asked = [pool.submit(self._ask, prompt) for prompt in prompts[start : start + self._batch_size]]
                failed: list[OSError] = []
                for place, future in enumerate(asked, start):
                    try:
                        yield place, future.result()
                    except OSError as error:  # the replies that came with it are kept
                        failed.append(error)
                if failed:
                    raise failed[0]

    def _ask(self, prompt: str) -> str:
        wait = self._wait
        for count in range(1, self._tries + 1):
            try:
                return self._once(prompt)
            except _TryAgainError as error:
                reason = error
            if count < self._tries:
                time.sleep(min(max(wait, reason.wait), _LONGEST_WAIT))
                wait *= 2
        raise OSError(
            f"{self._url}: failed {self._tries} times ({reason}); what was judged is kept, the same command continues"
        ) from None

    def _once(self, prompt: str) -> str:
        """One try. Raises `_TryAgainError`, or `OSError` for what another would not mend."""
        content = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": self._max_new_tokens,
        }
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._request_url, json.dumps(content).encode(), headers)
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                reply = json.loads(response.read())["choices"][0]["message"]["content"] or ""
                return self._hidden(reply).strip()
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {self._said(error)}".strip()
            if error.code in _AGAIN:
                raise _TryAgainError(reason, _seconds(error.headers.get("Retry-After"))) from None
            raise OSError(f"{self._url}: refused the request of {self._model} ({reason})") from None
        except (OSError, http.client.HTTPException) as error:  # URLError, timeouts, connections that were cut
            raise _TryAgainError(self._hidden(str(getattr(error, "reason", error)) or type(error).__name__)) from None
        except (ValueError, LookupError, TypeError, AttributeError):
            raise _TryAgainError("its answer is no chat completion") from None

    def _said(self, error: urllib.error.HTTPError) -> str:
        """What a server says is wrong, on one line, short, without the key, which some repeat."""
        try:
            text = error.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return ""
        return self._hidden(" ".join(text.split()))[:_SHOWN]

    def _hidden(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


class _TryAgainError(Exception):
    """A try failed in a way that may pass; `wait`: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        return None


def _key(name: str | None) -> str:
    if name is None:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise ValueError(f"the environment has no {name}, which --judge-key-env names; set it to the endpoint's key")
    if not key.isprintable() or not key.isascii():
        raise ValueError(f"{name}: holds what no key does, such as a line break; set it to the endpoint's key")
    return key


def _seconds(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:  # a date
        return 0.0
