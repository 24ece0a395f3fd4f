"""YAML that others wrote: plain data, each key once, and not blown up by aliases of aliases."""

from typing import Any

import yaml

LARGEST_GROWTH = 100
"""Values that a text may stand for, for each of its characters, with all its aliases written out: a bomb of
340 bytes stands for ten thousand millions, a list of anchored rows for less than one."""


class PlainLoader(yaml.SafeLoader):
    """SafeLoader, for which a mapping with the same key twice is an error: the first would be lost unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.YAMLError(f"{key.value} is there twice, again {place(key)}")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def place(node: yaml.Node) -> str:
    """Where a node begins."""
    return f"in line {node.start_mark.line + 1}"


def load_yaml(text: str) -> Any:
    """The plain data of a YAML text. Raises yaml.YAMLError, RecursionError for very deep nesting included."""
    loader = PlainLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if values_in(node, {}) > LARGEST_GROWTH * (len(text) + 1):
            raise yaml.YAMLError("its aliases stand for too many values: write them out")
        return loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply, or holds itself") from error
    finally:
        loader.dispose()


def values_in(node: yaml.Node, counted: dict[int, int]) -> int:
    """How many values a node stands for, each alias counted as what it names. RecursionError for a circle."""
    if id(node) not in counted:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = list(node.value)
        counted[id(node)] = 1 + sum(values_in(one, counted) for one in inner)
    return counted[id(node)]
