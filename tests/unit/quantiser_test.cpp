// What holds for every quantiser: finite, repeatable, exact about its length, strict about foreign codes.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "comm/error.h"
#include "tests/catch.h"
#include "tests/support/coder.h"

using namespace acp;

namespace {

const std::vector<std::string> specs{"signsgd",
                                     "signum",
                                     "efsignsgd",
                                     "efsignsgd:form=grace,lr=0.5",
                                     "onebit",
                                     "terngrad",
                                     "terngrad:clip=0",
                                     "qsgd",
                                     "qsgd:bits=4",
                                     "qsgd:bits=2,bucket=0,norm=max",
                                     "qsgd:levels=4,bucket=100",
                                     "qsgd:levels=255,bucket=7",
                                     "qsgd:bits=4,rounding=nearest",
                                     "natural",
                                     "natural:mode=array",
                                     "natural:mode=nine",
                                     "natural:rounding=nearest",
                                     "cgx",
                                     "cgx:bits=8,bucket=64",
                                     "cgx:bits=3,bucket=100,rounding=stochastic",
                                     "cgx:bits=1,rounding=stochastic"};

constexpr std::size_t sizes[] = {1, 2, 3, 7, 8, 9, 63, 100, 513, 2047, 2048, 2049, 5000};

std::vector<float> normal(std::size_t n, std::uint64_t seed = 1) {
  std::vector<float> x(n);
  Philox(seed, "x", 0, Purpose::data).fill_normal(std::span(x));
  return x;
}

Coder coder(const std::string& spec, std::size_t n) {
  return Coder(spec, {static_cast<std::int64_t>(n)});
}

bool all_finite(const std::vector<float>& x) {
  return std::ranges::all_of(x, [](float value) { return std::isfinite(value); });
}

}  // namespace

TEST_CASE("quantisers: no tensor gives NaN or infinity", "[unit]") {
  constexpr float huge = std::numeric_limits<float>::max(), tiny = std::numeric_limits<float>::denorm_min();
  for (const auto& spec : specs) {
    for (const auto n : sizes) {
      CAPTURE(spec, n);
      for (const float value : {0.0F, -0.0F, 1.0F, -0.3F, tiny, -tiny, 1e-40F, huge, -huge}) {
        const std::vector<float> equal(n, value);
        CHECK(all_finite(coder(spec, n).round_trip(equal)));
        auto alternating = equal;
        for (std::size_t i = 0; i < n; i += 2) alternating[i] = -value;
        CHECK(all_finite(coder(spec, n).round_trip(alternating)));
        std::vector<float> single(n, 0);
        single[n / 2] = value;
        CHECK(all_finite(coder(spec, n).round_trip(single)));
      }
    }
  }
}

TEST_CASE("quantisers: zeros and single values of those with a scale come back", "[unit]") {
  for (const auto& spec : specs) {
    if (spec.starts_with("sign")) continue;  // +-1
    CAPTURE(spec);
    const std::vector<float> zeros(300, 0);
    CHECK(coder(spec, 300).round_trip(zeros) == zeros);
    if (spec.starts_with("natural")) continue;  // powers of two only
    for (const float value : {0.75F, -3.5e-20F, 1e-40F}) {
      const std::vector<float> one{value};
      CHECK(coder(spec, 1).round_trip(one)[0] == Approx(value).epsilon(1e-6));
    }
  }
}

TEST_CASE("quantisers: nothing to code is nothing", "[unit]") {
  for (const auto& spec : specs) {
    auto c = coder(spec, 0);
    CHECK(c.quantiser().bytes(0) == 0);
    CHECK(c.encode({}).empty());
    CHECK(c.decode({}, 0).empty());
  }
}

