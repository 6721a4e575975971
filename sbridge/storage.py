"""Saving and loading trees of modules without pickle.

Every storable class keeps each constructor argument in an attribute of the same name (scikit-learn's
`get_params` habit).  A module is then described by its class name and those arguments; tensors go to a
safetensors file, everything else to that file's JSON header.
"""

from __future__ import annotations

import copy
import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor, nn

from sbridge.errors import InputError
from sbridge.files import write_bytes

__all__ = ["Storable", "load", "save"]

_HEADER = "sbridge"
_DAMAGE = (OSError, SafetensorError, ImportError, KeyError, TypeError, ValueError, AttributeError, RuntimeError)


class Storable(nn.Module):
    """A module that can be rebuilt from its constructor arguments and its state."""

    classes: ClassVar[dict[tuple[str, str], type[Storable]]] = {}  # by module and name
    kept: ClassVar[tuple[str, ...]] = ()
    """Attributes that are stored beside the constructor's arguments; their values are values of JSON."""

    def __init__(self) -> None:
        super().__init__()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Storable.classes[cls.__module__, cls.__name__] = cls

    def arguments(self) -> dict[str, Any]:
        """The constructor arguments, by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}


def _describe(value: Any, prefix: str, places: dict[int, str]) -> Any:
    """A value in JSON; a module that was described before is named by its first place in the tree."""
    if isinstance(value, Storable):
        if id(value) in places:
            return {"same": places[id(value)]}
        places[id(value)] = prefix
        arguments = {name: _describe(v, _join(prefix, name), places) for name, v in value.arguments().items()}
        kept = {name: getattr(value, name) for name in value.kept}
        return {"class": type(value).__name__, "module": type(value).__module__, "arguments": arguments, "kept": kept}
    if isinstance(value, nn.ModuleList):
        return {"modules": [_describe(module, _join(prefix, str(i)), places) for i, module in enumerate(value)]}
    if isinstance(value, nn.Module):
        return {"own module": type(value).__name__}
    return {"tensor": True} if isinstance(value, Tensor) else value


def _build(
    description: Any, tensors: dict[str, Tensor], prefix: str, like: nn.Module | None, built: dict[str, Any]
) -> Any:
    if not isinstance(description, dict):
        return description
    if "tensor" in description:
        return tensors[prefix]
    if "same" in description:
        return built[description["same"]]
    if "modules" in description:
        items = enumerate(description["modules"])
        return [_build(inner, tensors, _join(prefix, str(i)), like, built) for i, inner in items]
    if "own module" in description:
        return _own(description["own module"], like)
    arguments = {
        name: _build(inner, tensors, _join(prefix, name), like, built)
        for name, inner in description["arguments"].items()
    }
    built[prefix] = module = _class(description["class"], description["module"])(**arguments)
    for name, value in description["kept"].items():
        setattr(module, name, value)
    return module


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _repeated(module: nn.Module) -> dict[str, str]:
    """The names in the module's state whose tensor has an earlier name, and that name; shared modules have them."""
    first: dict[int, str] = {}
    names = {name: first.setdefault(id(tensor), name) for name, tensor in module.state_dict(keep_vars=True).items()}
    return {name: earlier for name, earlier in names.items() if name != earlier}


def _own(name: str, like: nn.Module | None) -> nn.Module:
    """A copy of the module that the reader brings, or that is in it, for the weights in the file."""
    if like is None:
        raise InputError(f"this file holds the weights of your own network, a {name}: load it with like=the network")
    found = next((part for part in like.modules() if type(part).__name__ == name), None)
    if found is None:
        raise InputError(f"this file holds the weights of a {name}, and like is a {type(like).__name__}")
    return copy.deepcopy(found)


def _class(name: str, module: str) -> type[Storable]:
    """A storable class; the module that defines it need not have been imported before."""
    if (module, name) not in Storable.classes and module.startswith(f"{_HEADER}."):
        import_module(module)
    return Storable.classes[module, name]


def save(module: Storable, path: str | Path) -> None:
    """Write `module` to a safetensors file at `path`."""
    repeated = _repeated(module)
    state = {name: tensor for name, tensor in module.state_dict().items() if name not in repeated}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    header = {_HEADER: json.dumps({"module": _describe(module, "", {}), "repeated": repeated})}
    write_bytes(Path(path), serialise(tensors, metadata=header))


def load(path: str | Path, like: nn.Module | None = None) -> Storable:
    """Read a module written by `save`.

    Args:
        path: the file.
        like: a module of the class and size of the user's own network, where the file holds the weights of one.

    Raises:
        InputError: the file is missing, damaged or not written by sbridge, or `like` is missing or does not fit.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
        tensors = load_file(path)
        tensors |= {name: tensors[earlier] for name, earlier in header["repeated"].items()}
        module: Storable = _build(header["module"], tensors, "", like, {})
        module.load_state_dict(tensors, assign=True)  # assigned, not copied: the precision is the file's
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except _DAMAGE as error:
        raise InputError(f"{path} is not a file written by sbridge, or it is damaged: {error}") from error
    return module.eval()
