"""Which requests the page answers: those that its own pages send, and no other site's."""

from __future__ import annotations

from email.message import Message
from ipaddress import ip_address
from urllib.parse import urlsplit


def fault(headers: Message[str, str], host: str, *, page: bool = False) -> str | None:
    """What is wrong with a request's headers, None where nothing is.

    A site that points its own name at this machine (DNS rebinding) is known by that name in `Host`: an address, localhost
    or the host that was asked for is expected there. A page of another site is known by `Origin` or `Sec-Fetch-Site`; it may lead
    to the page itself (`page`), as a link does, and to nothing else.
    """
    named = headers.get("Host") or ""
    if not _is_ours(_name(named), host):
        return f"Host is {named[:100]!r}; expected the address of this server"
    origin = headers.get("Origin")
    if origin is not None and origin != f"http://{named}":
        return f"Origin is {origin[:100]!r}; expected a page of this server"
    site = headers.get("Sec-Fetch-Site") or "none"
    if site not in ("none", "same-origin") and not page:
        return f"the request comes from another site ({site[:40]!r})"
    return None


def _name(named: str) -> str:
    try:
        return urlsplit(f"//{named}").hostname or ""
    except ValueError:
        return ""


def _is_ours(name: str, host: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return name != "" and name in ("localhost", host.lower())
    return True
