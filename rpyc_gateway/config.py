"""The configuration of a node: the TOML schema, and every mistake in a file at once.

`Config.load` and `Config.parse` raise ConfigError with one line `file:line:column: key: what is wrong` per mistake. A Config
built in Python (`Config(node={"name": "hq"})`) raises it for the same mistakes, without the place.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from rpyc_gateway.errors import ConfigError
from rpyc_gateway.naming import fields, shape
from rpyc_gateway.places import Runs
from rpyc_gateway.proto.frames import valid_name
from rpyc_gateway.sections import (
    Problem,
    Section,
    array,
    choice,
    flag,
    hint,
    key,
    optional,
    shown,
    spelled,
    table,
    tables,
    text,
)
from rpyc_gateway.transport import Finder, check_url, find_transport, without_secrets

if TYPE_CHECKING:
    import tomllib

    from rpyc_gateway.toml_positions import Path, Place

__all__ = [
    "SERVICES",
    "Config",
    "Device",
    "Dial",
    "Listen",
    "NodeSection",
    "Relay",
    "Serve",
    "default_name",
    "process_name",
    "unknown_service",
]

log = logging.getLogger(__name__)

SERVICES = ("classic", "dial", "node")
"""What every node can serve. A program that serves more names them when it loads its configuration."""

UNPROTECTED = "other machines can reach this, and anybody there may come: tls:// with `client_ca` knows its clients"

_IDENTITY = re.compile(r"\*|parent|uid:[0-9]+|cert:[^\s\x00-\x1f]+|tty:/[^\s\x00-\x1f]+|tty:COM[0-9]+")


def default_name() -> str:
    """The host name, made a valid node name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).lstrip("._-")[:64]
    return name or "node"


def process_name() -> str:
    """A name for this process, where several of one host may meet: the host's, and the process's number."""
    pid = f"-{os.getpid()}"
    return default_name()[: 64 - len(pid)] + pid


def _node_name(name: str) -> str:
    if not valid_name(name):
        raise ValueError(
            f"{shown(name)} is not a node name: 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit"
        )
    return name


def _board_name(name: str) -> str:
    if not valid_name(shape(name)):
        _node_name(name)
    return name


def _identity(entry: str) -> str:
    if not _IDENTITY.fullmatch(entry):
        raise ValueError(
            f"{shown(entry)} is not an identity: write '*' (anyone), 'parent', 'uid:N', 'cert:NAME' or 'tty:PATH'"
        )
    return entry


def _url(url: str, *, listening: bool = False) -> str:
    """Raises ValueError for a mistake in it, ConfigError if its transport is not installed here, or a file that it names."""
    problem = check_url(url, listening=listening)
    if problem is not None:
        raise ValueError(problem)
    return url


def _whereto(url: str) -> str:
    if not url.partition(":")[2].strip():
        raise ValueError(f"{shown(url)} does not say where to")
    return url


def _some(name: str) -> str:
    if not name:
        raise ValueError("must not be empty")
    return name


def _local_url(url: str) -> str:
    try:
        return _url(url, listening=True)
    except ConfigError as exc:
        raise ValueError(str(exc)) from exc


def _port_url(url: str) -> str:
    try:
        return _url(_whereto(url))
    except ConfigError as exc:
        raise ValueError(str(exc)) from exc


_ALLOW = array(text(_identity))


class NodeSection(Section):
    """`[node]`: who this is."""

    name: str = key(text(_node_name), default_factory=default_name)


class Listen(Section):
    """`[[listen]]`: where links are taken."""

    url: str = key(text(_local_url))
    insecure: bool = key(flag, default=False)


class Dial(Section):
    """`[[dial]]`: a link that is kept up; with `via` it is that node which dials."""

    via: str | None = key(optional(text(_node_name)), default=None)
    url: str = key(text(_whereto))

    @classmethod
    def _disagreements(cls, given: Mapping[str, Any], values: dict[str, Any]) -> Iterator[Problem]:
        try:
            if "url" in values:
                _url(values["url"])
        except ConfigError as exc:
            if given.get("via") is None or "via" not in values:
                yield ("url",), str(exc)
            else:
                log.warning("%s; %s will need it", exc, values["via"])
        except ValueError as exc:
            yield ("url",), str(exc)


