// Registration of the parts of coded compressors. A method is one .cpp file with
//   const bool registered = register_sparsifier({...});   or   register_quantiser({...});
// and works then alone, in hybrids (`sparsifier+quantiser`), with every granularity, and with every memory
// and exchange that it allows. Keys that are common to all (exchange, values, indices, momentum) are added
// here.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "compressors/codec.h"
#include "compressors/registry.h"

namespace acp {

// How gradients enter the error memory and leave as the result: y = error + scale * gradient, and the
// combined values are divided by scale (EF-SignSGD with its learning rate inside).
struct Feedback {
  double scale = 1;
  bool first_unscaled = false;  // y = gradient while a block's error memory has never been written
};

struct SparsifierInfo {
  std::string name;
  std::string summary;  // one line
  std::string source;   // paper and section of the formula
  std::vector<KeyInfo> keys{};
  Knob knob = Knob::none;    // ratio, where set_ratio() works
  std::string knob_rival{};  // as MethodInfo has it
  // Allowed ones, the default first. Without "residual" and "dgc": the method keeps what it leaves out
  // itself.
  std::vector<std::string> memories{"residual", "none", "dgc"};
  // Allowed ones, the default first: "gather" (payloads of any size), "reduce" (shared_choice() is true:
  // values alone, added on the way), "tree" (merged pair by pair, the largest stay).
  std::vector<std::string> exchanges{"gather"};
  std::string granularity = "layer";  // the default
  Recipe recipe{};
  bool wants_squares = false;  // Block::squares

  std::function<std::unique_ptr<Sparsifier>(const Values&)> make;
  // Estimated number of elements that one rank sends of a block of this shape.
  std::function<double(std::span<const std::int64_t> shape, const Values&)> kept;
};

struct QuantiserInfo {
  std::string name;
  std::string summary;
  std::string source;
  std::vector<KeyInfo> keys{};
  Knob knob = Knob::none;  // bits, where set_bits() works
  std::string knob_rival{};
  std::vector<std::string> memories{"none", "residual"};
  // Allowed ones, the default first: "gather" (everyone decodes everyone's code), "scatter" (compressed
  // reduce-scatter and all-gather: blocks are cut into pieces, each piece is a call of encode() with its own
  // block name, and sums are coded again; not for methods with state per element).
  std::vector<std::string> exchanges{"gather", "scatter"};
  std::string granularity = "layer";
  Recipe recipe{};
  // Whether it can code the values that a sparsifier keeps; not where values need their places (signum,
  // atomo).
  bool hybrid = true;

  // For a block of this shape ({n} where several parameters are coded together, {} for the survivors of a
  // sparsifier). bytes() may depend on the shape, too.
  std::function<std::unique_ptr<Quantiser>(const Values&, std::span<const std::int64_t> shape)> make;
  // Blocks that are averaged whole, in float32, instead (small ones, vectors); empty = none.
  std::function<bool(std::span<const std::int64_t> shape, const Values&)> plain{};
  // Empty = {1, false}.
  std::function<Feedback(const Values&)> feedback{};
};

// True; Error if the name is taken.
bool register_sparsifier(SparsifierInfo info);
bool register_quantiser(QuantiserInfo info);

// A quantiser alone, for a block of this shape: what tests and measurements use. ConfigError if no quantiser
// has the name.
std::unique_ptr<Quantiser> make_quantiser(const MethodSpec& spec, std::span<const std::int64_t> shape);

// A sparsifier alone; ConfigError if none has the name.
std::unique_ptr<Sparsifier> make_sparsifier(const MethodSpec& spec);

// The compressor `sparsifier+quantiser` of these two methods, both with their keys' values; nothing where no
// such pair is known. What CompressorFactory calls for `+`.
struct HybridMethod {
  std::vector<std::string> memories, granularities;  // allowed ones, the default first
  Knob knob = Knob::none;
  std::function<double(std::span<const std::int64_t> shape)> wire_bytes;
  std::function<std::unique_ptr<Compressor>(const Bucket&, const CompressorOptions&)> make;
};
std::optional<HybridMethod> find_hybrid(const MethodSpec& sparsifier, const MethodSpec& quantiser);

}  // namespace acp
