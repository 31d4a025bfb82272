// Layout and integrity of checkpoints on the disk.
#include "acp/checkpoint_files.h"

#include <ATen/core/Dict.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "acp/files.h"
#include "acp/hash.h"
#include "comm/error.h"

namespace acp {

namespace fs = std::filesystem;

namespace {

constexpr const char* kManifest = "manifest.json";
constexpr int kFormat = 1;
// Keys of a rank's part; a tensor of a parameter's state is "reducer/NAME/KIND".
constexpr const char* kGenerator = "generator";
constexpr const char* kLocal = "local";
constexpr const char* kHasReducer = "has_reducer";
constexpr std::string_view kReducer = "reducer/";

using Tensors = c10::Dict<std::string, at::Tensor>;

// "000012-step-340" -> 12; -1 for other names.
std::int64_t sequence_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  std::int64_t number = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  return error == std::errc() && std::string_view(end).starts_with("-step-") ? number : -1;
}

at::Tensor to_tensor(std::string_view bytes) {
  at::Tensor t = at::empty({static_cast<std::int64_t>(bytes.size())}, at::kByte);
  if (!bytes.empty()) std::memcpy(t.data_ptr(), bytes.data(), bytes.size());
  return t;
}

// The pickler writes whole storages: a view would bring along what it is a view of.
at::Tensor compact(const at::Tensor& x) {
  at::Tensor t = x.detach().to(at::kCPU).contiguous();
  return t.storage().nbytes() == t.nbytes() ? t : t.clone();
}

}  // namespace

std::string Manifest::to_json() const {
  nlohmann::ordered_json json{{"format", kFormat},
                              {"acp", ACP_VERSION},
                              {"step", step},
                              {"epoch", epoch},
                              {"seed", seed},
                              {"world_size", world_size},
                              {"meta", nlohmann::ordered_json::parse(meta)},
                              {"files", nlohmann::ordered_json::array()}};
  for (const File& f : files) {
    json["files"].push_back({{"name", f.name}, {"bytes", f.bytes}, {"hash", f.hash}});
  }
  return json.dump(1) + "\n";
}

Manifest Manifest::from_json(const std::string& text, const fs::path& path) {
  try {
    const auto json = nlohmann::ordered_json::parse(text);
    if (const int format = json.at("format"); format != kFormat) {
      throw DataError(path.string() + ": format " + std::to_string(format) + "; this version reads format " +
                      std::to_string(kFormat));
    }
    Manifest m;
    m.step = json.at("step");
    m.epoch = json.at("epoch");
    m.seed = json.at("seed");
    m.world_size = json.at("world_size");
    if (m.world_size < 1) throw DataError(path.string() + " is damaged: the world size is below 1");
    m.meta = json.at("meta").dump();
    for (const auto& f : json.at("files")) m.files.push_back({f.at("name"), f.at("bytes"), f.at("hash")});
    return m;
  } catch (const nlohmann::json::exception& e) {
    throw DataError(path.string() + " is damaged: " + e.what());
  }
}

bool Manifest::has(std::string_view file) const {
  return std::ranges::any_of(files, [&](const File& f) { return f.name == file; });
}

std::vector<fs::path> checkpoint_folders(const fs::path& directory, bool complete) {
  std::vector<fs::path> folders;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(directory, missing)) {
    if (sequence_of(entry.path()) < 0) continue;
    if (!complete || fs::exists(entry.path() / kManifest)) folders.push_back(entry.path());
  }
  std::ranges::sort(folders, {}, sequence_of);
  return folders;
}

std::string next_folder_name(const fs::path& directory, std::uint64_t step) {
  const auto folders = checkpoint_folders(directory, false);
  const std::int64_t next = folders.empty() ? 1 : sequence_of(folders.back()) + 1;
  std::array<char, 64> name{};
  std::snprintf(name.data(), name.size(), "%06lld-step-%llu", static_cast<long long>(next),
                static_cast<unsigned long long>(step));
  return name.data();
}

Manifest::File write_part(const fs::path& folder, const std::string& name, std::string_view bytes) {
  write_file(folder / name, bytes);
  return {name, bytes.size(), to_hex(Hash().add(bytes).value())};
}

std::string read_part(const fs::path& folder, const std::string& name, const Manifest& manifest) {
  const auto entry = std::ranges::find(manifest.files, name, &Manifest::File::name);
  if (entry == manifest.files.end()) {
    throw DataError((folder / kManifest).string() + " has no file \"" + name +
                    "\": the checkpoint was saved without that part");
  }
  std::string bytes = read_file(folder / name);
  const auto refuse = [&](const std::string& why) {
    throw DataError((folder / name).string() + " is damaged: " + why +
                    "; remove the folder to resume from the checkpoint before it");
  };
  if (bytes.size() != entry->bytes) {
    refuse(std::to_string(bytes.size()) + " bytes instead of " + std::to_string(entry->bytes));
  }
  if (to_hex(Hash().add(bytes).value()) != entry->hash) refuse("its content is not what was written");
  return bytes;
}

std::string pack(const NamedTensors& tensors) {
  Tensors dictionary;
  for (const auto& [name, tensor] : tensors) dictionary.insert(name, compact(tensor));
  const std::vector<char> bytes = torch::jit::pickle_save(dictionary);
  return {bytes.begin(), bytes.end()};
}

std::map<std::string, at::Tensor> unpack(const std::string& bytes, const fs::path& path) {
  try {
    const at::IValue value = torch::jit::pickle_load({bytes.begin(), bytes.end()});
    std::map<std::string, at::Tensor> tensors;
    for (const auto& item : value.toGenericDict()) {
      tensors.emplace(item.key().toStringRef(), item.value().toTensor());
    }
    return tensors;
  } catch (const std::exception&) {
    throw DataError(path.string() + " is damaged: it is no dictionary from names to tensors");
  }
}

std::string RankPart::to_bytes() const {
  NamedTensors tensors{{kGenerator, generator}, {kLocal, to_tensor(local)}};
  if (reducer) tensors.emplace_back(kHasReducer, to_tensor("1"));
  for (const auto& [name, kinds] : reducer.value_or(State{})) {
    for (const auto& [kind, tensor] : kinds) {
      std::string key(kReducer);
      key.append(name).append("/").append(kind);
      tensors.emplace_back(std::move(key), tensor);
    }
  }
  return pack(tensors);
}

RankPart RankPart::from_bytes(const std::string& bytes, const fs::path& path) {
  RankPart part;
  const auto tensors = unpack(bytes, path);
  if (tensors.contains(kHasReducer)) part.reducer.emplace();
  for (const auto& [key, tensor] : tensors) {
    if (key == kHasReducer) continue;
    if (key == kGenerator) {
      part.generator = tensor;
    } else if (key == kLocal) {
      part.local.assign(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
    } else if (part.reducer && key.starts_with(kReducer) && key.rfind('/') >= kReducer.size()) {
      const std::size_t slash = key.rfind('/');
      const std::string name = key.substr(kReducer.size(), slash - kReducer.size());
      (*part.reducer)[name][key.substr(slash + 1)] = tensor;
    } else {
      throw DataError(path.string() + " has an unknown key \"" + key + "\"");
    }
  }
  if (!part.generator.defined()) throw DataError(path.string() + " lacks the key \"" + kGenerator + "\"");
  return part;
}

bool rank_local(std::string_view kind) {
  return kind.starts_with("error") || kind.starts_with("local");
}

}  // namespace acp
