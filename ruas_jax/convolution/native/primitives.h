// The convolution for few channels and its weight gradient, in terms of pointers, shapes and a pool of threads.
// The shapes have the axis of groups of `ruas_jax/convolution/primitives.py`,
//   image [G, B, C, H, W], kernel [G, T, O, C], bias [G, O], cotangent and result [G, B, O, H, W].
// The bias of a convolution and the gradient of the bias may be null. The image of a convolution may lie in several
// arrays, its parts, and a leaky ReLU may follow the sum.
//
// Both copy one tile of the image into a buffer in the cache, with zeros around the image, and sum products of whole
// vectors of pixels in registers. Tiles are divided over the threads. The order of every sum is fixed and does not
// depend on the number of threads.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "kernels.h"
#include "sharing.h"

namespace {

struct Taps {
  std::vector<int64_t> rows, columns;
  int64_t reach_y = 0, reach_x = 0;

  template <typename Flat>
  explicit Taps(const Flat& flat) {
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

// Consecutive channels of an array [G, B, channels, H, W].
template <typename T>
struct Part {
  const T* array;
  int64_t channels, first, count;
};

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

// How far `to` is from `from` in elements. They may be in different arrays.
template <typename T>
int64_t elements_between(const T* from, const T* to) {
  return (reinterpret_cast<intptr_t>(to) - reinterpret_cast<intptr_t>(from)) / static_cast<intptr_t>(sizeof(T));
}

constexpr int64_t kTileBytes = 128 * 1024;  // size of the buffer of a convolution's tile, for the L2 cache
constexpr int64_t kTileColumns = 384;
constexpr int64_t kMostStreams = 16;  // planes that a processor fetches ahead of time while they are read together
constexpr int64_t kSegmentColumns = 128;  // columns of a weight gradient's tile, for the L1 cache
constexpr int64_t kSegmentPixels = 1024;
constexpr int64_t kStripPixels = 8192;  // minimum number of pixels in one partial sum of a weight gradient,
constexpr int64_t kMostStrips = 32;     // and maximum number of partial sums
constexpr int64_t kMostPairs = 12;      // upper limit of Kernels::pairs
constexpr int64_t kLeastShared = 500'000;  // products for which other threads are worth waking

// `image_shape` is that of all parts together. A slope of 1 is no activation.
template <typename T, typename Pool>
void convolve(Pool& pool, const Taps& taps, const int64_t* image_shape, int64_t outputs,
              const std::vector<Part<T>>& parts, const T* kernel, const T* bias, T slope, T* result) {
  const Kernels<T> kernels = chosen_kernels<T>();
  const int64_t groups = image_shape[0], batch = image_shape[1], channels = image_shape[2];
  int64_t height = image_shape[3], width = image_shape[4];
  const int64_t plane = height * width, terms = taps.size() * channels;
  if (groups * batch * outputs * plane == 0) return;
  if (terms == 0) {
    for (int64_t index = 0; index < groups * batch * outputs; ++index) {
      const int64_t group = index / outputs / batch;
      const T value = bias ? bias[group * outputs + index % outputs] : T(0);
      std::fill_n(result + index * plane, plane, value >= 0 ? value : slope * value);
    }
    return;
  }
  const bool pointwise = taps.reach_y == 0 && taps.reach_x == 0;
  if (pointwise) width = plane, height = 1;  // each pixel is independent: one long row

  // Sorts the weights in the order of their use.
  const std::vector<int64_t> block_outputs = divide_evenly(outputs, kernels.outputs);
  const int64_t blocks = block_outputs.size();
  const int64_t numbers = (1 + terms) * outputs;
  std::vector<T> weights(groups * numbers);
  T* packed = weights.data();
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t block = 0, first = 0; block < blocks; first += block_outputs[block++]) {
      for (int64_t output = first; output < first + block_outputs[block]; ++output)
        *packed++ = bias ? bias[group * outputs + output] : T(0);
      for (int64_t tap = 0; tap < taps.size(); ++tap)
        for (int64_t channel = 0; channel < channels; ++channel)
          for (int64_t output = first; output < first + block_outputs[block]; ++output)
            *packed++ = kernel[((group * taps.size() + tap) * outputs + output) * channels + channel];
    }
  }

  int64_t most_columns = kTileColumns;
  if (pointwise) {
    const int64_t threads = terms * outputs * batch * plane >= kLeastShared ? pool.num_threads() : 1;
    const int64_t held = kTileBytes / static_cast<int64_t>(channels * sizeof(T));
    most_columns = std::min(std::max<int64_t>(held, 1), divide_up(width, threads));
  }
  const int64_t columns = round_up(std::min(most_columns, width), kernels.block_pixels);
  const int64_t buffer_row = columns + 2 * taps.reach_x;
  const int64_t buffer_rows = kTileBytes / static_cast<int64_t>(channels * buffer_row * sizeof(T));
  int64_t rows = std::clamp<int64_t>(buffer_rows - 2 * taps.reach_y, 1, height);
  const int64_t across = divide_up(width, columns);
  if (terms * outputs * batch * plane >= kLeastShared)  // enough tiles for all threads
    rows = std::min(rows, divide_up(height, divide_up(pool.num_threads(), groups * batch * across)));
  const int64_t buffer_plane = (rows + 2 * taps.reach_y) * buffer_row;
  std::vector<int64_t> offsets;
  for (int64_t tap = 0; tap < taps.size(); ++tap)
    for (int64_t channel = 0; channel < channels; ++channel)
      offsets.push_back(channel * buffer_plane + taps.rows[tap] * buffer_row + taps.columns[tap]);
  const int64_t down = divide_up(height, rows);

