// The files of checkpoints: folders and manifests, and tensors by name as Python's torch.load reads them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "acp/gradient_reducer.h"

namespace acp {

// What manifest.json says.
struct Manifest {
  struct File {
    std::string name;
    std::uint64_t bytes = 0;
    std::string hash;  // 16 hexadecimal digits
  };
  std::uint64_t step = 0, epoch = 0, seed = 0;
  int world_size = 1;
  std::string meta = "{}";
  std::vector<File> files;

  std::string to_json() const;
  // DataError names `path` and what is wrong in it.
  static Manifest from_json(const std::string& text, const std::filesystem::path& path);
  bool has(std::string_view file) const;
};

// The folders of checkpoints in `directory`, oldest first; complete ones (that have a manifest) or all.
std::vector<std::filesystem::path> checkpoint_folders(const std::filesystem::path& directory, bool complete);

// A name for the next one, after all that are there.
std::string next_folder_name(const std::filesystem::path& directory, std::uint64_t step);

// Writes folder/name and returns its entry for the manifest.
Manifest::File write_part(const std::filesystem::path& folder, const std::string& name,
                          std::string_view bytes);

// Reads folder/name and compares it with the manifest. DataError: missing, another size, another content.
std::string read_part(const std::filesystem::path& folder, const std::string& name, const Manifest& manifest);

// Dictionaries of tensors as bytes. unpack: DataError names `path`.
std::string pack(const NamedTensors& tensors);
std::map<std::string, at::Tensor> unpack(const std::string& bytes, const std::filesystem::path& path);

// A rank's part.
struct RankPart {
  std::optional<State> reducer;  // empty: saved without
  at::Tensor generator;
  std::string local;

  std::string to_bytes() const;
  static RankPart from_bytes(const std::string& bytes, const std::filesystem::path& path);
};

// Whether a kind of compressor state belongs to one rank alone: error memories. All else is the same on all
// ranks.
bool rank_local(std::string_view kind);

}  // namespace acp
