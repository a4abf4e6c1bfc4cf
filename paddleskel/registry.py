"""Components by name: what a config may say about each is read off its constructor's signature, so it cannot drift.

A component in a config is a name, or a mapping with a `name` and arguments:

    backbone: {name: STGCNPlusPlus, base_channels: 32}

`Registry.check` finds unknown names, unknown keys, missing keys and wrong types without building anything;
`Registry.build` builds. Both say where in the config the mistake stands.
"""

import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from paddleskel.errors import UserError


def did_you_mean(name: Any, known: Sequence[str]) -> str:
    """Return " (did you mean 'x'?)" for the nearest known name, or the list of known names."""
    lowered = {str(item).lower(): str(item) for item in known}
    near = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f" (did you mean '{lowered[near[0]]}'?)"
    return f" (known: {', '.join(map(str, known))})" if known else ""


class Registry:
    """A table of components of one kind. Use an instance as a decorator, or `add` with presets for the defaults."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, tuple[Callable, dict]] = {}

    def __call__(self, component: Callable) -> Callable:
        return self.add(component.__name__, component)

    def add(self, name: str, component: Callable, **presets) -> Callable:
        """Register `component` under `name`; `presets` replace its constructor's defaults under this name."""
        self._entries[name] = (component, presets)
        return component

    def names(self) -> list[str]:
        return sorted(self._entries)

    def get(self, name: str, where: str = "") -> Callable:
        """Return the registered class or function called `name`."""
        if name not in self._entries:
            raise UserError(f"{where}: unknown {self.kind} '{name}'{did_you_mean(name, self.names())}")
        return self._entries[name][0]

    def check(self, spec: Any, where: str, given: Sequence[str] = ()) -> dict:
        """Check a component of a config; return its arguments, types conformed, without building it.

        Args:
            spec: a name or a mapping with `name`.
            where: path in the config, for messages.
            given: constructor parameters that the caller will provide to `build`.
        """
        name, arguments = split_spec(spec, where, self.kind)
        component = self.get(name, where)
        return check_arguments(component, arguments, where, given=[*given, *self._entries[name][1]], label=name)

    def build(self, spec: Any, where: str = "", **context):
        """Build a component. `context` fills the constructor parameters of those names that the config leaves out."""
        name, _ = split_spec(spec, where, self.kind)
        component = self.get(name, where)
        arguments = self.check(spec, where, given=list(context))
        accepted = inspect.signature(component).parameters
        context = {key: value for key, value in context.items() if key in accepted}
        try:
            return component(**{**self._entries[name][1], **context, **arguments})
        except (ValueError, UserError) as error:
            text = str(error)
            raise UserError(text if where and text.startswith(where) else f"{where}: {name}: {text}") from error


def split_spec(spec: Any, where: str, kind: str = "component") -> tuple[str, dict]:
    """Split a component of a config into its name and its arguments."""
    if isinstance(spec, str):
        return spec, {}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        raise UserError(f"{where}: expected a {kind}: its name, or a mapping with a 'name', not {spec!r}")
    return spec["name"], {key: value for key, value in spec.items() if key != "name"}