class Device(Section):
    """`[[device]]`: a board, which becomes a node of its own behind this one; or each that its URL stands for, with fields in `name`."""

    name: str = key(text(_board_name))
    url: str = key(text(_port_url))
    allow: tuple[str, ...] = key(_ALLOW, default=())
    agent: bool = key(flag, default=True)

    @classmethod
    def _disagreements(cls, given: Mapping[str, Any], values: dict[str, Any]) -> Iterator[Problem]:
        if "name" in values and "url" in values:
            for problem in _misnamed(values["name"], values["url"]):
                yield ("name",), problem

    @property
    def is_template(self) -> bool:
        """Whether it is for each board that fits, and no board itself."""
        return bool(fields(self.name))


class Serve(Section):
    """`[[serve]]`: a service, and to whom."""

    service: str = key(text(_some))
    allow: tuple[str, ...] = key(_ALLOW, default=())
    pickle: bool = key(flag, default=False)
    runs: Runs = key(choice(Runs), default="threads")


class Relay(Section):
    """`[relay]`: for whom circuits to other nodes are spliced."""

    allow: tuple[str, ...] = key(_ALLOW, default=("*",))


class Config(Section):
    """The whole configuration of one node."""

    node: NodeSection = key(table(NodeSection), default_factory=NodeSection)
    listen: tuple[Listen, ...] = key(array(table(Listen)), default=())
    dial: tuple[Dial, ...] = key(array(table(Dial)), default=())
    device: tuple[Device, ...] = key(array(table(Device)), default=())
    serve: tuple[Serve, ...] = key(array(table(Serve)), default=())
    relay: Relay = key(table(Relay), default_factory=Relay)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, services: Collection[str] = SERVICES) -> Self:
        """Read a file that may serve these services.

        Raises ConfigError with everything that is wrong in it, or with why it cannot be read.
        """
        filename = os.fspath(path)
        try:
            with open(filename, "rb") as file:
                data = file.read()
        except OSError as exc:
            raise ConfigError([f"{filename}: cannot be read: {exc.strerror or exc}"]) from exc
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            before = data[: exc.start]
            line, column = before.count(b"\n") + 1, exc.start - before.rfind(b"\n")
            raise ConfigError([f"{filename}:{line}:{column}: TOML: byte 0x{data[exc.start]:02x} is not UTF-8"]) from exc
        return cls.parse(text, filename, services=services)

    @classmethod
    def parse(cls, text: str, filename: str = "config.toml", *, services: Collection[str] = SERVICES) -> Self:
        """Read TOML text; `filename` is for messages. Raises ConfigError with everything that is wrong in it."""
        import tomllib  # most processes read no file

        from rpyc_gateway.toml_positions import find_positions

        try:
            document = tomllib.loads(text)
            places = find_positions(text)
        except tomllib.TOMLDecodeError as exc:
            raise ConfigError([_syntax_problem(exc, text, filename)]) from exc
        except RecursionError as exc:
            raise ConfigError([f"{filename}:1:1: TOML: arrays or tables are nested too deeply"]) from exc
        config, problems = cls.read(document)
        problems += _unknown_services(document, services)
        if config is None or problems:
            lines = sorted((_place(places, path), spelled(path), what) for path, what in problems)
            raise ConfigError([f"{filename}:{at[0]}:{at[1]}: {key}: {what}" for at, key, what in lines])
        return config

    @classmethod
    def _disagreements(cls, given: Mapping[str, Any], values: dict[str, Any]) -> Iterator[Problem]:
        yield from _conflicts(given)

    def _take(self, values: Mapping[str, Any], given: Iterable[str]) -> None:
        super()._take(values, given)
        self._warn()

    def warn_if_idle(self) -> None:
        """Log that this node will have no links, where nothing else gives it one (a parent does, for `rpyc-gw stdio`)."""
        if not self.listen and not self.dial:
            log.warning("listen, dial: there is neither: %s reaches nobody, and nobody reaches it", self.node.name)

    def _warn(self) -> None:
        for number, serve in enumerate(self.serve):
            if "allow" not in serve.given:
                log.warning(
                    "serve[%d].allow: is missing: `%s` is served to nobody; say to whom, or `allow = []` if you mean it",
                    number,
                    serve.service,
                )
        for number, device in enumerate(self.device):
            if "allow" not in device.given:
                log.warning(
                    "device[%d].allow: is missing: `%s` lets in nobody; say whom, or `allow = []` if you mean it",
                    number,
                    device.name,
                )
        # Whoever may have this node dial may have it run a command: `stdio:COMMAND`.
        shells = [serve.service for serve in self.serve if serve.service in ("classic", "dial") and "*" in serve.allow]
        for number, listen in enumerate(self.listen if shells else ()):
            if listen.url.startswith(("tcp:", "tls:", "ws:", "wss:", "unix:@")) and _takes_any_user(listen.url):
                log.warning(
                    "listen[%d].url: `%s` is allowed to '*' and %s takes any local user: every local user has your shell",
                    number,
                    shells[0],
                    without_secrets(listen.url),
                )


