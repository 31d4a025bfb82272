// `signum`: the signs of each rank's momentum, and the majority of the ranks decides.
#include <ATen/ATen.h>

#include "comm/error.h"
#include "compressors/code.h"
#include "compressors/coded_method.h"
#include "compressors/kernels/pack.h"

namespace acp {
namespace {

class Signum final : public Quantiser {
 public:
  Signum(const Values& values, std::span<const std::int64_t> shape)
      : shape_(shape.begin(), shape.end()), keep_(values.number("momentum", 0, 0.999999)) {}

  std::size_t bytes(std::int64_t n) const override {
    return kernels::packed_bytes(static_cast<std::size_t>(n), 1);
  }

  // m = x at first, then m = (1 - momentum) x + momentum m.
  void prepare(std::span<float> x) override {
    if (!momentum_.defined()) {
      momentum_ = at::empty(shape_, at::kFloat);
      std::ranges::copy(x, momentum_.data_ptr<float>());
    } else {
      const auto keep = static_cast<float>(keep_), take = static_cast<float>(1 - keep_);
      float* const m = momentum_.data_ptr<float>();
      for (std::size_t i = 0; i < x.size(); ++i) m[i] = take * x[i] + keep * m[i];
    }
    std::copy_n(momentum_.data_ptr<float>(), x.size(), x.begin());
  }

  void encode(std::span<const float> x, const Block&, std::span<std::byte> code) override {
    kernels::pack_signs(x, code.data());
  }

  void decode(std::span<const std::byte> code, std::span<float> out) const override {
    code::check_size("signum", code, bytes(static_cast<std::int64_t>(out.size())));
    code::check_padding("signum", code, out.size());
    kernels::unpack_signs(code.data(), 1, -1, out);
  }

  Combine combine() const override { return Combine::majority; }

  void save(std::map<std::string, at::Tensor>& state) const override {
    if (momentum_.defined()) state["momentum"] = momentum_.clone();
  }
  void load(const std::map<std::string, at::Tensor>& state) override {
    const auto saved = state.find("momentum");
    if (saved == state.end()) return;
    if (saved->second.numel() != numel(shape_)) {
      throw ConfigError("signum: a saved momentum of " + std::to_string(saved->second.numel()) +
                        " values for " + std::to_string(numel(shape_)));
    }
    momentum_ = saved->second.to(at::kFloat).reshape(shape_).clone(at::MemoryFormat::Contiguous);
  }

 private:
  std::vector<std::int64_t> shape_;
  double keep_;
  at::Tensor momentum_;
};

const bool registered = register_quantiser({
    .name = "signum",
    .summary =
        "signs of each rank's momentum, decided by majority vote; the result is +-1: lower the learning "
        "rate, and take no momentum in the optimizer",
    .source = "Bernstein et al., signSGD, ICML 2018, algorithm 2, with the majority vote of ICLR 2019",
    .keys = {{"momentum", "0.9", "share of the old momentum, 0 to below 1"}},
    .memories = {"none"},
    .recipe = {.lr = 0.0005, .momentum = 0},
    .hybrid = false,
    .make = [](const Values& values,
               std::span<const std::int64_t> shape) { return std::make_unique<Signum>(values, shape); },
});

}  // namespace
}  // namespace acp
