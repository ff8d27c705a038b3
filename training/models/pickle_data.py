"""Reads a pickle as data: plain containers, and records of what it names. Nothing is imported, called or built.

Python's own unpickler imports what a pickle names and calls it. Here each opcode (`pickletools`) puts plain values on a stack: a
class or function is a `Named`, a call or an object a `Made`, an external reference (a storage of torch's) a `Reference`. Memory
is bounded by the length of the pickle and by the number of its opcodes; dictionaries have plain keys only, since the hash of a
nested tuple can take for ever.
"""

from __future__ import annotations

import itertools
import pickletools
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from typing import BinaryIO

MOST_OPCODES = 1_000_000
MOST_BITS = 128
MOST_PARTS = 100_000
MOST_DEPTH = 40
PLAIN = (str, bytes, int, float, type(None))
# What honest checkpoints name of Python itself; anything else of it has no place beside weights.
OF_PYTHON = {
    "__builtin__": frozenset(
        {
            *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "long", "object"),
            *("Ellipsis", "range", "set", "slice", "str", "tuple", "type", "unicode"),
        }
    ),
    "_codecs": frozenset({"encode"}),
    "argparse": frozenset({"Namespace"}),
    "collections": frozenset({"Counter", "OrderedDict", "defaultdict", "deque"}),
    "copy_reg": frozenset({"_reconstructor"}),
    "datetime": frozenset({"date", "datetime", "timedelta", "timezone"}),
    "enum": frozenset({"Enum", "IntEnum"}),
    "functools": frozenset({"partial"}),
    "logging": frozenset({"Logger", "getLogger"}),
    "operator": frozenset({"getitem"}),
    "pathlib": frozenset({"Path", "PosixPath", "PurePath", "PurePosixPath", "WindowsPath"}),
    "types": frozenset({"GenericAlias", "NoneType", "SimpleNamespace", "UnionType"}),
    "uuid": frozenset({"UUID"}),
}
OF_PYTHON |= {
    "builtins": OF_PYTHON["__builtin__"],
    "copyreg": OF_PYTHON["copy_reg"],
    "pathlib._local": OF_PYTHON["pathlib"],
    "_operator": OF_PYTHON["operator"],
}
TYPES_ONLY = frozenset({"collections.abc", "typing"})
OF_PYTHON_2 = frozenset({"__builtin__", "copy_reg", "commands", "popen2"})


class NotDataError(ValueError):
    """A pickle that is damaged, or no pickle."""


class ForbiddenNameError(ValueError):
    """A pickle that names something of Python's that no checkpoint needs, such as `os.system`."""


class TooManyObjectsError(ValueError):
    """A pickle with more opcodes than any checkpoint has."""


class Named(NamedTuple):
    """A class or function that a pickle names; only its name."""

    module: str
    name: str

    def __repr__(self) -> str:
        return f"{self.module}.{self.name}"


class Reference(NamedTuple):
    """What a pickle refers to outside itself; torch's are `("storage", type, key, device, count)`."""

    identity: Any


class Made:
    """An object that a pickle describes: what would be called with what, and what would be put into the result.

    Attributes:
        of: The class or function, usually a `Named`.
        arguments: Of the call.
        state: What the object would get as its state, usually its attributes.
        items: What would be set by key.
        elements: What would be appended.
    """

    __slots__ = ("arguments", "elements", "items", "of", "state")

    def __init__(self, of: Any, arguments: Any) -> None:
        self.of = of
        self.arguments = arguments
        self.state: Any = None
        self.items: dict[Any, Any] = {}
        self.elements: list[Any] = []

    def __repr__(self) -> str:
        return f"an object of {self.of}" if isinstance(self.of, Named) else "an object"


def read_pickle(stream: BinaryIO) -> tuple[Any, list[Reference]]:
    """The value of the pickle that begins here, and all that it refers to outside itself; the stream is left behind its end.

    Args:
        stream: In memory, so that a length that lies asks for no more than there is.

    Raises:
        NotDataError: If it is damaged.
        ForbiddenNameError: If it names what no checkpoint needs.
        TooManyObjectsError: If it has too many opcodes.
    """
    stack = Stack()
    try:
        for opcode, argument, _ in itertools.islice(pickletools.genops(stream), MOST_OPCODES):
            if opcode.name == "STOP":
                return stack.pop(), stack.references
            stack.do(opcode.name, argument)
    except ForbiddenNameError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as problem:
        raise NotDataError from problem
    raise TooManyObjectsError


