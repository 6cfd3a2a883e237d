"""YAML in which every key is written once, and whose mistakes are told by their line."""

from typing import Any

import yaml
from yaml.nodes import MappingNode, ScalarNode

from gmi.errors import because


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which by itself takes the last of two equal keys."""

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """The block as it is written. Raises ValueError where a key is in it twice."""
        node, lines = super().compose_mapping_node(anchor), {}
        for key in (key for key, _ in node.value if isinstance(key, ScalarNode)):
            line = key.start_mark.line + 1
            if (key.tag, key.value) in lines:
                first = lines[key.tag, key.value]
                raise ValueError(f"line {line}: the key {key.value} is in line {first} already: remove one of the two")
            lines[key.tag, key.value] = line
        return node


def parse_yaml(text: str) -> Any:
    """What the text describes. Raises ValueError, in one line that says what is wrong, where it is no YAML."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ValueError(f"{line}{error.problem or error.context}") from error
    except RecursionError as error:
        raise ValueError("blocks stand in blocks without end") from error
    except Exception as error:  # whatever the parser makes of odd dates, numbers and tags
        raise ValueError(because(error)) from error
