from __future__ import annotations

import base64

import pytest

from llana_gmn.web import access
from llana_gmn.web.access import Access, AccessOptions, Refused, host_name, is_local


def check(found, *, host="127.0.0.1:7860", client="1.2.3.4", server="127.0.0.1", counts=False, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    found.check({"host": host, **headers}, server=server, client=client, counts=counts)


def basic(password):
    return "Basic " + base64.b64encode(password.encode()).decode()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("Example.org:80", "example.org"),
        ("example.org.", "example.org"),
        ("[::1]:7860", "::1"),
        ("::1", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("a:b:c", "a:b:c"),
        ("", ""),
    ],
)
def test_names_of_hosts(value, name):
    assert host_name(value) == name


def test_only_the_servers_own_names_are_answered():
    local = Access("127.0.0.1", AccessOptions())
    for host in ("127.0.0.1:7860", "localhost", "LOCALHOST:80", "[::1]:7860"):
        check(local, host=host)
    for host in ("evil.example", "127.0.0.1.evil.example", "192.168.0.7:7860", "localhost.evil.example:7860", ""):
        with pytest.raises(Refused, match=r"does not answer to the name .*--allow-host") as error:
            check(local, host=host)
        assert error.value.status == 421
    with pytest.raises(Refused):
        check(local, x_forwarded_host="evil.example")
    proxied = Access("127.0.0.1", AccessOptions(hosts=("nerf.example.org",)))
    check(proxied, host="nerf.example.org")
    check(proxied, host="127.0.0.1:7860", x_forwarded_host="nerf.example.org")
    wide = Access("0.0.0.0", AccessOptions())
    check(wide, host="192.168.0.7:7860", server="192.168.0.7")  # the address that the request came to
    with pytest.raises(Refused):
        check(wide, host="192.168.0.8:7860", server="192.168.0.7")


def test_only_the_servers_own_pages_are_answered():
    local = Access("127.0.0.1", AccessOptions())
    check(local, origin="http://127.0.0.1:7860")
    for origin in (
        "http://evil.example",
        "null",
        "http://127.0.0.1:3000",
        "http://localhost:7860",
        "file://",
        "https://",
    ):
        with pytest.raises(Refused, match="pages of other sites") as error:
            check(local, origin=origin)
        assert error.value.status == 403
    proxied = Access("127.0.0.1", AccessOptions(hosts=("nerf.example.org",)))
    check(proxied, origin="https://nerf.example.org")  # the proxy speaks to us under another name
    check(proxied, host="nerf.example.org", origin="https://nerf.example.org:443")


def test_passwords():
    closed = Access("127.0.0.1", AccessOptions(password="ada:lovelace:ü"))
    check(closed, authorization=basic("ada:lovelace:ü"))
    for given in ("", "Basic", "Basic !!", basic("ada:x"), basic(""), "Bearer x", basic("ada:lovelace:ü").lower()):
        with pytest.raises(Refused, match="asks for a user and a password") as error:
            check(closed, authorization=given)
        assert error.value.status == 401 and error.value.headers[0][0] == "www-authenticate"
    assert "lovelace" not in repr(AccessOptions(password="ada:lovelace"))


def test_guessing_passwords_is_slow():
    closed = Access("127.0.0.1", AccessOptions(password="ada:lovelace", rate=20))
    seen = []
    for guess in range(4):
        with pytest.raises(Refused) as error:
            check(closed, authorization=basic(f"ada:{guess}"))
        seen.append(error.value.status)
    assert seen == [401, 401, 429, 429]
    with pytest.raises(Refused):
        check(closed, authorization=basic("ada:lovelace"))
    check(closed, authorization=basic("ada:lovelace"), client="5.6.7.8")


def test_rates_are_an_addresss_own_and_end_with_the_minute(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(access.time, "monotonic", lambda: now[0])
    limited = Access("127.0.0.1", AccessOptions(rate=3))
    for _ in range(3):
        check(limited, counts=True)
    with pytest.raises(Refused, match=r"more than 3 requests in a minute; wait 60 s") as error:
        check(limited, counts=True)
    assert error.value.status == 429 and error.value.headers == (("retry-after", "60"),)
    check(limited)
    check(limited, counts=True, client="5.6.7.8")
    now[0] += 60.0
    check(limited, counts=True)
    free = Access("127.0.0.1", AccessOptions(rate=0))
    for _ in range(999):
        check(free, counts=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": ("https://x.org",)}, "'https://x.org' is no host name"),
        ({"hosts": ("*",)}, "is no host name"),
        ({"password": "nobody"}, "another form than USER:PASSWORD"),
        ({"rate": -1}, "the rate is -1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        AccessOptions(**options)


def test_what_only_this_machine_reaches():
    assert all(map(is_local, ("127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8")))
    assert not any(map(is_local, ("0.0.0.0", "::", "192.168.0.1", "8.8.8.8")))
