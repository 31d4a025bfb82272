// Top-k and the sum of sparse payloads as a GPU computes them, run on the host, against the CPU's own forms.
#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "compressors/cuda/select.h"
#include "compressors/kernels/select.h"
#include "tests/catch.h"
#include "tests/support/emulated_kernels.h"

namespace {

using namespace acp::device;

struct Chosen {
  std::vector<std::uint32_t> indices;
  std::vector<float> values, rest;
  bool operator==(const Chosen&) const = default;
};

// All tensors in one call; the rest is left in a copy.
std::vector<Chosen> select(const std::vector<at::Tensor>& tensors, const std::vector<std::int64_t>& ks,
                           bool backwards) {
  std::vector<Chosen> results(tensors.size());
  std::vector<TopK> parts;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto n = tensors[i].numel();
    auto& result = results[i];
    result.rest.assign(tensors[i].data_ptr<float>(), tensors[i].data_ptr<float>() + n);
    result.indices.assign(static_cast<std::size_t>(ks[i]), 0xffffffffU);
    result.values.assign(static_cast<std::size_t>(ks[i]), -1);
    parts.push_back({tensors[i].data_ptr<float>(), result.rest.data(), result.indices.data(),
                     result.values.data(), n, ks[i]});
  }
  std::vector<std::byte> scratch(top_k_scratch(parts) + 16, std::byte{0xA5});
  emulated_kernels(backwards).top_k(parts, scratch.data(), {});
  CHECK(
      std::all_of(scratch.end() - 16, scratch.end(), [](std::byte byte) { return byte == std::byte{0xA5}; }));
  return results;
}

Chosen expected(const at::Tensor& x, std::int64_t k) {
  Chosen result;
  const std::span numbers(x.const_data_ptr<float>(), static_cast<std::size_t>(x.numel()));
  acp::kernels::top_k(numbers, static_cast<std::size_t>(k), result.indices, result.values);
  result.rest.assign(numbers.begin(), numbers.end());
  for (const auto index : result.indices) result.rest[index] = 0;
  return result;
}

void check(const std::vector<at::Tensor>& tensors, const std::vector<std::int64_t>& ks) {
  const auto found = select(tensors, ks, false);
  CHECK((found == select(tensors, ks, true)));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    INFO("tensor " << i << " of " << tensors[i].numel() << ", k " << ks[i]);
    CHECK((found[i] == expected(tensors[i], ks[i])));
  }
}

}  // namespace

TEST_CASE("top-k of a GPU chooses what the CPU chooses", "[unit][device]") {
  at::manual_seed(3);
  for (const std::int64_t n : {1, 2, 7, 255, 4095, 4096, 4097, 5000, 40000, 300000}) {
    const auto x = at::randn({n});
    for (const double ratio : {1e-9, 0.001, 0.01, 0.3, 0.9, 1.0}) {
      check({x}, {std::max<std::int64_t>(1, static_cast<std::int64_t>(ratio * static_cast<double>(n)))});
    }
  }
}

TEST_CASE("top-k of a GPU: ties, zeros and numbers that a sample misjudges", "[unit][device]") {
  at::manual_seed(4);
  const std::int64_t n = 100000;
  auto few = at::zeros({n});  // nearly all are equal
  for (const std::int64_t i : {5, 4096, 50001, 99999}) few[i] = static_cast<float>(i % 7) - 3.5F;
  auto crowded = at::randn({n}) * 1e-3;  // all large ones are in one chunk
  crowded.narrow(0, 8192, 4096).mul_(1e6);
  const auto coarse = at::randint(-3, 4, {n}).to(at::kFloat);  // ties at every magnitude, of both signs
  const auto ascending = at::arange(n).to(at::kFloat), tiny = at::randn({n}) * 1e-42;
  for (const std::int64_t k : {1, 3, 4, 5, 1000, 5000, 60000}) {
    check({few, at::zeros({n}), crowded, coarse, ascending, tiny, at::full({n}, -2.5F)},
          {k, k, k, k, k, k, k});
  }
}

TEST_CASE("top-k of a GPU works on many tensors in one call", "[unit][device]") {
  at::manual_seed(5);
  std::vector<at::Tensor> tensors;
  std::vector<std::int64_t> ks;
  for (std::int64_t i = 0; i < 75; ++i) {  // more than a launch takes
    tensors.push_back(at::randn({1 + i * i * 3}));
    ks.push_back(1 + i / 2);
    ks.back() = std::min(ks.back(), tensors.back().numel());
  }
  check(tensors, ks);
}

TEST_CASE("a GPU sums sparse payloads in rank order", "[unit][device]") {
  at::manual_seed(6);
  const int ranks = 5;
  const std::int64_t n = 10000, k = 700, stride = 8 * k + 32;
  std::vector<std::byte> messages(static_cast<std::size_t>(ranks * stride));
  auto sums = at::zeros({n});
  for (int rank = 0; rank < ranks; ++rank) {
    const auto x = at::randn({n});
    const auto choice = expected(x, k);
    std::memcpy(messages.data() + rank * stride, choice.indices.data(), static_cast<std::size_t>(4 * k));
    std::memcpy(messages.data() + rank * stride + 4 * k, choice.values.data(),
                static_cast<std::size_t>(4 * k));
    for (std::size_t i = 0; i < choice.indices.size(); ++i)
      sums.data_ptr<float>()[choice.indices[i]] += choice.values[i];
  }
  const auto out = at::full({n + 8}, 77.0F);
  const auto* const first = messages.data();
  const Scatter part{reinterpret_cast<const std::uint32_t*>(first),
                     reinterpret_cast<const float*>(first + 4 * k), out.data_ptr<float>(), n, k};
  for (const bool backwards : {false, true}) {
    emulated_kernels(backwards).scatter({&part, 1}, ranks, stride, {5, false}, {});
    CHECK(out.narrow(0, 0, n).equal(sums / 5));
    CHECK(out.narrow(0, n, 8).eq(77).all().item<bool>());
  }

  // An index beyond the end, as a damaged message may have one, writes nowhere.
  reinterpret_cast<std::uint32_t*>(messages.data())[k - 1] = 0xfffffff0U;
  emulated_kernels().scatter({&part, 1}, 1, stride, {1, false}, {});
  CHECK(out.narrow(0, n, 8).eq(77).all().item<bool>());
}
