// See trainer.h.
#include "benchmarks/acp-train/trainer.h"

#include <spdlog/fmt/fmt.h>
#include <torch/torch.h>

#include <cstdlib>

#include "acp/broadcast.h"
#include "benchmarks/acp-train/checkpoints.h"
#include "benchmarks/acp-train/job.h"
#include "benchmarks/common/optimizers.h"
#include "benchmarks/common/program.h"
#include "comm/error.h"
#include "comm/log.h"
#include "compressors/registry.h"

namespace acp::programs {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::string given(const std::optional<double>& setting) {
  return setting ? fmt::format("{}", *setting) : "the optimizer's own";
}

}  // namespace

Trainer::Trainer(const Context& context, const TrainOptions& options, Console& console)
    : context_(context), options_(options), console_(console) {
  agree(context_, [&] { metrics_.emplace("metrics", context.rank() == 0 ? options.metrics : ""); });
  if (!options.checkpoint.empty() && !options.resume) check_new_run(options.checkpoint);
  prepare();
  plan_run();
  make_reducer();
}

Trainer::~Trainer() = default;

void Trainer::prepare() {
  torch::manual_seed(options_.seed);
  auto job = load_job(context_, options_);
  model_ = std::move(job.model);
  data_ = std::move(job.data);
  result_.data = std::move(job.set);
  result_.data_sentence = std::move(job.sentence);
  result_.tokens_per_sample = job.tokens_per_sample;
  broadcast_parameters(*model_);
  // From here on every rank draws numbers of its own (dropout).
  torch::manual_seed(options_.seed + 0x9e3779b9U + static_cast<std::uint64_t>(context_.rank()));

  parameters_ = unique_parameters(*model_);
  for (const auto& [name, tensor] : parameters_) {
    result_.elements += tensor.numel();
    result_.dense_bytes += static_cast<std::int64_t>(tensor.nbytes());
  }
  result_.lr = options_.lr * (options_.scale_lr ? context_.size() : 1);
  optimizer_ = make_optimizer();
}

std::unique_ptr<torch::optim::Optimizer> Trainer::make_optimizer() {
  std::vector<at::Tensor> decayed, undecayed;
  const auto spared = undecayed_parameters(*model_, options_.no_decay);
  for (const auto& [name, tensor] : parameters_) {
    const bool decays = std::ranges::find(spared, name, &NamedTensors::value_type::first) == spared.end();
    (decays ? decayed : undecayed).push_back(tensor);
  }
  return programs::make_optimizer(options_.optimizer, decayed, undecayed,
                                  {result_.lr, options_.momentum, options_.weight_decay});
}

void Trainer::plan_run() {
  passes_ = options_.reduction.backward_passes_per_step();
  models::LoaderOptions loader;
  loader.rank = context_.rank();
  loader.size = context_.size();
  loader.batch_size = options_.batch_size;
  loader.passes_per_step = passes_;
  loader.seed = options_.seed;
  loader.order = data_.order;
  loader.device = context_.device();
  eval_options_ = loader;
  eval_options_.batch_size = options_.eval_batch_size;
  agree(context_, [&] { loader_.emplace(data_.train, loader); });

  result_.samples_per_step = options_.batch_size * passes_ * context_.size();
  position_.samples_per_batch = options_.batch_size * context_.size();
  steps_per_epoch_ = loader_->batches() / passes_;
  total_steps_ =
      options_.iterations > 0 ? options_.warmup + options_.iterations : options_.epochs * steps_per_epoch_;
  LrRun run;
  run.lr = result_.lr;
  run.steps = static_cast<std::uint64_t>(total_steps_);
  run.steps_per_epoch = static_cast<std::uint64_t>(steps_per_epoch_);
  run.warmup_steps = lr_warmup_steps(options_.lr_warmup, run.steps_per_epoch);
  result_.lr_warmup_steps = static_cast<std::int64_t>(run.warmup_steps);
  schedule_.emplace(options_.lr_schedule, run);
}

// A checkpoint of another number of ranks or samples counted batches of another size: this run goes on after
// as many samples of the epoch, and makes the epochs that are left.
void Trainer::fit_place() {
  const auto samples = options_.batch_size * context_.size();
  if (const auto before = std::exchange(position_.samples_per_batch, samples); before != samples)
    position_.batch = position_.batch * before / samples / passes_ * passes_;
  if (options_.epochs > 0) {
    total_steps_ =
        position_.step + (options_.epochs - position_.epoch) * steps_per_epoch_ - position_.batch / passes_;
  }
}

// Epochs and their parts decide, where the run counts epochs: steps before a resume may have been of another
// size.
std::uint64_t Trainer::schedule_step() const {
  const auto step =
      options_.epochs > 0 ? position_.epoch * steps_per_epoch_ + position_.batch / passes_ : position_.step;
  return static_cast<std::uint64_t>(step);
}

