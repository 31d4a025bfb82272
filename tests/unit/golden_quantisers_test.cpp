// Codes and decoded values of quantisers against the recorded ones, one tensor and step at a time.
#include <bit>
#include <cmath>
#include <cstring>

#include "compressors/kernels/levels.h"
#include "compressors/kernels/natural.h"
#include "compressors/kernels/pack.h"
#include "tests/catch.h"
#include "tests/support/coder.h"
#include "tests/support/golden_json.h"

using namespace acp;
using nlohmann::json;

namespace {

std::vector<float> floats(const json& numbers) {
  return numbers.get<std::vector<float>>();
}

int bit(std::span<const std::byte> bits, std::size_t i) {
  return std::to_integer<int>(bits[i / 8]) >> (i % 8) & 1;
}

float number(std::span<const std::byte> code, std::size_t index) {
  float value = 0;
  std::memcpy(&value, code.data() + index * sizeof value, sizeof value);
  return value;
}

void check_close(const std::vector<float>& got, const std::vector<float>& expected, double tolerance = 1e-6) {
  REQUIRE(got.size() == expected.size());
  double off = 0, largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    off = std::max(off, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  CHECK(off <= tolerance * largest);
}

std::vector<std::byte> from_hex(const std::string& hex) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(std::byte(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

}  // namespace

TEST_CASE("golden: signs", "[unit]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto sign = golden::json_file(*folder / "compressors" / "signsgd.json");
  Coder coder("signsgd");
  const auto x = floats(sign.at("input"));
  const auto code = coder.encode(x);
  for (std::size_t i = 0; i < x.size(); ++i) CHECK(bit(code, i) == sign.at("payload_bytes")[i].get<int>());
  CHECK(coder.decode(code, x.size()) == floats(sign.at("decoded")));

  const auto ef = golden::json_file(*folder / "compressors" / "efsignsgd.json");
  Coder ef_coder("efsignsgd");
  const auto y = floats(ef.at("input"));
  const auto ef_code = ef_coder.encode(y);
  CHECK(number(ef_code, 0) == Approx(ef.at("mean_abs").get<double>()).epsilon(1e-6));
  for (std::size_t i = 0; i < y.size(); ++i) {
    CHECK(bit(std::span(ef_code).subspan(4), i) == ef.at("payload_bytes")[i].get<int>());
  }
  check_close(ef_coder.decode(ef_code, y.size()), floats(ef.at("decoded")));

  const auto one = golden::json_file(*folder / "compressors" / "onebit.json");
  Coder one_coder("onebit");
  const auto z = floats(one.at("input"));
  const auto one_code = one_coder.encode(z);
  CHECK(number(one_code, 0) == Approx(one.at("mean_negative").get<double>()).epsilon(1e-6));
  CHECK(number(one_code, 1) == Approx(one.at("mean_nonnegative").get<double>()).epsilon(1e-6));
  for (std::size_t i = 0; i < z.size(); ++i) {
    CHECK(bit(std::span(one_code).subspan(8), i) == 1 - one.at("mask_negative")[i].get<int>());
  }
  check_close(one_coder.decode(one_code, z.size()), floats(one.at("decoded")));
}

TEST_CASE("golden: error feedback with signs over five steps", "[unit]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto golden = golden::json_file(*folder / "hybrid" / "efsignsgd" / "case.json");
  Coder coder("efsignsgd");
  std::vector<float> error;
  for (std::size_t step = 0; step < golden.at("inputs").at("gradients").size(); ++step) {
    CAPTURE(step);
    const auto& expected = golden.at("outputs").at("steps")[step];
    const auto g = floats(golden.at("inputs").at("gradients")[step]);
    error.resize(g.size(), 0);
    for (std::size_t i = 0; i < g.size(); ++i) error[i] += g[i];
    const auto code = coder.encode_and_keep(error);
    CHECK(number(code, 0) == Approx(expected.at("scale").get<double>()).epsilon(1e-6));
    bool same = true;
    for (std::size_t i = 0; i < g.size(); ++i) {
      same = same && bit(std::span(code).subspan(4), i) == expected.at("bits")[i].get<int>();
    }
    CHECK(same);
    double norm = 0;
    for (const float e : error) norm += static_cast<double>(e) * static_cast<double>(e);
    CHECK(std::sqrt(norm) == Approx(expected.at("residual_l2").get<double>()).epsilon(1e-5));
  }
  check_close(error, floats(golden.at("outputs").at("final_residual")));
}

TEST_CASE("golden: codes of the values that a sparsifier keeps, byte for byte", "[unit]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto golden = golden::json_file(*folder / "hybrid" / "payload_bytes" / "case.json");
  const auto x = floats(golden.at("inputs").at("x"));
  int checked = 0;
  for (const auto& message : golden.at("outputs").at("messages")) {
    const auto kind = message.at("kind").get<std::string>();
    if (kind == "empty_adacomp") continue;
    CAPTURE(kind);
    auto expected = from_hex(message.at("hex").get<std::string>());
    std::vector<float> kept = x;
    if (kind != "efsign_dense") {
      kept.clear();
      for (const auto& index : message.at("idx")) kept.push_back(x[index.get<std::size_t>()]);
      expected.erase(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(4 + 4 * kept.size()));
    }
    if (kind == "topk_terngrad") {  // the digits are drawn: here those of the case are decoded
      Coder coder("terngrad");
      const auto decoded = coder.decode(expected, kept.size());
      const auto scale = message.at("scale").get<float>();
      for (std::size_t i = 0; i < kept.size(); ++i) {
        CHECK(decoded[i] == scale * message.at("ternary")[i].get<float>());
      }
      const auto own = coder.encode(kept);
      CHECK(number(own, 0) == Approx(scale).epsilon(1e-6));
      CHECK(own.size() == expected.size());
    } else {
      CHECK(Coder("efsignsgd").encode(kept) == expected);
    }
    ++checked;
  }
  CHECK(checked == 7);
}

TEST_CASE("golden: max-min levels of 1, 2, 3, 4 and 8 bits", "[unit]") {
  const auto folder = golden::folder();
  if (!folder) return;
  for (const std::string bits : {"1", "2", "3", "4", "8"}) {
    CAPTURE(bits);
    const auto golden = golden::json_file(*folder / "cgx" / ("maxmin_b" + bits + ".json"));
    const auto x = floats(golden.at("input"));
    Coder coder("cgx:bucket=64,bits=" + bits);
    const auto code = coder.encode(x);
    std::vector<std::byte> expected;
    for (const auto& byte : golden.at("payload_bytes")) expected.push_back(std::byte(byte.get<int>()));
    CHECK(code == expected);
    CHECK(coder.decode(code, x.size()) == floats(golden.at("decoded")));
  }
}

TEST_CASE("golden: powers of two", "[unit]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto array = golden::json_file(*folder / "compressors" / "natural.json");
  std::vector<float> x;
  for (const auto& bits : array.at("input_bits"))
    x.push_back(std::bit_cast<float>(bits.get<std::uint32_t>()));
  std::vector<std::uint32_t> words;
  for (const auto& draw : array.at("u23")) words.push_back(draw.get<std::uint32_t>() << 9U);
  std::vector<std::uint8_t> codes(x.size());
  kernels::natural_codes(x, 18, true, {words}, codes.data());
  CHECK(codes == array.at("payload_bytes").get<std::vector<std::uint8_t>>());
  const std::span bytes(reinterpret_cast<const std::byte*>(codes.data()), codes.size());
  CHECK(Coder("natural:mode=array").decode(bytes, x.size()) == floats(array.at("decoded")));

  const auto cuda = golden::json_file(*folder / "compressors" / "natural_cuda_nearest.json");
  Coder coder("natural:rounding=nearest");
  const auto y = floats(cuda.at("input"));
  const auto code = coder.encode(y);
  for (std::size_t i = 0; i < y.size(); ++i) {
    CHECK(std::to_integer<int>(code[i]) == cuda.at("payload_bytes")[i].get<int>());
  }
  CHECK(coder.decode(code, y.size()) == floats(cuda.at("decoded")));
}

TEST_CASE("golden: dithering and 9-bit powers of two with given draws", "[unit]") {
  const auto folder = golden::folder();
  if (!folder) return;
  const auto golden = golden::json_file(*folder / "layerwise" / "unbiased_quantisers" / "case.json");
  const auto& inputs = golden.at("inputs");
  const auto& outputs = golden.at("outputs");

  const auto x = floats(inputs.at("x"));
  std::vector<std::uint32_t> words;
  for (const auto& draw : inputs.at("u24")) words.push_back(draw.get<std::uint32_t>() << 9U);
  std::vector<std::uint8_t> exponents(x.size());
  kernels::natural_exponents(x, {words}, exponents.data());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto code = outputs.at("natural_code_9bit")[i].get<unsigned>();
    CHECK(exponents[i] == (code & 0xffU));
  }
  // Signs do not depend on the draws; decoding takes the recorded codes.
  const std::vector<std::int64_t> shape{static_cast<std::int64_t>(x.size())};
  const auto natural = make_quantiser(parse_spec("natural:mode=nine").at(0), shape);
  std::vector<std::byte> message(natural->bytes(shape[0]));
  const StepContext step;
  natural->encode(x, {"x", shape, &step}, message);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto recorded = outputs.at("natural_code_9bit")[i].get<unsigned>();
    auto& signs = message[x.size() + i / 8];
    CHECK((std::to_integer<unsigned>(signs) >> (i % 8) & 1U) == (recorded >> 8U ^ 1U));
    message[i] = std::byte(recorded & 0xffU);
  }
  std::vector<float> decoded(x.size());
  natural->decode(message, decoded);
  for (std::size_t i = 0; i < x.size(); ++i) {
    CHECK(decoded[i] == outputs.at("natural_decoded")[i].get<float>());
  }

  // A level is rounded up where the recorded u reaches 1 - f; ours where a draw is below f.
  const auto y = floats(inputs.at("y"));
  words.clear();
  for (const auto& u : inputs.at("u")) {
    words.push_back(static_cast<std::uint32_t>(std::min((1 - u.get<double>()) * 0x1p32, 0x1p32 - 1)));
  }
  for (const int levels : {4, 255}) {
    const auto& expected = outputs.at("dither_s" + std::to_string(levels));
    const auto norm = expected.at("norm").get<float>();
    std::vector<std::int16_t> wide(y.size());
    kernels::signed_levels_wide(y, norm, levels, words, wide.data());
    for (std::size_t i = 0; i < y.size(); ++i) {
      CHECK(std::abs(wide[i]) == expected.at("levels")[i].get<int>());
    }
    const auto recorded = floats(expected.at("decoded"));
    if (levels > 127) {  // the message of these levels: the norm, then 16 bits a value
      std::vector<std::byte> message(sizeof norm + 2 * y.size());
      std::memcpy(message.data(), &norm, sizeof norm);
      std::memcpy(message.data() + sizeof norm, wide.data(), 2 * y.size());
      check_close(Coder("qsgd:bucket=0,levels=" + std::to_string(levels)).decode(message, y.size()),
                  recorded);
      continue;
    }
    std::vector<std::uint8_t> packed(y.size());
    kernels::signed_levels(y, norm, levels, words, packed.data());
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(packed[i] - levels == wide[i]);
    std::vector<float> values(y.size());
    kernels::signed_values(packed.data(), norm, levels, values);
    check_close(values, recorded);
  }
}
