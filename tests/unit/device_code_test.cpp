// Codes of few bits, fused copies and error feedback as a GPU computes them, run on the host, against the
// CPU's forms.
#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "compressors/coded_method.h"
#include "compressors/cuda/code.h"
#include "compressors/kernels/select.h"
#include "tests/catch.h"
#include "tests/support/emulated_kernels.h"

namespace {

using namespace acp;
using device::emulated_kernels;

std::span<float> floats(const at::Tensor& x) {
  return {x.data_ptr<float>(), static_cast<std::size_t>(x.numel())};
}

struct Coded {
  std::vector<std::byte> code;
  at::Tensor rest, decoded;
};

Coded on_the_cpu(Quantiser& quantiser, const at::Tensor& x, const Block& block) {
  Coded result{std::vector<std::byte>(quantiser.bytes(x.numel())), x.clone(), at::empty_like(x)};
  quantiser.encode_and_keep(floats(result.rest), block, result.code);
  quantiser.decode(result.code, floats(result.decoded));
  return result;
}

Coded on_the_gpu(const Quantiser& quantiser, const at::Tensor& x, const Block& block, bool backwards) {
  const auto code = quantiser.level_code().value();
  const auto size = static_cast<std::size_t>(device::CodePlaces(code, x.numel()).total);
  // The code begins at a multiple of 4, and what lies behind it stays.
  std::vector<std::byte> bytes(size + 8, std::byte{0x5A});
  Coded result{{}, x.clone(), at::full_like(x, 99)};
  const auto key = block.own(Purpose::round).key();
  const device::Encode part{result.rest.data_ptr<float>(),
                            result.rest.data_ptr<float>(),
                            bytes.data() + 4,
                            x.numel(),
                            {key[0], key[1]}};
  std::vector<std::byte> scratch(device::encode_scratch({&part, 1}, code));
  const auto& kernels = emulated_kernels(backwards);
  kernels.encode({&part, 1}, code, scratch.data(), {});
  device::Decode back;
  back.codes = bytes.data() + 4;
  back.out = result.decoded.data_ptr<float>();
  back.count = x.numel();
  kernels.decode({&back, 1}, code, 1, 0, {}, {});
  for (std::size_t i = 0; i < 4; ++i)
    CHECK((bytes[i] == std::byte{0x5A} && bytes[size + 4 + i] == std::byte{0x5A}));
  result.code.assign(bytes.begin() + 4, bytes.end() - 4);
  return result;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  const double largest = b.abs().max().item<double>();
  return largest > 0 ? (a - b).abs().max().item<double>() / largest : (a - b).abs().max().item<double>();
}

}  // namespace

TEST_CASE("codes of a GPU are the CPU's", "[unit][device]") {
  at::manual_seed(7);
  StepContext step{2, 3, 41, 9};
  for (const std::string text :
       {"signsgd", "efsignsgd", "onebit", "qsgd", "qsgd:bits=4", "qsgd:bits=3,bucket=100",
        "qsgd:bits=2,norm=max", "qsgd:bits=5,bucket=4096,rounding=nearest", "qsgd:levels=5,bucket=37", "cgx",
        "cgx:bits=8", "cgx:bits=1,bucket=7", "cgx:bits=3,rounding=stochastic",
        "cgx:bits=7,bucket=1000,rounding=stochastic"}) {
    for (const std::int64_t n : {1, 5, 8, 31, 37, 256, 2047, 2048, 2049, 4096}) {
      for (const double scale : {1.0, 0.0, 1e-30}) {
        const auto x = at::randn({n}) * scale;
        const Block block{"weights", {n}, &step};
        const auto quantiser = make_quantiser(parse_spec(text).at(0), std::vector<std::int64_t>{n});
        const auto cpu = on_the_cpu(*quantiser, x, block);
        for (const bool backwards : {false, true}) {
          const auto gpu = on_the_gpu(*quantiser, x, block, backwards);
          INFO(text << " of " << n << " values, scale " << scale);
          CHECK((gpu.code == cpu.code));
          CHECK(gpu.rest.equal(cpu.rest));
          CHECK(gpu.decoded.equal(cpu.decoded));
        }
      }
    }
  }
}

