"""Who may ask the server for what: host names, origins, a password, how often.

A page on another site can make a visitor's browser send requests here: by the address (with `Origin`, refused unless it is this
server's), or, having its own name resolve to this machine, under a name that the browser takes for its own (with `Host`, refused
unless it is one of this server's names). Nothing here knows Gradio.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
MINUTE = 60.0
_FAILED_COST = 10
"""A wrong password counts as that many requests."""


@dataclass(frozen=True, kw_only=True)
class AccessOptions:
    """Who may ask for what.

    Attributes:
        hosts: names under which the server is reached besides its own, such as that of a proxy.
        password: ``user:password`` that every request must come with; None for none.
        rate: requests of one address in a minute that change or ask anything; 0 for no limit.

    Raises:
        ValueError: a name with a scheme or a path, a password without a user, a negative rate.
    """

    hosts: tuple[str, ...] = ()
    password: str | None = field(default=None, repr=False)
    rate: int = 120

    def __post_init__(self) -> None:
        for name in self.hosts:
            if not name or re.search(r"[/\s@*]", name):
                raise ValueError(f"{name!r} is no host name; expected one such as nerf.example.org")
        if self.password is not None and not re.fullmatch(r"[^:\x00-\x1f]+:[^\x00-\x1f]+", self.password):
            raise ValueError("the password has another form than USER:PASSWORD")
        if self.rate < 0:
            raise ValueError(f"the rate is {self.rate} requests a minute; expected 0 for no limit, or more")


class Refused(Exception):
    """A request that is not answered: an HTTP status, a sentence, headers."""

    def __init__(self, status: int, sentence: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, tuple(headers)


class Access:
    """Checks requests to a server that listens on `host`."""

    def __init__(self, host: str, options: AccessOptions) -> None:
        self._options = options
        names = {host, *options.hosts}
        names |= LOCAL_NAMES if is_local(host) else {socket.gethostname(), socket.getfqdn()}
        if is_any(host):
            names |= LOCAL_NAMES
        self._names = {host_name(name) for name in names}
        self._added = {host_name(name) for name in options.hosts}
        self._rates = Rates(options.rate)

    def check(self, headers: dict[str, str], *, server: str, client: str, counts: bool) -> None:
        """Raise `Refused` where a request may not be answered.

        Args:
            headers: its headers, names in lower case.
            server: the address of this machine that it came to.
            client: the address that it came from.
            counts: whether it counts among those whose rate is limited.
        """
        for given in ("host", "x-forwarded-host"):
            for value in headers.get(given, "").split(",") if given in headers else ():
                self._check_host(value.strip(), server)
        if (origin := headers.get("origin")) is not None:
            self._check_origin(origin, headers)
        self._check_password(headers.get("authorization", ""), client)
        if counts:
            self._rates.count(client)

    def _check_host(self, value: str, server: str) -> None:
        name = host_name(value)
        if name not in self._names and name != host_name(server):
            raise Refused(
                421, f"This server does not answer to the name {name[:100]!a}; who runs it can add --allow-host for it."
            )

    def _check_origin(self, origin: str, headers: dict[str, str]) -> None:
        own = {headers.get(name, "").strip().lower() for name in ("host", "x-forwarded-host")} - {""}
        scheme, _, place = origin.lower().partition("://")
        default = {"http": ":80", "https": ":443"}.get(scheme, "")
        if default and ({place, place + default, place.removesuffix(default)} & own or host_name(place) in self._added):
            return
        raise Refused(403, "This server does not answer to pages of other sites.")

    def _check_password(self, authorization: str, client: str) -> None:
        if self._options.password is None:
            return
        scheme, _, value = authorization.partition(" ")
        try:
            given = base64.b64decode(value, validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            given = b""
        if given and self._rates.is_over(client):
            self._rates.count(client)  # raises
        if not hmac.compare_digest(given, self._options.password.encode()):
            if given:
                self._rates.count(client, _FAILED_COST)
            raise Refused(
                401,
                "This server asks for a user and a password.",
                [("www-authenticate", 'Basic realm="llana-gmn", charset="UTF-8"')],
            )


class Rates:
    """How often each address asked in the last minute.

    Args:
        limit: most requests in a minute; 0 for any number.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._times: dict[str, deque[float]] = {}

    def count(self, client: str, cost: int = 1) -> None:
        """Raises `Refused` where this was too often; a refused request is not counted."""
        if not self._limit:
            return
        with self._lock:
            times = self._recent(client)
            if len(times) >= self._limit:
                wait = max(1, round(times[0] + MINUTE - time.monotonic()))
                raise Refused(
                    429,
                    f"This is more than {self._limit} requests in a minute; wait {wait} s.",
                    [("retry-after", str(wait))],
                )
            times.extend([time.monotonic()] * min(cost, self._limit - len(times)))

    def is_over(self, client: str) -> bool:
        with self._lock:
            return bool(self._limit) and len(self._recent(client)) >= self._limit

    def _recent(self, client: str) -> deque[float]:
        since = time.monotonic() - MINUTE
        if len(self._times) > 10_000:
            self._times = {name: times for name, times in self._times.items() if times and times[-1] > since}
        times = self._times.setdefault(client, deque())
        while times and times[0] <= since:
            times.popleft()
        return times


def host_name(value: str) -> str:
    """A `Host` header, or what stands in an `Origin` behind ``://``, without its port, in lower case."""
    value = value.strip().lower()
    if value.startswith("["):
        return value[1:].partition("]")[0]
    name, colon, port = value.rpartition(":")
    if colon and ":" not in name and port.isdigit():
        value = name
    return value.rstrip(".")


def is_any(host: str) -> bool:
    """Whether a server on this address listens on all of the machine's."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return host == ""


def is_local(host: str) -> bool:
    """Whether only this machine reaches a server on this address.

    Raises `OSError` for a name that is nobody's.
    """
    if host in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM)}
        return all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in found)
