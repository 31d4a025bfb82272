// Sparse payloads: what is written is read, and what is corrupt is refused.
#include "compressors/sparse_wire.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "comm/error.h"
#include "compressors/philox.h"
#include "tests/catch.h"

using namespace acp;

namespace {

using Indices = std::vector<std::uint32_t>;

Indices random_indices(std::int64_t n, double share, std::uint64_t seed) {
  const Philox random(seed, "wire", 0, Purpose::data);
  Indices indices;
  for (std::int64_t i = 0; i < n; ++i) {
    if (random.uniform(static_cast<std::uint64_t>(i)) < share)
      indices.push_back(static_cast<std::uint32_t>(i));
  }
  return indices;
}

Indices read(const Bytes& bytes, std::int64_t n, IndexForm form, const Indices& shared = {}) {
  Reader in(bytes);
  Indices indices;
  read_indices(in, n, form, shared, indices);
  in.end();
  return indices;
}

}  // namespace

TEST_CASE("indices survive every form, and the automatic one is no longer than any", "[unit]") {
  for (const std::int64_t n : {0, 1, 7, 8, 9, 1000, 100000}) {
    for (const double share : {0.0, 0.001, 0.01, 0.2, 0.7, 1.0}) {
      const auto indices = random_indices(n, share, 1);
      std::size_t shortest = std::numeric_limits<std::size_t>::max();
      for (const auto form : {IndexForm::plain, IndexForm::delta, IndexForm::bitmap, IndexForm::shared}) {
        Bytes bytes;
        write_indices(indices, n, form, bytes);
        CAPTURE(n, share, static_cast<int>(form));
        CHECK(read(bytes, n, form, form == IndexForm::shared ? indices : Indices{}) == indices);
        if (form != IndexForm::shared) shortest = std::min(shortest, bytes.size());
      }
      Bytes bytes;
      write_indices(indices, n, IndexForm::automatic, bytes);
      CHECK(read(bytes, n, IndexForm::automatic) == indices);
      CHECK(bytes.size() <= shortest + 2);  // the plain layout has no form byte
    }
  }
}

TEST_CASE("one index at the far end of a long block, and clustered ones", "[unit]") {
  for (const auto& indices :
       {Indices{4'000'000'000U}, Indices{0U, 4'000'000'000U}, Indices{5, 6, 7, 8, 9, 3'999'999'999U}}) {
    for (const auto form : {IndexForm::automatic, IndexForm::delta}) {
      Bytes bytes;
      write_indices(indices, 4'000'000'001, form, bytes);
      CHECK(read(bytes, 4'000'000'001, form) == indices);
    }
  }
}

TEST_CASE("delta coding of 1 % needs about 8 bits an index", "[unit]") {
  const auto indices = random_indices(1'000'000, 0.01, 2);
  Bytes bytes;
  write_indices(indices, 1'000'000, IndexForm::automatic, bytes);
  CHECK(static_cast<double>(bytes.size()) < 1.05 * static_cast<double>(indices.size()));
}

TEST_CASE("values survive every form", "[unit]") {
  std::vector<float> values{1.5F, -2.0F, 1e6F, -1e-3F, 0.0F, 3.14159F};
  for (const auto form : {ValueForm::fp32, ValueForm::fp16}) {
    auto rounded = values;
    round_values(rounded, form);
    CHECK(std::abs(rounded[2]) == (form == ValueForm::fp16 ? 65504.0F : 1e6F));
    Bytes bytes;
    write_values(rounded, form, bytes);
    CHECK(bytes.size() == values.size() * (form == ValueForm::fp16 ? 2 : 4));
    Reader in(bytes);
    std::vector<float> again;
    read_values(in, values.size(), form, again);
    CHECK(again == rounded);
  }
}

TEST_CASE("corrupt payloads are refused", "[unit]") {
  const auto plain = [](std::initializer_list<std::uint32_t> words) {
    Bytes bytes;
    for (const auto word : words) {
      for (unsigned i = 0; i < 4; ++i) bytes.push_back(std::byte(word >> (8 * i)));
    }
    return bytes;
  };
  CHECK(read(plain({2, 3, 9}), 10, IndexForm::plain) == Indices{3, 9});
  CHECK_THROWS_AS(read(plain({2, 3, 10}), 10, IndexForm::plain), DataError);  // beyond the block
  CHECK_THROWS_AS(read(plain({2, 3, 3}), 10, IndexForm::plain), DataError);   // twice
  CHECK_THROWS_AS(read(plain({2, 5, 3}), 10, IndexForm::plain), DataError);   // descending
  CHECK_THROWS_AS(read(plain({11, 0}), 10, IndexForm::plain), DataError);     // more than there are
  CHECK_THROWS_AS(read(plain({2, 3}), 10, IndexForm::plain), DataError);      // cut off
  CHECK_THROWS_AS(read(plain({1, 3, 4}), 10, IndexForm::plain), DataError);   // too long
  CHECK_THROWS_AS(read(Bytes{}, 10, IndexForm::automatic), DataError);
  CHECK_THROWS_AS(read(Bytes(20, std::byte{0xff}), 10, IndexForm::automatic), DataError);
  CHECK_THROWS_AS(read(Bytes{std::byte{3}, std::byte{2}}, 10, IndexForm::automatic),
                  DataError);  // "all" of 2
  CHECK_THROWS_AS(read(Bytes{std::byte{4}, std::byte{0}}, 10, IndexForm::automatic),
                  DataError);  // not agreed
  // Every cut and every flipped bit is refused or read as valid indices; nothing else happens.
  const auto indices = random_indices(2000, 0.02, 3);
  for (const auto form : {IndexForm::delta, IndexForm::bitmap}) {
    Bytes good;
    write_indices(indices, 2000, form, good);
    for (std::size_t length = 0; length < good.size(); ++length) {
      CHECK_THROWS_AS(
          read(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length)), 2000, form),
          DataError);
    }
    for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
      auto bad = good;
      bad[bit / 8] ^= std::byte(1U << (bit % 8));
      try {
        const auto got = read(bad, 2000, IndexForm::automatic);
        CHECK(std::ranges::adjacent_find(got, std::greater_equal<>()) == got.end());
        CHECK((got.empty() || got.back() < 2000));
      } catch (const DataError&) {
        SUCCEED();
      }
    }
  }
  std::vector<float> values;
  const float bad = std::numeric_limits<float>::quiet_NaN();
  Bytes bytes;
  write_values(std::vector<float>{bad}, ValueForm::fp32, bytes);
  Reader in(bytes);
  CHECK_THROWS_AS(read_values(in, 1, ValueForm::fp32, values), DataError);
}
