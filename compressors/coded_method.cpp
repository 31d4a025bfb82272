// From the parts' descriptions to methods of the registry: keys that all have, settings, estimates, hybrids.
#include "compressors/coded_method.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "comm/error.h"
#include "compressors/codec_compressor.h"
#include "compressors/names.h"
#include "compressors/text.h"

namespace acp {
namespace {

template <class Info>
std::map<std::string, Info, std::less<>>& parts() {
  static std::map<std::string, Info, std::less<>> table;  // filled by static initialisers, in any order
  return table;
}

bool has(const std::vector<std::string>& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

std::vector<KeyInfo> all_keys(std::vector<KeyInfo> keys, const std::vector<std::string>& exchanges) {
  keys.push_back({"exchange", exchanges.front(), "how codes travel: " + join(exchanges, " or ")});
  return keys;
}

std::vector<KeyInfo> all_keys(const SparsifierInfo& info) {
  auto keys = all_keys(info.keys, info.exchanges);
  keys.push_back({"values", "fp32", "values on the wire: fp32 or fp16 (their rounding stays in the memory)"});
  keys.push_back({"indices", "auto", "indices on the wire: auto (the smallest), delta, bitmap or plain"});
  if (has(info.memories, "dgc")) keys.push_back({"momentum", "0.9", "of the dgc memory, 0 to below 1"});
  return keys;
}

IndexForm index_form(const Values& values) {
  constexpr std::array forms{std::pair{"auto", IndexForm::automatic}, std::pair{"delta", IndexForm::delta},
                             std::pair{"bitmap", IndexForm::bitmap}, std::pair{"plain", IndexForm::plain}};
  const auto wanted = values.choice("indices", std::vector<std::string>{"auto", "delta", "bitmap", "plain"});
  for (const auto& [name, form] : forms) {
    if (wanted == name) return form;
  }
  return IndexForm::automatic;
}

ValueForm value_form(const Values& values) {
  return values.choice("values", std::vector<std::string>{"fp32", "fp16"}) == "fp16" ? ValueForm::fp16
                                                                                     : ValueForm::fp32;
}

// All, the method's own first.
std::vector<std::string> granularities(const std::string& own) {
  std::vector<std::string> all{own};
  for (const auto* name : {"layer", "bucket", "model"}) {
    if (own != name) all.emplace_back(name);
  }
  return all;
}

void take_options(CodecSettings& settings, const CompressorOptions& options) {
  settings.by_layer = options.granularity == "layer";
  settings.measure_error = options.measure_error;
  settings.memory = options.memory == "residual" ? MemoryKind::residual
                    : options.memory == "dgc"    ? MemoryKind::dgc
                                                 : MemoryKind::none;
}

void take_sparsifier(CodecSettings& settings, const SparsifierInfo& info, const Values& values) {
  settings.sparsifier = [&info, values] { return info.make(values); };
  settings.exchange = values.choice("exchange", info.exchanges);
  settings.indices = index_form(values);
  settings.values = value_form(values);
  if (has(info.memories, "dgc")) settings.momentum = values.number("momentum", 0, 0.999999);
  settings.ratio_knob = info.knob == Knob::ratio;
  if (settings.ratio_knob) settings.ratio = values.number("ratio", 1e-9, 1);
  if (settings.exchange == "tree" &&
      (settings.values != ValueForm::fp32 || settings.indices != IndexForm::automatic)) {
    throw ConfigError(info.name +
                      ": with exchange=tree an element is 8 bytes on the wire, index and float32, so that "
                      "any two choices can be merged; leave values and indices out, or take exchange=gather");
  }
}

void take_quantiser(CodecSettings& settings, const QuantiserInfo& info, const Values& values) {
  settings.quantiser = [&info, values](std::span<const std::int64_t> shape) {
    return info.make(values, shape);
  };
  if (info.feedback) settings.feedback = info.feedback(values);
}

// Bytes of the chosen values of a tensor by the way they travel.
double sparse_estimate(const SparsifierInfo& info, const Values& values,
                       std::span<const std::int64_t> shape) {
  const auto n = numel(shape);
  if (n == 0) return 0;
  const double k = std::min(info.kept(shape, values), static_cast<double>(n));
  const auto exchange = values.choice("exchange", info.exchanges);
  const auto sparsifier = info.make(values);
  const double width = value_form(values) == ValueForm::fp16 ? 2 : 4;
  const bool shared = sparsifier->shared_choice();
  if (exchange == "reduce") return width * k;
  if (exchange == "tree") return 4 + 8 * k;
  const auto form = shared ? IndexForm::shared : index_form(values);
  const double value_bytes = sparsifier->powers_of_two() ? 1 + std::ceil(k / 2) : width * k;
  if (sparsifier->powers_of_two() && form == IndexForm::plain) return 8 + 4 * k;
  return sparse_bytes(k, static_cast<double>(n), form, value_bytes);
}

}  // namespace

// It is moved from, which clang-tidy 14 overlooks. NOLINTNEXTLINE(performance-unnecessary-value-param)
bool register_sparsifier(SparsifierInfo given) {
  const auto& info = parts<SparsifierInfo>().try_emplace(fold(given.name), std::move(given)).first->second;
  return register_method({
      .name = info.name,
      .summary = info.summary,
      .source = info.source,
      .keys = all_keys(info),
      .knob = info.knob,
      .knob_rival = info.knob_rival,
      .all_reducible = info.exchanges.front() == "reduce",
      .memories = info.memories,
      .granularities = granularities(info.granularity),
      .recipe = info.recipe,
      .wants_squares = info.wants_squares,
      .wire_bytes = [&info](std::span<const std::int64_t> shape, std::int64_t,
                            const Values& values) { return sparse_estimate(info, values, shape); },
      .make =
          [&info](const Bucket& bucket, const Values& values, const CompressorOptions& options) {
            CodecSettings settings;
            settings.method = info.name;
            take_options(settings, options);
            take_sparsifier(settings, info, values);
            if (settings.sparsifier()->powers_of_two()) settings.values = ValueForm::power;
            return make_codec(bucket, std::move(settings));
          },
  });
}

// It is moved from, which clang-tidy 14 overlooks. NOLINTNEXTLINE(performance-unnecessary-value-param)
bool register_quantiser(QuantiserInfo given) {
  const auto& info = parts<QuantiserInfo>().try_emplace(fold(given.name), std::move(given)).first->second;
  return register_method({
      .name = info.name,
      .summary = info.summary,
      .source = info.source,
      .keys = all_keys(info.keys, info.exchanges),
      .knob = info.knob,
      .knob_rival = info.knob_rival,
      .memories = info.memories,
      .granularities = granularities(info.granularity),
      .recipe = info.recipe,
      .compresses = [&info](std::span<const std::int64_t> shape,
                            const Values& values) { return !info.plain || !info.plain(shape, values); },
      .wire_bytes = [&info](std::span<const std::int64_t> shape, std::int64_t,
                            const Values& values) -> double {
        const auto n = numel(shape);
        if (info.plain && info.plain(shape, values)) return 4.0 * static_cast<double>(n);
        return static_cast<double>(info.make(values, shape)->bytes(n));
      },
      .make =
          [&info](const Bucket& bucket, const Values& values, const CompressorOptions& options) {
            CodecSettings settings;
            settings.method = info.name;
            take_options(settings, options);
            take_quantiser(settings, info, values);
            settings.exchange = values.choice("exchange", info.exchanges);
            if (info.plain) {
              settings.plain = [&info, values](std::span<const std::int64_t> shape) {
                return info.plain(shape, values);
              };
            }
            return make_codec(bucket, std::move(settings));
          },
  });
}

std::unique_ptr<Quantiser> make_quantiser(const MethodSpec& spec, std::span<const std::int64_t> shape) {
  const auto found = parts<QuantiserInfo>().find(fold(spec.name));
  if (found == parts<QuantiserInfo>().end()) {
    throw ConfigError(in_quotes(spec.name) + " is not a quantiser");
  }
  return found->second.make(Values(spec, find_method(spec.name).keys), shape);
}

std::unique_ptr<Sparsifier> make_sparsifier(const MethodSpec& spec) {
  const auto found = parts<SparsifierInfo>().find(fold(spec.name));
  if (found == parts<SparsifierInfo>().end()) {
    throw ConfigError(in_quotes(spec.name) + " is not a sparsifier");
  }
  return found->second.make(Values(spec, find_method(spec.name).keys));
}

std::optional<HybridMethod> find_hybrid(const MethodSpec& sparsifier, const MethodSpec& quantiser) {
  const auto select = parts<SparsifierInfo>().find(fold(sparsifier.name));
  const auto code = parts<QuantiserInfo>().find(fold(quantiser.name));
  if (select == parts<SparsifierInfo>().end() || code == parts<QuantiserInfo>().end()) return std::nullopt;
  const auto& chooser = select->second;
  const auto& coder = code->second;
  if (!coder.hybrid) {
    throw ConfigError(in_quotes(coder.name) + " cannot code the values that " + in_quotes(chooser.name) +
                      " keeps: it needs all values of a tensor at their places; take another quantiser");
  }
  const Values chooser_values(sparsifier, find_method(chooser.name).keys);
  const Values coder_values(quantiser, find_method(coder.name).keys);

  CodecSettings settings;
  settings.method = chooser.name + "+" + coder.name;
  take_sparsifier(settings, chooser, chooser_values);
  take_quantiser(settings, coder, coder_values);
  // Codes can neither be added on the way nor, with places of their own, scattered.
  for (const auto* part : {&sparsifier, &quantiser}) {
    const auto given = part->values.find("exchange");
    if (given != part->values.end() && given->second != "gather") {
      throw ConfigError(settings.method + ": exchange=" + given->second +
                        " cannot carry the codes of chosen values; leave it out, or take exchange=gather");
    }
  }
  settings.exchange = "gather";
  if (settings.values != ValueForm::fp32) {
    throw ConfigError(settings.method + ": values=fp16 has no meaning here, " + coder.name +
                      " codes the values");
  }

  HybridMethod method;
  // What a quantiser must not be given back (votes), no hybrid of it may.
  method.memories = has(coder.memories, "residual") ? chooser.memories : std::vector<std::string>{"none"};
  method.granularities = granularities(chooser.granularity);
  method.knob = chooser.knob != Knob::none ? chooser.knob : coder.knob;
  method.make = [settings](const Bucket& bucket, const CompressorOptions& options) {
    auto own = settings;
    take_options(own, options);
    return make_codec(bucket, std::move(own));
  };
  method.wire_bytes = [&chooser, &coder, chooser_values, coder_values,
                       settings](std::span<const std::int64_t> shape) -> double {
    const auto n = numel(shape);
    if (n == 0) return 0;
    const double k = std::min(chooser.kept(shape, chooser_values), static_cast<double>(n));
    const auto bytes = coder.make(coder_values, {})->bytes(static_cast<std::int64_t>(std::llround(k)));
    const auto form = settings.sparsifier()->shared_choice() ? IndexForm::shared : settings.indices;
    return sparse_bytes(k, static_cast<double>(n), form, static_cast<double>(bytes));
  };
  return method;
}

}  // namespace acp
