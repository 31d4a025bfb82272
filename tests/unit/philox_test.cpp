// Counter-based random numbers: published vectors, moments, independence of keys.
#include "compressors/philox.h"

#include <cmath>
#include <vector>

#include "tests/catch.h"

using acp::Philox;
using acp::Purpose;

TEST_CASE("Philox4x32-10 gives the published numbers", "[unit]") {
  CHECK(Philox::rounds({0, 0, 0, 0}, {0, 0}) ==
        Philox::Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t ones = 0xffffffff;
  CHECK(Philox::rounds({ones, ones, ones, ones}, {ones, ones}) ==
        Philox::Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(Philox::rounds({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Philox::Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("a key's numbers depend on every part of the key and on nothing else", "[unit]") {
  const Philox key(1, "layer1.weight", 7, Purpose::start_q);
  CHECK(key.bits(5) == Philox(1, "layer1.weight", 7, Purpose::start_q).bits(5));
  CHECK(key.bits(5) != key.bits(6));
  CHECK(key.bits(5) != Philox(2, "layer1.weight", 7, Purpose::start_q).bits(5));
  CHECK(key.bits(5) != Philox(1, "layer2.weight", 7, Purpose::start_q).bits(5));
  CHECK(key.bits(5) != Philox(1, "layer1.weight", 8, Purpose::start_q).bits(5));
  CHECK(key.bits(5) != Philox(1, "layer1.weight", 7, Purpose::start_p).bits(5));
  CHECK(key.bits(5) != Philox(1, "layer1.weight", 7, Purpose::start_q, 1).bits(5));
}

TEST_CASE("uniform and normal numbers have their moments", "[unit]") {
  const Philox key(3, "w", 0, Purpose::start_p);
  constexpr std::uint64_t count = 200000;
  double mean = 0, square = 0, third = 0, fourth = 0, uniform_mean = 0, uniform_square = 0;
  double largest = 0;
  bool in_range = true;
  for (std::uint64_t i = 0; i < count; ++i) {
    const double x = key.normal(i), u = key.uniform(i);
    in_range = in_range && std::isfinite(x) && u >= 0 && u < 1;
    mean += x / count;
    square += x * x / count;
    third += x * x * x / count;
    fourth += x * x * x * x / count;
    largest = std::max(largest, std::abs(x));
    uniform_mean += u / count;
    uniform_square += u * u / count;
  }
  CHECK(in_range);
  // five standard errors: sqrt(1/n), sqrt(2/n), sqrt(15/n), sqrt(96/n)
  CHECK(std::abs(mean) < 5 * std::sqrt(1.0 / count));
  CHECK(std::abs(square - 1) < 5 * std::sqrt(2.0 / count));
  CHECK(std::abs(third) < 5 * std::sqrt(15.0 / count));
  CHECK(std::abs(fourth - 3) < 5 * std::sqrt(96.0 / count));
  CHECK(largest > 4);
  CHECK(largest < 7);
  CHECK(std::abs(uniform_mean - 0.5) < 5 * std::sqrt(1.0 / 12 / count));
  CHECK(std::abs(uniform_square - 1.0 / 3) < 5 * std::sqrt(4.0 / 45 / count));
}

TEST_CASE("a filled range equals the single numbers, wherever it starts", "[unit]") {
  const Philox key(4, "w", 0, Purpose::start_p);
  for (const std::uint64_t first : {0, 1, 6, 7}) {
    std::vector<float> range(9);
    key.fill_normal(std::span(range), first);
    for (std::size_t i = 0; i < range.size(); ++i)
      CHECK(range[i] == static_cast<float>(key.normal(first + i)));
  }
}

TEST_CASE("the drawn numbers never change between versions: ranks and checkpoints rely on them", "[unit]") {
  const Philox key(42, "fc1.weight", 0, Purpose::start_q);
  CHECK(key.bits(0) == 0x53d8a3a9a4b9d30eU);
  CHECK(key.normal(0) == Approx(-0.37322817133688629).epsilon(1e-15));
}
