// The reduction kernels against plain scalar arithmetic, bit for bit.
#include "comm/algorithms/reduce_kernels.h"

#include <ATen/ATen.h>
#include <c10/util/Half.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "comm/error.h"
#include "tests/catch.h"

using namespace acp;

namespace {

template <class T>
std::vector<T> numbers(std::size_t n, unsigned seed) {
  std::mt19937_64 random(seed);
  std::vector<T> result(n);
  for (T& x : result) {
    if constexpr (std::is_floating_point_v<T>) {
      x = static_cast<T>(std::ldexp(static_cast<double>(random() % 2000003) - 1000001,
                                    static_cast<int>(random() % 40) - 20));
    } else {
      x = static_cast<T>(random());  // the whole range, so that sums wrap around
    }
  }
  return result;
}

template <class T>
T scalar(T a, T b, ReduceOp op) {
  if (op == ReduceOp::min) return b < a ? b : a;
  if (op == ReduceOp::max) return a < b ? b : a;
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  } else {
    return a + b;
  }
}

template <class T>
void compare(at::ScalarType type) {
  for (const ReduceOp op : {ReduceOp::sum, ReduceOp::average, ReduceOp::min, ReduceOp::max}) {
    for (const std::size_t n : {0, 1, 3, 7, 8, 9, 31, 64, 1000}) {
      for (const std::size_t offset : {0, 1, 3}) {  // vector loads need not be aligned
        const auto a = numbers<T>(n + offset, 1), b = numbers<T>(n + offset, 2);
        auto acc = a;
        reduce_into(reinterpret_cast<std::byte*>(acc.data() + offset),
                    reinterpret_cast<const std::byte*>(b.data() + offset), static_cast<std::int64_t>(n), type,
                    op);
        bool same = true;
        for (std::size_t i = 0; i < acc.size(); ++i) {
          const T expected = i < offset ? a[i] : scalar(a[i], b[i], op);
          same = same && std::memcmp(&acc[i], &expected, sizeof(T)) == 0;
        }
        INFO(c10::toString(type) << ", op " << static_cast<int>(op) << ", " << n << " from " << offset);
        CHECK(same);
      }
    }
  }
}

template <class T>
at::Tensor tensor(const std::vector<T>& v, at::ScalarType type) {
  return at::from_blob(const_cast<T*>(v.data()), {static_cast<std::int64_t>(v.size())},
                       at::TensorOptions().dtype(type));
}

}  // namespace

TEST_CASE("reductions equal scalar arithmetic", "[unit][kernels]") {
  compare<float>(at::kFloat);
  compare<double>(at::kDouble);
  compare<std::int32_t>(at::kInt);
  compare<std::int64_t>(at::kLong);
  compare<std::uint8_t>(at::kByte);
}

TEST_CASE("min and max keep a NaN of either side", "[unit][kernels]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const ReduceOp op : {ReduceOp::min, ReduceOp::max, ReduceOp::sum}) {
    std::vector<float> acc(20, 1), x(20, 2);
    acc[3] = x[11] = nan;
    reduce_into(reinterpret_cast<std::byte*>(acc.data()), reinterpret_cast<const std::byte*>(x.data()), 20,
                at::kFloat, op);
    for (std::size_t i = 0; i < acc.size(); ++i) CHECK(std::isnan(acc[i]) == (i == 3 || i == 11));
  }
}

TEST_CASE("division is a division, not a product with a rounded reciprocal", "[unit][kernels]") {
  auto x = numbers<float>(1000, 5);
  const auto before = x;
  divide(reinterpret_cast<std::byte*>(x.data()), 1000, at::kFloat, 3);
  bool same = true;
  for (std::size_t i = 0; i < x.size(); ++i) same = same && x[i] == before[i] / 3.0F;
  CHECK(same);
  CHECK_THROWS_AS(divide(reinterpret_cast<std::byte*>(x.data()), 1, at::kInt, 3), ConfigError);
}

TEST_CASE("half precision widens exactly, for every bit pattern", "[unit][kernels]") {
  std::vector<std::int16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::int16_t>(i);
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16}) {
    std::vector<float> wide(bits.size());
    widen(wide.data(), reinterpret_cast<const std::byte*>(bits.data()), 65536, type);
    const at::Tensor expected = tensor(bits, type).to(at::kFloat), got = tensor(wide, at::kFloat);
    CHECK(at::equal(expected.isnan(), got.isnan()));
    CHECK(at::equal(at::nan_to_num(expected), at::nan_to_num(got)));

    std::vector<std::int16_t> back(bits.size());
    narrow(reinterpret_cast<std::byte*>(back.data()), wide.data(), 65536, type);
    const at::Tensor numbers = at::nonzero(expected.isnan().logical_not()).flatten();
    CHECK(at::equal(tensor(back, at::kShort).index_select(0, numbers),
                    tensor(bits, at::kShort).index_select(0, numbers)));
  }
}

