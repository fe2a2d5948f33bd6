// Many calls of the two primitives at a time, for the sanitizers; `tests/test_native_sanitizers.py` compiles and runs it.
//
// For pools of 1, 2 and 8 threads, threads of the pool and others call `convolve` and `correlate` on it, as XLA does.
// Every result must have the bits of a call on one thread, and those must be close to sums that are written out here. A
// buffer of a thread only grows, which would hide reads beyond its end: each shape gets new threads.
//
// stress ROUNDS prints the kind of vector and the number of calls. It returns 1 after a wrong result.

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "primitives.h"

namespace {

constexpr int kCallers = 4;
constexpr double kSlope = 0.25;

class Pool {
 public:
  explicit Pool(int threads) {
    for (int thread = 0; thread < threads; ++thread) threads_.emplace_back([this] { run(); });
  }
  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  int64_t num_threads() const { return threads_.size(); }
  void Schedule(std::function<void()> task) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_one();
  }

 private:
  void run() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return ended_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool ended_ = false;
  std::vector<std::thread> threads_;
};

struct Shape {
  int64_t image[5];  // groups, batch, channels, height, width
  int64_t outputs;
  std::vector<int64_t> taps;
};

std::vector<int64_t> square(int64_t dilation) {
  std::vector<int64_t> taps;
  for (int64_t dy = -1; dy <= 1; ++dy)
    for (int64_t dx = -1; dx <= 1; ++dx) taps.insert(taps.end(), {dilation * dy, dilation * dx});
  return taps;
}

template <typename T>
struct Problem {
  Shape shape;
  std::vector<T> image, kernel, bias, cotangent, convolved, correlated;

  Problem(const Shape& of, unsigned seed) : shape(of) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> uniform(-1, 1);
    const auto fill = [&](std::vector<T>& values, int64_t size) {
      values.resize(size);
      for (T& value : values) value = static_cast<T>(uniform(random));
    };
    const auto [groups, batch, channels, height, width] = shape.image;
    const int64_t taps = shape.taps.size() / 2;
    fill(image, groups * batch * channels * height * width);
    fill(kernel, groups * taps * shape.outputs * channels);
    fill(bias, groups * shape.outputs);
    fill(cotangent, groups * batch * shape.outputs * height * width);
    Pool alone(1);
    call(alone, convolved, correlated);
  }

  // `to_gradient` gets the kernel's gradient and behind it the bias's.
  void call(Pool& pool, std::vector<T>& to_result, std::vector<T>& to_gradient) const {
    to_result.assign(cotangent.size(), T(NAN));
    to_gradient.assign(kernel.size() + bias.size(), T(NAN));
    const Taps taps(shape.taps);
    // Two parts of one array, in their order.
    const int64_t channels = shape.image[2], half = channels / 2;
    const std::vector<Part<T>> parts{{image.data(), channels, 0, half}, {image.data(), channels, half, channels - half}};
    convolve<T>(pool, taps, shape.image, shape.outputs, parts, kernel.data(), bias.data(), kSlope, to_result.data());
    correlate(pool, taps, shape.image, shape.outputs, image.data(), cotangent.data(), to_gradient.data(),
              to_gradient.data() + kernel.size());
  }

  bool same_bits(const std::vector<T>& result, const std::vector<T>& gradient) const {
    const auto same = [](const std::vector<T>& a, const std::vector<T>& b) {
      return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
    };
    return same(result, convolved) && same(gradient, correlated);
  }

  // The largest difference to the written-out sums, over the number of products in a sum.
  double error() const {
    const auto [groups, batch, channels, height, width] = shape.image;
    const int64_t taps = shape.taps.size() / 2, outputs = shape.outputs;
    std::vector<double> result(cotangent.size(), 0.0), gradient(kernel.size() + bias.size(), 0.0);
    const int64_t plane = height * width;
    for (size_t i = 0; i < result.size(); ++i) {
      const int64_t at_bias = i / plane / outputs / batch * outputs + i / plane % outputs;
      result[i] = bias[at_bias];
      gradient[kernel.size() + at_bias] += cotangent[i];
    }
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t b = 0; b < batch; ++b)
        for (int64_t t = 0; t < taps; ++t)
          for (int64_t o = 0; o < outputs; ++o)
            for (int64_t c = 0; c < channels; ++c)
              for (int64_t y = 0; y < height; ++y)
                for (int64_t x = 0; x < width; ++x) {
                  const int64_t from_y = y + shape.taps[2 * t], from_x = x + shape.taps[2 * t + 1];
                  if (from_y < 0 || from_y >= height || from_x < 0 || from_x >= width) continue;
                  const int64_t at_result = (((g * batch + b) * outputs + o) * height + y) * width + x;
                  const int64_t at_kernel = ((g * taps + t) * outputs + o) * channels + c;
                  const double value = image[(((g * batch + b) * channels + c) * height + from_y) * width + from_x];
                  result[at_result] += value * kernel[at_kernel];
                  gradient[at_kernel] += value * cotangent[at_result];
                }
    for (double& value : result) value = value >= 0 ? value : kSlope * value;
    double largest = 0;
    const auto compare = [&](const std::vector<T>& found, const std::vector<double>& exact, double terms) {
      for (size_t i = 0; i < found.size(); ++i) {
        const double difference = std::abs(found[i] - exact[i]) / std::max(1.0, terms);
        if (!(difference <= largest)) largest = difference;  // NaN too
      }
    };
    compare(convolved, result, 1 + taps * channels);
    compare(correlated, gradient, batch * height * width);
    return largest;
  }
};