// Once the length of the run is known, which policies ask for.
void Trainer::make_reducer() {
  auto reduction = options_.reduction;
  if (options_.iterations > 0) {
    reduction.steps(total_steps_);
  } else if (steps_per_epoch_ > 0) {
    reduction.epochs(options_.epochs).steps_per_epoch(steps_per_epoch_);
  }
  // ACP_TRACE's timeline belongs to the context.
  if (const char* file = std::getenv("ACP_TRACE"); file != nullptr && *file != '\0') {
    agree(context_, [&] { check_writable("trace (ACP_TRACE)", file); });
  }
  if (!options_.trace.empty()) {
    agree(context_, [&] { check_writable("trace", options_.trace); });
    trace_.emplace(options_.trace, context_.rank());
    reduction.events(trace_->sink());
  }
  reducer_ = std::make_unique<GradientReducer>(parameters_, reduction);
  const CompressorFactory factory(reduction.compressor(),
                                  {reduction.memory(), reduction.seed(), reduction.granularity()});
  result_.compressor = factory.spec();
  result_.memory = factory.memory();
  result_.granularity = factory.granularity();
}

TrainState Trainer::state() {
  // Other schedules do not ask how long the run is, and going on for longer is what resuming is for.
  const bool counts =
      options_.lr_schedule.starts_with("linear") || options_.lr_schedule.starts_with("cosine");
  const auto length = counts ? fmt::format("{} steps", total_steps_) : "any number of steps";
  return {*model_,
          *optimizer_,
          *reducer_,
          *schedule_,
          position_,
          options_.seed,
          options_.model + " with " + options_.optimizer +
              (options_.no_decay.empty()
                   ? ""
                   : " and --no-decay " + fmt::format("{}", fmt::join(options_.no_decay, ","))),
          {{"--data", result_.data},
           {"--compressor", result_.compressor},
           {"--memory", result_.memory},
           {"--policy", options_.reduction.policy()},
           {"--batch-size", fmt::format("{}", options_.batch_size)},
           {"--backward-passes", fmt::format("{}", passes_)},
           {"--lr", fmt::format("{}", result_.lr)},
           {"--lr-schedule", options_.lr_schedule},
           {"--lr-warmup", options_.lr_warmup},
           {"--momentum", given(options_.momentum)},
           {"--weight-decay", given(options_.weight_decay)},
           {"--label-smoothing", fmt::format("{}", options_.label_smoothing)},
           {"--clip", fmt::format("{}", options_.clip)},
           {"--clip-local", fmt::format("{}", options_.reduction.clip_local())},
           {"--granularity", result_.granularity},
           {"augmentation", options_.augment ? "on" : "off"},
           {"a run's length of", length},
           {"--seed", fmt::format("{}", options_.seed)},
           {"a world size of", fmt::format("{}", context_.size())}},
          model_.get()};
}

void Trainer::save() {
  broadcast_buffers(*model_);
  save_checkpoint(options_.checkpoint, state());
  saved_at_ = position_.step;
}

TrainResult Trainer::run() {
  const auto begin = Clock::now();
  if (options_.resume) {
    for (const auto& line : load_checkpoint(options_.checkpoint, state())) {
      if (context_.rank() == 0) log_warning(line);
    }
    saved_at_ = position_.step;
    fit_place();
    console_.line(fmt::format("resumed after step {} from {}", position_.step, options_.checkpoint));
  }
  console_.line(fmt::format("{} ({} parameters) on {}, {} ranks x {}, {}, {}", options_.model,
                            with_separators(static_cast<std::uint64_t>(result_.elements)),
                            result_.data_sentence, context_.size(), options_.batch_size * passes_,
                            options_.optimizer, result_.compressor));
  for (const auto& fact : data_.facts) console_.line("  " + fact);
  for (const auto& note : options_.notes) console_.line(note);
  // A run that was stopped after an epoch's last step has that epoch's end still before it.
  while (result_.stopped_by == 0 && (position_.step < total_steps_ || epoch_complete())) {
    train_epoch();
    if (result_.stopped_by == 0) end_epoch();
  }
  if (result_.stopped_by == 0 && !result_.eval) evaluate();
  if (!options_.checkpoint.empty() && saved_at_ != position_.step) save();
  if (result_.stopped_by == 0 && options_.evaluate && data_.test) {
    auto test_options = eval_options_;
    test_options.batch_size = options_.test_batch_size;
    result_.test = evaluate_on(data_.test, test_options);
    if (result_.test) console_.line("test: " + to_string(result_.test->metric));
  }
  result_.end = position_;
  if (result_.traffic.empty())
    result_.traffic.push_back({reducer_->statistics(), reducer_->traffic().bytes_sent});
  const auto statistics = reducer_->statistics();
  result_.steps_skipped = statistics.skipped;
  result_.plan_changes = statistics.plan_changes;
  const auto& from = result_.traffic.front().reducer;
  if (const auto steps = statistics.steps - from.steps; steps > 0 && statistics.sent_elements > 0) {
    result_.communicated = 100. * static_cast<double>(statistics.sent_elements - from.sent_elements) /
                           (static_cast<double>(steps) * static_cast<double>(result_.elements));
  }
  result_.fusion_mb = reducer_->fusion_mb();
  if (!result_.fusion_mb && !options_.reduction.fusion_auto())
    result_.fusion_mb = options_.reduction.fusion_mb();  // no step was made, or the model is one bucket
  result_.bytes_sent_estimated = reducer_->traffic().estimated;
  result_.parameters_hash = fmt::format("{:016x}", check_parameters_agree(*model_));
  if (trace_) trace_->close(context_);  // one file, one time axis
  result_.total_seconds = seconds_since(begin);
  return std::move(result_);
}