def check_arguments(
    function: Callable, arguments: Mapping, where: str, given: Sequence[str] = (), label: str = ""
) -> dict:
    """Check `arguments` against the signature of `function`; return them with types conformed."""
    label = label or function.__name__
    parameters = inspect.signature(function).parameters
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    checked = {}
    for key, value in arguments.items():
        if key not in parameters:
            raise UserError(f"{where}.{key}: unknown key for {label}{did_you_mean(key, list(parameters))}")
        checked[key] = conform(value, hints.get(key, Any), f"{where}.{key}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in checked and key not in given:
            raise UserError(f"{where}.{key}: missing; {label} needs it")
    return checked


@dataclasses.dataclass(frozen=True)
class ComponentOf:
    """Annotation of a config field that holds a component: `Annotated[dict, ComponentOf(REGISTRY)]`.

    given: constructor parameters that come from elsewhere than the config, for every component of the registry.
    """

    registry: Registry
    given: tuple[str, ...] = ()


def conform(value: Any, annotation: Any, where: str) -> Any:
    """Return `value` as the annotated type wants it (int to float, list to tuple, ...) or raise a UserError.

    Understands plain types, None, unions, Literal, list, tuple, dict, dataclasses (as mappings) and ComponentOf.
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return value
    if origin is Annotated:
        component = next((extra for extra in parts[1:] if isinstance(extra, ComponentOf)), None)
        if component is None:
            return conform(value, parts[0], where)
        name, _ = split_spec(value, where, component.registry.kind)
        return {"name": name, **component.registry.check(value, where, component.given)}
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in parts):
            choices = [str(choice) for choice in parts]
            raise UserError(f"{where}: {value!r} is not one of {', '.join(choices)}{_near(value, choices)}")
        return value
    if origin in (Union, types.UnionType):
        return _conform_union(value, parts, where)
    if origin in (list, tuple, Sequence) or annotation in (list, tuple):
        return _conform_sequence(value, origin or annotation, parts, where)
    if origin is dict or annotation is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected a mapping, not {value!r}")
        if not parts:
            return dict(value)
        return {
            conform(key, parts[0], f"{where}.{key}"): conform(item, parts[1], f"{where}.{key}")
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(annotation) and isinstance(value, Mapping):
        try:
            return annotation(**check_arguments(annotation, value, where))
        except ValueError as error:
            raise UserError(f"{where}.{error}") from error
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if annotation is None or annotation is type(None):
        matches = value is None
    else:
        matches = isinstance(value, annotation) and not (isinstance(value, bool) and annotation is not bool)
    if not matches:
        raise UserError(f"{where}: expected {_spoken(annotation)}, not {value!r}")
    return value


def _near(value: Any, choices: list[str]) -> str:
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.6)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _conform_union(value: Any, choices: tuple, where: str) -> Any:
    others = [choice for choice in choices if choice is not type(None)]
    if value is not None and len(others) == 1 and get_origin(others[0]) is Annotated:
        return conform(value, others[0], where)  # a component or none: its own message says more
    errors = []
    for choice in choices:
        try:
            return conform(value, choice, where)
        except UserError as error:
            errors.append(error)
    deeper = [error for error in errors if not str(error).startswith(f"{where}:")]  # about a part of the value
    if deeper:
        raise deeper[0]
    if any(get_origin(choice) is Literal for choice in choices) and isinstance(value, str):
        raise next(error for error, choice in zip(errors, choices) if get_origin(choice) is Literal)
    raise UserError(f"{where}: expected {' or '.join(_spoken(choice) for choice in choices)}, not {value!r}")


def _conform_sequence(value: Any, kind: type, parts: tuple, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{where}: expected a list, not {value!r}")
    if kind is tuple and parts and parts[-1] is not Ellipsis:
        if len(value) != len(parts):
            raise UserError(f"{where}: expected {len(parts)} values, not {len(value)}: {list(value)!r}")
        return tuple(conform(item, part, f"{where}.{i}") for i, (item, part) in enumerate(zip(value, parts)))
    part = parts[0] if parts else Any
    items = [conform(item, part, f"{where}.{i}") for i, item in enumerate(value)]
    return tuple(items) if kind is tuple else items


def _spoken(annotation: Any) -> str:
    """Say a type as a user would."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation is None or annotation is type(None):
        return "null"
    if origin is Annotated:
        return _spoken(parts[0])
    if origin is Literal:
        return " or ".join(repr(part) for part in parts)
    if origin in (list, tuple, Sequence) or annotation in (list, tuple):
        return "a list"
    if origin is dict or annotation is dict or dataclasses.is_dataclass(annotation):
        return "a mapping"
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))