// Whether all calls were right.
template <typename T>
bool run(const Shape& shape, int rounds, double tolerance, std::atomic<int64_t>& calls) {
  std::vector<Problem<T>> problems;
  for (unsigned seed = 0; seed < 2; ++seed) problems.emplace_back(shape, seed);
  if (!(problems[0].error() <= tolerance)) return false;
  std::atomic<bool> right{true};
  for (const int threads : {1, 2, 8}) {
    Pool pool(threads);  // its destructor waits for its tasks
    std::vector<std::thread> callers;
    for (int caller = 0; caller < kCallers; ++caller) {
      const auto work = [&, caller] {
        std::vector<T> result, gradient;
        for (int round = 0; round < rounds; ++round) {
          const Problem<T>& problem = problems[(caller + round) % problems.size()];
          problem.call(pool, result, gradient);
          if (!problem.same_bits(result, gradient)) right = false;
          ++calls;
        }
      };
      if (caller % 2) {
        pool.Schedule(work);
      } else {
        callers.emplace_back(work);
      }
    }
    for (std::thread& caller : callers) caller.join();
  }
  return right;
}

}  // namespace

int main(int, char** arguments) {
  const int rounds = std::atoi(arguments[1]);
  const Shape shapes[] = {
      {{1, 1, 1, 1, 1}, 1, square(1)},
      {{1, 2, 3, 400, 3}, 4, square(2)},    // tall
      {{1, 1, 2, 3, 767}, 2, square(1)},    // wide, one pixel less than whole vectors
      {{1, 1, 7, 20, 67}, 14, square(1)},   // as in a search
      {{1, 3, 2, 80, 130}, 5, square(2)},   // several strips
      {{3, 2, 5, 9, 25}, 7, square(1)},     // groups
      {{1, 1, 64, 3, 29}, 13, square(1)},   // many channels
      {{2, 2, 9, 16, 48}, 7, {0, 0}},       // each pixel by itself, with and without a copy
      {{1, 1, 4, 21, 31}, 3, {0, 0}},
      {{1, 1, 2, 4, 5}, 2, {-7, 0, 0, 9, 3, -2}},  // taps beyond the image
      {{1, 0, 2, 4, 5}, 2, square(1)},      // zero sizes
      {{1, 1, 0, 4, 5}, 2, square(1)},
      {{1, 1, 2, 0, 5}, 2, square(1)},
      {{1, 1, 2, 4, 0}, 2, square(1)},
      {{1, 1, 2, 4, 5}, 0, square(1)},
      {{0, 1, 2, 4, 5}, 2, square(1)},
  };
  std::atomic<int64_t> calls{0};
  for (const Shape& shape : shapes) {
    bool right = false;
    std::thread([&] {
      right = run<float>(shape, rounds, 1e-6, calls) && run<double>(shape, rounds, 1e-15, calls);
    }).join();
    if (!right) {
      const auto [groups, batch, channels, height, width] = shape.image;
      std::printf("wrong result for an image [%lld, %lld, %lld, %lld, %lld]\n", static_cast<long long>(groups),
                  static_cast<long long>(batch), static_cast<long long>(channels), static_cast<long long>(height),
                  static_cast<long long>(width));
      return 1;
    }
  }
  static const char* const names[] = {"plain", "avx2", "avx512"};
  std::printf("%s %lld\n", names[static_cast<int>(chosen_vectors())], static_cast<long long>(calls.load()));
  return 0;
}
