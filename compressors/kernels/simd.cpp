// What the processor can run, asked once.
#include "compressors/kernels/simd.h"

#include <algorithm>
#include <atomic>

namespace acp::kernels {
namespace {

Form supported() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") != 0;
  if (avx2 && __builtin_cpu_supports("avx512f") != 0) return Form::avx512;
  if (avx2) return Form::avx2;
#endif
  return Form::plain;
}

std::atomic<Form>& in_use() {
  static std::atomic<Form> value{supported()};
  return value;
}

}  // namespace

Form form() {
  return in_use().load(std::memory_order_relaxed);
}

void use(Form widest) {
  in_use().store(std::min(widest, supported()), std::memory_order_relaxed);
}

std::vector<Form> forms() {
  std::vector<Form> result;
  for (const auto each : {Form::plain, Form::avx2, Form::avx512}) {
    if (each <= supported()) result.push_back(each);
  }
  return result;
}

}  // namespace acp::kernels
