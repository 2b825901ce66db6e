"""Tables of a configuration as read-only values: which keys each has, and what is wrong in one, all of it at once.

Written out rather than left to a validation library: the process that says `import rpyc_gateway` pays for every module, and the words in
which a mistake is told are ours anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeAlias, dataclass_transform, get_args

from rpyc_gateway.errors import ConfigError

if TYPE_CHECKING:
    from rpyc_gateway.toml_positions import Path

__all__ = [
    "Problem",
    "Section",
    "array",
    "choice",
    "flag",
    "hint",
    "key",
    "optional",
    "shown",
    "spelled",
    "table",
    "tables",
    "text",
]

Problem: TypeAlias = "tuple[Path, str]"
"""Where something is wrong, and what."""

Check: TypeAlias = "Callable[[object, Path, list[Problem]], Any]"
"""Makes what is kept of what was given at a path, or adds to the problems."""

_NOTHING: Any = object()


class Key(NamedTuple):
    """One key of a section."""

    check: Check
    default: object = _NOTHING
    make: Callable[[], object] | None = None

    @property
    def required(self) -> bool:
        """Whether a section without it is wrong."""
        return self.default is _NOTHING and self.make is None


def key(check: Check, *, default: Any = _NOTHING, default_factory: Callable[[], Any] | None = None) -> Any:
    """A key of a section, required if it has no default."""
    return Key(check, default, default_factory)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(key,))
class Section:
    """A table: made from keywords, read only, and with no key that is not in its class. Raises ConfigError with all that is wrong.

    What it holds may be given as sections, or as the tables (dicts) and arrays (lists) that a file has.
    """

    keys: ClassVar[Mapping[str, Key]] = {}

    given: frozenset[str]
    """The keys that were said, as opposed to left to their defaults."""

    def __init_subclass__(cls) -> None:
        cls.keys = {name: value for name, value in vars(cls).items() if isinstance(value, Key)}
        for name in cls.keys:
            delattr(cls, name)

    def __init__(self, **given: Any) -> None:
        values, problems = self._read(given)
        if problems:
            raise ConfigError([f"{spelled(path)}: {what}" for path, what in problems])
        self._take(values, given)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> tuple[Self | None, list[Problem]]:
        """The section, or all that is wrong in it."""
        values, problems = cls._read(given)
        if problems:
            return None, problems
        made = object.__new__(cls)
        made._take(values, given)
        return made, problems

    def but(self, **changes: Any) -> Self:
        """A copy in which some keys have other values, which are not checked."""
        made = object.__new__(type(self))
        vars(made).update({**vars(self), **changes})
        return made

    @classmethod
    def _read(cls, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for name, known in cls.keys.items():
            if name not in given:
                if known.required:
                    problems.append(((name,), "is required"))
                else:
                    values[name] = known.make() if known.make is not None else known.default
                continue
            count = len(problems)
            value = known.check(given[name], (name,), problems)
            if len(problems) == count:
                values[name] = value
        unknown = [str(name) for name in given if name not in cls.keys]
        problems += [((name,), f"unknown key{hint(name, cls.keys)} (known: {', '.join(cls.keys)})") for name in unknown]
        problems += cls._disagreements(given, values)
        return values, problems

    @classmethod
    def _disagreements(cls, _given: Mapping[str, Any], _values: dict[str, Any]) -> Iterable[Problem]:
        """What is wrong between the keys of a section. `values` has those that are right in themselves; they may be changed."""
        return ()

    def _take(self, values: Mapping[str, Any], given: Iterable[str]) -> None:
        vars(self).update(values, given=frozenset(given))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is read only")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is read only")

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.keys)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.keys)})"


# -- checks -------------------------------------------------------------------------------------------------------------


class text:  # noqa: N801  # reads as what it stands for: key(text(node_name))
    """A string; `further` raises ValueError with what else is wrong in it."""

    def __init__(self, *further: Callable[[str], str]) -> None:
        self._further = further

    def __call__(self, value: object, path: Path, problems: list[Problem]) -> Any:
        if not isinstance(value, str):
            problems.append((path, f"must be a string, not {shown(value)}"))
            return None
        try:
            for check in self._further:
                value = check(value)
        except ValueError as error:
            problems.append((path, str(error)))
        return value


def optional(check: Check) -> Check:
    """The same, or None."""
    return lambda value, path, problems: None if value is None else check(value, path, problems)


def flag(value: object, path: Path, problems: list[Problem]) -> Any:
    """True or false."""
    if not isinstance(value, bool):
        problems.append((path, f"must be true or false, not {shown(value)}"))
    return value


def choice(literal: Any) -> Check:
    """One of the words of a Literal."""
    words = get_args(literal)
    *most, last = map(repr, words)

    def check(value: object, path: Path, problems: list[Problem]) -> Any:
        if not (isinstance(value, str) and value in words):
            problems.append((path, f"must be {', '.join(most)} or {last}, not {shown(value)}"))
        return value

    return check


def array(item: Check) -> Check:
    """An array; kept as a tuple."""

    def check(value: object, path: Path, problems: list[Problem]) -> Any:
        if isinstance(value, list | tuple):
            return tuple([item(part, (*path, number), problems) for number, part in enumerate(value)])
        if isinstance(value, Mapping | Section) and isinstance(item, table):
            problems.append((path, f"is an array of tables: write [[{path[-1]}]]"))
        else:
            problems.append((path, f"must be an array, not {shown(value)}"))
        return None

    return check


class table:  # noqa: N801
    """A section of this class, or the table to make one of."""

    def __init__(self, section: type[Section]) -> None:
        self.section = section

    def __call__(self, value: object, path: Path, problems: list[Problem]) -> Any:
        if isinstance(value, self.section):
            return value
        if not isinstance(value, Mapping):
            problems.append((path, f"must be a table, not {shown(value)}"))
            return None
        made, wrong = self.section.read(value)
        problems += [((*path, *inner), what) for inner, what in wrong]
        return made


# -- words --------------------------------------------------------------------------------------------------------------


def tables(document: Mapping[str, Any], section: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The tables of an array, be they sections or still tables, numbered; what is neither is told elsewhere."""
    found = document.get(section)
    for number, entry in enumerate(found if isinstance(found, list | tuple) else ()):
        if isinstance(entry, Mapping | Section):
            yield number, entry if isinstance(entry, Mapping) else vars(entry)


def hint(word: str, known: Iterable[str]) -> str:
    """Which of the known words was meant, if one is near."""
    from difflib import get_close_matches  # for mistakes only

    close = get_close_matches(word.lower(), list(known), n=1)
    return f", did you mean `{close[0]}`?" if close else ""


def shown(value: object) -> str:
    """A value in a message, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def spelled(path: Path) -> str:
    """`listen[0].url`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
