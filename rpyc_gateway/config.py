"""The configuration of a node: the TOML schema, and every mistake in a file at once.

`Config.load` and `Config.parse` raise ConfigError with one line `file:line:column: key: what is wrong` per mistake. A Config
built in Python (`Config(node={"name": "hq"})`) raises pydantic's ValidationError, which is a ValueError, for the same mistakes.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import tomllib
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from rpyc_gateway.errors import ConfigError
from rpyc_gateway.places import Runs
from rpyc_gateway.proto.frames import valid_name
from rpyc_gateway.toml_positions import Path, Place, find_positions
from rpyc_gateway.transport import find_transport

__all__ = [
    "SERVICES",
    "Config",
    "Dial",
    "Listen",
    "NodeSection",
    "Relay",
    "Serve",
    "default_name",
    "explain",
    "process_name",
    "unknown_service",
]

log = logging.getLogger(__name__)

SERVICES = ("classic", "dial", "node")
"""What every node can serve. A program that serves more names them when it loads its configuration."""

_IDENTITY = re.compile(r"\*|parent|uid:[0-9]+")


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
            f"{_shown(name)} is not a node name: 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit"
        )
    return name


def _identity(entry: str) -> str:
    if not _IDENTITY.fullmatch(entry):
        raise ValueError(f"{_shown(entry)} is not an identity: write '*' (anyone), 'parent' or 'uid:N'")
    return entry


def _url(url: str) -> str:
    """Raises ValueError for a mistake in it, ConfigError if its transport is not installed here."""
    problem = find_transport(url).check(url)
    if problem is not None:
        raise ValueError(problem)
    return url


def _local_url(url: str) -> str:
    try:
        return _url(url)
    except ConfigError as exc:
        raise ValueError(str(exc)) from exc


Name = Annotated[str, AfterValidator(_node_name)]
Allow = tuple[Annotated[str, AfterValidator(_identity)], ...]


class Section(BaseModel):
    """A table of the file: read only, and no key that is not in the schema."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeSection(Section):
    """`[node]`: who this is."""

    name: Name = Field(default_factory=default_name)


class Listen(Section):
    """`[[listen]]`: where links are taken."""

    url: Annotated[str, AfterValidator(_local_url)]
    insecure: StrictBool = False


class Dial(Section):
    """`[[dial]]`: a link that is kept up; with `via` it is that node which dials."""

    via: Name | None = None
    url: str

    @field_validator("url")
    @classmethod
    def _dialable(cls, url: str, info: ValidationInfo) -> str:
        if not url.partition(":")[2].strip():
            raise ValueError(f"{_shown(url)} does not say where to")
        try:
            return _url(url)
        except ConfigError as exc:
            if info.data.get("via") is None:
                raise ValueError(str(exc)) from exc
            log.warning("%s; %s will need it", exc, info.data["via"])
            return url


class Serve(Section):
    """`[[serve]]`: a service, and to whom."""

    service: Annotated[str, Field(min_length=1)]
    allow: Allow = ()
    pickle: StrictBool = False
    runs: Runs = "threads"


class Relay(Section):
    """`[relay]`: for whom circuits to other nodes are spliced."""

    allow: Allow = ("*",)


class Config(Section):
    """The whole configuration of one node."""

    node: NodeSection = Field(default_factory=NodeSection)
    listen: tuple[Listen, ...] = ()
    dial: tuple[Dial, ...] = ()
    serve: tuple[Serve, ...] = ()
    relay: Relay = Relay()

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
        try:
            document = tomllib.loads(text)
            places = find_positions(text)
        except tomllib.TOMLDecodeError as exc:
            raise ConfigError([_syntax_problem(exc, text, filename)]) from exc
        except RecursionError as exc:
            raise ConfigError([f"{filename}:1:1: TOML: arrays or tables are nested too deeply"]) from exc
        problems = [*_conflicts(document), *_unknown_services(document, services)]
        config = None
        try:
            config = cls.model_validate(document)
        except ValidationError as exc:
            problems += [(error["loc"], explain(error)) for error in exc.errors() if error["type"] != "conflicts"]
        if config is None or problems:
            lines = sorted((_place(places, path), _spelled(path), what) for path, what in problems)
            raise ConfigError([f"{filename}:{at[0]}:{at[1]}: {key}: {what}" for at, key, what in lines])
        return config

    @model_validator(mode="after")
    def _hang_together(self) -> Self:
        conflicts = [f"{_spelled(path)}: {what}" for path, what in _conflicts(self.model_dump())]
        if conflicts:
            raise PydanticCustomError("conflicts", "{text}", {"text": "; ".join(conflicts)})
        self._warn()
        return self

    def warn_if_idle(self) -> None:
        """Log that this node will have no links, where nothing else gives it one (a parent does, for `rpyc-gw stdio`)."""
        if not self.listen and not self.dial:
            log.warning("listen, dial: there is neither: %s reaches nobody, and nobody reaches it", self.node.name)

    def _warn(self) -> None:
        for number, serve in enumerate(self.serve):
            if "allow" not in serve.model_fields_set:
                log.warning(
                    "serve[%d].allow: is missing: `%s` is served to nobody; say to whom, or `allow = []` if you mean it",
                    number,
                    serve.service,
                )
        everybody = any(serve.service == "classic" and "*" in serve.allow for serve in self.serve)
        for number, listen in enumerate(self.listen if everybody else ()):
            if listen.url.startswith("tcp:") and find_transport(listen.url).is_private(listen.url):
                log.warning(
                    "listen[%d].url: `classic` is allowed to '*' and %s takes any local user: every local user has your shell",
                    number,
                    listen.url,
                )


