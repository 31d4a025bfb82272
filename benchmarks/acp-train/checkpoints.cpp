// See checkpoints.h. A checkpoint is DIR/step-N.shared.pt (rank 0: model, optimizer, place in the run), one
// DIR/step-N.rank-R.pt for each rank (reducer, random numbers), and DIR/latest, which names N once all of
// them are complete. Each .pt file is a pickled dictionary from names to tensors, which Python's torch.load
// reads too.
#include "benchmarks/acp-train/checkpoints.h"

#include <spdlog/fmt/fmt.h>
#include <torch/torch.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "acp/broadcast.h"
#include "benchmarks/common/program.h"
#include "comm/error.h"

namespace acp::programs {

namespace {

namespace fs = std::filesystem;
using Tensors = c10::Dict<std::string, at::Tensor>;

constexpr const char* kReducer = "reducer/";  // + parameter + '\t' + kind
constexpr const char* kModel = "model/";

fs::path shared_file(const fs::path& folder, std::int64_t step) {
  return folder / fmt::format("step-{}.shared.pt", step);
}

fs::path rank_file(const fs::path& folder, std::int64_t step, int rank) {
  return folder / fmt::format("step-{}.rank-{}.pt", step, rank);
}

// Under another name first, so that a crash leaves the old file or the new one, never half of it.
void write_file(const fs::path& path, std::string_view bytes) {
  auto part = path;
  part += ".part";
  std::ofstream out(part, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  std::error_code error;
  if (out) fs::rename(part, path, error);
  if (!out || error) {
    throw Error(fmt::format("the checkpoint {} cannot be written: {}", path.string(),
                            error ? error.message() : std::strerror(errno)));
  }
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  if (!in) throw DataError(fmt::format("the checkpoint {} is missing or cannot be read", path.string()));
  return bytes.str();
}

std::string pack(const Tensors& tensors) {
  const auto bytes = torch::pickle_save(tensors);
  return {bytes.begin(), bytes.end()};
}

Tensors unpack(const std::string& bytes, const std::string& what) {
  try {
    const auto value = torch::pickle_load(std::vector<char>(bytes.begin(), bytes.end()));
    Tensors tensors;
    for (const auto& item : value.toGenericDict())
      tensors.insert(item.key().toStringRef(), item.value().toTensor());
    return tensors;
  } catch (const c10::Error&) {
    throw DataError(fmt::format("the checkpoint {} is damaged", what));
  } catch (const std::exception&) {
    throw DataError(fmt::format("the checkpoint {} is damaged", what));
  }
}

at::Tensor to_tensor(std::string_view bytes) {
  auto tensor = at::empty({static_cast<std::int64_t>(bytes.size())}, at::kByte);
  bytes.copy(static_cast<char*>(tensor.mutable_data_ptr()), bytes.size());
  return tensor;
}

std::string to_string(const at::Tensor& tensor) {
  const auto flat = tensor.contiguous();
  return {static_cast<const char*>(flat.const_data_ptr()), flat.nbytes()};
}

// Every tensor of the module, by name: parameters and buffers.
std::vector<std::pair<std::string, at::Tensor>> tensors_of(const torch::nn::Module& model) {
  auto result = named_tensors(model.named_parameters());
  for (const auto& item : model.named_buffers()) result.emplace_back(item.key(), item.value());
  return result;
}

Tensors shared_part(const TrainState& state) {
  Tensors result;
  for (const auto& [name, tensor] : tensors_of(state.model))
    result.insert(kModel + name, tensor.detach().to(at::kCPU));
  std::ostringstream optimizer;
  torch::serialize::OutputArchive archive;
  state.optimizer.save(archive);
  archive.save_to(optimizer);
  result.insert("optimizer", to_tensor(optimizer.str()));
  const auto& p = state.position;
  result.insert("position", at::tensor({p.step, p.epoch, p.batch, p.loss_steps}, at::kLong));
  result.insert("train_loss", at::tensor(p.train_loss, at::kDouble));
  result.insert("schedule", at::tensor(state.schedule.state(), at::kDouble));
  result.insert("job", to_tensor(state.job));
  return result;
}

Tensors rank_part(const TrainState& state) {
  Tensors result;
  for (const auto& [parameter, kinds] : state.reducer.state()) {
    for (const auto& [kind, tensor] : kinds) result.insert(kReducer + parameter + '\t' + kind, tensor);
  }
  auto generator = at::globalContext().defaultGenerator(state.context.device());
  result.insert("random", generator.get_state());
  result.insert("loss_sum", at::tensor(state.position.loss_sum, at::kDouble));
  return result;
}

// What `latest` says.
struct Latest {
  std::int64_t step = -1;
  int world_size = 0;
};

Latest read_latest(const fs::path& folder) {
  Latest latest;
  std::ifstream in(folder / "latest");
  if (!in) {
    throw ConfigError(
        fmt::format("--resume: there is no checkpoint in {} (no file \"latest\")", folder.string()));
  }
  if (!(in >> latest.step >> latest.world_size) || latest.step < 0 || latest.world_size < 1) {
    throw DataError(fmt::format("the checkpoint file {} is damaged", (folder / "latest").string()));
  }
  return latest;
}

// Files of other steps; what cannot be removed stays.
void remove_others(const fs::path& folder, std::int64_t step) {
  const auto mine = fmt::format("step-{}.", step);
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const auto name = entry.path().filename().string();
    const bool ours = name.starts_with("step-") && (name.ends_with(".pt") || name.ends_with(".pt.part"));
    if (ours && !name.starts_with(mine)) fs::remove(entry.path(), ignored);
  }
}

void apply_model(torch::nn::Module& model, const Tensors& shared, const std::string& what) {
  const torch::NoGradGuard no_grad;
  for (auto& [name, tensor] : tensors_of(model)) {
    const auto saved = shared.find(kModel + name);
    if (saved == shared.end() || saved->value().sizes() != tensor.sizes()) {
      throw ConfigError(fmt::format(
          "the checkpoint {} has no tensor {} of this shape: it is of another model", what, name));
    }
    tensor.copy_(saved->value());
  }
}

void apply_shared(const TrainState& state, const Tensors& shared, const std::string& what) {
  const auto job = to_string(shared.at("job"));
  if (job != state.job) {
    throw ConfigError(fmt::format("the checkpoint {} is of {}, this run is {}", what, job, state.job));
  }
  apply_model(state.model, shared, what);
  std::istringstream optimizer(to_string(shared.at("optimizer")));
  torch::serialize::InputArchive archive;
  archive.load_from(optimizer);
  state.optimizer.load(archive);
  const auto position = shared.at("position");
  const auto* p = position.const_data_ptr<std::int64_t>();
  state.position = {p[0], p[1], p[2], 0, p[3], shared.at("train_loss").item<double>()};
  const auto schedule = shared.at("schedule");
  const auto* s = schedule.const_data_ptr<double>();
  state.schedule.load_state({s, s + schedule.numel()});
}

// `own`: the part was saved by this rank; else by rank 0, whose errors, numbers and losses are not ours.
void apply_rank(const TrainState& state, const Tensors& part, bool own) {
  State reducer;
  const std::string prefix = kReducer;
  for (const auto& item : part) {
    if (!item.key().starts_with(prefix)) continue;
    const auto tab = item.key().rfind('\t');
    const auto kind = item.key().substr(tab + 1);
    if (!own && kind == "error") continue;
    reducer[item.key().substr(prefix.size(), tab - prefix.size())][kind] = item.value();
  }
  state.reducer.load_state(reducer);
  if (!own) return;
  auto generator = at::globalContext().defaultGenerator(state.context.device());
  generator.set_state(part.at("random"));
  state.position.loss_sum = part.at("loss_sum").item<double>();
}

}  // namespace

void save_checkpoint(const std::string& folder, const TrainState& state) {
  const auto step = state.position.step;
  const auto& context = state.context;
  agree(context, [&] {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) throw Error(fmt::format("--checkpoint {}: {}", folder, error.message()));
    write_file(rank_file(folder, step, context.rank()), pack(rank_part(state)));
    if (context.rank() == 0) write_file(shared_file(folder, step), pack(shared_part(state)));
  });
  agree(context, [&] {
    if (context.rank() == 0)
      write_file(fs::path(folder) / "latest", fmt::format("{} {}\n", step, context.size()));
  });
  remove_others(folder, step);
}

void load_checkpoint(const std::string& folder, const TrainState& state) {
  const auto& context = state.context;
  Latest latest;
  std::string shared_bytes, first_bytes;
  agree(context, [&] {
    if (context.rank() != 0) return;
    latest = read_latest(folder);
    shared_bytes = read_file(shared_file(folder, latest.step));
    first_bytes = read_file(rank_file(folder, latest.step, 0));
  });
  latest = broadcast_object(latest);
  shared_bytes = broadcast_object(std::string_view(shared_bytes));
  if (context.size() > latest.world_size) first_bytes = broadcast_object(std::string_view(first_bytes));

  const bool own = context.rank() < latest.world_size;
  Tensors part;
  agree(context, [&] {
    const auto what = shared_file(folder, latest.step).string();
    apply_shared(state, unpack(shared_bytes, what), what);
    const auto mine = rank_file(folder, latest.step, own ? context.rank() : 0);
    part = unpack(own && context.rank() > 0 ? read_file(mine) : first_bytes, mine.string());
  });
  apply_rank(state, part, own);  // communicates
}

}  // namespace acp::programs
