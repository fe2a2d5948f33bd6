"""Programs that were traced once are kept beside the compilation cache: the next start neither traces nor lowers them.

The name of an entry is a digest of everything that determines the program: the caller's description, the shapes of the
arguments, the code of this package, the versions, the device and jax's options. A damaged entry is replaced.
"""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.convolution import native
from ruas_jax.engine.compile_cache import SWITCH
from ruas_jax.engine.compiler import compiler_options
from ruas_jax.engine.environment import versions
from ruas_jax.errors import UserError
from ruas_jax.files import write_atomically

_PACKAGE = pathlib.Path(__file__).parents[1]
_OPTIONS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_threefry_partitionable", "jax_default_prng_impl")
_NATIVE_CALLS = ("ruas_convolve", "ruas_correlate")  # jax does not know whether they exist where a program is read


def kept_program(
  function: Callable,
  arguments: tuple,
  identity: Any,
  names_of: Callable[[Any], Any],
  structure_of: Callable[[Any], Any],
) -> Callable | None:
  """`function` as a jitted program, traced only if the cache does not have it. Its first argument is donated.

  Args:
    function: `(*arguments) -> result`, pytrees.
    arguments: the arguments of a call, or others of the same shapes.
    identity: everything that determines `function` besides the package's code, as JSON.
    names_of: `result -> names`, JSON that determines the structure of the result.
    structure_of: `names -> ` a pytree of that structure.

  Returns:
    None if there is no compilation cache in a local folder, or if the program cannot be exported.
  """
  folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]  added at run time
  if os.environ.get(SWITCH) == "off" or not folder or "://" in folder or jax.process_count() > 1:
    return None
  native.form()  # registers the compiled convolution
  leaves, structure = jax.tree.flatten(arguments)
  path = pathlib.Path(folder) / f"ruas_jax_program_{_key(identity, leaves, structure)}"
  entry = _read(path)
  if entry is None:
    try:
      entry = _export(function, leaves, structure, names_of)
      write_atomically(path, _packed(*entry))
    except (ImportError, NotImplementedError, ValueError, UserError):
      return None  # no flatbuffers, an effect that cannot be exported, or a full disk
  names, exported = entry
  results = jax.tree.structure(structure_of(names))
  donated = tuple(range(len(jax.tree.leaves(arguments[0]))))
  program = jax.jit(_deserialize(exported).call, donate_argnums=donated, compiler_options=compiler_options())
  keys = [_is_key(leaf) for leaf in leaves]

  def call(*arguments):
    return jax.tree.unflatten(results, _with_keys(program(*map(_raw, jax.tree.leaves(arguments))), result_keys))

  result_keys = keys[: len(donated)] + [False] * (results.num_leaves - len(donated))
  return call


def _export(function, leaves, structure, names_of) -> tuple[Any, bytes]:
  """The names of the result, and the program in serialized form."""
  from jax import export

  found = {}
  keys = [_is_key(leaf) for leaf in leaves]

  def flat(*raw):
    result = function(*jax.tree.unflatten(structure, _with_keys(raw, keys)))
    found["names"] = names_of(result)
    return [_raw(leaf) for leaf in jax.tree.leaves(result)]

  checks = [export.DisabledSafetyCheck.custom_call(name) for name in _NATIVE_CALLS]
  shapes = [jax.ShapeDtypeStruct(np.shape(raw), raw.dtype) for raw in map(_raw, leaves)]
  exported = export.export(jax.jit(flat), disabled_checks=checks)(*shapes)
  return found["names"], bytes(exported.serialize())


def _deserialize(exported: bytes):
  from jax import export

  return export.deserialize(bytearray(exported))


def _key(identity: Any, leaves: list, structure: Any) -> str:
  device = jax.devices()[0]
  about = {
    "identity": identity,
    "arguments": [[str(leaf.dtype), list(np.shape(leaf))] for leaf in leaves],
    "structure": str(structure),
    "code": _code(),
    "versions": versions(),
    "device": [device.platform, device.device_kind],
    "options": {name: str(getattr(jax.config, name)) for name in _OPTIONS},
    "compiler": [compiler_options(), os.environ.get("XLA_FLAGS", "")],
  }
  return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:40]


@functools.cache
def _code() -> str:
  """A digest of this package's code."""
  digest = hashlib.sha256()
  for path in sorted(_PACKAGE.rglob("*.py")):
    digest.update(f"{path.relative_to(_PACKAGE)} {path.stat().st_size}\n".encode() + path.read_bytes())
  return digest.hexdigest()


def _packed(names: Any, exported: bytes) -> bytes:
  about = {"names": names, "sha256": hashlib.sha256(exported).hexdigest()}
  return json.dumps(about).encode() + b"\n" + exported


def _read(path: pathlib.Path) -> tuple[Any, bytes] | None:
  """The entry; None if it is missing or damaged."""
  try:
    about, exported = path.read_bytes().split(b"\n", 1)
    about = json.loads(about)
    return (about["names"], exported) if hashlib.sha256(exported).hexdigest() == about["sha256"] else None
  except (OSError, ValueError, KeyError, TypeError):
    return None


def _is_key(leaf: Any) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(leaf: Any) -> Any:
  """Keys as numbers, which can be exported."""
  return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _with_keys(raw: Any, keys: list[bool]) -> list:
  return [jax.random.wrap_key_data(leaf) if is_key else leaf for leaf, is_key in zip(raw, keys, strict=True)]