class Stack:
    """The stack and the memory of a pickle while it is read."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.references: list[Reference] = []

    def pop(self) -> Any:
        """The topmost value; never one below the last mark."""
        if len(self.values) <= (self.marks[-1] if self.marks else 0):
            raise NotDataError
        return self.values.pop()

    def since_mark(self) -> list[Any]:
        """All values above the last mark, which goes with them."""
        start = self.marks.pop()
        found = self.values[start:]
        del self.values[start:]
        return found

    def do(self, name: str, argument: Any) -> None:
        """One opcode."""
        if name in CONSTANTS:
            self.values.append(CONSTANTS[name])
        elif name in LITERALS:
            if isinstance(argument, int) and argument.bit_length() > MOST_BITS:
                raise NotDataError
            self.values.append(argument)
        elif name in COLLECTED:
            self.values.append(COLLECTED[name](self.since_mark()))
        elif name in FIXED_TUPLES:
            self.values.append(tuple(reversed([self.pop() for _ in range(FIXED_TUPLES[name])])))
        elif name in {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}:
            self.memo[len(self.memo) if argument is None else argument] = self.top
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            self.values.append(self.memo[argument])
        elif name in EMPTY:
            self.values.append(EMPTY[name]())
        else:
            self.make(name, argument)

    @property
    def top(self) -> Any:
        """The topmost value, left where it is."""
        value = self.pop()
        self.values.append(value)
        return value

    def make(self, name: str, argument: Any) -> None:  # noqa: C901, PLR0912 (one case an opcode)
        """An opcode that marks, names, fills or makes something."""
        match name:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marks.append(len(self.values))
            case "POP":
                self.pop()
            case "POP_MARK":
                self.since_mark()
            case "DUP":
                self.values.append(self.top)
            case "APPEND" | "APPENDS" | "ADDITEMS":
                found = [self.pop()] if name == "APPEND" else self.since_mark()
                extend(self.top, found)
            case "SETITEM" | "SETITEMS":
                found = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self.since_mark()
                fill(self.top, found)
            case "GLOBAL":
                self.values.append(named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                last, module = self.pop(), self.pop()
                self.values.append(named(module, last))
            case "INST":
                self.values.append(Made(named(*argument.split(" ", 1)), tuple(self.since_mark())))
            case "OBJ":
                first, *rest = self.since_mark()
                self.values.append(Made(first, tuple(rest)))
            case "REDUCE" | "NEWOBJ":
                arguments, of = self.pop(), self.pop()
                self.values.append(made(of, arguments))
            case "NEWOBJ_EX":
                _, arguments, of = self.pop(), self.pop(), self.pop()
                self.values.append(made(of, arguments))
            case "BUILD":
                state = self.pop()
                if isinstance(self.top, Made):
                    self.top.state = state
            case "PERSID" | "BINPERSID":
                self.references.append(Reference(argument if name == "PERSID" else self.pop()))
                self.values.append(self.references[-1])
            case _:
                raise NotDataError


def made(of: Any, arguments: Any) -> Any:
    """What a call would give: an empty mapping for an ordered one, which torch writes for its weights; else a record."""
    if of == Named("collections", "OrderedDict"):
        found: dict[Any, Any] = {}
        for pair in arguments[0] if arguments else ():
            fill(found, list(pair))
        return found
    return Made(of, arguments)


def named(module: Any, name: Any) -> Named:
    """A name, if a checkpoint may have it.

    Raises:
        ForbiddenNameError: If it is one of Python's own that no checkpoint needs.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        raise NotDataError
    top = module.partition(".")[0]
    is_pythons = top in sys.stdlib_module_names or top in OF_PYTHON_2
    if is_pythons and module not in TYPES_ONLY and name not in OF_PYTHON.get(module, frozenset()):
        raise ForbiddenNameError(f"{module}.{name}")
    return Named(module, name)


def fill(target: Any, found: list[Any]) -> None:
    """Set keys and values, which alternate; those with keys that are not plain are passed over."""
    into = target.items if isinstance(target, Made) else target
    if not isinstance(into, dict) or len(found) % 2:
        raise NotDataError
    for key, value in zip(found[::2], found[1::2], strict=True):
        if isinstance(key, PLAIN):
            into[key] = value


def extend(target: Any, found: list[Any]) -> None:
    """Append to a list, or to what a record would hold."""
    into = target.elements if isinstance(target, Made) else target
    if not isinstance(into, list):
        raise NotDataError
    into.extend(found)


def mapping(found: list[Any]) -> dict[Any, Any]:
    """A mapping of keys and values, which alternate."""
    result: dict[Any, Any] = {}
    fill(result, found)
    return result


CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    }
)
COLLECTED: dict[str, Any] = {"LIST": list, "TUPLE": tuple, "DICT": mapping, "FROZENSET": list}
FIXED_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
EMPTY: dict[str, Any] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}


def plain(value: Any) -> Any:
    """A configuration as mappings, lists and plain values, whatever classes it was made of.

    A command line of `argparse` and an object are the mapping of their attributes, omegaconf's nodes what they hold, a choice of an
    `enum` its value. What refers to another key, `${task.normalize}`, is that key's value.

    Raises:
        TooManyObjectsError: If it has more parts, or is deeper, than any configuration.
    """
    found = Unfolding().value(value, depth=0)
    return referred(found, found) if isinstance(found, dict) else found


class Unfolding:
    """Copies a configuration part by part, counting: what is shared, or contains itself, would grow without end."""

    def __init__(self) -> None:
        self.parts = 0

    def value(self, value: Any, *, depth: int) -> Any:
        """A copy of plain containers."""
        self.parts += 1
        if self.parts > MOST_PARTS or depth > MOST_DEPTH:
            raise TooManyObjectsError
        match value:
            case dict():
                return {key: self.value(part, depth=depth + 1) for key, part in value.items()}
            case Named() | Reference():
                return None
            case list() | tuple():
                return [self.value(part, depth=depth + 1) for part in value]
            case Made():
                return self.value(content(value), depth=depth + 1)
            case _:
                return value


def content(made: Made) -> Any:
    """What an object holds."""
    state = made.state
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], dict):
        state = state[0]  # beside it are slots
    if isinstance(state, dict):
        for inner in ("_content", "_val"):  # omegaconf's containers and leaves
            if inner in state:
                return state[inner]
        return state or made.items
    if made.items or made.elements:
        return made.items or made.elements
    arguments = made.arguments if isinstance(made.arguments, tuple) else ()
    return arguments[0] if len(arguments) == 1 and isinstance(arguments[0], PLAIN) else None


def referred(value: Any, root: dict[Any, Any]) -> Any:
    """A copy in which `${a.b}` is the value of key b of key a."""
    match value:
        case dict():
            return {key: referred(part, root) for key, part in value.items()}
        case str() if value.startswith("${") and value.endswith("}"):
            found: Any = root
            for key in value[2:-1].split("."):
                found = found.get(key) if isinstance(found, dict) else None
            return found if isinstance(found, PLAIN) and found != value else None
        case _:
            return value
