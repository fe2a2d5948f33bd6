"""Weights are read from files built by hand in both PyTorch layouts, and nothing in a file is ever run."""

import collections
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from ruas_jax.errors import UserError
from ruas_jax.photos.state_dict import read_state_dict


class Name:
  """Pickled as a global name of a module that is not installed."""

  def __init__(self, module: str, name: str):
    self.module, self.name = module, name


class Call:
  """Pickled as the call of a name."""

  def __init__(self, function: object, *arguments: object):
    self.function, self.arguments = function, arguments


class Storage(collections.namedtuple("Storage", "kind key array view", defaults=(None,))):
  """Pickled as a persistent identifier; `array` holds its numbers."""


class Pickler(pickle._Pickler):  # the Python one: it can be taught to write names without importing them
  has_view = True

  def persistent_id(self, value):
    if isinstance(value, Storage):
      kind = ("storage", Name("torch", value.kind), value.key, "cpu", value.array.size)
      return (*kind, value.view) if self.has_view else kind
    return None

  def save(self, value, save_persistent_id=True):
    if isinstance(value, Name):
      self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
    elif isinstance(value, Call):
      self.save_reduce(value.function, value.arguments, obj=value)
    else:
      super().save(value, save_persistent_id)

  def save_reduce(self, function, arguments, *rest, obj=None, **options):
    if isinstance(obj, Call):
      self.save(function)
      self.save(arguments)
      self.write(pickle.REDUCE)
      self.memoize(obj)
    else:
      super().save_reduce(function, arguments, *rest, obj=obj, **options)


def dump(value: object, *, has_view: bool = True) -> bytes:
  buffer = io.BytesIO()
  pickler = Pickler(buffer, protocol=2)
  pickler.has_view = has_view
  pickler.dump(value)
  return buffer.getvalue()


def tensor(storage: Storage, offset: int, shape: tuple, strides: tuple) -> Call:
  hooks = collections.OrderedDict()
  return Call(Name("torch._utils", "_rebuild_tensor_v2"), storage, offset, shape, strides, False, hooks)


def legacy(value: object, storages: list[Storage], *, little_endian: bool = True) -> bytes:
  head = dump(0x1950A86A20F9469CFC6C) + dump(1001) + dump({"little_endian": little_endian})
  blocks = [struct.pack("<q", storage.array.size) + storage.array.tobytes() for storage in storages]
  return head + dump(value) + dump([storage.key for storage in storages]) + b"".join(blocks)


def zipped(value: object, storages: list[Storage], *, byteorder: bytes = b"little") -> bytes:
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w") as archive:
    archive.writestr("model/data.pkl", dump(value, has_view=False))
    archive.writestr("model/byteorder", byteorder)
    for storage in storages:
      archive.writestr(f"model/data/{storage.key}", storage.array.tobytes())
  return buffer.getvalue()


def example() -> tuple[collections.OrderedDict, list[Storage], dict[str, np.ndarray]]:
  numbers = np.arange(20, dtype="<f4") / 3
  storages = [
    Storage("FloatStorage", "10", numbers),
    Storage("DoubleStorage", "11", np.linspace(0, 1, 4)),
    Storage("HalfStorage", "12", np.arange(3, dtype="<f2")),
    Storage("LongStorage", "13", np.array([7], dtype="<i8")),
    Storage("FloatStorage", "14", np.zeros(0, "<f4")),
  ]
  square = numbers.reshape(4, 5)
  state = collections.OrderedDict(
    [
      ("whole", tensor(storages[0], 0, (4, 5), (5, 1))),
      ("transposed", tensor(storages[0], 0, (5, 4), (1, 5))),
      ("window", tensor(storages[0], 7, (2, 3), (5, 1))),
      ("double", tensor(storages[1], 1, (3,), (1,))),
      ("half", tensor(storages[2], 0, (3,), (1,))),
      ("scalar", tensor(storages[3], 0, (), ())),
      ("empty", tensor(storages[4], 0, (0, 3), (3, 1))),
      ("parameter", Call(Name("torch._utils", "_rebuild_parameter"), tensor(storages[1], 0, (2, 2), (2, 1)), True, {})),
    ]
  )
  expected = {
    "whole": square,
    "transposed": square.T,
    "window": square[1:3, 2:],
    "double": np.linspace(0, 1, 4)[1:],
    "half": np.arange(3),
    "scalar": np.array(7),
    "empty": np.zeros((0, 3)),
    "parameter": np.linspace(0, 1, 4).reshape(2, 2),
  }
  return state, storages, expected


@pytest.mark.parametrize("layout", [legacy, zipped])
def test_both_layouts_are_read(tmp_path, layout):
  state, storages, expected = example()
  (tmp_path / "weights.pt").write_bytes(layout(state, storages))
  arrays = read_state_dict(tmp_path / "weights.pt")
  assert list(arrays) == list(expected)
  for name, array in arrays.items():
    assert array.dtype == np.float32 and array.flags.c_contiguous and array.shape == expected[name].shape
    np.testing.assert_array_equal(array, expected[name].astype(np.float32))


