// The convolution for few channels and its weight gradient on a CPU, called by XLA: `ruas_convolve`, `ruas_correlate`.
// `ruas_jax/convolution/primitives.py` defines them; the shapes have its axis of groups,
//   image [G, B, C, H, W], kernel [G, T, O, C], cotangent and result [G, B, O, H, W],
// and the attribute `taps` holds dy, dx of each tap. The types are float32 and float64.
//
// Both copy one tile of the image into a buffer in the cache, with zeros around the image, and sum products of whole
// vectors of pixels in registers. Tiles are divided over XLA's threads. The order of every sum is fixed and does not
// depend on the number of threads.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

constexpr int kLineBytes = 64;
constexpr int kSpins = 1000;  // about 20 microseconds

#define RUAS_INLINE inline __attribute__((always_inline))

namespace {

template <typename T>
struct ConvolveTile {
  const T* source;  // at the tap (0, 0) of the tile's first pixel
  int64_t source_row;
  const int64_t* offsets;  // offset in the source of each term (tap, channel)
  int64_t terms;
  const T* weights;  // block by block [terms][outputs of the block]
  const int64_t* block_outputs;
  int64_t blocks;
  T* target;
  int64_t target_plane, target_row;
  int64_t rows, columns;
};

template <typename T>
struct CorrelateTile {
  const T* image;  // at the tap (0, 0) of the tile's first pixel
  int64_t image_row;
  const int64_t* offsets;  // offset of each pair (tap, channel), padded to whole blocks of pairs
  int64_t pairs;
  const T* cotangent;
  int64_t cotangent_plane, cotangent_row;
  int64_t outputs;  // at most Kernels::outputs
  T* sums;          // [pairs][outputs] vectors, in the kernel's blocks
  int64_t rows, columns;
};

template <typename T>
struct Kernels {
  void (*convolve)(const ConvolveTile<T>&);
  void (*correlate)(const CorrelateTile<T>&);
  void (*sum_lanes)(const T*, int64_t, T*);
  int64_t (*pairs)(int64_t);  // block of pairs of a weight gradient with so many outputs
  int64_t lanes, block_pixels, outputs;
};

namespace plain {  // SSE on x86, NEON on ARM, which all such processors have
#define RUAS_BYTES 16
#define RUAS_OUTPUTS 4
#define RUAS_VECTORS(n) 2
#define RUAS_PAIRS(n) (n == 4 ? 2 : 3)
#if defined(__x86_64__)
#define RUAS_REGISTER "x"
#else
#define RUAS_REGISTER "w"
#endif
#include "kernels.inc"
}  // namespace plain

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define RUAS_BYTES 32
#define RUAS_OUTPUTS 4
#define RUAS_VECTORS(n) 3
#define RUAS_PAIRS(n) (n == 4 ? 2 : n == 3 ? 3 : n == 2 ? 5 : 8)
#define RUAS_REGISTER "x"
#include "kernels.inc"
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx2,fma")
#endif
namespace avx512 {
#define RUAS_BYTES 64
#define RUAS_OUTPUTS 7
#define RUAS_VECTORS(n) (n > 4 ? 2 : 4)
#define RUAS_PAIRS(n) (n == 7 ? 3 : n == 6 ? 4 : n == 5 ? 5 : n == 4 ? 6 : n == 3 ? 8 : n == 2 ? 10 : 12)
#define RUAS_REGISTER "v"
#include "kernels.inc"
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

enum class Vectors { plain, avx2, avx512 };

// The widest vectors of the processor, or those that RUAS_JAX_NATIVE names, if the processor has them.
Vectors choose_vectors() {
  Vectors widest = Vectors::plain;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    widest = Vectors::avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
      widest = Vectors::avx512;
  }
#endif
  const char* wish = std::getenv("RUAS_JAX_NATIVE");
  const std::string_view named = wish ? wish : "";
  if (named == "plain") return Vectors::plain;
  if (named == "avx2") return std::min(widest, Vectors::avx2);
  return widest;
}

Vectors chosen_vectors() {
  static const Vectors chosen = choose_vectors();
  return chosen;
}

template <typename T>
Kernels<T> chosen_kernels() {
  switch (chosen_vectors()) {
#if defined(__x86_64__)
    case Vectors::avx512:
      return avx512::kernels<T>();
    case Vectors::avx2:
      return avx2::kernels<T>();
#endif
    default:
      return plain::kernels<T>();
  }
}

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// A buffer of this thread, which only grows. It begins at a line of the cache.
template <typename T>
T* scratch(int64_t size) {
  thread_local std::vector<T> buffer;
  const size_t needed = size + kLineBytes / sizeof(T);
  if (buffer.size() < needed) buffer.resize(needed);
  const uintptr_t start = reinterpret_cast<uintptr_t>(buffer.data());
  return reinterpret_cast<T*>((start + kLineBytes - 1) / kLineBytes * kLineBytes);
}

// Runs `work(0)` to `work(count - 1)` on this thread and on the threads of the pool. It waits only for work that has
// begun: a thread of the pool that starts late finds no work left, and may start after this function has returned.
template <typename Work>
void share_out(ffi::ThreadPool& pool, int64_t count, const Work& work) {
  struct Shared {
    std::atomic<int64_t> next{0}, done{0};
    int64_t count;
    const Work* work;
    std::mutex mutex;
    std::condition_variable finished;

    void run() {
      int64_t ran = 0;
      for (int64_t index; (index = next.fetch_add(1)) < count; ++ran) (*work)(index);
      if (ran == 0 || done.fetch_add(ran) + ran < count) return;
      std::lock_guard<std::mutex> lock(mutex);
      finished.notify_all();
    }
  };
  const int64_t helpers = std::min<int64_t>(pool.num_threads(), count) - 1;
  if (helpers <= 0) {
    for (int64_t index = 0; index < count; ++index) work(index);
    return;
  }
  auto shared = std::make_shared<Shared>();
  shared->count = count;
  shared->work = &work;
  for (int64_t helper = 0; helper < helpers; ++helper) pool.Schedule([shared] { shared->run(); });
  shared->run();
  for (int spin = 0; spin < kSpins && shared->done < count; ++spin) pause();  // a short wait should not put us to sleep
  if (shared->done == count) return;
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->finished.wait(lock, [&] { return shared->done == shared->count; });
}

struct Taps {
  std::vector<int64_t> rows, columns;
  int64_t reach_y = 0, reach_x = 0;

