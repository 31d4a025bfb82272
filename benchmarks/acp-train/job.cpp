// See job.h.
#include "benchmarks/acp-train/job.h"

#include <spdlog/fmt/fmt.h>

#include <vector>

#include "acp/agreement.h"
#include "benchmarks/common/program.h"

namespace acp::programs {

namespace {

// A sample that is a sequence of tokens has as many as its first input is long.
std::int64_t tokens_of(const models::SampleSpec& sample) {
  if (sample.inputs.empty()) return 0;
  const auto& first = sample.inputs.front();
  return first.classes > 0 && first.shape.size() == 1 ? first.shape.front() : 0;
}

// The names of the sets that come into question, the preferred first.
std::vector<std::string> sets_for(const models::ModelInfo& model, const TrainOptions& options) {
  if (options.data_set.empty()) return model.data_sets;
  return {options.data_set};
}

void check_same_data(const Context& context, const std::string& name, const models::DataSet& data) {
  const auto size = [](const std::shared_ptr<const models::Samples>& part) {
    return fmt::format("{}", part ? part->size() : 0);
  };
  agreed([&] {
    check_agreement(context.user_channel(), "data set",
                    {name, models::to_string(data.sample), size(data.train) + " training samples",
                     size(data.eval) + " evaluation samples", size(data.test) + " test samples"});
  });
}

}  // namespace

Job load_job(const Context& context, const TrainOptions& options) {
  Job job;
  agree(context, [&] {
    auto choice = models::choose_model(options.model);
    const auto taken = models::choose_data(sets_for(*choice.info, options), options.data);
    job.set = taken.spec.to_string();
    job.sentence = taken.sentence;
    job.data = models::load_data(
        taken, {.wanted = choice.sample(), .seed = options.seed, .augment = options.augment});
    choice.fit(job.data);
    job.model = choice.make();
    job.model->set_label_smoothing(options.label_smoothing);
    job.model->to(context.device());
  });
  job.tokens_per_sample = tokens_of(job.data.sample);
  check_same_data(context, job.set, job.data);
  return job;
}

}  // namespace acp::programs
