"""An ONNX file's bytes in; its metadata, or the same network with fewer outputs, out.

onnxruntime computes every output of a file, asked for or not, and the base install has no onnx package; so
what is needed of the format is read here. It is protobuf: fields of a number and a kind, kind 2 being a
length and so many bytes; a field that is not known is passed over. The numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

MODEL_GRAPH, MODEL_METADATA = 7, 14
ENTRY_KEY, ENTRY_VALUE = 1, 2
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_OUTPUT, GRAPH_VALUE = 1, 5, 12, 13
NODE_INPUT, NODE_OUTPUT, NODE_ATTRIBUTE = 1, 2, 5
ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS = 6, 11
TENSOR_NAME, VALUE_NAME = 8, 1

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Kinds of fields: a number in as many bytes as it needs, eight bytes, a length and bytes, four bytes."""

Field = tuple[int, memoryview, memoryview]
"""A field's number, its value's bytes, and all its bytes with number and length."""


def metadata_of(model: bytes) -> dict[str, str]:
    """The metadata properties of an ONNX file; ValueError where the bytes are no such file."""
    return dict(_entry(value) for number, value, _ in _fields(model) if number == MODEL_METADATA)


def with_outputs(model: bytes, outputs: Collection[str]) -> bytes:
    """The network with only these of its outputs, and without what none of them needs.

    ValueError where the bytes are no ONNX file. Names that are no outputs are passed over.
    """
    parts: list[bytes | memoryview] = []
    for number, value, whole in _fields(model):
        if number == MODEL_GRAPH:
            graph = b"".join(_graph_with_outputs(value, outputs))
            parts += [_varint(MODEL_GRAPH << 3 | BYTES), _varint(len(graph)), graph]
        else:
            parts.append(whole)
    return b"".join(parts)


def _graph_with_outputs(graph: memoryview, outputs: Collection[str]) -> Iterator[memoryview]:
    fields = list(_fields(graph))
    kept = [number != GRAPH_NODE for number, _, _ in fields]
    needed = set(outputs)
    for index in reversed(range(len(fields))):  # a node stands behind all nodes whose values it takes
        number, node, _ = fields[index]
        if number == GRAPH_NODE and not needed.isdisjoint(_texts(node, NODE_OUTPUT)):
            kept[index] = True
            needed.update(_values_taken(node))
    named = {GRAPH_OUTPUT: VALUE_NAME, GRAPH_INITIALIZER: TENSOR_NAME, GRAPH_VALUE: VALUE_NAME}
    wanted = {GRAPH_OUTPUT: set(outputs), GRAPH_INITIALIZER: needed, GRAPH_VALUE: needed}
    for (number, value, whole), keep in zip(fields, kept, strict=True):
        if keep and (number not in named or wanted[number].issuperset(_texts(value, named[number]))):
            yield whole


def _values_taken(node: memoryview) -> Iterator[str]:
    """The names of the values that a node takes, those that the graphs in it take from outside too."""
    yield from _texts(node, NODE_INPUT)
    for number, attribute, _ in _fields(node):
        if number == NODE_ATTRIBUTE:
            for kind, graph, _ in _fields(attribute):
                if kind in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                    yield from _values_taken_inside(graph)


def _values_taken_inside(graph: memoryview) -> Iterator[str]:
    for number, value, _ in _fields(graph):
        if number == GRAPH_NODE:
            yield from _values_taken(value)
        elif number == GRAPH_OUTPUT:  # may be a value from outside, as it is
            yield from _texts(value, VALUE_NAME)


def _entry(entry: memoryview) -> tuple[str, str]:
    return next(_texts(entry, ENTRY_KEY), ""), next(_texts(entry, ENTRY_VALUE), "")


def _texts(message: memoryview, number: int) -> Iterator[str]:
    return (str(value, "utf-8") for found, value, _ in _fields(message) if found == number)


def _fields(message: bytes | memoryview) -> Iterator[Field]:
    """The fields of a message in order; ValueError where it is none."""
    view, place = memoryview(message), 0
    while place < len(view):
        start = place
        key, place = _number(view, place)
        kind = key & 7
        if kind == BYTES:
            length, place = _number(view, place)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        elif kind == VARINT:
            length = _number(view, place)[1] - place
        else:
            raise ValueError(f"no kind of field: {kind}")
        if place + length > len(view):
            raise ValueError("a field reaches over the end")
        yield key >> 3, view[place : place + length], view[start : place + length]
        place += length


def _number(view: memoryview, place: int) -> tuple[int, int]:
    """The number that begins at a place, seven bits a byte, the lowest first; and the place behind it."""
    number = shift = 0
    while place < len(view):
        byte = view[place]
        number |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return number, place
    raise ValueError("a number reaches over the end")


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)