  explicit Taps(ffi::Span<const int64_t> flat) {
    for (size_t tap = 0; tap + 1 < flat.size(); tap += 2) {
      rows.push_back(flat[tap]);
      columns.push_back(flat[tap + 1]);
      reach_y = std::max(reach_y, std::abs(flat[tap]));
      reach_x = std::max(reach_x, std::abs(flat[tap + 1]));
    }
  }
  int64_t size() const { return rows.size(); }
};

int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }
int64_t round_up(int64_t value, int64_t to) { return divide_up(value, to) * to; }

// Divides `count` into the fewest blocks of at most `most`, of nearly equal size.
std::vector<int64_t> divide_evenly(int64_t count, int64_t most) {
  std::vector<int64_t> blocks(divide_up(count, most));
  const int64_t number = blocks.size();
  for (int64_t block = 0; block < number; ++block)
    blocks[block] = (block + 1) * count / number - block * count / number;
  return blocks;
}

// Copies rows [top, top + rows) and columns [left, left + columns) of each of `planes` images; zeros outside the image.
template <typename T>
void copy_window(const T* image, int64_t planes, int64_t height, int64_t width, int64_t top, int64_t left, int64_t rows,
                 int64_t columns, T* to) {
  const int64_t first = std::clamp<int64_t>(-left, 0, columns);
  const int64_t last = std::clamp<int64_t>(width - left, first, columns);
  for (int64_t plane = 0; plane < planes; ++plane, image += height * width) {
    for (int64_t y = top; y < top + rows; ++y, to += columns) {
      if (y < 0 || y >= height) {
        std::fill_n(to, columns, T(0));
        continue;
      }
      std::fill_n(to, first, T(0));
      std::copy_n(image + y * width + left + first, last - first, to + first);
      std::fill_n(to + last, columns - last, T(0));
    }
  }
}

