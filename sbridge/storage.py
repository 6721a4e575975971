"""Saving and loading trees of modules without pickle.

Every storable class keeps each constructor argument in an attribute of the same name (scikit-learn's
`get_params` habit).  A module is then described by its class name and those arguments; tensors go to a
safetensors file, everything else to that file's JSON header.

A file may come from a stranger.  So a header builds the known classes only: those of `_HOMES` and those that the
program has defined itself, and no module is imported because a file names it.  Networks are built without memory, and
get the tensors that the file has.  A checksum of header and tensors finds damage.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from collections.abc import Mapping
from contextlib import nullcontext
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor, nn

from sbridge.checks import check_content, check_text
from sbridge.errors import InputError
from sbridge.files import FORMAT, check_format, write_bytes

__all__ = ["Storable", "load", "save"]

_HEADER = "sbridge"
_HOMES = (
    "baselines.sinkhorn",
    "bridge",
    "fields",
    "interpolants",
    "networks",
    "potentials.backward",
    "potentials.bridge",
    "potentials.exact",
    "potentials.field",
    "potentials.full",
    "problems",
    "problems.atoms",
    "problems.gaussian",
    "problems.grid",
    "problems.shapes",
    "problems.sourced",
    "snapshots.chain",
    "standardise",
)
"""Modules that define storable classes."""


class Storable(nn.Module):
    """A module that can be rebuilt from its constructor arguments and its state."""

    classes: ClassVar[dict[tuple[str, str], type[Storable]]] = {}  # by module and name
    kept: ClassVar[Mapping[str, Any]] = {}
    """Attributes that are stored beside the constructor's arguments, with annotations of their values."""

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
    kind = _class(description["class"], description["module"])
    bare = not any(isinstance(value, Tensor) for value in arguments.values())
    with torch.device("meta") if bare else nullcontext():  # sizes that a header claims take no memory
        built[prefix] = module = kind(**arguments)
    for name in kind.kept:
        check_content(name, kind.kept[name], description["kept"][name])
        setattr(module, name, description["kept"][name])
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
    """A storable class of this package, or one that the program has defined."""
    if (module, name) not in Storable.classes:
        for home in _HOMES:
            import_module(f"{_HEADER}.{home}")
    return Storable.classes[module, name]


def _digest(header: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """A checksum of everything else in the header and of the tensors."""
    rest = {name: value for name, value in header.items() if name != "sha256"}
    found = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def save(module: Storable, path: str | Path) -> None:
    """Write `module` to a safetensors file at `path`."""
    repeated = _repeated(module)
    state = {name: tensor for name, tensor in module.state_dict().items() if name not in repeated}
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    description = {"module": _describe(module, "", {}), "repeated": repeated}
    header = {"format": FORMAT, "sbridge": version("sbridge"), **description}
    header["sha256"] = _digest(header, tensors)
    write_bytes(Path(path), serialise(tensors, metadata={_HEADER: json.dumps(header)}))


def _check(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuse what a newer version has written, and damage; the first files of this package have no checksum.

    Raises:
        InputError: it is one of these, or holds control characters.
    """
    check_text(header)
    check_format(header.get("format"), header.get("sbridge"))
    if header.get("sha256", wanted := _digest(header, tensors)) != wanted:
        raise InputError("its checksum does not fit: the file is damaged; fetch or compute it again")


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
        _check(header, tensors)
        tensors = {name: value.clone() for name, value in tensors.items()}  # aligned, as products' last bits need
        tensors |= {name: tensors[earlier] for name, earlier in header["repeated"].items()}
        module: Storable = _build(header["module"], tensors, "", like, {})
        module.load_state_dict(tensors, assign=True)  # assigned, not copied: the precision is the file's
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # whatever the constructors make of nonsense
        raise InputError(f"{path} is not a file written by sbridge, or it is damaged: {error}") from error
    return module.eval()