TEST_CASE("codes of a GPU with numbers for many values", "[unit][device]") {
  at::manual_seed(8);
  StepContext step{0, 1, 3, 9};
  for (const std::string text :
       {"signsgd", "efsignsgd", "onebit", "qsgd:bucket=0", "qsgd:bucket=10000,bits=4",
        "qsgd:bucket=0,norm=max", "cgx:bucket=100000,rounding=stochastic", "cgx:bucket=5000"}) {
    for (const std::int64_t n : {4097, 30000, 50003}) {
      const auto x = at::randn({n}) + 0.1;
      const Block block{"weights", {n}, &step};
      const auto quantiser = make_quantiser(parse_spec(text).at(0), std::vector<std::int64_t>{n});
      const auto cpu = on_the_cpu(*quantiser, x, block), gpu = on_the_gpu(*quantiser, x, block, false);
      INFO(text << " of " << n << " values");
      const auto numbers = static_cast<std::size_t>(device::CodePlaces(*quantiser->level_code(), n).levels);
      REQUIRE(gpu.code.size() == cpu.code.size());
      // Sums in another order: numbers that differ in the last bits can move a level by one.
      for (std::size_t at = 0; at < numbers; at += 4) {
        float a = 0, b = 0;
        std::memcpy(&a, gpu.code.data() + at, 4);
        std::memcpy(&b, cpu.code.data() + at, 4);
        CHECK(std::abs(a - b) <= 1e-6F * std::abs(b));
      }
      std::size_t unlike = 0;
      for (std::size_t at = numbers; at < cpu.code.size(); ++at) unlike += gpu.code[at] != cpu.code[at];
      const bool signs = text.find("sign") != std::string::npos || text == "onebit";
      CHECK(unlike <= (signs ? 0 : cpu.code.size() / 1000));
      if (signs) CHECK(distance(gpu.decoded, cpu.decoded) < 1e-6);
      CHECK((on_the_gpu(*quantiser, x, block, true).code == gpu.code));
    }
  }
}

TEST_CASE("a GPU adds the codes of all ranks that take part", "[unit][device]") {
  at::manual_seed(9);
  StepContext step{0, 4, 0, 1};
  const std::int64_t n = 3001;
  for (const std::string text : {"efsignsgd", "signsgd", "qsgd:bits=4"}) {
    const auto quantiser = make_quantiser(parse_spec(text).at(0), std::vector<std::int64_t>{n});
    const auto code = quantiser->level_code().value();
    const auto size = quantiser->bytes(n), stride = (size + 16 + 15) / 16 * 16;
    std::vector<std::byte> messages(4 * stride);
    auto sum = at::zeros({n}), base = at::randn({n});
    auto based = base.clone();
    for (std::size_t rank = 0; rank < 4; ++rank) {
      step.rank = static_cast<int>(rank);
      const auto coded = on_the_cpu(*quantiser, at::randn({n}), {"w", {n}, &step});
      std::memcpy(messages.data() + rank * stride + 16, coded.code.data(), size);
      if (rank == 2) continue;  // takes no part: bit 9 of its flags is 0
      messages[rank * stride + 1] = std::byte{2};
      sum += coded.decoded;
      based += coded.decoded;
    }
    const bool votes = text == "signsgd";
    auto out = at::empty({n});
    device::Decode part{messages.data() + 16, messages.data(), 9, out.data_ptr<float>(), n};
    emulated_kernels().decode({&part, 1}, code, 4, static_cast<std::int64_t>(stride), {4, votes}, {});
    CHECK(out.equal(votes ? at::where(sum >= 0, 1.0F, -1.0F) : sum / 4));
    out.copy_(base);
    part.base = part.out;
    emulated_kernels(true).decode({&part, 1}, code, 4, static_cast<std::int64_t>(stride), {}, {});
    CHECK(out.equal(based));
  }
}

