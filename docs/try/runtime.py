"""Puts onnxruntime-web, which the page `docs/try` needs, into `docs/try/runtime`. Run by `make docs`.

    python docs/try/runtime.py

The release is pinned, and its files are checked. They have 41 MB, so they are not part of the repository.
"""

import base64
import hashlib
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

VERSION = "1.30.0"  # licence: MIT
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = (
  *("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
  *("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
)
FOLDER = pathlib.Path(__file__).parent / "runtime"


def main() -> None:
  # The extra `docs` installs npm beside this Python.
  npm = shutil.which("npm", path=pathlib.Path(sys.executable).parent) or shutil.which("npm")
  if not npm:
    sys.exit('docs/try needs npm: pip install ".[docs]"')
  with tempfile.TemporaryDirectory() as folder:
    package = f"onnxruntime-web@{VERSION}"
    subprocess.run([npm, "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (archive,) = pathlib.Path(folder).glob("*.tgz")
    if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != SHA512:
      sys.exit(f"{package} is not the release that this project was tested with: its checksum differs")
    FOLDER.mkdir(exist_ok=True)
    with tarfile.open(archive) as package_files:
      for name in FILES:
        content = package_files.extractfile(f"package/dist/{name}")
        assert content is not None
        (FOLDER / name).write_bytes(content.read())
  (FOLDER / "version").write_text(VERSION)


if __name__ == "__main__":
  main()
