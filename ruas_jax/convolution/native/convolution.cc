// What XLA calls: `ruas_convolve` and `ruas_correlate` on float32 and float64, with the attribute `taps`, which holds
// dy, dx of each tap. `ruas_convolve` may have a third operand, a bias, and `ruas_correlate` a second result, its
// gradient.

#include "primitives.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// The data of an optional operand or result, the first of `rest`; null without it.
template <typename T>
const T* optional(const ffi::RemainingArgs& rest) {
  return rest.empty() ? nullptr : rest.get<ffi::AnyBuffer>(0)->typed_data<T>();
}
template <typename T>
T* optional(const ffi::RemainingRets& rest) {
  return rest.empty() ? nullptr : (*rest.get<ffi::AnyBuffer>(0))->typed_data<T>();
}

ffi::Error call_convolve(ffi::ThreadPool pool, ffi::AnyBuffer image, ffi::AnyBuffer kernel, ffi::RemainingArgs bias,
                         ffi::Result<ffi::AnyBuffer> result, ffi::Span<const int64_t> flat_taps) {
  const Taps taps(flat_taps);
  const int64_t* shape = image.dimensions().begin();
  const int64_t outputs = kernel.dimensions()[2];
  switch (image.element_type()) {
    case ffi::F32:
      convolve<float>(pool, taps, shape, outputs, image.typed_data<float>(), kernel.typed_data<float>(),
                      optional<float>(bias), result->typed_data<float>());
      return ffi::Error::Success();
    case ffi::F64:
      convolve<double>(pool, taps, shape, outputs, image.typed_data<double>(), kernel.typed_data<double>(),
                       optional<double>(bias), result->typed_data<double>());
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
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .RemainingArgs()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<ffi::Span<const int64_t>>("taps"));
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
extern "C" int ruas_calls_version() { return 2; }

// Version of XLA's interface for which this was built.
extern "C" int ruas_ffi_version() { return XLA_FFI_API_MAJOR * 1000 + XLA_FFI_API_MINOR; }
