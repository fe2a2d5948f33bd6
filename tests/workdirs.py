"""What runs leave in their work directories: read, compared, damaged."""

import jax
import numpy as np
import orbax.checkpoint as ocp
from tiny_problem import logged

from ruas_jax.engine.checkpoint import read_about


def steps_in(workdir):
  return sorted(int(path.name) for path in (workdir / "snapshots").iterdir() if path.name.isdecimal())


def arrays_in(checkpoint):
  """All numbers of a sound checkpoint, by name."""
  read_about(checkpoint)
  tree = ocp.StandardCheckpointHandler().restore(checkpoint / "arrays", args=ocp.args.StandardRestore())
  return {jax.tree_util.keystr(path): array for path, array in jax.tree_util.tree_leaves_with_path(tree)}


def content_of(workdir):
  """Everything that a run leaves but for pictures and the machine's own: by file, arrays or records or text."""
  content = {}
  for path in sorted(workdir.rglob("*")):
    name = str(path.relative_to(workdir))
    if (path / "checksums.json").exists():
      content[name] = {key: (array.dtype, array.tobytes()) for key, array in arrays_in(path).items()}
      content[f"{name} says"] = {key: value for key, value in read_about(path).items() if key != "logs"}
    elif path.name == "metrics.jsonl":
      content[name] = logged(path.parent)
    elif path.name == "alpha.npz":
      with np.load(path) as arrays:
        content[name] = {key: arrays[key].tobytes() for key in arrays.files}
    elif path.is_file() and not any((folder / "checksums.json").exists() for folder in path.parents):
      content[name] = path.read_bytes()
  return content


def assert_same(one, other, *, says=True):
  """But for snapshots on the way that only one of them has; `says`: they are to say the same of themselves."""
  last = f"snapshots/{steps_in(one)[-1]:06}"
  one, other = content_of(one), content_of(other)
  for name in one.keys() | other.keys():
    on_the_way = name.startswith("snapshots/") and not name.startswith(last)
    if not ((on_the_way and not (name in one and name in other)) or (name.endswith(" says") and not says)):
      assert one.get(name) == other.get(name), name


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 16
  path.write_bytes(content)


def damage(workdir, *steps):
  for step in steps:
    flip(workdir / "snapshots" / f"{step:06}" / "arrays" / "_METADATA")
