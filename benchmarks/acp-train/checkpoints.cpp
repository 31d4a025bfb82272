// See checkpoints.h. Job, place and schedule are the checkpoint's `meta`; a rank's own sum of losses and what
// its model carries from batch to batch are its `local` part.
#include "benchmarks/acp-train/checkpoints.h"

#include <spdlog/fmt/fmt.h>
#include <torch/serialize.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "acp/checkpoint.h"
#include "benchmarks/common/output.h"
#include "benchmarks/common/program.h"
#include "comm/error.h"

namespace acp::programs {

namespace {

using nlohmann::json;

// JSON has no infinities (plateau's best loss before the first evaluation) and no NaN (a loss that diverged).
json number(double x) {
  return std::isfinite(x) ? json(x) : json(fmt::format("{}", x));
}

double parse_number(const std::string& text, const std::string& where) {
  double x = 0;
  const auto* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, x);
  if (error != std::errc() || stop != end) {
    throw DataError(fmt::format("{} is damaged: \"{}\" is no number", where, text));
  }
  return x;
}

double number(const json& x, const std::string& where) {
  return x.is_string() ? parse_number(x.get<std::string>(), where) : x.get<double>();
}

std::string to_meta(const TrainState& state) {
  const auto& p = state.position;
  json meta = {{"job", state.job},
               {"batch", p.batch},
               {"samples_per_batch", p.samples_per_batch},
               {"loss_steps", p.loss_steps},
               {"loss_sum", number(p.loss_sum)},
               {"train_loss", number(p.train_loss)},
               {"settings", state.settings},
               {"schedule", json::array()}};
  for (const double x : state.schedule.state()) meta["schedule"].push_back(number(x));
  return meta.dump();
}

// What `meta` says, checked before anything is restored.
struct Place {
  Position position;
  std::vector<double> schedule;
  std::map<std::string, std::string> settings;
};

Place read_place(const CheckpointInfo& checkpoint, const std::string& job) {
  const auto where = (checkpoint.folder / "manifest.json").string();
  try {
    const auto meta = json::parse(checkpoint.meta);
    if (const auto saved = meta.at("job").get<std::string>(); saved != job) {
      throw ConfigError(
          fmt::format("the checkpoint {} is of {}, this run is {}", checkpoint.folder.string(), saved, job));
    }
    Place place;
    auto& p = place.position;
    p.step = static_cast<std::int64_t>(checkpoint.step);
    p.epoch = static_cast<std::int64_t>(checkpoint.epoch);
    p.batch = meta.at("batch");
    p.samples_per_batch = meta.at("samples_per_batch");
    p.loss_steps = meta.at("loss_steps");
    p.loss_sum = number(meta.at("loss_sum"), where);
    p.train_loss = number(meta.at("train_loss"), where);
    place.settings = meta.at("settings");
    for (const auto& x : meta.at("schedule")) place.schedule.push_back(number(x, where));
    if (p.step < 0 || p.epoch < 0 || p.batch < 0 || p.samples_per_batch < 1 || p.loss_steps < 0) {
      throw DataError(fmt::format("{} is damaged: the place in the run is negative", where));
    }
    return place;
  } catch (const json::exception& e) {
    throw DataError(fmt::format("{} is damaged: {}", where, e.what()));
  }
}

// "SUM\n" and the carried tensors in torch's format.
std::string to_local(const TrainState& state) {
  std::ostringstream out;
  out << fmt::format("{}", state.position.loss_sum) << '\n';
  if (state.carrier != nullptr) {
    if (const auto carried = state.carrier->carried(); !carried.empty()) torch::save(carried, out);
  }
  return out.str();
}

std::vector<at::Tensor> read_carried(const std::string& local, const std::string& where) {
  const auto end = local.find('\n');
  if (end == std::string::npos || end + 1 == local.size()) return {};
  std::istringstream in(local.substr(end + 1));
  std::vector<at::Tensor> carried;
  try {
    torch::load(carried, in);
  } catch (const c10::Error& e) {
    throw DataError(fmt::format("{} is damaged: {}", where, e.what_without_backtrace()));
  }
  return carried;
}

TrainingState parts_of(const TrainState& state) {
  TrainingState parts;
  parts.model = &state.model;
  parts.optimizer = &state.optimizer;
  parts.reducer = &state.reducer;
  return parts;
}

}  // namespace

void check_new_run(const std::string& folder) {
  agree(current_context(), [&] { check_writable_folder("checkpoint", folder); });
  agreed([&] {
    if (const auto newest = Checkpoints(folder).newest()) {
      throw ConfigError(
          fmt::format("--checkpoint {} holds a checkpoint after step {}: go on from it with --resume, or "
                      "name another folder",
                      folder, newest->step));
    }
  });
}

void save_checkpoint(const std::string& folder, const TrainState& state) {
  auto parts = parts_of(state);
  parts.step = static_cast<std::uint64_t>(state.position.step);
  parts.epoch = static_cast<std::uint64_t>(state.position.epoch);
  parts.seed = state.seed;
  parts.meta = to_meta(state);
  parts.local = to_local(state);
  agreed([&] { Checkpoints(folder).save(parts); });
}

std::vector<std::string> load_checkpoint(const std::string& folder, const TrainState& state) {
  Place place;
  auto parts = parts_of(state);
  agreed([&] {
    const Checkpoints checkpoints(folder);
    const auto newest = checkpoints.newest();
    if (!newest) throw ConfigError(fmt::format("--resume: there is no checkpoint in {}", folder));
    place = read_place(*newest, state.job);
    checkpoints.load(parts, newest->folder);
  });
  std::vector<at::Tensor> carried;
  // For a rank that has no part rank 0's losses stand, so that the epoch's mean stays one over whole steps.
  agree(current_context(), [&] {
    if (parts.local.empty()) return;
    place.position.loss_sum = parse_number(parts.local.substr(0, parts.local.find('\n')), folder);
    carried = read_carried(parts.local, folder);
  });
  // Of rows that another rank or batch would have now, nothing can be carried.
  const auto same = [&](const std::string& name) {
    const auto now = state.settings.find(name);
    return now != state.settings.end() && place.settings[name] == now->second;
  };
  if (state.carrier != nullptr && same("--batch-size") && same("a world size of"))
    state.carrier->carry(std::move(carried));
  state.position = place.position;
  state.schedule.load_state(place.schedule);
  std::vector<std::string> lines;
  for (const auto& [name, value] : state.settings) {
    const auto saved = place.settings.find(name);
    if (saved == place.settings.end() || saved->second == value) continue;
    lines.push_back(
        fmt::format("resuming with {} {}, the checkpoint's run had {}", name, value, saved->second));
  }
  return lines;
}

}  // namespace acp::programs
