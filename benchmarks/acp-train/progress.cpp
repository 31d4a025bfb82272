// What a Trainer says while it runs: lines for people, metrics of steps, epochs and evaluations.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "benchmarks/acp-train/trainer.h"

namespace acp::programs {

namespace {

nlohmann::json figure(const Evaluation& evaluation) {
  return {{"name", evaluation.metric.name}, {"value", evaluation.metric.value}};
}

// What a policy has chosen, in a few numbers.
nlohmann::json describe_plan(const GradientReducer& reducer) {
  double least = 0, most = 0, sum = 0;
  std::size_t whole = 0, given = 0;
  for (const auto& [name, level] : reducer.levels()) {
    if (!level || std::isnan(*level)) {
      whole += !level;
      continue;
    }
    least = given == 0 ? *level : std::min(least, *level);
    most = std::max(most, *level);
    sum += *level;
    ++given;
  }
  nlohmann::json plan = {{"whole", whole}, {"changes", reducer.statistics().plan_changes}};
  if (given > 0) plan["level"] = {{"min", least}, {"mean", sum / static_cast<double>(given)}, {"max", most}};
  return plan;
}

}  // namespace

void Trainer::report_step(const StepSample& sample, double loss, const ReducerStatistics& moved) {
  const auto rate = static_cast<double>(result_.samples_per_step) / sample.total;
  const auto place = [&] {
    return fmt::format("epoch {} step {}/{}: loss {:.4f}, lr {:.4g}, {:.0f} samples/s", position_.epoch + 1,
                       position_.step, total_steps_, loss, lr_, rate);
  };
  if (console_.shows_progress()) console_.progress(place());
  if (options_.log_every == 0 || position_.step % options_.log_every != 0) return;
  console_.line(place());
  nlohmann::json line = {{"kind", "step"},
                         {"step", position_.step},
                         {"epoch", position_.epoch + 1},
                         {"loss", loss},
                         {"lr", lr_},
                         {"step_ms", sample.total * 1e3},
                         {"exposed_comm_ms", sample.exposed * 1e3},
                         {"samples_per_second", rate},
                         {"payload_bytes", moved.payload_bytes},
                         {"dense_bytes", moved.dense_bytes}};
  if (options_.reduction.compression_error()) {
    line["compression_error"] = moved.compression_error;
    line["compression_error_squared"] = moved.compression_error_squared;
  }
  if (reducer_->has_policy()) line["plan"] = describe_plan(*reducer_);
  metrics_->write(line);
}

// What the run has cost up to here; of this process.
void Trainer::write_so_far(nlohmann::json& line) const {
  line["train_seconds"] = train_seconds_;
  line["payload_bytes"] = reducer_->statistics().payload_bytes;
  line["bytes_sent"] = reducer_->traffic().bytes_sent;
}

// Of the whole part; nothing, and result_.stopped_by, when a signal has cut it short.
std::optional<Evaluation> Trainer::evaluate_on(const std::shared_ptr<const models::Samples>& part,
                                               const models::LoaderOptions& options) {
  auto evaluation = programs::evaluate(context_, *model_, part, options, [&] { return stop_.noted(); });
  reducer_->pause();
  result_.stopped_by = stop_.poll_now(context_);
  if (result_.stopped_by != 0) return {};
  return evaluation;
}

// Of the validation part (else the test part), into result_.eval.
void Trainer::evaluate() {
  if (!options_.evaluate || !data_.eval) return;
  auto evaluation = evaluate_on(data_.eval, eval_options_);
  if (!evaluation) return;
  result_.eval = std::move(evaluation);
  if (result_.eval->loss) schedule_->evaluated(*result_.eval->loss);
}

// Of --eval-every, inside an epoch. At an epoch's end and the run's there is an evaluation anyway.
void Trainer::evaluate_between() {
  if (!options_.evaluate || !data_.eval || epoch_complete() || position_.step >= total_steps_) return;
  evaluate();
  if (result_.stopped_by != 0) return;
  nlohmann::json line = {{"kind", "eval"},
                         {"epoch", position_.epoch + 1},
                         {"step", position_.step},
                         {"lr", lr_},
                         {"eval", figure(*result_.eval)}};
  if (result_.eval->loss) line["eval_loss"] = *result_.eval->loss;
  write_so_far(line);
  console_.line(fmt::format("step {}: {}", position_.step, to_string(result_.eval->metric)));
  metrics_->write(line);
}

void Trainer::end_epoch() {
  const double mean = position_.loss_steps > 0
                          ? position_.loss_sum / static_cast<double>(position_.loss_steps)
                          : std::numeric_limits<double>::quiet_NaN();  // every step was skipped
  position_.train_loss = sum_over_ranks(context_, mean) / context_.size();
  const bool complete = epoch_complete();
  nlohmann::json line = {{"kind", "epoch"},
                         {"epoch", position_.epoch + 1},
                         {"step", position_.step},
                         {"lr", lr_},
                         {"train_loss", position_.train_loss}};
  write_so_far(line);
  auto text = fmt::format("epoch {}: train loss {:.4f}", position_.epoch + 1, position_.train_loss);
  const bool evaluates = options_.epochs > 0 || options_.eval_every > 0 || position_.step >= total_steps_;
  if (evaluates) evaluate();
  if (result_.stopped_by != 0) return;  // a resumed run comes here again
  if (evaluates && result_.eval) {
    text += ", " + to_string(result_.eval->metric);
    line["eval"] = figure(*result_.eval);
    if (result_.eval->loss) line["eval_loss"] = *result_.eval->loss;
  }
  console_.line(text);
  metrics_->write(line);
  if (complete) {
    ++position_.epoch;
    position_.batch = 0;
    position_.loss_sum = 0;
    position_.loss_steps = 0;
  }
  if (complete && !options_.checkpoint.empty() && options_.checkpoint_every == 0) save();
}

}  // namespace acp::programs