  share_out(pool, groups * batch * down * across, [&](int64_t index) {
    const int64_t left = index % across * columns, top = index / across % down * rows;
    const int64_t example = index / across / down, group = example / batch;
    const auto start = [&](const Part<T>& part) { return part.array + (example * part.channels + part.first) * plane; };
    std::vector<int64_t> straight;
    ConvolveTile<T> tile{};
    tile.terms = terms;
    tile.slope = slope;
    tile.weights = weights.data() + group * numbers;
    tile.block_outputs = block_outputs.data();
    tile.blocks = blocks;
    tile.target = result + example * outputs * plane + top * width + left;
    tile.target_plane = plane;
    tile.target_row = width;
    tile.rows = std::min(rows, height - top);
    tile.columns = std::min(columns, width - left);
    if (pointwise && channels <= kMostStreams && tile.columns % kernels.block_pixels == 0) {  // reads without a copy
      tile.source = start(parts[0]) + left;
      for (int64_t tap = 0; tap < taps.size(); ++tap)
        for (const Part<T>& part : parts)
          for (int64_t channel = 0; channel < part.count; ++channel)
            straight.push_back(elements_between(start(parts[0]), start(part)) + channel * plane);
      tile.offsets = straight.data();
    } else {
      T* buffer = scratch<T>(channels * buffer_plane);
      T* to = buffer;
      for (const Part<T>& part : parts) {
        copy_window(start(part), part.count, height, width, top - taps.reach_y, left - taps.reach_x,
                    rows + 2 * taps.reach_y, buffer_row, to);
        to += part.count * buffer_plane;
      }
      tile.source = buffer + taps.reach_y * buffer_row + taps.reach_x;
      tile.source_row = buffer_row;
      tile.offsets = offsets.data();
    }
    kernels.convolve(tile);
  });
}

template <typename T, typename Pool>
void correlate(Pool& pool, const Taps& taps, const int64_t* image_shape, int64_t outputs, const T* image,
               const T* cotangent, T* result, T* bias) {
  const Kernels<T> kernels = chosen_kernels<T>();
  const int64_t groups = image_shape[0], batch = image_shape[1], channels = image_shape[2];
  const int64_t height = image_shape[3], width = image_shape[4];
  // The gradient of the bias is that of one more pair, which reads ones in place of the image.
  const int64_t plane = height * width, pairs = taps.size() * channels, numbers = (pairs + 1) * outputs;
  if (groups * outputs == 0) return;
  if (batch * plane == 0) {
    std::fill_n(result, groups * pairs * outputs, T(0));
    if (bias) std::fill_n(bias, groups * outputs, T(0));
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
  const int64_t most_parts = std::max<int64_t>(channels, 1);
  const int64_t parts = numbers * batch * plane < kLeastShared
                            ? 1
                            : std::clamp<int64_t>(divide_up(pool.num_threads(), groups * strips), 1, most_parts);
  std::vector<T> partials(groups * strips * numbers);  // [group, strip, pair (channel, tap), output]
  share_out(pool, groups * strips * parts, [&](int64_t index) {
    const int64_t part = index % parts, strip = index / parts % strips, group = index / parts / strips;
    const int64_t first = part * channels / parts, here = (part + 1) * channels / parts - first;
    const bool ones = bias && part == parts - 1;
    const int64_t own_pairs = here * taps.size() + ones, padded = own_pairs + kMostPairs;
    const int64_t image_plane = image_rows * image_row, cotangent_size = outputs * rows * columns;
    const int64_t image_size = round_up((here + ones) * image_plane, kernels.lanes);
    const int64_t sums_size = padded * outputs * kernels.lanes;
    T* image_buffer = scratch<T>(image_size + cotangent_size + sums_size);
    T* cotangent_buffer = image_buffer + image_size;
    T* sums = cotangent_buffer + cotangent_size;
    std::fill_n(sums, sums_size, T(0));
    std::vector<int64_t> offsets(padded, 0);  // the padding of the last block gives unused results
    for (int64_t channel = 0, pair = 0; channel < here; ++channel)
      for (int64_t tap = 0; tap < taps.size(); ++tap)
        offsets[pair++] = channel * image_plane + taps.rows[tap] * image_row + taps.columns[tap];
    if (ones) {
      offsets[own_pairs - 1] = here * image_plane;
      std::fill_n(image_buffer + here * image_plane, image_plane, T(1));
    }

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
      const T* total = totals.data();
      for (int64_t start = 0; start < own_pairs; start += together)
        for (int64_t output = 0; output < block; ++output, total += together)
          for (int64_t pair = start; pair < std::min(start + together, own_pairs); ++pair)
            partial[pair * outputs + output] = total[pair - start];
      sums += padded_pairs * block * kernels.lanes;
      partial += block;
    }
  });

  const T* partial = partials.data();
  const auto total = [&](const T* partial) {
    T sum = 0;
    for (int64_t strip = 0; strip < strips; ++strip) sum += partial[strip * numbers];
    return sum;
  };
  for (int64_t group = 0; group < groups; ++group, partial += (strips - 1) * numbers) {
    for (int64_t channel = 0; channel < channels; ++channel)
      for (int64_t tap = 0; tap < taps.size(); ++tap)
        for (int64_t output = 0; output < outputs; ++output)
          result[((group * taps.size() + tap) * outputs + output) * channels + channel] = total(partial++);
    for (int64_t output = 0; output < outputs; ++output, ++partial)
      if (bias) bias[group * outputs + output] = total(partial);
  }
}

}  // namespace
