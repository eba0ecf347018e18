"""From the environment and `ringback.toml` to the values of knobs, each mistake named with its place.

What knobs there are, `settings` says; it hands them in as `Declared`, and alone calls this.
"""

import difflib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass
from typing import Any

from ringback import settings_values as read
from ringback.errors import SettingsError
from ringback.providers import CATALOGUE, Provider
from ringback.providers.custom_table import KEYS_OF_CUSTOM, Common, read_custom
from ringback.providers.table import Keys, TableError, nearest, unknown_key
from ringback.settings_file import ConfigFile

PREFIX = "RINGBACK_"
EMPTY_IS_WRONG = frozenset({"RINGBACK_SECRET"})

Knob = tuple[str | None, str]  # provider (None: general), field name


def variable_name(knob: Knob) -> str:
    """Give the environment variable of a knob."""
    provider, name = knob
    return PREFIX + (f"{provider}_{name}" if provider else name).upper()


def keys_of(knob: Knob) -> Keys:
    """Give where a setting stands in the file."""
    provider, name = knob
    return ("providers", provider, name) if provider else (name,)


@dataclass(frozen=True, slots=True)
class Declared:
    """The knobs that there are, by field name."""

    general: Mapping[str, "Field[Any]"]
    per_provider: Mapping[str, "Field[Any]"]

    def variables(self, catalogue: Mapping[str, Provider] = CATALOGUE) -> Mapping[str, Knob]:
        """Give every knob by its variable."""
        general: list[Knob] = [(None, name) for name in self.general]
        per_provider: list[Knob] = [(provider, name) for provider in catalogue for name in self.per_provider]
        return {variable_name(knob): knob for knob in general + per_provider}

    def parse(self, label: str, knob: Knob, value: str) -> Any:
        """Read one value of the environment.

        Raises:
            SettingsError: says what was expected.
        """
        metadata = self._metadata(knob)
        try:
            return metadata["parse"](read.unquoted(value) if metadata["secret"] else value)
        except ValueError as error:
            raise SettingsError(f"{label}: {error}") from None

    def from_file(self, file: ConfigFile) -> tuple[dict[Knob, Any], Mapping[str, Provider]]:
        """Read what the file sets, and the catalogue with the providers that it describes.

        Raises:
            SettingsError: names the line, and says what was expected.
        """
        try:
            return self._from_file(file)
        except TableError as error:
            raise file.error(error.keys, str(error)) from None

    def from_environ(self, environ: Mapping[str, str], catalogue: Mapping[str, Provider]) -> dict[Knob, Any]:
        """Read what the environment sets under our prefix.

        Raises:
            SettingsError: names the variable, and says what was expected or meant.
        """
        known = self.variables(catalogue)
        values: dict[Knob, Any] = {}
        for name, value in _our_variables(environ, known):
            knob = _knob_of_variable(name, known)
            values[knob] = self.parse(name, knob, value)
        return values

    def _metadata(self, knob: Knob) -> Mapping[str, Any]:
        provider, name = knob
        return (self.per_provider if provider else self.general)[name].metadata

    def _from_file(self, file: ConfigFile) -> tuple[dict[Knob, Any], Mapping[str, Provider]]:
        """Read what the file sets, and the catalogue with the providers that it describes.

        Raises:
            TableError: says what was expected, and under which keys.
        """
        values: dict[Knob, Any] = {}
        catalogue = dict(CATALOGUE)
        providers = file.values.get("providers", {})
        for name, entries in _tables(providers):
            keys: Keys = ("providers", name)
            own = name not in CATALOGUE
            if own and "scheme" not in entries:
                self._check_described(keys, name, entries)
            self._collect(
                keys,
                name,
                {key: value for key, value in entries.items() if not own or key in self.per_provider},
                values,
            )
            if own:
                given = Common(**{knob: values.get((name, knob)) for knob in ("base_url", "jwks_url", "confirm")})
                catalogue[name] = read_custom(name, entries, keys, given, self.per_provider)
        self._collect((), None, {key: value for key, value in file.values.items() if key != "providers"}, values)
        return values, catalogue

    def _check_described(self, keys: Keys, name: str, entries: Mapping[str, Any]) -> None:
        """Refuse a table of nobody we know that has no scheme, unless other keys describe one: only that lacks.

        Raises:
            TableError: names the misspelt scheme, or a provider that may be meant.
        """
        for misspelt in difflib.get_close_matches(
            "scheme", [key for key in entries if key not in self.per_provider], n=1
        ):
            raise unknown_key((*keys, misspelt), "did you mean scheme?")
        if not KEYS_OF_CUSTOM & entries.keys():
            hint = "or the scheme of a provider of your own (docs/how-to/custom-provider.md)"
            raise TableError(keys, f"{nearest(name, sorted(CATALOGUE)).removesuffix('?')}, {hint}")

    def _collect(self, keys: Keys, provider: str | None, entries: Mapping[str, Any], into: dict[Knob, Any]) -> None:
        known = self.per_provider if provider else self.general
        for name, value in entries.items():
            where: Keys = (*keys, name)
            if name not in known:
                raise unknown_key(where, _hint(provider, name, known))
            into[provider, name] = self._file_value(where, (provider, name), value)

    def _file_value(self, keys: Keys, knob: Knob, value: Any) -> Any:
        provider, name = knob
        if provider and name == "secret":
            return read.secrets_of_file(value, keys)
        if isinstance(value, dict):
            raise TableError(keys, "expected a value, got a table")
        if isinstance(value, list) and name != "secret":
            raise TableError(keys, "expected a value, got a list")
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        try:
            return self._metadata(knob)["parse"](text)
        except ValueError as error:
            raise TableError(keys, str(error)) from None


def _our_variables(environ: Mapping[str, str], known: Mapping[str, Knob]) -> Iterator[tuple[str, str]]:
    """Give the RINGBACK_ variables that are set, without what tests and Kubernetes put there.

    An empty one is not set, as compose files write it; but an empty secret is a mistake to stop at, since `up` would
    make another one in its place.
    """
    foreign = []
    for name in sorted(environ):
        value = environ[name]
        if not name.startswith(PREFIX) or name.startswith("RINGBACK_TEST_"):
            continue
        # Kubernetes injects these for a Service that is called ringback.
        if name.startswith(("RINGBACK_SERVICE_", "RINGBACK_PORT_")) or (
            name == "RINGBACK_PORT" and value.startswith("tcp://")
        ):
            foreign.append(name)
            continue
        if value or name in EMPTY_IS_WRONG or name not in known:
            yield name, value
    if foreign:
        # Settings come before logging is set up, so this one line goes to standard error as it is.
        print(f"warning: ignoring {', '.join(foreign)} (set by Kubernetes for a Service)", file=sys.stderr)


def _knob_of_variable(name: str, known: Mapping[str, Knob]) -> Knob:
    try:
        return known[name]
    except KeyError:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "see docs/reference/settings.md"
        raise SettingsError(f"{name} is not a setting: {hint}") from None


def _tables(providers: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(providers, dict) or not all(isinstance(entries, dict) for entries in providers.values()):
        raise TableError(("providers",), "expected a table per provider, for example [providers.qingbo]")
    yield from providers.items()


def _hint(provider: str | None, name: str, known: Mapping[str, Any]) -> str:
    if provider and name in KEYS_OF_CUSTOM:
        return f"{provider} is built in; to describe a provider of your own, choose another name"
    return nearest(name, known if provider else [*known, "providers"])