def test_a_view_of_a_storage_starts_where_it_says(tmp_path):
  storage = Storage("FloatStorage", "1", np.arange(9, dtype="<f4"), view=("2", 4, 5))
  (tmp_path / "weights.pt").write_bytes(legacy({"a": tensor(storage, 1, (3,), (1,))}, [storage]))
  assert read_state_dict(tmp_path / "weights.pt")["a"].tolist() == [5, 6, 7]


def test_npz_is_read_as_float32(tmp_path):
  np.savez(tmp_path / "weights.npz", a=np.arange(3), b=np.array(2.5))
  arrays = read_state_dict(tmp_path / "weights.npz")
  assert arrays["a"].tolist() == [0, 1, 2] and arrays["b"].shape == ()
  assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
  np.savez(tmp_path / "weights.npz", a=np.array([{}], dtype=object))
  with pytest.raises(UserError, match=r"weights\.npz"):
    read_state_dict(tmp_path / "weights.npz")
  np.savez(tmp_path / "weights.npz", a=np.array("text"))
  with pytest.raises(UserError, match="'a' holds"):
    read_state_dict(tmp_path / "weights.npz")


class Malicious:
  def __init__(self, command: str):
    self.command = command

  def __reduce__(self):
    return os.system, (self.command,)


@pytest.mark.parametrize("layout", [legacy, zipped])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, layout):
  trace = tmp_path / "trace"
  attack = Malicious(f"touch {trace}")
  for value in (attack, collections.OrderedDict(a=attack)):
    (tmp_path / "weights.pt").write_bytes(layout(value, []))
    with pytest.raises(UserError, match=rf"weights\.pt.*{os.system.__module__}\.system"):
      read_state_dict(tmp_path / "weights.pt")
  (tmp_path / "weights.pt").write_bytes(pickle.dumps(attack))  # where the magic number should be
  with pytest.raises(UserError, match=r"\.system"):
    read_state_dict(tmp_path / "weights.pt")
  np.savez(tmp_path / "weights.npz", a=np.array([attack], dtype=object))
  with pytest.raises(UserError, match=r"weights\.npz"):
    read_state_dict(tmp_path / "weights.npz")
  assert not trace.exists()
  attack.__reduce__()[0](attack.command)
  assert trace.exists()  # the attack does work


@pytest.mark.parametrize("layout", [legacy, zipped])
def test_anything_but_a_flat_mapping_of_tensors_is_refused(tmp_path, layout):
  state, storages, _ = example()
  for value, message in (
    ([1, 2], "it holds a list"),
    ({"epoch": 3}, "'epoch' is not a tensor"),
    ({"state": {"a": 1}}, "'state' is not a tensor"),
    ({"a": Call(Name("torch.nn.modules.conv", "Conv2d"))}, r"torch\.nn\.modules\.conv\.Conv2d"),
    ({"a": Name("torch", "FloatStorage")}, "'a' is not a tensor"),
    ({"a": Call(Name("builtins", "getattr"), 1, "real")}, r"builtins\.getattr"),
  ):
    (tmp_path / "weights.pt").write_bytes(layout(value, []))
    with pytest.raises(UserError, match=message):
      read_state_dict(tmp_path / "weights.pt")
  big = {"little_endian": False} if layout is legacy else {"byteorder": b"big"}
  (tmp_path / "weights.pt").write_bytes(layout(state, storages, **big))
  with pytest.raises(UserError, match="big-endian"):
    read_state_dict(tmp_path / "weights.pt")


@pytest.mark.parametrize("layout", [legacy, zipped])
@pytest.mark.parametrize(
  "offset, shape, strides", [(0, (3, 3), (3, 1)), (7, (2,), (1,)), (-1, (2,), (1,)), (4, (2,), (-1,)), (0, (99,), (0,))]
)
def test_a_tensor_outside_its_numbers_is_refused(tmp_path, layout, offset, shape, strides):
  storage = Storage("FloatStorage", "1", np.zeros(8, "<f4"))
  (tmp_path / "weights.pt").write_bytes(layout({"a": tensor(storage, offset, shape, strides)}, [storage]))
  with pytest.raises(UserError, match="larger than its block of numbers"):
    read_state_dict(tmp_path / "weights.pt")


def test_blocks_of_another_length_than_announced_are_refused(tmp_path):
  storage = Storage("FloatStorage", "1", np.zeros(8, "<f4"))
  longer = storage._replace(array=np.zeros(9, "<f4"))
  for layout in (legacy, zipped):
    (tmp_path / "weights.pt").write_bytes(layout({"a": tensor(storage, 0, (8,), (1,))}, [longer]))
    with pytest.raises(UserError, match="'a'"):
      read_state_dict(tmp_path / "weights.pt")


@pytest.mark.parametrize("layout", [legacy, zipped])
def test_files_cut_short_are_refused_by_name(tmp_path, layout):
  state, storages, _ = example()
  data = layout(state, storages)
  for length in (*range(0, len(data), 41), len(data) - 1):
    (tmp_path / "cut.pt").write_bytes(data[:length])
    with pytest.raises(UserError, match=r"cut\.pt"):
      read_state_dict(tmp_path / "cut.pt")
  with pytest.raises(UserError, match=r"missing\.pt"):
    read_state_dict(tmp_path / "missing.pt")
