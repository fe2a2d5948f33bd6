// Divides work over the threads of a pool: any type with `num_threads()` and `Schedule(function)`, as XLA's.

#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace {

constexpr int kLineBytes = 64;
constexpr int kSpins = 1000;  // about 20 microseconds

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
template <typename Pool, typename Work>
void share_out(Pool& pool, int64_t count, const Work& work) {
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

}  // namespace
