"""The image formats that are read and written, by file extension, and other formats that are recognised as pictures."""

import struct

# Extension -> format that is read and written.
FORMATS = {
  ".png": "PNG",
  **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
  ".webp": "WebP",
  **dict.fromkeys((".tif", ".tiff"), "TIFF"),
  ".bmp": "BMP",
}
IMAGE_SUFFIXES = tuple(FORMATS)

_RAW = (
  *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "gpr", "iiq", "kdc", "mef", "mos"),
  *("mrw", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
)
# Extension -> format of pictures that cannot be read or written.
UNSUPPORTED = {
  ".apng": "APNG",
  **dict.fromkeys((".avif", ".avifs"), "AVIF"),
  ".cur": "ICO",
  ".dds": "DDS",
  ".dib": "DIB",
  ".exr": "OpenEXR",
  ".gif": "GIF",
  ".hdr": "Radiance HDR",
  **dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), "HEIC"),
  ".ico": "ICO",
  **dict.fromkeys((".j2c", ".j2k", ".jp2", ".jpf", ".jpm", ".jpx"), "JPEG 2000"),
  ".jls": "JPEG-LS",
  ".jxl": "JPEG XL",
  **dict.fromkeys((".hdp", ".jxr", ".wdp"), "JPEG XR"),
  ".mpo": "MPO",
  **dict.fromkeys((".pam", ".pbm", ".pfm", ".pgm", ".pnm", ".ppm"), "Netpbm"),
  ".pcx": "PCX",
  **dict.fromkeys((".psb", ".psd"), "Photoshop"),
  ".svg": "SVG",
  ".tga": "Targa",
  ".xcf": "GIMP",
  **{f".{suffix}": "camera raw" for suffix in _RAW},
}
# First bytes -> format, for files without a known extension.
_BEGINNINGS = (
  (b"\x89PNG\r\n\x1a\n", "PNG"),
  (b"\xff\xd8\xff", "JPEG"),
  (b"II*\0", "TIFF"),
  (b"MM\0*", "TIFF"),
  (b"II+\0", "TIFF"),
  (b"MM\0+", "TIFF"),
  (b"GIF87a", "GIF"),
  (b"GIF89a", "GIF"),
  (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
  (b"\xff\x4f\xff\x51", "JPEG 2000"),
  (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
  (b"\xff\x0a", "JPEG XL"),
  (b"8BPS", "Photoshop"),
  (b"\x76\x2f\x31\x01", "OpenEXR"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": "camera raw"}
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes that a BMP's second header may have


def format_of_content(beginning: bytes) -> str | None:
  """The format of a picture from the first 32 bytes of its file; None if it is not a known format."""
  for start, name in _BEGINNINGS:
    if beginning.startswith(start):
      return name
  if beginning[:4] == b"RIFF" and beginning[8:12] == b"WEBP":
    return "WebP"
  if beginning[4:8] == b"ftyp":
    return _BRANDS.get(beginning[8:12])
  if beginning[:2] == b"BM" and len(beginning) >= 18 and struct.unpack_from("<I", beginning, 14)[0] in _BMP_HEADERS:
    return "BMP"
  if beginning[:1] == b"P" and beginning[1:2] in b"123456" and beginning[2:3].isspace():
    return "Netpbm"
  return None
