// Saving and restoring, rank by rank.
#include "acp/checkpoint.h"

#include <ATen/Context.h>
#include <ATen/ops/cat.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "acp/agreement.h"
#include "acp/broadcast.h"
#include "acp/checkpoint_files.h"
#include "acp/files.h"
#include "acp/optimizer_bytes.h"
#include "comm/error.h"

namespace acp {

namespace fs = std::filesystem;

namespace {

constexpr const char* kModel = "model.pt";
constexpr const char* kOptimizer = "optimizer.pt";
constexpr const char* kManifest = "manifest.json";

std::string rank_file(int rank) {
  return "rank-" + std::to_string(rank) + ".pt";
}

at::Tensor state_on(at::Device device) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard lock(generator.mutex());
  return generator.get_state();
}

void set_state_on(at::Device device, const at::Tensor& state) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard lock(generator.mutex());
  generator.set_state(state);
}

// Where torch's operations draw their random numbers: on the CPU, and behind that on this rank's GPU.
at::Tensor generator_state() {
  const at::Device device = current_context().device();
  const at::Tensor cpu = state_on(at::kCPU);
  return device.is_cpu() ? cpu : at::cat({cpu, state_on(device)});
}

void set_generator_state(const at::Tensor& state) {
  const at::Device device = current_context().device();
  const std::int64_t cpu = std::min(state_on(at::kCPU).numel(), state.numel());
  set_state_on(at::kCPU, state.narrow(0, 0, cpu).clone());
  if (!device.is_cpu() && state.numel() > cpu)
    set_state_on(device, state.narrow(0, cpu, state.numel() - cpu).clone());
}

NamedTensors tensors_of(const torch::nn::Module& model) {
  NamedTensors all = named_tensors(model.named_parameters());
  for (auto& buffer : named_tensors(model.named_buffers())) all.push_back(std::move(buffer));
  return all;
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw DataError("cannot make the folder " + folder.string() + ": " + error.message());
}

std::string text_of(const at::Tensor& x) {
  std::ostringstream text;
  text << at::toString(x.scalar_type()) << ' ' << x.sizes();
  return text.str();
}

void load_model(torch::nn::Module& model, const std::string& bytes, const fs::path& path) {
  const c10::NoGradGuard no_grad;
  const auto saved = unpack(bytes, path);
  const NamedTensors own = tensors_of(model);
  for (const auto& [name, tensor] : own) {
    const auto found = saved.find(name);
    if (found == saved.end()) {
      throw DataError(path.string() + " lacks the key \"" + name + "\": it is of another model");
    }
    if (text_of(found->second) != text_of(tensor)) {
      throw DataError(path.string() + ": the key \"" + name + "\" is " + text_of(found->second) +
                      ", the model's is " + text_of(tensor));
    }
  }
  for (const auto& [key, tensor] : saved) {
    if (std::ranges::find(own, key, &NamedTensors::value_type::first) == own.end()) {
      throw DataError(path.string() + " has the key \"" + key +
                      "\", which the model lacks: it is of another model");
    }
  }
  for (const auto& [name, tensor] : own) tensor.detach().copy_(saved.at(name));
}

// What all ranks share of rank 0's reducer: the start of a rank that has no part of its own.
State shared_part(State state) {
  for (auto& [name, kinds] : state)
    std::erase_if(kinds, [](const auto& item) { return rank_local(item.first); });
  return state;
}

// One save or load: the ranks of the calling thread's context, in the order of the user's collectives.
struct Session {
  explicit Session(const fs::path& folder_) : folder(folder_) {}
  Communicator& channel = current_context().user_channel();
  fs::path folder;
  bool first() const { return channel.rank() == 0; }
  // Rank 0's bytes on every rank.
  std::string from_first(const std::string& bytes) const { return broadcast_bytes(channel, bytes, 0); }
};

