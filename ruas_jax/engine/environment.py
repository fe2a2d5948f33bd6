"""The environment of the package: versions, devices, the compilation cache, and installed extras."""

import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import sys

import jax

from ruas_jax import __version__
from ruas_jax.convolution import native

_FIGURES_DEPEND_ON = ("jax", "jaxlib", "flax", "optax", "numpy")
_OPTIONAL = {  # name of the extra -> module that it installs
  "cuda": "jax_cuda12_plugin",
  "tpu": "libtpu",
  "tensorboard": "tensorboardX",
  "photos": "pillow_heif",
  "video": "av",
  "export": "onnxruntime",
  "bench": "torch",
}


def versions() -> dict[str, str]:
  """Versions of Python, of the packages and of the convolution, which the bits of a result may depend on."""
  packages = [*_FIGURES_DEPEND_ON] + (["torch"] if "torch" in sys.modules else [])
  found = {name: importlib.metadata.version(name) for name in packages}
  return {"python": platform.python_version(), **found, "convolution": str(native.form())}


def device_in_words() -> str:
  """The first device; for a CPU its model and the number of cores that this process may use."""
  device = jax.devices()[0]
  if device.platform != "cpu":
    return f"{device.platform}: {device.device_kind}"
  information = pathlib.Path("/proc/cpuinfo")
  lines = information.read_text().splitlines() if information.exists() else []
  model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  return f"cpu: {model}, {cores} cores"


def describe_environment() -> dict[str, str]:
  """Name -> one line for people to read. Starts jax's backend.

  It lists the version of the package, the versions of its dependencies, the devices, the cache folder, and which extras
  are installed.
  """
  devices = [f"{device.platform} {device.id} ({device.device_kind})" for device in jax.devices()]
  extras = {name: importlib.util.find_spec(module) is not None for name, module in _OPTIONAL.items()}
  # jax adds its options at run time.
  cache = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
  return {
    "ruas_jax": __version__,
    **versions(),
    "devices": ", ".join(devices),
    "cache": cache or "off",
    "extras": ", ".join(f"{name} {'installed' if there else 'not installed'}" for name, there in extras.items()),
  }