TEST_CASE("quantisers: the same block, step and rank give the same bytes; others draw anew", "[unit]") {
  for (const auto& spec : specs) {
    CAPTURE(spec);
    const auto x = normal(3000);
    const auto code = coder(spec, 3000).encode(x);
    auto other = coder(spec, 3000);
    CHECK(other.encode(x) == code);
    const bool random =
        spec.find("stochastic") != std::string::npos ||
        (spec.find("nearest") == std::string::npos &&
         (spec.starts_with("terngrad") || spec.starts_with("qsgd") || spec.starts_with("natural")));
    auto next = coder(spec, 3000);
    next.step.step = 1;
    CHECK((next.encode(x) != code) == random);
    auto peer = coder(spec, 3000);
    peer.step.rank = 1;
    CHECK((peer.encode(x) != code) == random);
  }
}

TEST_CASE("quantisers: error feedback in one pass equals encode, decode, subtract", "[unit]") {
  for (const auto& spec : specs) {
    for (const auto n : sizes) {
      CAPTURE(spec, n);
      const auto x = normal(n, n);
      auto one = coder(spec, n), two = coder(spec, n);
      auto rest = x;
      const auto code = one.encode_and_keep(rest);
      CHECK(code == two.encode(x));
      const auto decoded = two.decode(code, n);
      bool same = true;
      for (std::size_t i = 0; i < n; ++i) same = same && rest[i] == x[i] - decoded[i];
      CHECK(same);
    }
  }
}

TEST_CASE("quantisers: bytes on the wire", "[unit]") {
  const auto bytes = [](const std::string& spec, std::int64_t n) {
    return Coder(spec, {n}).quantiser().bytes(n);
  };
  CHECK(bytes("signsgd", 1001) == 126);
  CHECK(bytes("efsignsgd", 1001) == 4 + 126);
  CHECK(bytes("onebit", 1001) == 8 + 126);
  CHECK(bytes("terngrad", 1001) == 4 + 251);
  CHECK(bytes("qsgd", 1001) == 8 * 4 + 1001);
  CHECK(bytes("qsgd:bits=4,bucket=512", 1001) == 2 * 4 + 501);
  CHECK(bytes("qsgd:bits=2,bucket=0", 1001) == 4 + 251);
  CHECK(bytes("qsgd:levels=255,bucket=0", 1001) == 4 + 2002);
  CHECK(bytes("natural", 1001) == 1001);
  CHECK(bytes("natural:mode=nine", 1001) == 1001 + 126);
  CHECK(bytes("cgx", 1001) == 2 * 8 + 504);
  CHECK(bytes("cgx:bits=1,bucket=64", 200) == 64);
  CHECK(Coder("atomo:rank=2", {30, 20}).quantiser().bytes(600) == 2 * 50 * 4);
}

TEST_CASE("quantisers: codes of another length are refused", "[unit]") {
  for (const auto& spec : specs) {
    CAPTURE(spec);
    auto c = coder(spec, 100);
    auto code = c.encode(normal(100));
    code.push_back(std::byte{0});
    CHECK_THROWS_AS(c.decode(code, 100), DataError);
    code.pop_back();
    code.pop_back();
    CHECK_THROWS_AS(c.decode(code, 100), DataError);
  }
  Coder atomo("atomo:rank=1", {10, 10});
  CHECK_THROWS_AS(atomo.decode(std::vector<std::byte>(79), 100), DataError);
}

TEST_CASE("quantisers: codes that no encoder writes are refused", "[unit]") {
  const auto x = normal(101);
  const auto refused = [&](const std::string& spec, std::size_t place, unsigned value) {
    auto c = coder(spec, x.size());
    auto code = c.encode(x);
    code.at(place) = std::byte(value);
    CHECK_THROWS_AS(c.decode(code, x.size()), DataError);
  };
  refused("signsgd", 12, 0xff);    // padding
  refused("efsignsgd", 3, 0xff);   // a scale below zero
  refused("efsignsgd", 16, 0xff);  // padding
  refused("onebit", 3, 0x7f);      // a positive mean of negative values, or NaN
  refused("onebit", 7, 0xff);
  refused("terngrad", 3, 0xff);
  refused("terngrad", 10, 0xff);  // 11 is no ternary digit
  refused("qsgd", 3, 0xff);
  refused("qsgd", 10, 0xff);  // level 255 of 0 .. 254
  refused("qsgd:bits=4", 10, 0xff);
  refused("qsgd:levels=255", 7, 0x7f);  // level 32512 and more
  refused("natural:mode=nine", 50, 0xff);
  refused("cgx", 3, 0xff);
  refused("cgx", 63, 0xff);  // padding
  std::vector<std::byte> code(20 * 4, std::byte{0xff});
  CHECK_THROWS_AS(Coder("atomo:rank=1", {10, 10}).decode(code, 100), DataError);
}

