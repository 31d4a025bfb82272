// All compressors by name. A compressor is one .cpp file with a `const bool registered =
// register_method({...})`.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compressors/compressor.h"
#include "compressors/spec.h"

namespace acp {

// What a policy may choose per layer.
enum class Knob : std::uint8_t { none, rank, ratio, bits };

// As the key that holds a method's own level is called; "none" for none.
std::string knob_name(Knob knob);

// Everything besides its own keys that a compressor may depend on.
struct CompressorOptions {
  std::string memory;  // empty = the method's own default
  std::uint64_t seed = 0;
  // What sparsifiers and quantisers code together: "layer" (each parameter), "bucket", "model" (the planner
  // makes one bucket); empty = the method's own default. Instances are given the one in force.
  std::string granularity{};
  bool measure_error = false;  // Compressor::error_norms()
};

// Settings of plain SGD that a method needs in place of the model's own, which are made for averaged
// gradients.
struct Recipe {
  std::optional<double> lr{}, momentum{};
};

// Known before any instance exists: what the parser, the planner, the documentation and the policies need.
struct MethodInfo {
  std::string name;
  std::string summary;   // one line
  std::string source{};  // paper and section of the formula
  std::vector<KeyInfo> keys{};
  Knob knob = Knob::none;
  // The key that rules in the knob's place unless it has its default; policies then have no knob.
  std::string knob_rival{};
  bool all_reducible = false;
  // Of one bucket, each of which needs what the one before brought; empty: one.
  std::function<int(const Values&)> messages{};
  std::vector<std::string> memories{"none"};  // allowed ones, the default first
  std::vector<std::string> granularities{"layer"};
  Recipe recipe{};
  bool wants_squares = false;  // Bucket::squares
  // Whether a tensor of this shape is compressed at these values; empty: every one is.
  std::function<bool(std::span<const std::int64_t> shape, const Values&)> compresses{};

  // Mean bytes per step that one rank contributes for a tensor of this shape and element size.
  std::function<double(std::span<const std::int64_t> shape, std::int64_t element_size, const Values&)>
      wire_bytes;

  // An instance for the bucket (whose `grads` are allocated and zero).
  std::function<std::unique_ptr<Compressor>(const Bucket&, const Values&, const CompressorOptions&)> make;
};

// Returns true; Error if the name is taken. Called before main(): afterwards the table is only read.
bool register_method(MethodInfo info);

// In alphabetical order.
std::vector<const MethodInfo*> methods();

// ConfigError on an unknown name: lists the known ones and the nearest match.
const MethodInfo& find_method(std::string_view name);

// All methods and all their keys as two Markdown tables: the generated part of docs/compressors.md.
std::string methods_table();

// Number of elements of a tensor of this shape; 1 for no dimensions.
std::int64_t numel(std::span<const std::int64_t> shape);

// A parsed and checked specification, ready to make compressors: what engine, planner and programs hold.
class CompressorFactory {
 public:
  // ConfigError on anything unknown, on a value out of range, on a memory that the method does not allow, and
  // on a combination with `+` that nothing implements.
  CompressorFactory(std::string_view spec, CompressorOptions options);

  std::unique_ptr<Compressor> make(const Bucket& bucket) const;
  double wire_bytes(std::span<const std::int64_t> shape, std::int64_t element_size) const;
  // Whether a tensor of this shape is compressed, at the method's own setting.
  bool compresses(std::span<const std::int64_t> shape) const { return !compresses_ || compresses_(shape); }
  // The specification's own rank, ratio or bits; Error without a knob.
  double own_level() const;
  // The same specification with this level for its own, for every tensor that has room for it.
  CompressorFactory at_level(double level) const;
  const std::string& spec() const { return text_; }                       // normalised
  const std::string& memory() const { return options_.memory; }           // the one in force
  const std::vector<std::string>& memories() const { return memories_; }  // allowed ones, the default first
  // The one in force; "model" asks the planner for one bucket (plan.h: whole_model).
  const std::string& granularity() const { return options_.granularity; }
  // Of the momentum that the error memory contains; 0 unless the memory is "dgc".
  double memory_momentum() const { return memory_momentum_; }
  Knob knob() const { return knob_; }  // what policies may set, as this specification has it
  const Recipe& recipe() const { return recipe_; }
  bool wants_squares() const { return wants_squares_; }
  // How messages travel: "reduce" (all-reduce), "gather", "tree" or "scatter" (coded_method.h).
  const std::string& exchange() const { return exchange_; }
  // Of one bucket, each of which needs what the one before brought.
  int messages() const { return messages_; }

 private:
  std::string text_;
  std::vector<std::string> memories_;
  double memory_momentum_ = 0;
  CompressorOptions options_;
  Knob knob_ = Knob::none;
  Recipe recipe_;
  bool wants_squares_ = false;
  std::string exchange_ = "gather";
  int messages_ = 1;
  std::function<std::unique_ptr<Compressor>(const Bucket&, const CompressorOptions&)> make_;
  std::function<double(std::span<const std::int64_t> shape, std::int64_t element_size)> wire_bytes_;
  std::function<bool(std::span<const std::int64_t> shape)> compresses_;
};

}  // namespace acp