void restore(Session& s, TrainingState& state) {
  Manifest manifest;
  std::string text, model, optimizer, first_part;
  together(s.channel, [&] {
    if (!s.first()) return;
    text = read_file(s.folder / kManifest);
    manifest = Manifest::from_json(text, s.folder / kManifest);
    if (state.model != nullptr) model = read_part(s.folder, kModel, manifest);
    if (state.optimizer != nullptr) optimizer = read_part(s.folder, kOptimizer, manifest);
    if (s.channel.size() > manifest.world_size) first_part = read_part(s.folder, rank_file(0), manifest);
  });
  manifest = Manifest::from_json(s.from_first(text), s.folder / kManifest);
  if (state.model != nullptr) model = s.from_first(model);
  if (state.optimizer != nullptr) optimizer = s.from_first(optimizer);
  if (s.channel.size() > manifest.world_size) first_part = s.from_first(first_part);

  const bool own = s.channel.rank() < manifest.world_size;
  RankPart part;
  together(s.channel, [&] {
    const std::string name = rank_file(own ? s.channel.rank() : 0);
    part = RankPart::from_bytes(own ? read_part(s.folder, name, manifest) : first_part, s.folder / name);
    if (state.model != nullptr) load_model(*state.model, model, s.folder / kModel);
    if (state.optimizer == nullptr) return;
    try {
      optimizer_from_bytes(*state.optimizer, optimizer);
    } catch (const Error& e) {
      throw DataError((s.folder / kOptimizer).string() + ": " + e.what());
    }
  });
  together(s.channel, [&] {
    if (state.reducer == nullptr) return;
    if (!part.reducer) {
      throw DataError(s.folder.string() + " was saved without the state of a reducer");
    }
    try {
      state.reducer->load_state(own ? *part.reducer : shared_part(*part.reducer));
    } catch (const ConfigError& e) {
      throw DataError((s.folder / rank_file(own ? s.channel.rank() : 0)).string() + ": " + e.what());
    }
  });
  if (own) set_generator_state(part.generator);
  state.local = own ? part.local : "";
  state.step = manifest.step;
  state.epoch = manifest.epoch;
  state.seed = manifest.seed;
  state.meta = manifest.meta;
}

}  // namespace

Checkpoints::Checkpoints(fs::path directory, int keep) : directory_(std::move(directory)), keep_(keep) {
  if (keep < 1) {
    throw ConfigError("Checkpoints: keep is " + std::to_string(keep) + "; it must be at least 1");
  }
}

fs::path Checkpoints::save(const TrainingState& state) const {
  Session s(directory_);
  std::string name;
  together(s.channel, [&] {
    if (!s.first()) return;
    if (!nlohmann::json::accept(state.meta))
      throw ConfigError("checkpoint: meta is no valid JSON: " + state.meta);
    make_folder(directory_);
    name = next_folder_name(directory_, state.step);
  });
  name = s.from_first(name);
  s.folder = directory_ / name;

  Manifest manifest{state.step, state.epoch, state.seed, s.channel.size(), state.meta, {}};
  Manifest::File mine;
  together(s.channel, [&] {
    make_folder(s.folder);
    RankPart part{std::nullopt, generator_state(), state.local};
    if (state.reducer != nullptr) part.reducer = state.reducer->state();
    mine = write_part(s.folder, rank_file(s.channel.rank()), part.to_bytes());
    if (!s.first()) return;
    if (state.model != nullptr) {
      manifest.files.push_back(write_part(s.folder, kModel, pack(tensors_of(*state.model))));
    }
    if (state.optimizer != nullptr) {
      manifest.files.push_back(write_part(s.folder, kOptimizer, optimizer_to_bytes(*state.optimizer)));
    }
  });
  const auto names = all_gather_bytes(s.channel, mine.name);
  const auto hashes = all_gather_bytes(s.channel, mine.hash);
  const auto sizes = all_gather_object(mine.bytes);
  for (std::size_t r = 0; r < names.size(); ++r) manifest.files.push_back({names[r], sizes[r], hashes[r]});
  together(s.channel, [&] {
    if (s.first()) write_file(s.folder / kManifest, manifest.to_json());
  });

  // Rank 0 says which go; each host removes its own. One that cannot be removed does no harm.
  std::string old;
  if (s.first()) {
    auto complete = checkpoint_folders(directory_, true);
    complete.erase(complete.begin(), complete.end() - std::min<std::ptrdiff_t>(keep_, std::ssize(complete)));
    for (const fs::path& folder : checkpoint_folders(directory_, false)) {
      const bool kept = std::ranges::find(complete, folder) != complete.end();
      if (!kept) old += folder.filename().string() + "\n";
    }
  }
  std::istringstream lines(s.from_first(old));
  for (std::string line; std::getline(lines, line);) {
    std::error_code ignored;
    if (current_context().local_rank() != 0) continue;
    fs::remove(directory_ / line / kManifest, ignored);
    fs::remove_all(directory_ / line, ignored);
  }
  return s.folder;
}

std::optional<CheckpointInfo> Checkpoints::newest() const {
  Session s(directory_);
  std::string name, text;
  together(s.channel, [&] {
    if (!s.first()) return;
    const auto folders = checkpoint_folders(directory_, true);
    if (folders.empty()) return;
    name = folders.back().filename().string();
    text = read_file(folders.back() / kManifest);
  });
  name = s.from_first(name);
  text = s.from_first(text);
  if (name.empty()) return std::nullopt;
  s.folder = directory_ / name;
  Manifest m = Manifest::from_json(text, s.folder / kManifest);
  return CheckpointInfo{s.folder, m.step, m.epoch, m.seed, m.world_size, std::move(m.meta)};
}

bool Checkpoints::load(TrainingState& state) const {
  const auto found = newest();
  if (!found) return false;
  load(state, found->folder);
  return true;
}

void Checkpoints::load(TrainingState& state, const fs::path& checkpoint) const {
  Session s(checkpoint);
  restore(s, state);
}

}  // namespace acp
