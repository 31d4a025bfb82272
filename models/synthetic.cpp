// Synthetic data: random samples of whatever shape the model takes, for measuring throughput. Nothing can be
// learnt.
#include <algorithm>
#include <cmath>

#include "models/data_set.h"
#include "models/random.h"

namespace acp::models {
namespace {

// `distinct` samples are kept and repeat, so that large shapes fit into memory and reading costs as little as
// it can.
class SyntheticSamples final : public Samples {
 public:
  SyntheticSamples(SampleSpec spec, std::int64_t count, std::uint64_t key)
      : spec_(std::move(spec)), count_(count), distinct_(std::min(count, most_distinct)) {
    Random random{{key}};
    for (const TensorSpec& input : spec_.inputs) pool_.inputs.push_back(draw(input, random));
    pool_.target = draw(spec_.target, random);
  }

  std::int64_t size() const override { return count_; }

  Batch get(std::span<const std::int64_t> indices, std::int64_t) const override {
    const auto n = static_cast<std::int64_t>(indices.size());
    Batch batch{{}, pick(pool_.target, indices), n};
    for (const at::Tensor& input : pool_.inputs) batch.inputs.push_back(pick(input, indices));
    return batch;
  }

 private:
  static constexpr std::int64_t most_distinct = 256;

  at::Tensor draw(const TensorSpec& spec, Random& random) const {
    std::vector<std::int64_t> shape{distinct_};
    shape.insert(shape.end(), spec.shape.begin(), spec.shape.end());
    const at::Tensor result = torch::empty(shape, spec.classes > 0 ? torch::kLong : torch::kFloat);
    if (spec.classes > 0) {
      auto* numbers = result.mutable_data_ptr<std::int64_t>();
      for (std::int64_t i = 0; i < result.numel(); ++i) numbers[i] = random.below(spec.classes);
    } else {
      // Uniform, of mean 0 and variance 1.
      auto* numbers = result.mutable_data_ptr<float>();
      const double step = std::sqrt(12.0) / (1 << 24);
      for (std::int64_t i = 0; i < result.numel(); ++i) {
        numbers[i] = static_cast<float>(static_cast<double>(random.between(-(1 << 23), 1 << 23)) * step);
      }
    }
    return result;
  }

  // Copies bytes, since torch's operators would start a thread pool on a loader's thread.
  at::Tensor pick(const at::Tensor& pool, std::span<const std::int64_t> indices) const {
    auto shape = pool.sizes().vec();
    shape[0] = static_cast<std::int64_t>(indices.size());
    const at::Tensor result = torch::empty(shape, pool.options());
    const auto bytes = static_cast<std::ptrdiff_t>(pool.nbytes()) / distinct_;
    const auto* from = static_cast<const char*>(pool.const_data_ptr());
    auto* to = static_cast<char*>(result.mutable_data_ptr());
    for (const std::int64_t index : indices) {
      to = std::copy_n(from + index % distinct_ * bytes, bytes, to);
    }
    return result;
  }

  SampleSpec spec_;
  std::int64_t count_, distinct_;
  Batch pool_;
};

const bool registered = register_data_set({
    .name = "synthetic",
    .summary = "random numbers of the model's shapes, for measuring throughput",
    .keys = {{"train", "8192", "training samples, at least 1"},
             {"eval", "1024", "evaluation samples, at least 1"}},
    .load =
        [](const std::filesystem::path&, const Values& values, const LoadOptions& options) {
          const auto& wanted = options.wanted;
          constexpr std::int64_t most = std::int64_t{1} << 40;
          return DataSet{"synthetic", wanted,
                         std::make_shared<SyntheticSamples>(wanted, values.integer("train", 1, most), 1),
                         std::make_shared<SyntheticSamples>(wanted, values.integer("eval", 1, most), 2),
                         nullptr};
        },
});

}  // namespace
}  // namespace acp::models
