// The fusion plan: which parameters share a bucket.
#include "fusion/plan.h"

#include <numeric>

#include "tests/catch.h"

using namespace acp;

namespace {

ParameterInfo info(std::string name, std::vector<std::int64_t> shape, double wire_share = 1.0,
                   at::ScalarType dtype = at::kFloat) {
  ParameterInfo p;
  p.name = std::move(name);
  p.shape = std::move(shape);
  p.dtype = dtype;
  p.wire_bytes = wire_share * static_cast<double>(p.numel()) * static_cast<double>(at::elementSize(dtype));
  return p;
}

std::vector<int> reverse_order(std::size_t n) {
  std::vector<int> order(n);
  std::iota(order.rbegin(), order.rend(), 0);
  return order;
}

constexpr double kMB = 1024 * 1024;

}  // namespace

TEST_CASE("a threshold of 0 gives one bucket per parameter, in order", "[unit][plan]") {
  const std::vector<ParameterInfo> p{info("a", {4, 4}), info("b", {4}), info("c", {2, 2})};
  CHECK(make_plan(p, reverse_order(3), 0) == Plan{{2}, {1}, {0}});
}

TEST_CASE("parameters join while the bucket stays within the threshold", "[unit][plan]") {
  const std::vector<ParameterInfo> p{info("a", {10}), info("b", {10}), info("c", {10}), info("d", {50})};
  const double two = 80 / kMB;  // bytes of two small ones
  CHECK(make_plan(p, std::vector<int>{0, 1, 2, 3}, two) == Plan{{0, 1}, {2}, {3}});
  CHECK(make_plan(p, std::vector<int>{3, 2, 1, 0}, two) == Plan{{3}, {2, 1}, {0}});
  CHECK(make_plan(p, std::vector<int>{0, 1, 2, 3}, 25) == Plan{{0, 1, 2, 3}});
}

TEST_CASE("a compressed model has as many buckets as the plain one", "[unit][plan]") {
  std::vector<ParameterInfo> plain;
  std::vector<ParameterInfo> compressed;
  for (int i = 0; i < 40; ++i) {
    plain.push_back(info("p" + std::to_string(i), {1000}));
    compressed.push_back(info("p" + std::to_string(i), {1000}, 0.0625));
  }
  const double mb = 16000 / kMB;
  CHECK(make_plan(plain, reverse_order(40), mb).size() == 10);
  CHECK(make_plan(compressed, reverse_order(40), mb) == make_plan(plain, reverse_order(40), mb));
}

TEST_CASE("the buffers of the P steps of the specification's example", "[unit][plan]") {
  // Rank 2 and a threshold of 0.006 MB give P buffers of 76 and 128 numbers.
  std::vector<ParameterInfo> p{info("w1", {64, 32}), info("b1", {16}), info("conv", {16, 3, 3, 3}),
                               info("w2", {10, 50}), info("w3", {4, 3})};
  const double sent[] = {128, 16, 32, 20, 8};
  for (std::size_t i = 0; i < p.size(); ++i) p[i].wire_bytes = 4 * sent[i];
  CHECK(make_plan(p, reverse_order(5), 0.006) == Plan{{4, 3, 2, 1}, {0}});
}

TEST_CASE("each dtype has its own buckets, numbered by their last gradient", "[unit][plan]") {
  const std::vector<ParameterInfo> p{info("a", {4}), info("h", {4}, 1, at::kHalf), info("b", {4}),
                                     info("g", {4}, 1, at::kHalf)};
  CHECK(make_plan(p, std::vector<int>{0, 1, 2, 3}, 25) == Plan{{0, 2}, {1, 3}});
  CHECK(make_plan(p, std::vector<int>{1, 0, 3, 2}, 25) == Plan{{1, 3}, {0, 2}});
}

TEST_CASE("parameters without elements take no part", "[unit][plan]") {
  const std::vector<ParameterInfo> p{info("a", {4}), info("empty", {0, 3}), info("b", {4})};
  CHECK(make_plan(p, std::vector<int>{0, 1, 2}, 25) == Plan{{0, 2}});
  CHECK(make_plan(std::vector<ParameterInfo>{info("empty", {0})}, std::vector<int>{0}, 25).empty());
}

TEST_CASE("allocated buckets view their parameters as matrices", "[unit][plan]") {
  const std::vector<ParameterInfo> p{info("conv", {16, 3, 3, 3}), info("bias", {16}), info("scalar", {})};
  const auto buckets = allocate({{1, 0}, {2}}, p);
  REQUIRE(buckets.size() == 2);
  REQUIRE(buckets[0].slices.size() == 2);
  CHECK(buckets[0].slices[0].rows == 16);
  CHECK(buckets[0].slices[0].cols == 1);
  CHECK_FALSE(buckets[0].slices[0].is_matrix());
  CHECK(buckets[0].slices[1].offset == 16);
  CHECK(buckets[0].slices[1].rows == 16);
  CHECK(buckets[0].slices[1].cols == 27);
  CHECK(buckets[0].grads.numel() == 16 + 16 * 27);
  CHECK(buckets[0].storage.numel() == buckets[0].grads.numel() + 1);
  CHECK(buckets[1].slices[0].numel() == 1);
  CHECK(buckets[1].index == 1);
}

TEST_CASE("a whole model is one bucket of each dtype, whatever is sent of it", "[unit]") {
  std::vector<ParameterInfo> p{info("a", {1000, 1000}), info("b", {7}), info("c", {0}), info("d", {5, 5})};
  for (auto& parameter : p) parameter.wire_bytes = 0;
  CHECK(make_plan(p, std::vector<int>{3, 2, 1, 0}, whole_model) == Plan{{3, 1, 0}});
  p[1].dtype = at::kDouble;
  CHECK(make_plan(p, std::vector<int>{3, 2, 1, 0}, whole_model) == Plan{{1}, {3, 0}});
}