constexpr int64_t kTileBytes = 128 * 1024;  // size of the buffer of a convolution's tile, for the L2 cache
constexpr int64_t kTileColumns = 384;
constexpr int64_t kSegmentColumns = 128;  // columns of a weight gradient's tile, for the L1 cache
constexpr int64_t kSegmentPixels = 1024;
constexpr int64_t kStripPixels = 8192;  // minimum number of pixels in one partial sum of a weight gradient,
constexpr int64_t kMostStrips = 32;     // and maximum number of partial sums
constexpr int64_t kMostPairs = 12;      // upper limit of Kernels::pairs
constexpr int64_t kLeastShared = 500'000;  // products for which other threads are worth waking

template <typename T>
void convolve(ffi::ThreadPool& pool, const Taps& taps, const int64_t* image_shape, int64_t outputs, const T* image,
              const T* kernel, T* result) {
  const Kernels<T> kernels = chosen_kernels<T>();
  const int64_t groups = image_shape[0], batch = image_shape[1], channels = image_shape[2];
  int64_t height = image_shape[3], width = image_shape[4];
  const int64_t plane = height * width, terms = taps.size() * channels;
  if (groups * batch * outputs * plane == 0) return;
  if (terms == 0) {
    std::fill_n(result, groups * batch * outputs * plane, T(0));
    return;
  }
  const bool pointwise = taps.reach_y == 0 && taps.reach_x == 0;
  if (pointwise) width = plane, height = 1;  // each pixel is independent: one long row

  // Sorts the weights in the order of their use.
  const std::vector<int64_t> block_outputs = divide_evenly(outputs, kernels.outputs);
  const int64_t blocks = block_outputs.size();
  std::vector<T> weights(groups * terms * outputs);
  T* packed = weights.data();
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t block = 0, first = 0; block < blocks; first += block_outputs[block++])
      for (int64_t tap = 0; tap < taps.size(); ++tap)
        for (int64_t channel = 0; channel < channels; ++channel)
          for (int64_t output = first; output < first + block_outputs[block]; ++output)
            *packed++ = kernel[((group * taps.size() + tap) * outputs + output) * channels + channel];
  }

  const int64_t columns = std::min(round_up(kTileColumns, kernels.block_pixels), round_up(width, kernels.block_pixels));
  const int64_t buffer_row = columns + 2 * taps.reach_x;
  const int64_t buffer_rows = kTileBytes / static_cast<int64_t>(channels * buffer_row * sizeof(T));
  int64_t rows = std::clamp<int64_t>(buffer_rows - 2 * taps.reach_y, 1, height);
  const int64_t across = divide_up(width, columns);
  if (terms * outputs * batch * plane >= kLeastShared)  // enough tiles for all threads
    rows = std::min(rows, divide_up(height, divide_up(pool.num_threads(), groups * batch * across)));
  const int64_t buffer_plane = (rows + 2 * taps.reach_y) * buffer_row;
  std::vector<int64_t> offsets, straight;
  for (int64_t tap = 0; tap < taps.size(); ++tap)
    for (int64_t channel = 0; channel < channels; ++channel) {
      offsets.push_back(channel * buffer_plane + taps.rows[tap] * buffer_row + taps.columns[tap]);
      straight.push_back(channel * plane);
    }
  const int64_t down = divide_up(height, rows);

  share_out(pool, groups * batch * down * across, [&](int64_t index) {
    const int64_t left = index % across * columns, top = index / across % down * rows;
    const int64_t example = index / across / down, group = example / batch;
    const T* from = image + example * channels * plane;
    ConvolveTile<T> tile{};
    tile.terms = terms;
    tile.weights = weights.data() + group * terms * outputs;
    tile.block_outputs = block_outputs.data();
    tile.blocks = blocks;
    tile.target = result + example * outputs * plane + top * width + left;
    tile.target_plane = plane;
    tile.target_row = width;
    tile.rows = std::min(rows, height - top);
    tile.columns = std::min(columns, width - left);
    if (pointwise && tile.columns % kernels.block_pixels == 0) {  // read from the image directly, without a copy
      tile.source = from + left;
      tile.offsets = straight.data();
    } else {
      T* buffer = scratch<T>(channels * buffer_plane);
      copy_window(from, channels, height, width, top - taps.reach_y, left - taps.reach_x, rows + 2 * taps.reach_y,
                  buffer_row, buffer);
      tile.source = buffer + taps.reach_y * buffer_row + taps.reach_x;
      tile.source_row = buffer_row;
      tile.offsets = offsets.data();
    }
    kernels.convolve(tile);
  });
}

