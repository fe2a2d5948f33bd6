// What XLA calls: `ruas_convolve` and `ruas_correlate` on float32 and float64, with the attribute `taps`, which holds
// dy, dx of each tap. The operands of `ruas_convolve` are the parts of the image, the kernel, and perhaps a bias. Its
// attribute `parts` holds the first channel and the number of channels of each part, and `slope` is that of the leaky
// ReLU. `ruas_correlate` may have a second result, the gradient of the bias.

#include "primitives.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// The data of an optional result, the first of `rest`; null without it.
template <typename T>
T* optional(const ffi::RemainingRets& rest) {
  return rest.empty() ? nullptr : (*rest.get<ffi::AnyBuffer>(0))->typed_data<T>();
}

template <typename T>
void convolve_operands(ffi::ThreadPool& pool, const Taps& taps, const ffi::RemainingArgs& operands,
                       ffi::Span<const int64_t> channels, T slope, T* result) {
  const auto operand = [&](size_t index) { return *operands.get<ffi::AnyBuffer>(index); };
  const size_t count = channels.size() / 2;
  int64_t shape[5];
  std::copy_n(operand(0).dimensions().begin(), 5, shape);
  shape[2] = 0;
  std::vector<Part<T>> parts;
  for (size_t part = 0; part < count; ++part) {
    const ffi::AnyBuffer array = operand(part);
    parts.push_back({array.typed_data<T>(), array.dimensions()[2], channels[2 * part], channels[2 * part + 1]});
    shape[2] += parts.back().count;
  }
  const ffi::AnyBuffer kernel = operand(count);
  const T* bias = operands.size() > count + 1 ? operand(count + 1).template typed_data<T>() : nullptr;
  convolve<T>(pool, taps, shape, kernel.dimensions()[2], parts, kernel.typed_data<T>(), bias, slope, result);
}

ffi::Error call_convolve(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::Result<ffi::AnyBuffer> result,
                         ffi::Span<const int64_t> flat_taps, ffi::Span<const int64_t> parts, double slope) {
  const Taps taps(flat_taps);
  switch (result->element_type()) {
    case ffi::F32:
      convolve_operands<float>(pool, taps, operands, parts, slope, result->typed_data<float>());
      return ffi::Error::Success();
    case ffi::F64:
      convolve_operands<double>(pool, taps, operands, parts, slope, result->typed_data<double>());
      return ffi::Error::Success();
    default:
      return ffi::Error::InvalidArgument("ruas_convolve takes float32 and float64");
  }
}

ffi::Error call_correlate(ffi::ThreadPool pool, ffi::AnyBuffer image, ffi::AnyBuffer cotangent,
                          ffi::Result<ffi::AnyBuffer> result, ffi::RemainingRets bias,
                          ffi::Span<const int64_t> flat_taps) {
  const Taps taps(flat_taps);
  const int64_t* shape = image.dimensions().begin();
  const int64_t outputs = cotangent.dimensions()[2];
  switch (image.element_type()) {
    case ffi::F32:
      correlate<float>(pool, taps, shape, outputs, image.typed_data<float>(), cotangent.typed_data<float>(),
                       result->typed_data<float>(), optional<float>(bias));
      return ffi::Error::Success();
    case ffi::F64:
      correlate<double>(pool, taps, shape, outputs, image.typed_data<double>(), cotangent.typed_data<double>(),
                        result->typed_data<double>(), optional<double>(bias));
      return ffi::Error::Success();
    default:
      return ffi::Error::InvalidArgument("ruas_correlate takes float32 and float64");
  }
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(ruas_convolve, call_convolve,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<ffi::Span<const int64_t>>("taps")
                                  .Attr<ffi::Span<const int64_t>>("parts")
                                  .Attr<double>("slope"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(ruas_correlate, call_correlate,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .RemainingRets()
                                  .Attr<ffi::Span<const int64_t>>("taps"));

// Name of the vectors in use.
extern "C" const char* ruas_vectors() {
  static const char* const names[] = {"plain", "AVX2", "AVX-512"};
  return names[static_cast<int>(chosen_vectors())];
}

// Changes whenever the operands or results of the two calls change; `native.py` has the same number.
extern "C" int ruas_calls_version() { return 3; }

// Version of XLA's interface for which this was built.
extern "C" int ruas_ffi_version() { return XLA_FFI_API_MAJOR * 1000 + XLA_FFI_API_MINOR; }
