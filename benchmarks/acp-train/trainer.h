// The training loop of acp-train: steps, evaluations, checkpoints, measurements.
#pragma once

#include <torch/optim/optimizer.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "acp/context.h"
#include "acp/gradient_reducer.h"
#include "acp/trace.h"
#include "benchmarks/acp-train/options.h"
#include "benchmarks/acp-train/position.h"
#include "benchmarks/common/lr_schedule.h"
#include "benchmarks/common/measure.h"
#include "benchmarks/common/output.h"
#include "benchmarks/common/replicas.h"
#include "benchmarks/common/stop.h"
#include "models/data_set.h"
#include "models/loader.h"
#include "models/model.h"

namespace acp::programs {

struct TrainState;  // checkpoints.h

// All that the report needs, beside the options.
struct TrainResult {
  std::vector<StepSample> samples;     // of the measured steps
  std::vector<Traffic> traffic;        // one more than samples
  std::int64_t samples_per_step = 0;   // over all ranks
  std::int64_t tokens_per_sample = 0;  // of sequences; else 0
  std::int64_t elements = 0;           // of all gradients
  std::int64_t dense_bytes = 0;        // the same in their own dtype
  Position end;
  double lr = 0;  // the base rate, scaled if asked for
  std::int64_t lr_warmup_steps = 0;
  std::optional<Evaluation> eval, test;
  std::string parameters_hash, compressor, memory, granularity, data, data_sentence;
  std::optional<double> fusion_mb;  // in force
  bool bytes_sent_estimated = false;
  std::uint64_t plan_changes = 0;      // steps at which a policy changed a setting
  std::optional<double> communicated;  // percentage of the elements, of methods that choose some
  std::uint64_t steps_skipped = 0;     // by --nonfinite skip; of this process
  double total_seconds = 0;            // with evaluations, checkpoints and warm-up
  int stopped_by = 0;                  // signal
};

// Constructed and run by all ranks alike. Errors before training that only some ranks meet become
// AgreedErrors.
class Trainer {
 public:
  Trainer(const Context& context, const TrainOptions& options, Console& console);
  ~Trainer();
  TrainResult run();

 private:
  void prepare();
  void plan_run();
  void fit_place();
  std::uint64_t schedule_step() const;
  void make_reducer();
  void train_epoch();
  void step(models::Epoch& epoch);
  at::Tensor forward_backward(const std::function<models::Batch()>& next_batch);
  models::Batch fetch(models::Epoch& epoch, StepSample& sample);
  void report_step(const StepSample& sample, double loss, const ReducerStatistics& moved);
  void end_epoch();
  std::unique_ptr<torch::optim::Optimizer> make_optimizer();
  void write_so_far(nlohmann::json& line) const;
  std::optional<Evaluation> evaluate_on(const std::shared_ptr<const models::Samples>& part,
                                        const models::LoaderOptions& options);
  void evaluate();
  void evaluate_between();
  TrainState state();
  void save();
  bool measured() const { return position_.step >= options_.warmup; }
  bool epoch_complete() const { return position_.batch >= steps_per_epoch_ * passes_; }

  const Context& context_;
  const TrainOptions& options_;
  Console& console_;
  std::optional<JsonLines> metrics_;
  std::optional<Trace> trace_;
  StopRequest stop_;
  TrainResult result_;
  Position position_;
  std::int64_t saved_at_ = -1;  // step of the last checkpoint

  std::shared_ptr<models::Model> model_;
  models::DataSet data_;
  models::LoaderOptions eval_options_;
  std::optional<models::TrainingLoader> loader_;
  NamedTensors parameters_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
  std::unique_ptr<GradientReducer> reducer_;
  std::optional<LrSchedule> schedule_;
  double train_seconds_ = 0;  // of the steps of this process
  std::int64_t steps_per_epoch_ = 0, total_steps_ = 0, passes_ = 1;
  double lr_ = 0;  // of the last step
};

}  // namespace acp::programs