def _misnamed(name: str, url: str) -> Iterator[str]:
    """What is wrong with the fields of a name for what is at this URL."""
    transport = find_transport(url)
    known = transport.fields(url) if isinstance(transport, Finder) else ()
    wanted = fields(name)
    if wanted and not known:
        yield (
            f"{shown(name)} is a name for each of several boards, and {shown(without_secrets(url))} is one: "
            "leave out the braces, or write a URL that may stand for several, such as 'serial://?vid=2E8A'"
        )
        return
    for field in wanted:
        if field not in known:
            yield f"unknown field {shown(field)}{hint(field, known)} (known: {', '.join(known)})"


def unknown_service(name: str, known: Collection[str] = SERVICES) -> str:
    """What to say of a service that is not served."""
    return f"unknown service {shown(name)}{hint(name, known)} (known: {', '.join(known)})"


# ---- what is wrong between sections; on the bare document, since it is told together with what is wrong inside them


def _conflicts(document: Mapping[str, Any]) -> Iterator[Problem]:
    yield from _repeated(document, "listen", ("url",))
    yield from _repeated(document, "dial", ("url", "via"))
    yield from _repeated(document, "device", ("name",))
    yield from _repeated(document, "device", ("url",))
    yield from _repeated(document, "serve", ("service",))
    for number, listen in tables(document, "listen"):
        url = listen.get("url")
        if listen.get("insecure", False) is False and isinstance(url, str) and _is_exposed(url):
            what = f"{UNPROTECTED}; say `insecure = true` here if you mean it"
            yield ("listen", number, "url"), what
    node = document.get("node")
    own = vars(node).get("name") if isinstance(node, Section) else _name_in(node)
    for number, dial in tables(document, "dial"):
        if dial.get("via") == own:
            yield ("dial", number, "via"), f"{shown(own)} is this node itself; leave `via` out to dial from here"
    for number, device in tables(document, "device"):
        if device.get("name") == own:
            yield (
                ("device", number, "name"),
                f"{shown(own)} is this node itself; a board is a node with a name of its own",
            )


def _name_in(node: object) -> object:
    return node["name"] if isinstance(node, Mapping) and "name" in node else default_name()


def _unknown_services(document: Mapping[str, Any], known: Collection[str]) -> Iterator[Problem]:
    for number, serve in tables(document, "serve"):
        name = serve.get("service")
        if isinstance(name, str) and name not in known:
            yield ("serve", number, "service"), unknown_service(name, known)


def _takes_any_user(url: str) -> bool:
    transport = find_transport(url)
    return transport.is_private(url) and not transport.is_guarded(url)


def _is_exposed(url: str) -> bool:
    """Whether other machines can reach a listener there and it takes anybody; what is no URL is told elsewhere."""
    try:
        transport = find_transport(_url(url))
        return not (transport.is_private(url) or transport.is_guarded(url))
    except (ConfigError, ValueError):
        return False


def _repeated(document: Mapping[str, Any], section: str, keys: tuple[str, ...]) -> Iterator[Problem]:
    seen: dict[tuple[str | None, ...], int] = {}
    for number, entry in tables(document, section):
        mark = tuple(value if isinstance(value := entry.get(name), str) else None for name in keys)
        if mark[0] is None:
            continue
        first = seen.setdefault(mark, number)
        if first != number:
            yield (section, number, keys[0]), f"{shown(mark[0])} is already in {section}[{first}]"


def _place(places: Mapping[Path, Place], path: Path) -> Place:
    """Of the path itself, or of the nearest table around a key that is missing."""
    for length in range(len(path), 0, -1):
        if path[:length] in places:
            return places[path[:length]]
    return (1, 1)


def _syntax_problem(error: tomllib.TOMLDecodeError, text: str, filename: str) -> str:
    match = re.fullmatch(r"(?s)(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error))
    what, line, column = match.groups() if match else (str(error), "1", "1")
    if line is None:
        lines = text.split("\n")
        line, column = str(len(lines)), str(len(lines[-1]) + 1)
    return f"{filename}:{line}:{column}: TOML: {what}"
