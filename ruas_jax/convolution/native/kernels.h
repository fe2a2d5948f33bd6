// The loops of `kernels.inc` for each kind of vector, and the choice among them.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#define RUAS_INLINE inline __attribute__((always_inline))

// Keeps a vector in a register. GCC would load it again for each of its uses, which is slow for vectors that are not
// aligned.
#if defined(__x86_64__)
#define RUAS_IN_REGISTER(vector) asm("" : "+v"(vector))
#elif defined(__aarch64__)
#define RUAS_IN_REGISTER(vector) asm("" : "+w"(vector))
#else
#define RUAS_IN_REGISTER(vector)
#endif

namespace {

template <typename T>
struct ConvolveTile {
  const T* source;  // at the tap (0, 0) of the tile's first pixel
  int64_t source_row;
  const int64_t* offsets;  // offset in the source of each term (tap, channel)
  int64_t terms;
  const T* weights;  // block by block the biases, then [terms][outputs of the block]
  const int64_t* block_outputs;
  int64_t blocks;
  T slope;  // of the activation: a negative result is multiplied by it
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

}  // namespace
