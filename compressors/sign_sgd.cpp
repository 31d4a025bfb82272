// `signsgd`: one sign bit a value, and the majority of the ranks decides.
#include "compressors/code.h"
#include "compressors/coded_method.h"
#include "compressors/kernels/pack.h"

namespace acp {
namespace {

class SignSgd final : public Quantiser {
 public:
  std::size_t bytes(std::int64_t n) const override {
    return kernels::packed_bytes(static_cast<std::size_t>(n), 1);
  }
  void encode(std::span<const float> x, const Block&, std::span<std::byte> code) override {
    kernels::pack_signs(x, code.data());
  }
  void decode(std::span<const std::byte> code, std::span<float> out) const override {
    code::check_size("signsgd", code, bytes(static_cast<std::int64_t>(out.size())));
    code::check_padding("signsgd", code, out.size());
    kernels::unpack_signs(code.data(), 1, -1, out);
  }
  Combine combine() const override { return Combine::majority; }
  std::optional<device::LevelCode> level_code() const override { return device::LevelCode{}; }
};

const bool registered = register_quantiser({
    .name = "signsgd",
    .summary =
        "signs, decided by majority vote (0 and ties are +); the result is +-1: lower the learning rate",
    .source = "Bernstein et al., signSGD with majority vote, ICLR 2019, algorithm 1",
    .memories = {"none"},
    .recipe = {.lr = 0.0005, .momentum = 0},
    .make = [](const Values&, std::span<const std::int64_t>) { return std::make_unique<SignSgd>(); },
});

}  // namespace
}  // namespace acp