def unknown_service(name: str, known: Collection[str] = SERVICES) -> str:
    """What to say of a service that is not served."""
    return f"unknown service {_shown(name)}{_hint(name, known)} (known: {', '.join(known)})"


# ---- what is wrong between sections; on the bare document, since it is told together with what is wrong inside them


def _conflicts(document: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    yield from _repeated(document, "listen", ("url",))
    yield from _repeated(document, "dial", ("url", "via"))
    yield from _repeated(document, "serve", ("service",))
    for number, listen in _tables(document, "listen"):
        url = listen.get("url")
        if listen.get("insecure", False) is False and isinstance(url, str) and _is_exposed(url):
            what = (
                "other machines can reach this and nothing protects it yet; say `insecure = true` here if you mean it"
            )
            yield ("listen", number, "url"), what
    node = document.get("node")
    own = node.get("name", default_name()) if isinstance(node, Mapping) else default_name()
    for number, dial in _tables(document, "dial"):
        if dial.get("via") == own:
            yield ("dial", number, "via"), f"{_shown(own)} is this node itself; leave `via` out to dial from here"


def _unknown_services(document: Mapping[str, Any], known: Collection[str]) -> Iterator[tuple[Path, str]]:
    for number, serve in _tables(document, "serve"):
        name = serve.get("service")
        if isinstance(name, str) and name not in known:
            yield ("serve", number, "service"), unknown_service(name, known)


def _is_exposed(url: str) -> bool:
    """Whether other machines can reach a listener there; what is no URL is told elsewhere."""
    try:
        return not find_transport(_url(url)).is_private(url)
    except (ConfigError, ValueError):
        return False


def _repeated(document: Mapping[str, Any], section: str, keys: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    seen: dict[tuple[str | None, ...], int] = {}
    for number, table in _tables(document, section):
        mark = tuple(value if isinstance(value := table.get(key), str) else None for key in keys)
        if mark[0] is None:
            continue
        first = seen.setdefault(mark, number)
        if first != number:
            yield (section, number, keys[0]), f"{_shown(mark[0])} is already in {section}[{first}]"


def _tables(document: Mapping[str, Any], section: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    tables = document.get(section)
    for number, table in enumerate(tables if isinstance(tables, list | tuple) else ()):
        if isinstance(table, Mapping):
            yield number, table


# ---- telling it


_SECTIONS: dict[str, type[Section]] = {
    "node": NodeSection,
    "listen": Listen,
    "dial": Dial,
    "serve": Serve,
    "relay": Relay,
}


def explain(error: ErrorDetails) -> str:
    """One of pydantic's findings, in the words of the file's author."""
    path, given = error["loc"], error["input"]
    match error["type"]:
        case "extra_forbidden":
            known = (_SECTIONS[str(path[0])] if len(path) > 1 else Config).model_fields
            return f"unknown key{_hint(str(path[-1]), known)} (known: {', '.join(known)})"
        case "missing":
            return "is required"
        case "value_error":
            return str(error["ctx"]["error"])
        case "tuple_type" if isinstance(given, dict):
            return f"is an array of tables: write [[{path[-1]}]]"
        case "literal_error":
            return f"must be {error['ctx']['expected']}, not {_shown(given)}"
        case "string_type":
            return f"must be a string, not {_shown(given)}"
        case "bool_type":
            return f"must be true or false, not {_shown(given)}"
        case "tuple_type":
            return f"must be an array, not {_shown(given)}"
        case "model_type":
            return f"must be a table, not {_shown(given)}"
        case _:
            return error["msg"]


def _hint(word: str, known: Any) -> str:
    close = get_close_matches(word.lower(), list(known), n=1)
    return f", did you mean `{close[0]}`?" if close else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _spelled(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


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
