"""What a URL of Redis says: which servers, in kombu's syntax, and how to talk to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.connection import parse_url

from django_tasks.conf import mask_url
from django_tasks.exceptions import ImproperlyConfigured

#: Schemes of URLs, kombu's spellings included, and what redis-py calls them.
SCHEMES = {
    "redis": "redis", "rediss": "rediss", "unix": "unix", "redis+socket": "unix", "sentinel": "redis",
    "redis+cluster": "redis", "rediss+cluster": "rediss",
}  # fmt: skip
SENTINEL = "sentinel"
CLUSTER = "+cluster"
#: Options for connections, in the URL or beside it; further ones of the URL are redis-py's.
CONNECTION_OPTIONS = frozenset({
    "client_name", "credential_provider", "master_name", "max_connections", "sentinel_kwargs", "socket_keepalive",
    "socket_keepalive_options",
})  # fmt: skip


class ServerList(NamedTuple):
    """The servers of a URL.

    Args:
        servers: arguments of redis-py for each of them, the preferred one first.
        master_name: where they are sentinels, what they call the server that is wanted; else empty.
        sentinel_kwargs: arguments for connections to the sentinels themselves.
        max_connections: of one process.
    """

    servers: list[dict[str, Any]]
    master_name: str
    sentinel_kwargs: dict[str, Any]
    max_connections: int

    def is_same(self, other: ServerList) -> bool:
        """Whether both are the same database of the same server, so that one script may work on all of it."""
        return self.servers == other.servers and self.master_name == other.master_name


def read_urls(setting: str, url: str, options: Mapping[str, Any]) -> ServerList:
    """Read one URL, or several with semicolons between them: ``redis://a/0;redis://b/0``, ``redis+cluster://a,b``.

    Args:
        setting: the setting that it comes from, for errors.
        options: some of ``CONNECTION_OPTIONS``; the URL's own win.

    Raises:
        ImproperlyConfigured: it cannot be read; says what is wrong, without passwords.
    """
    if "://" not in url:
        raise ImproperlyConfigured(f"{setting} = {mask_url(url)!r} is no URL, such as redis://localhost:6379/0.")
    urls = _single_urls(url)
    first = _kind(urls[0])
    if any(_kind(each) != first for each in urls):
        raise ImproperlyConfigured(
            f"{setting} = {mask_url(url)!r} mixes sentinels, nodes of a cluster and servers. Give only one kind."
        )
    servers = [_read(setting, each, options) for each in urls]
    common = servers[0]
    master_name = common.pop("master_name", "")
    sentinel_kwargs = common.pop("sentinel_kwargs", None) or {}
    if not isinstance(sentinel_kwargs, Mapping):
        raise ImproperlyConfigured(
            f"{setting}: sentinel_kwargs has to be a dictionary of redis-py's options, such as "
            f'{{"password": "..."}}, not {type(sentinel_kwargs).__name__}.'
        )
    limit = common.pop("max_connections", MAX_CONNECTIONS)
    for other in servers[1:]:
        for name in ("master_name", "sentinel_kwargs", "max_connections"):
            other.pop(name, None)
    if first == SENTINEL:
        # As in kombu: user, password and database are those of the first, the others are just addresses.
        addresses: list[dict[str, Any]] = [
            {name: each[name] for name in ("host", "port") if name in each} for each in servers
        ]
        servers = [{**_without_address(common), **address} for address in addresses]
    if first == SENTINEL and not master_name:
        raise ImproperlyConfigured(
            f"{setting} = {mask_url(url)!r} needs the name that the sentinels have for the server: "
            f'{setting.removesuffix("_URL")}_TRANSPORT_OPTIONS = {{"master_name": "mymaster"}}.'
        )
    if first == CLUSTER and any(each["db"] for each in servers):
        raise ImproperlyConfigured(f"{setting} = {mask_url(url)!r}: a cluster has no other database than number 0.")
    return ServerList(servers, master_name if first == SENTINEL else "", dict(sentinel_kwargs), limit)


def _single_urls(url: str) -> list[str]:
    """Return a URL for each server."""
    first, single = url.strip().partition("://")[0], []
    for each in (each.strip() for each in url.split(";") if each.strip()):
        # kombu takes the scheme of later ones, if they have none, from the first.
        scheme, _, rest = each.partition("://") if "://" in each else (first, "", each)
        user, at, places = rest.rpartition("@")
        # The nodes of a cluster have commas between them, and one user and one password.
        end = min((places.index(mark) for mark in "/?" if mark in places), default=len(places))
        nodes = places[:end].split(",") if is_cluster(f"{scheme}://") else [places[:end]]
        single += [f"{scheme}://{user}{at}{node}{places[end:]}" for node in nodes]
    return single


def is_cluster(url: str) -> bool:
    """Whether a URL stands for nodes of a cluster."""
    return url.strip().partition("://")[0].lower().endswith(CLUSTER)


def _kind(url: str) -> str:
    if is_cluster(url):
        return CLUSTER
    return SENTINEL if url.partition("://")[0].lower() == SENTINEL else ""


def _without_address(server: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in server.items() if name not in ("host", "port")}


#: Connections of one process at most; whoever needs one more waits.
MAX_CONNECTIONS = 100
#: What redis-py would take from a URL, and then give other answers than are understood here.
_FIXED = frozenset({"decode_responses", "encoding", "encoding_errors", "legacy_responses", "parser_class", "protocol"})
_CERT_NONE, _CERT_OPTIONAL, _CERT_REQUIRED = "none", "optional", "required"
_CERT_REQS = {"CERT_NONE": _CERT_NONE, "CERT_OPTIONAL": _CERT_OPTIONAL, "CERT_REQUIRED": _CERT_REQUIRED}


def _read(setting: str, url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in SCHEMES:
        raise ImproperlyConfigured(
            f"{setting} = {mask_url(url)!r}: {scheme!r} stands for no Redis. Use one of "
            f"{', '.join(f'{name}://' for name in SCHEMES)}."
        )
    plain = f"{SCHEMES[scheme.lower()]}://{rest}"
    try:
        urlsplit(plain).port  # noqa: B018 - reading it is what checks it
        found: dict[str, Any] = {name: options[name] for name in CONNECTION_OPTIONS & options.keys()}
        found.update(parse_url(plain))  # type: ignore[no-untyped-call]  # redis-py has no types here
        found["db"] = int(found.pop("virtual_host", found.get("db", 0)) or 0)
        _check_path(plain)
    except ValueError as exc:
        # Quoted, since an unquoted # or / of a password ends the address; without the text, which may be the password.
        raise ImproperlyConfigured(
            f"{setting} = {mask_url(url)!r} cannot be read: expected redis://user:password@host:port/number, with "
            "other characters than letters and digits in user and password quoted (%23 for #, %2F for /)."
        ) from (exc if "Invalid value" in str(exc) else None)
    if fixed := sorted(_FIXED & found.keys()):
        raise ImproperlyConfigured(
            f"{setting} = {mask_url(url)!r}: {fixed[0]} cannot be chosen, since answers are read in one form only "
            "(bytes, protocol 2). Remove it."
        )
    if "max_connections" in found:
        limit = str(found["max_connections"])
        if not limit.isdecimal() or int(limit) < 1:
            raise ImproperlyConfigured(
                f"{setting}: max_connections = {limit} must be a whole number above 0, of connections of one process."
            )
        found["max_connections"] = int(limit)
    if isinstance(reqs := found.get("ssl_cert_reqs"), str):
        found["ssl_cert_reqs"] = _CERT_REQS.get(reqs, reqs)
    return found


def _check_path(url: str) -> None:
    """Refuse what redis-py takes for database 0: ``redis://host/name``."""
    parts = urlsplit(url)
    number = unquote(parts.path).strip("/")
    if parts.scheme != "unix" and number and "db" not in dict(parse_qsl(parts.query)):
        int(number)
