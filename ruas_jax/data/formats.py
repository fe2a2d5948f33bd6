"""The formats that are read and written, by file extension, and other formats that are recognised as pictures.

Photographs have more formats than training images: those that need optional packages. Videos need one too.
"""

import struct

# Extension -> format that is read and written without optional packages.
FORMATS = {
  ".png": "PNG",
  **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
  ".webp": "WebP",
  **dict.fromkeys((".tif", ".tiff"), "TIFF"),
  ".bmp": "BMP",
}
IMAGE_SUFFIXES = tuple(FORMATS)
# Extension -> format that photographs may have too (`photos.extras`).
PHOTO_FORMATS = FORMATS | {
  **dict.fromkeys((".heic", ".heif", ".heics", ".heifs", ".hif"), "HEIC"),
  **dict.fromkeys((".avif", ".avifs"), "AVIF"),
  ".jxl": "JPEG XL",
}
RAW = "camera raw"

_RAW = (
  *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "gpr", "iiq", "kdc", "mef", "mos"),
  *("mrw", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
)
# Extension -> format that is only read.
RAW_FORMATS = {f".{suffix}": RAW for suffix in _RAW}
VIDEO = "video"
# Extension of a video -> extension of its enhanced video, whose container has to hold H.264 and any sound.
VIDEO_RESULTS = {
  **{suffix: suffix for suffix in (".mp4", ".m4v", ".mov", ".mkv")},
  **dict.fromkeys((".3gp", ".avi", ".flv", ".m2ts", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"), ".mkv"),
}
# Extension -> format of pictures that cannot be read or written.
UNSUPPORTED = {
  ".apng": "APNG",
  ".cur": "ICO",
  ".dds": "DDS",
  ".dib": "DIB",
  ".exr": "OpenEXR",
  ".gif": "GIF",
  ".hdr": "Radiance HDR",
  ".ico": "ICO",
  **dict.fromkeys((".j2c", ".j2k", ".jp2", ".jpf", ".jpm", ".jpx"), "JPEG 2000"),
  ".jls": "JPEG-LS",
  **dict.fromkeys((".hdp", ".jxr", ".wdp"), "JPEG XR"),
  ".mpo": "MPO",
  **dict.fromkeys((".pam", ".pbm", ".pfm", ".pgm", ".pnm", ".ppm"), "Netpbm"),
  ".pcx": "PCX",
  **dict.fromkeys((".psb", ".psd"), "Photoshop"),
  ".svg": "SVG",
  ".tga": "Targa",
  ".xcf": "GIMP",
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
  (b"\x1aE\xdf\xa3", VIDEO),  # Matroska
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"crx ": RAW}
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC")
_BRANDS |= dict.fromkeys(
  (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"qt  "), VIDEO
)
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes that a BMP's second header may have


def format_of_content(beginning: bytes) -> str | None:
  """The format of a picture, or `VIDEO`, from the first 32 bytes of its file; None if it is not a known format."""
  for start, name in _BEGINNINGS:
    if beginning.startswith(start):
      return name
  if beginning[:4] == b"RIFF" and beginning[8:12] == b"WEBP":
    return "WebP"
  if beginning[4:8] == b"ftyp":
    kind = _BRANDS.get(beginning[8:12])
    return "AVIF" if kind == "HEIC" and b"avif" in beginning[16:] else kind  # a general brand, and the codec's after it
  if beginning[:2] == b"BM" and len(beginning) >= 18 and struct.unpack_from("<I", beginning, 14)[0] in _BMP_HEADERS:
    return "BMP"
  if beginning[:1] == b"P" and beginning[1:2] in b"123456" and beginning[2:3].isspace():
    return "Netpbm"
  return None