template <typename T>
void correlate(ffi::ThreadPool& pool, const Taps& taps, const int64_t* image_shape, int64_t outputs, const T* image,
               const T* cotangent, T* result) {
  const Kernels<T> kernels = chosen_kernels<T>();
  const int64_t groups = image_shape[0], batch = image_shape[1], channels = image_shape[2];
  const int64_t height = image_shape[3], width = image_shape[4];
  const int64_t plane = height * width, pairs = taps.size() * channels, numbers = pairs * outputs;
  if (groups * numbers == 0) return;
  if (batch * plane == 0) {
    std::fill_n(result, groups * numbers, T(0));
    return;
  }
  const int64_t columns = round_up(std::min(kSegmentColumns, width), kernels.lanes);
  const int64_t rows = std::clamp<int64_t>(kSegmentPixels / columns, 1, height);
  const int64_t image_row = columns + 2 * taps.reach_x, image_rows = rows + 2 * taps.reach_y;
  const std::vector<int64_t> blocks = divide_evenly(outputs, kernels.outputs);

  // Strips of rows, counted over all images of the batch. Their number depends only on the shape, as the order of the
  // sums does. The channels are divided only to occupy all threads.
  const int64_t all_rows = batch * height;
  const int64_t strips = std::min(all_rows, std::clamp<int64_t>(batch * plane / kStripPixels, 1, kMostStrips));
  const int64_t parts = numbers * batch * plane < kLeastShared
                            ? 1
                            : std::clamp<int64_t>(divide_up(pool.num_threads(), groups * strips), 1, channels);
  std::vector<T> partials(groups * strips * numbers);  // [group, strip, channel, tap, output]
  share_out(pool, groups * strips * parts, [&](int64_t index) {
    const int64_t part = index % parts, strip = index / parts % strips, group = index / parts / strips;
    const int64_t first = part * channels / parts, here = (part + 1) * channels / parts - first;
    const int64_t own_pairs = here * taps.size(), padded = own_pairs + kMostPairs;
    const int64_t image_size = round_up(here * image_rows * image_row, kernels.lanes), cotangent_size = outputs * rows * columns;
    const int64_t sums_size = padded * outputs * kernels.lanes;
    T* image_buffer = scratch<T>(image_size + cotangent_size + sums_size);
    T* cotangent_buffer = image_buffer + image_size;
    T* sums = cotangent_buffer + cotangent_size;
    std::fill_n(sums, sums_size, T(0));
    std::vector<int64_t> offsets(padded, 0);  // the padding of the last block gives unused results
    for (int64_t channel = 0, pair = 0; channel < here; ++channel)
      for (int64_t tap = 0; tap < taps.size(); ++tap)
        offsets[pair++] = (channel * image_rows + taps.rows[tap]) * image_row + taps.columns[tap];

    CorrelateTile<T> tile{};
    tile.image = image_buffer + taps.reach_y * image_row + taps.reach_x;
    tile.image_row = image_row;
    tile.offsets = offsets.data();
    tile.cotangent_plane = rows * columns;
    tile.cotangent_row = columns;
    const int64_t end = (strip + 1) * all_rows / strips;
    for (int64_t row = strip * all_rows / strips; row < end; row += tile.rows) {
      const int64_t example = group * batch + row / height, top = row % height;
      tile.rows = std::min({rows, end - row, height - top});
      for (int64_t left = 0; left < width; left += columns) {
        tile.columns = std::min(columns, width - left);
        copy_window(image + (example * channels + first) * plane, here, height, width, top - taps.reach_y,
                    left - taps.reach_x, image_rows, image_row, image_buffer);
        copy_window(cotangent + example * outputs * plane, outputs, height, width, top, left, rows, columns,
                    cotangent_buffer);
        tile.sums = sums;
        tile.cotangent = cotangent_buffer;
        for (const int64_t block : blocks) {
          tile.outputs = block;
          tile.pairs = round_up(own_pairs, kernels.pairs(block));
          kernels.correlate(tile);
          tile.sums += tile.pairs * block * kernels.lanes;
          tile.cotangent += block * tile.cotangent_plane;
        }
      }
    }

    T* partial = partials.data() + (group * strips + strip) * numbers + first * taps.size() * outputs;
    std::vector<T> totals;
    for (const int64_t block : blocks) {
      const int64_t together = kernels.pairs(block), padded_pairs = round_up(own_pairs, together);
      totals.resize(padded_pairs * block);
      kernels.sum_lanes(sums, padded_pairs * block, totals.data());
      for (int64_t pair = 0; pair < own_pairs; ++pair)
        for (int64_t output = 0; output < block; ++output)
          partial[pair * outputs + output] = totals[(pair / together * block + output) * together + pair % together];
      sums += padded_pairs * block * kernels.lanes;
      partial += block;
    }
  });

  for (int64_t group = 0; group < groups; ++group)
    for (int64_t pair = 0; pair < pairs; ++pair)
      for (int64_t output = 0; output < outputs; ++output) {
        T total = 0;
        for (int64_t strip = 0; strip < strips; ++strip)
          total += partials[(group * strips + strip) * numbers + pair * outputs + output];
        const int64_t tap = pair % taps.size(), channel = pair / taps.size();
        result[((group * taps.size() + tap) * outputs + output) * channels + channel] = total;
      }
}

