"""Modules survive a file unchanged, and files that are no modules are refused in words."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sbridge import bridge, fields, interpolants, problems, solvers, storage
from sbridge.baselines.sinkhorn import PlugIn
from sbridge.bridge import Bridge
from sbridge.errors import InputError
from sbridge.fields import Field, Framed, Half, Reversed
from sbridge.interpolants import Brownian, FramedInterpolant, LearnedGamma, LearnedMean, Linear
from sbridge.networks import DriftPair
from sbridge.storage import Storable

FRAME = (torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0]), 1.7)
X = torch.linspace(-2, 2, 12).reshape(6, 2)


def _bridge() -> Bridge:
    plug_in = PlugIn(torch.linspace(-1, 1, 10).reshape(5, 2), torch.linspace(-2, 0, 5), 0.3)
    interpolant = LearnedGamma(LearnedMean(Linear(Brownian(0.3)), 2, 1.0, 1.5, width=8, depth=2), width=8)
    return Bridge(
        Framed(Half(DriftPair(2, 1.0, 1.5, 0.3, width=8, depth=2), 0), *FRAME),
        Framed(Reversed(plug_in), *FRAME),
        0.3 * 1.7**2,
        FramedInterpolant(interpolant, *FRAME),
        "a remark with ε",
    )


def _same(a: Storable, b: Storable) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_nested_modules_survive(tmp_path: Path) -> None:
    bridge = _bridge()
    bridge.save(tmp_path / "bridge.safetensors")
    loaded = Bridge.load(tmp_path / "bridge.safetensors")
    assert _same(bridge, loaded)
    assert (loaded.epsilon, loaded.remark) == (bridge.epsilon, bridge.remark)
    assert not loaded.training
    assert bridge.interpolant is not None and loaded.interpolant is not None
    for of in (bridge, loaded):
        of.eval()
    assert torch.equal(bridge.forward_drift(0.3, X), loaded.forward_drift(0.3, X))
    assert torch.equal(bridge.backward_drift(0.3, X), loaded.backward_drift(0.3, X))
    t = torch.full((6, 1), 0.3)
    assert torch.equal(bridge.interpolant.path(t, X, X + 1, -X).x, loaded.interpolant.path(t, X, X + 1, -X).x)


def test_classes_of_one_name_in_two_modules_are_two(tmp_path: Path) -> None:
    type("Linear", (Field,), {"__module__": __name__})
    storage.save(Linear(Brownian(0.3)), tmp_path / "one")
    assert type(storage.load(tmp_path / "one")) is Linear


def test_a_fresh_process_finds_the_classes_of_a_file(tmp_path: Path) -> None:
    _bridge().save(tmp_path / "bridge")
    program = "import sys; from sbridge.bridge import Bridge; print(type(Bridge.load(sys.argv[1])).__name__)"
    command = [sys.executable, "-c", program, str(tmp_path / "bridge")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Bridge"


class _Still(Field):
    """A field without constructor arguments."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return 0 * x


def test_a_module_without_arguments_survives(tmp_path: Path) -> None:
    storage.save(_Still(), tmp_path / "still")
    assert isinstance(storage.load(tmp_path / "still"), _Still)


def test_what_was_absent_stays_absent(tmp_path: Path) -> None:
    field = Half(DriftPair(2, 1.0, 1.0, 0.5, width=4, depth=1), 0)
    Bridge(field, field, 0.5).save(tmp_path / "bridge")
    assert Bridge.load(tmp_path / "bridge").interpolant is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_precision_survives(tmp_path: Path, dtype: torch.dtype) -> None:
    bridge = _bridge().to(dtype)
    for parameter in bridge.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    bridge.save(tmp_path / "bridge")
    loaded = Bridge.load(tmp_path / "bridge")
    assert _same(bridge, loaded)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {dtype}
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_saving_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    bridge = _bridge()
    for name in ("a", "b"):
        bridge.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _overwritten(content: bytes) -> Callable[[Path], None]:
    def overwrite(path: Path) -> None:
        path.write_bytes(content)

    return overwrite


def _header(description: object) -> Callable[[Path], None]:
    header = json.dumps({"module": description, "repeated": {}})
    return lambda path: save_file({"weight": torch.zeros(2)}, path, metadata={"sbridge": header})


GAMMA = {"class": "Brownian", "module": "sbridge.interpolants"}
DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": lambda path: path.unlink(),
    "empty": _overwritten(b""),
    "text": _overwritten(b"x,y\n1,2\n"),
    "random": _overwritten(bytes(range(256)) * 40),
    "truncated": _cut,
    "foreign safetensors": lambda path: save_file({"weight": torch.zeros(2)}, path),
    "header that is not JSON": lambda path: save_file({"a": torch.zeros(2)}, path, metadata={"sbridge": "{"}),
    "class from a later version": _header({"class": "Telepathy", "module": "sbridge.fields", "arguments": {}}),
    "module from a later version": _header({"class": "Telepathy", "module": "sbridge.minds", "arguments": {}}),
    "class of another package": _header({"class": "Telepathy", "module": "this", "arguments": {}}),
    "class with other arguments": _header({**GAMMA, "arguments": {"sigma": 1.0}}),
    "no class": _header({"arguments": {}}),
    "no module": _header(3.0),
    "arguments that are a list": _header({**GAMMA, "arguments": [1.0]}),
    "other tensors": _header({**GAMMA, "arguments": {"epsilon": 1.0}}),
    "a pickle": lambda path: torch.save(torch.zeros(2), path),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_what_is_no_bridge_is_refused_by_name(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "bridge.safetensors"
    _bridge().save(path)
    damage(path)
    with pytest.raises(InputError, match=r"bridge\.safetensors is not a file written by sbridge, or it is damaged"):
        Bridge.load(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a file written by sbridge"):
        storage.load(tmp_path)


def test_another_module_is_refused(tmp_path: Path) -> None:
    storage.save(Brownian(0.3), tmp_path / "gamma")
    with pytest.raises(InputError, match="holds a Brownian, not a Bridge"):
        Bridge.load(tmp_path / "gamma")


def _fail(path: Path) -> None:
    path.write_bytes(b"half a file")
    raise OSError("no space left on device")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "bridge"
    _bridge().save(path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="no space left"):
        storage.replace_atomically(path, _fail)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "gamma"
    for epsilon in (0.2, 0.4):
        storage.save(Brownian(epsilon), path)
    gamma = storage.load(path)
    assert isinstance(gamma, Brownian) and gamma.epsilon == 0.4
    assert list(tmp_path.iterdir()) == [path]


def _storables() -> list[type[Storable]]:
    for family in (fields, interpolants, bridge, problems, solvers):
        for module in pkgutil.iter_modules(getattr(family, "__path__", []), f"{family.__name__}."):
            importlib.import_module(module.name)
    return [cls for cls in Storable.classes.values() if cls.__module__.startswith("sbridge.")]


@pytest.mark.parametrize("cls", _storables(), ids=lambda cls: cls.__name__)
def test_constructors_take_only_what_a_file_can_hold(cls: type[Storable]) -> None:
    hints = typing.get_type_hints(cls.__init__)
    for name in inspect.signature(cls).parameters:
        choices = typing.get_args(hints[name]) or (hints[name],)
        for choice in choices:
            plain = (int, float, str, bool, type(None), Tensor, nn.Module)
            assert choice in plain or issubclass(choice, Storable), name