TEST_CASE("narrowing rounds to nearest, ties to even", "[unit][kernels]") {
  const auto rounded = [](float x, at::ScalarType type) {
    std::int16_t bits = 0;
    narrow(reinterpret_cast<std::byte*>(&bits), &x, 1, type);
    float back = 0;
    widen(&back, reinterpret_cast<const std::byte*>(&bits), 1, type);
    return back;
  };
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(rounded(2049, at::kHalf) == 2048);  // a tie
  CHECK(rounded(2051, at::kHalf) == 2052);  // a tie
  CHECK(rounded(2049.001F, at::kHalf) == 2050);
  CHECK(rounded(65519, at::kHalf) == 65504);
  CHECK(rounded(65520, at::kHalf) == infinity);
  CHECK(rounded(0x1p-24F, at::kHalf) == 0x1p-24F);  // the smallest
  CHECK(rounded(0x1p-25F, at::kHalf) == 0);         // a tie
  CHECK(rounded(0x1.8p-25F, at::kHalf) == 0x1p-24F);
  CHECK(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN(), at::kHalf)));
  CHECK(rounded(257, at::kBFloat16) == 256);  // a tie
  CHECK(rounded(259, at::kBFloat16) == 260);  // a tie
  CHECK(rounded(-257.01F, at::kBFloat16) == -258);
  CHECK(rounded(3.4e38F, at::kBFloat16) == infinity);
  CHECK(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN(), at::kBFloat16)));
}

TEST_CASE("long runs of half precision have the bits of single numbers", "[unit][kernels]") {
  std::mt19937 random(3);
  std::vector<float> x(100003);
  for (float& v : x) {  // any bit pattern: NaN, infinities, subnormal numbers
    const auto bits = static_cast<std::uint32_t>(random());
    std::memcpy(&v, &bits, sizeof(v));
  }
  for (std::size_t i = 0; i < x.size() / 2; ++i) {  // and half of them where float16 has numbers
    x[i] = std::ldexp(static_cast<float>(random() % 8192) / 4096 - 1, static_cast<int>(random() % 44) - 26);
  }
  const auto n = static_cast<std::int64_t>(x.size());
  std::vector<c10::Half> together(x.size()), each(x.size());
  narrow(reinterpret_cast<std::byte*>(together.data()), x.data(), n, at::kHalf);
  for (std::size_t i = 0; i < x.size(); ++i) each[i] = static_cast<c10::Half>(x[i]);
  CHECK(std::memcmp(together.data(), each.data(), x.size() * sizeof(c10::Half)) == 0);

  std::vector<float> wide(x.size()), one(x.size());
  widen(wide.data(), reinterpret_cast<const std::byte*>(each.data()), n, at::kHalf);
  for (std::size_t i = 0; i < x.size(); ++i) one[i] = static_cast<float>(each[i]);
  CHECK(std::memcmp(wide.data(), one.data(), x.size() * sizeof(float)) == 0);
}

TEST_CASE("half precision is added in float32", "[unit][kernels]") {
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16}) {
    const at::Tensor a = at::arange(100).mul(0.37).to(type), b = at::arange(100).mul(-1.7).add(20).to(type);
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max}) {
      std::vector<float> sums(100);
      widen(sums.data(), static_cast<const std::byte*>(a.data_ptr()), 100, type);
      reduce_widened(sums.data(), static_cast<const std::byte*>(b.data_ptr()), 100, type, op);
      const at::Tensor x = a.to(at::kFloat), y = b.to(at::kFloat);
      CHECK(at::equal(tensor(sums, at::kFloat), op == ReduceOp::sum   ? x + y
                                                : op == ReduceOp::min ? at::minimum(x, y)
                                                                      : at::maximum(x, y)));
    }
  }
}

TEST_CASE("what cannot be reduced is refused by name", "[unit][kernels]") {
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    CHECK_NOTHROW(check_reducible(type, ReduceOp::average));
  }
  for (const at::ScalarType type : {at::kInt, at::kLong, at::kByte}) {
    CHECK_NOTHROW(check_reducible(type, ReduceOp::sum));
    CHECK_THROWS_WITH(check_reducible(type, ReduceOp::average),
                      ContainsSubstring("an average needs a floating type"));
  }
  CHECK_THROWS_WITH(check_reducible(at::kBool, ReduceOp::max),
                    ContainsSubstring("elements of type Bool cannot be reduced"));
}