void Trainer::train_epoch() {
  auto epoch = loader_->epoch(position_.epoch, position_.batch);
  if (position_.batch == 0) {  // else all goes on where a checkpoint left it
    model_->reset_state();
    if (options_.epochs > 0) {
      reducer_->learning_rate(schedule_->at(schedule_step()));
      reducer_->start_epoch(static_cast<std::uint64_t>(position_.epoch));
    }
  }
  while (position_.step < total_steps_ && !epoch_complete()) {
    step(epoch);
    result_.stopped_by = stop_.poll(context_);
    if (result_.stopped_by != 0) return;
    if (options_.eval_every > 0 && position_.step % options_.eval_every == 0) evaluate_between();
    if (result_.stopped_by != 0) return;
    if (options_.checkpoint_every > 0 && position_.step % options_.checkpoint_every == 0) save();
  }
}

models::Batch Trainer::fetch(models::Epoch& epoch, StepSample& sample) {
  const auto begin = Clock::now();
  auto batch = epoch.next();
  sample.data += seconds_since(begin);
  if (!batch) throw Error("the data loader ended before the epoch did");
  return std::move(*batch);
}

// Adds this rank's gradients of the batches and averages them over the ranks; returns the mean loss of this
// rank.
at::Tensor Trainer::forward_backward(const std::function<models::Batch()>& next_batch) {
  optimizer_->zero_grad();
  at::Tensor sum;
  for (std::int64_t pass = 0; pass < passes_; ++pass) {
    const auto batch = next_batch();
    auto loss = model_->loss(batch);
    if (passes_ > 1) loss = loss / passes_;
    loss.backward();
    sum = sum.defined() ? sum + loss.detach() : loss.detach();
  }
  reducer_->synchronize();
  if (options_.clip > 0) {
    std::vector<at::Tensor> tensors;
    for (const auto& [name, tensor] : parameters_) tensors.push_back(tensor);
    torch::nn::utils::clip_grad_norm_(tensors, options_.clip);
  }
  return sum;
}

void Trainer::step(models::Epoch& epoch) {
  StepSample sample;
  const auto before = reducer_->statistics();
  const double comm_before = reducer_->traffic().seconds;
  if (measured() && result_.traffic.empty())
    result_.traffic.push_back({before, reducer_->traffic().bytes_sent});
  const auto begin = Clock::now();
  lr_ = schedule_->at(schedule_step());
  set_learning_rate(*optimizer_, lr_);
  reducer_->learning_rate(lr_);

  at::Tensor loss;
  if (find_optimizer(options_.optimizer).closure) {
    // Called several times with the same batches; all ranks decide by the same loss.
    std::vector<models::Batch> batches;
    for (std::int64_t pass = 0; pass < passes_; ++pass) batches.push_back(fetch(epoch, sample));
    const auto carried = model_->carried();
    loss = optimizer_->step([&] {
      auto next = batches.begin();
      model_->carry(carried);  // every call is of the same function
      const auto local = forward_backward([&] { return *next++; });
      return at::full({}, sum_over_ranks(context_, local.item<double>()) / context_.size(), local.options());
    });
  } else {
    loss = forward_backward([&] { return fetch(epoch, sample); });
    if (!reducer_->skipped()) optimizer_->step();
  }
  if (!reducer_->skipped()) {  // else the loss may be NaN, too
    position_.loss_sum += loss.item<double>();
    ++position_.loss_steps;
  }

  const auto after = reducer_->statistics();
  sample.total = seconds_since(begin);
  sample.exposed = after.exposed_seconds - before.exposed_seconds;
  sample.encode = after.encode_seconds - before.encode_seconds;
  sample.decode = after.decode_seconds - before.decode_seconds;
  sample.comm = reducer_->traffic().seconds - comm_before;
  train_seconds_ += sample.total;
  if (measured()) {
    result_.samples.push_back(sample);
    result_.traffic.push_back({after, reducer_->traffic().bytes_sent});
  }
  ++position_.step;
  position_.batch += passes_;
  ReducerStatistics moved;  // in this step
  moved.payload_bytes = after.payload_bytes - before.payload_bytes;
  moved.dense_bytes = after.dense_bytes - before.dense_bytes;
  moved.compression_error = after.compression_error - before.compression_error;
  moved.compression_error_squared = after.compression_error_squared - before.compression_error_squared;
  report_step(sample, loss.item<double>(), moved);
}

}  // namespace acp::programs