TEST_CASE("fused copies of a GPU convert as libtorch does", "[unit][device]") {
  using device::Type;
  const std::pair<Type, at::ScalarType> types[] = {
      {Type::float32, at::kFloat}, {Type::float16, at::kHalf}, {Type::bfloat16, at::kBFloat16}};
  at::manual_seed(10);
  // All 16-bit numbers, and floats of all sizes with the ones half way between two.
  const auto all = at::arange(65536, at::kInt).to(at::kShort);
  auto wide = at::randn({200000}) * at::exp(at::randn({200000}) * 12);
  wide = at::cat({wide, all.view(at::kHalf).to(at::kFloat).nan_to_num(0) * 1.00048828125F,
                  all.view(at::kBFloat16).to(at::kFloat).nan_to_num(0) * 1.001953125F,
                  at::tensor({65504.0F, 65519.99F, 65520.0F, 1e30F, 0x1p-24F, 0x1p-25F, 0x1.8p-25F, -0.0F})});
  for (const auto& [from, from_type] : types) {
    const auto source = from == Type::float32 ? wide : all.view(from_type);
    for (const auto& [to, to_type] : types) {
      // Pieces at odd places.
      const auto target = at::full({source.numel() + 3}, 7, to_type);
      std::vector<device::Copy> pieces;
      const auto size = static_cast<std::int64_t>(source.element_size()),
                 width = static_cast<std::int64_t>(target.element_size());
      for (std::int64_t at = 0; at < source.numel();) {
        const auto count = std::min<std::int64_t>(source.numel() - at, 1 + at % 20011);
        pieces.push_back({static_cast<std::byte*>(source.data_ptr()) + at * size,
                          static_cast<std::byte*>(target.data_ptr()) + (at + 1) * width, count});
        at += count;
      }
      for (const float scale : {1.0F, 0.3F}) {
        emulated_kernels().copy(pieces, from, to, scale, {});
        const auto found = target.narrow(0, 1, source.numel());
        const auto expected = (source.to(at::kFloat) * scale).to(to_type);
        INFO("type " << from_type << " to " << to_type << ", scale " << scale);
        CHECK(found.isnan().equal(expected.isnan()));
        const auto bits = to == Type::float32 ? at::kInt : at::kShort;
        const auto number = at::isnan(expected).logical_not();
        CHECK(found.contiguous().view(bits).masked_select(number).equal(
            expected.view(bits).masked_select(number)));
        CHECK(target[0].item<float>() == 7);
        CHECK(target[source.numel() + 2].item<float>() == 7);
      }
    }
  }
}

TEST_CASE("error feedback of a GPU adds, and finds what is not finite", "[unit][device]") {
  at::manual_seed(11);
  for (const std::int64_t n : {1, 4095, 4096, 10001}) {
    const auto y = at::randn({n}), g = at::randn({n});
    for (const float scale : {1.0F, 0.1F}) {
      auto sum = y.clone();
      std::uint32_t largest = 0;
      const device::Sum one{sum.data_ptr<float>(), g.data_ptr<float>(), n, &largest};
      emulated_kernels().accumulate({&one, 1}, scale, {});
      CHECK(sum.equal(y + scale * g));
      CHECK(largest == kernels::largest(floats(sum)));
    }
  }
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    auto x = at::randn({5000});
    x[4999] = -bad;
    std::uint32_t largest = 0;
    float count = 2;
    emulated_kernels().spoil(&count, &largest, {});
    CHECK(count == 2);
    const device::Sum look{x.data_ptr<float>(), nullptr, 5000, &largest};
    emulated_kernels(true).accumulate({&look, 1}, 1, {});
    CHECK(largest >= device::infinite);
    emulated_kernels().spoil(&count, &largest, {});
    CHECK(std::isnan(count));
  }
}