TEST_CASE("quantisers: nearest levels are within half a step", "[unit]") {
  const auto x = normal(5000);
  for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8}) {
    Coder c("cgx:bucket=512,bits=" + std::to_string(bits));
    const auto out = c.round_trip(x);
    double worst = 0;
    for (std::size_t from = 0; from < x.size(); from += 512) {
      const auto end = std::min(from + 512, x.size());
      const auto [least, most] = std::minmax_element(x.begin() + static_cast<std::ptrdiff_t>(from),
                                                     x.begin() + static_cast<std::ptrdiff_t>(end));
      const double unit = static_cast<double>(*most - *least) / ((1 << bits) - 1);
      for (auto i = from; i < end; ++i)
        worst = std::max(worst, std::abs(static_cast<double>(out[i] - x[i])) / unit);
    }
    CHECK(worst < 0.50001);
  }
}

TEST_CASE("quantisers: a policy sets the bits of those that have them", "[unit]") {
  Coder qsgd("qsgd"), cgx("cgx"), sign("signsgd");
  qsgd.quantiser().set_bits(4);
  CHECK(qsgd.quantiser().bytes(128) == 4 + 64);
  cgx.quantiser().set_bits(2);
  CHECK(cgx.quantiser().bytes(512) == 8 + 128);
  const auto x = normal(512);
  CHECK(all_finite(cgx.round_trip(x)));
  CHECK(all_finite(qsgd.round_trip(x)));
  for (const double bits : {0.0, 1.0, 2.5, 9.0, std::nan("")})
    CHECK_THROWS_AS(qsgd.quantiser().set_bits(bits), ConfigError);
  for (const double bits : {0.0, 2.5, 9.0, std::nan("")})
    CHECK_THROWS_AS(cgx.quantiser().set_bits(bits), ConfigError);
  CHECK_THROWS_AS(sign.quantiser().set_bits(4), ConfigError);
}

TEST_CASE("signum's momentum survives a restart", "[unit]") {
  auto going = coder("signum", 200), restarted = coder("signum", 200);
  for (std::uint64_t step = 0; step < 3; ++step) going.encode(normal(200, step));
  std::map<std::string, at::Tensor> state;
  going.quantiser().save(state);
  CHECK(state.count("momentum") == 1);
  restarted.quantiser().load(state);
  CHECK(going.encode(normal(200, 9)) == restarted.encode(normal(200, 9)));
  CHECK_THROWS_AS(coder("signum", 100).quantiser().load(state), ConfigError);
}

TEST_CASE("natural compression at the ends of its range", "[unit]") {
  constexpr float huge = std::numeric_limits<float>::max();
  const std::vector<float> x{huge, -huge, 0x1p-120F, -0x1p-120F, 1, -2, 0x1p17F};
  CHECK(Coder("natural").round_trip(x) == std::vector<float>{0x1p17F, -0x1p17F, 0, 0, 1, -2, 0x1p17F});
  CHECK(Coder("natural:mode=array").round_trip(x) ==
        std::vector<float>{0x1p18F, -0x1p18F, 0, 0, 1, -2, 0x1p17F});
  CHECK(Coder("natural:mode=nine").round_trip(x) ==
        std::vector<float>{0x1p127F, -0x1p127F, 0x1p-120F, -0x1p-120F, 1, -2, 0x1p17F});
}
