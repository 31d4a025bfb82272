// `efsignsgd`: signs with the mean magnitude, made for error feedback.
#include "compressors/code.h"
#include "compressors/coded_method.h"
#include "compressors/kernels/moments.h"
#include "compressors/kernels/pack.h"

namespace acp {
namespace {

const std::vector<std::string> forms{"mean", "grace"};

// Code: the scale, then one bit a value.
class EfSignSgd final : public Quantiser {
 public:
  explicit EfSignSgd(const Values& values)
      : combine_(values.choice("form", forms) == "grace" ? Combine::sum : Combine::mean) {}

  std::size_t bytes(std::int64_t n) const override {
    return n == 0 ? 0 : sizeof(float) + kernels::packed_bytes(static_cast<std::size_t>(n), 1);
  }

  void encode(std::span<const float> x, const Block&, std::span<std::byte> code) override {
    if (x.empty()) return;
    code::write(code, 0, scale(x));
    kernels::pack_signs(x, code.data() + sizeof(float));
  }

  void encode_and_keep(std::span<float> y, const Block&, std::span<std::byte> code) override {
    if (y.empty()) return;
    const float mean = scale(y);
    code::write(code, 0, mean);
    kernels::pack_signs_keep(y, mean, -mean, code.data() + sizeof(float));
  }

  void decode(std::span<const std::byte> code, std::span<float> out) const override {
    code::check_size("efsignsgd", code, bytes(static_cast<std::int64_t>(out.size())));
    if (out.empty()) return;
    const float mean = code::read(code, 0);
    code::check_scale("efsignsgd", mean);
    code::check_padding("efsignsgd", code.subspan(sizeof(float)), out.size());
    kernels::unpack_signs(code.data() + sizeof(float), mean, -mean, out);
  }

  Combine combine() const override { return combine_; }
  std::optional<device::LevelCode> level_code() const override {
    return device::LevelCode{.numbers = device::LevelCode::Numbers::mean};
  }

 private:
  static float scale(std::span<const float> x) {
    return static_cast<float>(kernels::sum_abs(x) / static_cast<double>(x.size()));
  }

  Combine combine_;
};

const bool registered = register_quantiser({
    .name = "efsignsgd",
    .summary = "signs times the mean magnitude of each tensor, with error feedback",
    .source = "Karimireddy et al., Error feedback fixes SignSGD, ICML 2019, algorithm 1; form=grace: GRACE",
    .keys =
        {{"form", "mean",
          "mean: averaged over the ranks; grace: the learning rate inside the error memory, summed over the "
          "ranks"},
         {"lr", "0.1", "of form=grace, above 0: y = error + lr * gradient, result divided by lr"}},
    .memories = {"residual", "none"},
    .make = [](const Values& values,
               std::span<const std::int64_t>) { return std::make_unique<EfSignSgd>(values); },
    .feedback = [](const Values& values) -> Feedback {
      const double lr = values.number("lr", 1e-12, 1e12);
      if (values.choice("form", forms) == "mean") return {};
      return {lr, true};
    },
});

}  // namespace
}  // namespace acp
