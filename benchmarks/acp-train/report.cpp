// See report.h.
#include "benchmarks/acp-train/report.h"

#include <spdlog/fmt/fmt.h>

#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>

namespace acp::programs {

namespace {

using nlohmann::json;

json figure(const std::optional<Evaluation>& evaluation) {
  if (!evaluation) return nullptr;
  json result = {{"name", evaluation->metric.name}, {"value", evaluation->metric.value}};
  if (evaluation->loss) result["loss"] = *evaluation->loss;
  result["metrics"] = evaluation->means;
  return result;
}

// Byte counts per step are whole numbers where every step is alike.
json bytes(double value) {
  if (value == std::floor(value)) return static_cast<std::int64_t>(value);
  return value;
}

json optional_text(const std::string& text) {
  return text.empty() ? json(nullptr) : json(text);
}

}  // namespace

json report(const Context& context, const TrainOptions& options, const TrainResult& result) {
  const auto traffic = summarize(result.traffic, result.elements, context.size());
  double seconds = 0;
  for (const auto& sample : result.samples) seconds += sample.total;
  const auto steps = static_cast<std::int64_t>(result.samples.size());
  const auto samples = static_cast<double>(steps * result.samples_per_step);
  const auto tokens = samples * static_cast<double>(result.tokens_per_sample);
  const auto error = [&](double value) {
    return options.reduction.compression_error() ? json(value) : json(nullptr);
  };
  json object = {{"model", options.model},
                 {"preset", optional_text(options.preset)},
                 {"data", result.data},
                 {"augment", options.augment},
                 {"world_size", context.size()},
                 {"backend", context.backend()},
                 {"algorithm", options.algorithm},
                 {"device", context.device().is_cpu() ? "cpu" : "cuda"},
                 {"compressor", result.compressor},
                 {"memory", result.memory},
                 {"granularity", result.granularity},
                 {"nonfinite", options.reduction.nonfinite()},
                 {"policy", options.reduction.policy()},
                 {"fusion_mb", result.fusion_mb ? json(*result.fusion_mb) : json(nullptr)},
                 {"fusion_auto", options.reduction.fusion_auto()},
                 {"overlap", options.reduction.overlap() && options.reduction.clip_local() == 0 &&
                                 options.reduction.nonfinite() != "skip"},
                 {"optimizer", options.optimizer},
                 {"lr", result.lr},
                 {"momentum", options.momentum ? json(*options.momentum) : json(nullptr)},
                 {"weight_decay", options.weight_decay ? json(*options.weight_decay) : json(nullptr)},
                 {"no_decay", options.no_decay},
                 {"label_smoothing", options.label_smoothing},
                 {"lr_schedule", options.lr_schedule},
                 {"lr_warmup", result.lr_warmup_steps},
                 {"clip", options.clip},
                 {"clip_local", options.reduction.clip_local()},
                 {"batch_size", options.batch_size},
                 {"backward_passes", options.reduction.backward_passes_per_step()},
                 {"seed", options.seed},
                 {"iterations", steps},
                 {"warmup", options.warmup},
                 {"steps", result.end.step},
                 {"steps_skipped", result.steps_skipped},
                 {"epochs", result.end.epoch},
                 {"seconds", seconds},
                 {"total_seconds", result.total_seconds},
                 {"samples_per_second", seconds > 0 ? samples / seconds : 0},
                 {"tokens_per_second", tokens > 0 && seconds > 0 ? json(tokens / seconds) : json(nullptr)},
                 {"step_ms", step_times(result.samples)},
                 {"parameters", result.elements},
                 {"payload_bytes_per_step", bytes(traffic.payload_bytes_per_step)},
                 {"dense_bytes_per_step", bytes(traffic.dense_bytes_per_step)},
                 {"compression_ratio", traffic.compression_ratio},
                 {"compression_error", error(traffic.compression_error)},
                 {"compression_error_squared", error(traffic.compression_error_squared)},
                 {"collectives_per_step", traffic.collectives_per_step},
                 {"bytes_sent_per_step", bytes(traffic.bytes_sent_per_step)},
                 {"bytes_sent_estimated", result.bytes_sent_estimated},
                 {"wire_ratio", traffic.wire_ratio > 0 ? json(traffic.wire_ratio) : json(nullptr)},
                 {"train_loss", result.end.train_loss},
                 {"eval", figure(result.eval)},
                 {"test", figure(result.test)},
                 {"plan_changes", result.plan_changes},
                 {"communicated_percent", result.communicated ? json(*result.communicated) : json(nullptr)},
                 {"name", optional_text(options.name)},
                 {"project", optional_text(options.project)},
                 {"parameters_hash", result.parameters_hash},
                 {"peak_rss_mb", peak_rss_mb()},
                 {"version", ACP_VERSION}};
  if (steps == 0) {  // nothing was measured, which is not the same as zero
    for (const char* figure :
         {"samples_per_second", "payload_bytes_per_step", "compression_ratio", "tokens_per_second",
          "collectives_per_step", "bytes_sent_per_step", "wire_ratio"}) {
      object[figure] = nullptr;
    }
    for (auto& part : object["step_ms"]) part = nullptr;
    object["dense_bytes_per_step"] = result.dense_bytes;
  }
  return object;
}

std::vector<std::string> summary(const json& report) {
  std::vector<std::string> lines;
  const auto add = [&](const char* label, const std::string& text) {
    lines.push_back(fmt::format("{:<18} {}", label, text));
  };
  const auto number = [&](const json& value) { return value.get<double>(); };
  for (const char* part : {"eval", "test"}) {
    if (report[part].is_null()) continue;
    add(part, to_string(models::Metric{report[part]["name"], number(report[part]["value"])}));
  }
  const auto parameters = [&] {
    add("parameters",
        fmt::format("hash {}, the same on all {} ranks", report["parameters_hash"].get<std::string>(),
                    report["world_size"].get<int>()));
    return lines;
  };
  if (report["samples_per_second"].is_null()) {
    add("speed", "no step was measured");
    return parameters();
  }
  const auto& ms = report["step_ms"];
  const auto& tokens = report["tokens_per_second"];
  add("speed", fmt::format("{:.1f} samples/s over all ranks{}", number(report["samples_per_second"]),
                           tokens.is_null() ? "" : fmt::format(" ({:.0f} tokens/s)", number(tokens))));
  add("step", fmt::format("{:.2f} ms (median; p10 {:.2f}, p90 {:.2f})", number(ms["median"]),
                          number(ms["p10"]), number(ms["p90"])));
  add("mean step",
      fmt::format("{:.2f} ms = data {:.2f} + compute {:.2f} + exposed communication {:.2f}; beside them "
                  "encode {:.2f}, decode {:.2f}, communication {:.2f}",
                  number(ms["mean"]), number(ms["data"]), number(ms["compute"]), number(ms["exposed_comm"]),
                  number(ms["encode"]), number(ms["decode"]), number(ms["comm"])));
  add("payload", fmt::format("{:.0f} bytes per step and rank, compression ratio {:.2f}",
                             number(report["payload_bytes_per_step"]), number(report["compression_ratio"])));
  if (!report["wire_ratio"].is_null()) {
    add("sent", fmt::format("{:.0f} bytes per step and rank{}, wire ratio {:.2f}",
                            number(report["bytes_sent_per_step"]),
                            report["bytes_sent_estimated"].get<bool>() ? " (estimated)" : "",
                            number(report["wire_ratio"])));
  }
  return parameters();
}

std::string describe_stop(const TrainOptions& options, const TrainResult& result) {
  auto text = fmt::format("stopped by {} after step {}", result.stopped_by == SIGINT ? "SIGINT" : "SIGTERM",
                          result.end.step);
  if (options.checkpoint.empty()) return text;
  return fmt::format("{}; --resume goes on from {}", text, options.checkpoint);
}

}  // namespace acp::programs
