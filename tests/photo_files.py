"""Small photographs of every kind for the tests of reading and writing them."""

import functools

import numpy as np
import png
import tifffile
from PIL import ExifTags, Image, ImageCms

from ruas_jax.photos.reading import read_photo
from ruas_jax.photos.writing import write_photo

HEIGHT, WIDTH = 6, 9
ORIENTATION = ExifTags.Base.Orientation


def random_samples(channels: int, bits: int) -> np.ndarray:
  shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
  return np.random.default_rng(channels).integers(0, 2**bits, shape).astype(f"uint{bits}")


def write_deep_png(path, samples: np.ndarray, **options) -> None:
  channels = 1 if samples.ndim == 2 else samples.shape[-1]
  writer = png.Writer(WIDTH, HEIGHT, greyscale=channels <= 2, alpha=channels in (2, 4), bitdepth=16, **options)
  with open(path, "wb") as file:
    writer.write(file, samples.reshape(HEIGHT, -1).tolist())


def read_deep_png(path) -> np.ndarray:
  _, _, rows, info = png.Reader(bytes=path.read_bytes()).read()
  assert info["bitdepth"] == 16
  return np.asarray([list(row) for row in rows]).reshape(HEIGHT, WIDTH, info["planes"]).squeeze()


def write_tiff(path, samples: np.ndarray, **options) -> None:
  channels = 1 if samples.ndim == 2 else samples.shape[-1]
  extra = {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
  tifffile.imwrite(path, samples, photometric="minisblack" if channels <= 2 else "rgb", **extra, **options)


def write_values(path, values: np.ndarray, photo, **options) -> None:
  """Writes enhanced colours beside the photograph's own alpha."""
  samples = photo.samples.copy()
  samples[..., : photo.colours] = photo.to_levels(values)
  write_photo(path, samples, photo, **options)


def pass_through(source, output=None):
  """Reads, enhances by nothing, writes; returns the photograph and the output's path."""
  output = output or source.parent / "out" / source.name
  photo = read_photo(source)
  write_values(output, photo.values(), photo)
  return photo, output


def exif_block(orientation: int) -> bytes:
  exif = Image.Exif()
  exif[ExifTags.Base.Make] = "Maker"
  exif[ORIENTATION] = orientation
  exif[ExifTags.IFD.Exif] = {ExifTags.Base.ExifImageWidth: WIDTH, ExifTags.Base.ExifImageHeight: HEIGHT}
  exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
  return exif.tobytes()


@functools.cache  # it notes the second in which it was made
def profile_block() -> bytes:
  return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


_TO_SRGB = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))  # from XYZ, D65
NEUTRAL = (0.5, 1.0, 0.7)  # what the camera of `write_dng` records for white
BLACK, WHITE = 64, 4095


def write_dng(path, light: np.ndarray, orientation: int = 1, **options) -> None:
  """A raw file of a camera whose colours are those of sRGB, of linear light [H, W, 3]; sides are even."""
  raw = np.rint(BLACK + light * NEUTRAL * (WHITE - BLACK)).astype(np.uint16)
  mosaic = raw[..., 1].copy()
  mosaic[::2, ::2], mosaic[1::2, 1::2] = raw[::2, ::2, 0], raw[1::2, 1::2, 2]
  fractions = lambda values, kind: (kind, len(values), [part for v in values for part in (round(v * 10000), 10000)])
  matrix = [value for row in _TO_SRGB for value in row]
  tags = {
    271: (2, 0, "Maker"),
    272: (2, 0, "Model"),
    274: (3, 1, orientation),
    33421: (3, 2, (2, 2)),  # size and colours of the mosaic
    33422: (1, 4, bytes((0, 1, 1, 2))),
    50706: (1, 4, bytes((1, 4, 0, 0))),
    50708: (2, 0, "Maker Model"),
    50714: (4, 1, BLACK),
    50717: (4, 1, WHITE),
    50721: fractions(matrix, 10),
    50728: fractions(NEUTRAL, 5),
    50778: (3, 1, 21),  # D65
  } | options.get("tags", {})
  extra = [(tag, kind, count, value, True) for tag, (kind, count, value) in tags.items()]
  tifffile.imwrite(path, mosaic, photometric="cfa", extratags=extra, metadata=None)
