// Every kernel on a GPU against the same bodies on the host, which the other tests hold against the CPU's
// forms: to the bit, since products and sums are rounded alike and no order depends on timing.
#include <ATen/ATen.h>

#include <functional>

#include "compressors/cuda/code.h"
#include "compressors/cuda/dispatch.h"
#include "compressors/cuda/low_rank.h"
#include "compressors/cuda/select.h"
#include "tests/catch.h"
#include "tests/gpu/gpu.h"
#include "tests/support/emulated_kernels.h"

namespace {

using namespace acp;
using namespace acp::test;
using device::bytes_of;

std::uint32_t* words(const at::Tensor& x) {
  return reinterpret_cast<std::uint32_t*>(x.data_ptr<std::int32_t>());
}
float* floats(const at::Tensor& x) {
  return x.data_ptr<float>();
}

// `work` changes the tensors by the kernels given; both forms must leave the same.
void compare(
    const std::vector<at::Tensor>& start,
    const std::function<void(const device::Kernels&, device::Place, std::vector<at::Tensor>&)>& work) {
  const auto* const kernels = device::cuda_kernels();
  if (kernels == nullptr) {
    WARN("skipped: built without nvcc");
    return;
  }
  std::vector<at::Tensor> host, gpu;
  for (const auto& tensor : start) {
    host.push_back(tensor.clone());
    gpu.push_back(tensor.to(at::kCUDA));
  }
  work(device::emulated_kernels(), {}, host);
  work(*kernels, device::place_of(gpu[0]), gpu);
  for (std::size_t i = 0; i < start.size(); ++i) {
    INFO("tensor " << i);
    CHECK(gpu[i].cpu().view(at::kByte).equal(host[i].view(at::kByte)));
  }
}

}  // namespace

TEST_CASE("copies and error feedback on a GPU", "[gpu]") {
  if (no_gpu()) return;
  at::manual_seed(1);
  for (const std::int64_t n : {1, 4097, 1000003}) {
    compare({at::randn({n}), at::zeros({n + 1}, at::kHalf), at::randn({n}), at::zeros({1}, at::kInt),
             at::zeros({1})},
            [&](const device::Kernels& kernels, device::Place place, std::vector<at::Tensor>& x) {
              const device::Copy piece{x[0].data_ptr(), static_cast<std::uint16_t*>(x[1].data_ptr()) + 1, n};
              kernels.copy({&piece, 1}, device::Type::float32, device::Type::float16, 0.3F, place);
              const device::Sum sum{floats(x[2]), floats(x[0]), n, words(x[3])};
              kernels.accumulate({&sum, 1}, 0.7F, place);
              kernels.spoil(floats(x[4]), words(x[3]), place);
            });
  }
}

TEST_CASE("top-k and sparse sums on a GPU", "[gpu]") {
  if (no_gpu()) return;
  at::manual_seed(2);
  for (const std::int64_t n : {5, 4096, 300001, 3000000}) {
    for (const auto& x : {at::randn({n}), at::zeros({n}), at::randint(-3, 4, {n}).to(at::kFloat)}) {
      const auto k = std::max<std::int64_t>(1, n / 100);
      compare({x, x, at::zeros({k}, at::kInt), at::zeros({k}), at::full({n}, 7.0F)},
              [&](const device::Kernels& kernels, device::Place place, std::vector<at::Tensor>& t) {
                const device::TopK part{floats(t[0]), floats(t[1]), words(t[2]), floats(t[3]), n, k};
                const auto scratch = device::room(device::top_k_scratch(part), t[0]);
                kernels.top_k({&part, 1}, bytes_of(scratch), place);
                const device::Scatter sum{words(t[2]), floats(t[3]), floats(t[4]), n, k};
                kernels.scatter({&sum, 1}, 1, 0, {3, false}, place);
              });
    }
  }
}

TEST_CASE("codes of few bits on a GPU", "[gpu]") {
  if (no_gpu()) return;
  at::manual_seed(3);
  using Code = device::LevelCode;
  const Code sign{.numbers = Code::Numbers::mean};
  const Code halves{.numbers = Code::Numbers::halves};
  Code dither{
      .levels = Code::Levels::dither, .numbers = Code::Numbers::norm, .bits = 4, .top = 7, .bucket = 128};
  dither.stochastic = true;
  Code range{.levels = Code::Levels::range,
             .numbers = Code::Numbers::range,
             .bits = 3,
             .top = 7,
             .bucket = 100,
             .align = 8};
  Code whole = dither;
  whole.bucket = 0;
  for (const auto& code : {Code{}, sign, halves, dither, range, whole}) {
    for (const std::int64_t n : {1, 2049, 1000001}) {
      const auto size = device::CodePlaces(code, n).total;
      compare({at::randn({n}), at::zeros({size}, at::kByte), at::zeros({n})},
              [&](const device::Kernels& kernels, device::Place place, std::vector<at::Tensor>& t) {
                const device::Encode part{floats(t[0]), floats(t[0]), bytes_of(t[1]), n, {11, 12}};
                const auto scratch = device::room(device::encode_scratch({&part, 1}, code), t[0]);
                kernels.encode({&part, 1}, code, bytes_of(scratch), place);
                const device::Decode back{bytes_of(t[1]), nullptr, 0, floats(t[2]), n};
                kernels.decode({&back, 1}, code, 1, 0, {}, place);
              });
    }
  }
}

TEST_CASE("bases and products on a GPU", "[gpu]") {
  if (no_gpu()) return;
  at::manual_seed(4);
  for (const int r : {1, 4, 22, 32, 64}) {
    for (const std::int64_t length : {64, 1000, 30522}) {
      auto dependent = at::randn({r, length});
      dependent[r - 1] = dependent[0];
      for (const auto& vectors : {at::randn({r, length}), dependent}) {
        compare({vectors, at::zeros({r, length})},
                [&](const device::Kernels& kernels, device::Place place, std::vector<at::Tensor>& t) {
                  const device::Basis basis{floats(t[0]), floats(t[1]), length, r};
                  kernels.orthogonalize({&basis, 1}, place);
                });
      }
      const std::int64_t m = 300;
      compare({at::randn({length, m}), at::randn({length, m}), at::randn({r, length}), at::randn({r, m}),
               at::randn({length, m})},
              [&](const device::Kernels& kernels, device::Place place, std::vector<at::Tensor>& t) {
                device::Product one{floats(t[0]), floats(t[1]), floats(t[2]), floats(t[3]), length, m, r};
                kernels.times_q({&one, 1}, place);
                const auto scratch = device::room(device::project_scratch(one), t[0]);
                kernels.times_p({&one, 1}, bytes_of(scratch), place);
                one.matrix = floats(t[4]);
                kernels.outer({&one, 1}, device::Write::subtract, place);
              });
    }
  }
}
