"""YAML configs: `_base_` inheritance, `-o key=value` overrides, safe loading.

Merging: mappings merge key by key and the child wins; anything else is replaced. A list of components (each with a
`name`) can be changed in part by a mapping whose keys are names or positions, in a child config and in an override
alike:

    PIPELINE: {UniformSample: {clip_len: 64}}          # in a child config
    -o PIPELINE.UniformSample.clip_len=64              # on the command line
    -o PIPELINE.2.clip_len=64                          # the same by position
"""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from paddleskel.errors import UserError
from paddleskel.files import open_text
from paddleskel.registry import did_you_mean

_LARGEST, _MOST_VALUES = 16 * 2**20, 2_000_000


class _Loader(yaml.SafeLoader):
    """Safe YAML with two traps removed: 5e-4 is a number, and a key given twice is an error."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, (str, int)) and key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' is given twice", key_node.start_mark)
        seen.add(key if isinstance(key, (str, int)) else None)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML text safely; a mistake names `source` and the line."""
    if len(text) > _LARGEST:
        raise UserError(f"{source}: {len(text) / 2**20:.0f} MiB of YAML; more than {_LARGEST >> 20} MiB are not read")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        _check_expansion(node, source)
        return None if node is None else loader.construct_document(node)
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:  # a date that is none, a nest too deep
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise UserError(f"{source}: not valid YAML: {reason}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{source}{line}: not valid YAML: {problem}") from error


def _check_expansion(root: yaml.Node | None, source: str) -> None:
    """Refuse a text that aliases (&a, *a) make huge, or endless: a few lines can stand for billions of values."""
    sizes: dict[int, int | None] = {}

    def size(node: yaml.Node) -> int:
        known = sizes.get(id(node), 0)
        if known is None:
            raise UserError(f"{source}: refused: an alias that contains itself")
        if known:
            return known
        sizes[id(node)] = None
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
        sizes[id(node)] = total = 1 + sum(size(part) for part in parts)
        if total > _MOST_VALUES:
            raise UserError(f"{source}: refused: its aliases stand for more than {_MOST_VALUES:,} values")
        return total

    if root is not None:
        size(root)


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file safely."""
    with open_text(path) as file:
        return parse_yaml(file.read(), str(path))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> dict:
    """Read a config with its parents and apply overrides ("a.b.0.c=value", values typed as YAML). Returns plain
    values.
    """
    config = _read_with_bases(Path(path), ())
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(f"-o {text}: expected key=value, as in -o DATASET.batch_size=16")
        config = override(config, key.strip(), parse_yaml(value, f"-o {text}"), f"-o {text}")
    return config


def _read_with_bases(path: Path, children: tuple[Path, ...]) -> dict:
    if path.resolve() in children:
        raise UserError(f"{path}: inherits from itself through _base_")
    if not path.is_file():
        raise UserError(f"{path}: no such config{_near_file(path)}")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: a config is a mapping of sections, this file holds {type(values).__name__}")
    bases = values.pop("_base_", [])
    merged: dict = {}
    for base in [bases] if isinstance(bases, str) else bases:
        merged = merge(merged, _read_with_bases(path.parent / base, (*children, path.resolve())), str(path))
    return merge(merged, values, str(path))


def _near_file(path: Path) -> str:
    siblings = [str(item) for item in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    return did_you_mean(str(path), siblings) if siblings else ""


def merge(parent: Any, child: Any, where: str) -> Any:
    """Merge `child` over `parent` and return the result; neither is changed."""
    if isinstance(parent, list) and isinstance(child, Mapping) and parent and child:
        merged = [copy.deepcopy(item) for item in parent]
        for key, value in child.items():
            position = _position(merged, key, where)
            item = merged[position]
            merged[position] = merge({"name": item} if isinstance(item, str) else item, value, f"{where}: {key}")
        return merged
    if isinstance(parent, Mapping) and isinstance(child, Mapping):
        renamed = "name" in parent and "name" in child and parent["name"] != child["name"]
        merged = {} if renamed else dict(parent)  # another component: its parent's arguments do not belong to it
        for key, value in child.items():
            merged[key] = merge(merged[key], value, where) if key in merged else copy.deepcopy(value)
        return merged
    return copy.deepcopy(child)


def _position(items: list, key: Any, where: str) -> int:
    """Find a list item by position or by the name of its component."""
    names = [
        item if isinstance(item, str) else item.get("name") if isinstance(item, Mapping) else None for item in items
    ]
    if isinstance(key, int) or re.fullmatch(r"-?\d+", str(key)):
        if not -len(items) <= int(key) < len(items):
            raise UserError(f"{where}: there is no item {key} in a list of {len(items)}")
        return int(key) % len(items)
    if key not in names:
        raise UserError(f"{where}: no '{key}' in the list{did_you_mean(key, [name for name in names if name])}")
    if names.count(key) > 1:
        raise UserError(f"{where}: '{key}' stands {names.count(key)} times in the list; give its position instead")
    return names.index(key)


def override(config: Any, path: str, value: Any, where: str) -> Any:
    """Return `config` with the value at "a.b.0.c" replaced (a mapping merges). Whether the key exists is the
    schema's matter.
    """
    head, _, rest = path.partition(".")
    if isinstance(config, list):
        position = _position(config, head, where)
        item = config[position]
        if rest and isinstance(item, str):
            item = {"name": item}
        return [*config[:position], override(item, rest, value, where) if rest else value, *config[position + 1 :]]
    if config is not None and not isinstance(config, Mapping):
        raise UserError(f"{where}: '{head}' cannot be set inside {config!r}")
    inner = (config or {}).get(head)
    if rest:
        return {**(config or {}), head: override(inner, rest, value, where)}
    return {**(config or {}), head: merge(inner, value, where) if isinstance(value, Mapping) else value}


def dump_yaml(values: Any) -> str:
    """Write plain values as YAML, in their order."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