ffi::Error call_convolve(ffi::ThreadPool pool, ffi::AnyBuffer image, ffi::AnyBuffer kernel,
                         ffi::Result<ffi::AnyBuffer> result, ffi::Span<const int64_t> flat_taps) {
  const Taps taps(flat_taps);
  const int64_t* shape = image.dimensions().begin();
  const int64_t outputs = kernel.dimensions()[2];
  switch (image.element_type()) {
    case ffi::F32:
      convolve<float>(pool, taps, shape, outputs, image.typed_data<float>(), kernel.typed_data<float>(),
                      result->typed_data<float>());
      return ffi::Error::Success();
    case ffi::F64:
      convolve<double>(pool, taps, shape, outputs, image.typed_data<double>(), kernel.typed_data<double>(),
                       result->typed_data<double>());
      return ffi::Error::Success();
    default:
      return ffi::Error::InvalidArgument("ruas_convolve takes float32 and float64");
  }
}

ffi::Error call_correlate(ffi::ThreadPool pool, ffi::AnyBuffer image, ffi::AnyBuffer cotangent,
                          ffi::Result<ffi::AnyBuffer> result, ffi::Span<const int64_t> flat_taps) {
  const Taps taps(flat_taps);
  const int64_t* shape = image.dimensions().begin();
  const int64_t outputs = cotangent.dimensions()[2];
  switch (image.element_type()) {
    case ffi::F32:
      correlate<float>(pool, taps, shape, outputs, image.typed_data<float>(), cotangent.typed_data<float>(),
                       result->typed_data<float>());
      return ffi::Error::Success();
    case ffi::F64:
      correlate<double>(pool, taps, shape, outputs, image.typed_data<double>(), cotangent.typed_data<double>(),
                        result->typed_data<double>());
      return ffi::Error::Success();
    default:
      return ffi::Error::InvalidArgument("ruas_correlate takes float32 and float64");
  }
}

}  // namespace

#define RUAS_BINDING                \
  ffi::Ffi::Bind()                  \
      .Ctx<ffi::ThreadPool>()       \
      .Arg<ffi::AnyBuffer>()        \
      .Arg<ffi::AnyBuffer>()        \
      .Ret<ffi::AnyBuffer>()        \
      .Attr<ffi::Span<const int64_t>>("taps")

XLA_FFI_DEFINE_HANDLER_SYMBOL(ruas_convolve, call_convolve, RUAS_BINDING);
XLA_FFI_DEFINE_HANDLER_SYMBOL(ruas_correlate, call_correlate, RUAS_BINDING);

// Name of the vectors in use.
extern "C" const char* ruas_vectors() {
  static const char* const names[] = {"plain", "AVX2", "AVX-512"};
  return names[static_cast<int>(chosen_vectors())];
}

// Version of XLA's interface for which this was built.
extern "C" int ruas_ffi_version() { return XLA_FFI_API_MAJOR * 1000 + XLA_FFI_API_MINOR; }
