"""Help texts of settings: the docstrings under their fields, as one paragraph each (tyro keeps the line breaks)."""

import dataclasses
import functools
from typing import Any, get_type_hints

import docstring_parser
import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

registry = ConstructorRegistry()


@functools.cache
def field_texts(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass and of those that it inherits from."""
    parsed = [
        docstring_parser.parse_from_object(one) for one in reversed(kind.__mro__) if dataclasses.is_dataclass(one)
    ]
    return {doc.arg_name: " ".join((doc.description or "").split()) for one in parsed for doc in one.params}


@registry.struct_rule
def _dataclass_fields(info: StructTypeInfo) -> StructConstructorSpec | None:
    if not dataclasses.is_dataclass(info.type):
        return None
    types, texts = get_type_hints(info.type), field_texts(info.type)
    fields = [
        StructFieldSpec(field.name, types[field.name], _default(field, info.default), texts.get(field.name))
        for field in dataclasses.fields(info.type)
    ]
    return StructConstructorSpec(instantiate=info.type, fields=tuple(fields))


def _default(field: Any, instance: Any) -> Any:
    """A field's value in the default instance where there is one, else that of its class."""
    if dataclasses.is_dataclass(instance):
        return getattr(instance, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return tyro.MISSING if field.default is dataclasses.MISSING else field.default
