// The registry of models, and what all models share.
#include "models/model.h"

#include "comm/error.h"
#include "models/registry.h"

namespace acp::models {
namespace {

Registry<ModelInfo>& registry() {
  static Registry<ModelInfo> models("model");
  return models;
}

}  // namespace

void add(Sums& total, const Sums& part) {
  for (const auto& [name, value] : part) total[name] += value;
}

bool register_model(ModelInfo info) {
  return registry().add(std::move(info)), true;
}

std::vector<const ModelInfo*> models() {
  return registry().all();
}

const ModelInfo& find_model(std::string_view name) {
  return registry().find(name);
}

void Model::set_label_smoothing(double x) {
  if (x != 0) throw ConfigError("label smoothing: this model's loss is not over classes");
}

SampleSpec ModelChoice::sample() const {
  return info->sample(Values(spec, info->keys));
}

void ModelChoice::fit(const DataSet& data) {
  ModelChoice exact = *this;  // with no more words than the data have
  for (const auto& [key, value_of] : info->from_data) {
    if (data.sample.inputs.empty()) continue;
    const auto needed = std::to_string(value_of(data.sample));
    const auto [place, is_new] = spec.values.emplace(key, needed);
    exact.spec.values[key] = place->second;
    // A vocabulary may be padded: words that no text has cost memory alone.
    if (is_new || key != "vocab") continue;
    if (Values(spec, info->keys).integer(key, 1, std::int64_t{1} << 40) < value_of(data.sample)) {
      throw ConfigError("model " + info->name + ": vocab=" + place->second + " is less than the " + needed +
                        " words of " + data.name);
    }
    exact.spec.values[key] = needed;
  }
  if (const SampleSpec wanted = exact.sample(); !(wanted == data.sample)) {
    throw ConfigError("the model takes samples of " + to_string(wanted) + ", and " + data.name + " has " +
                      to_string(data.sample));
  }
}

std::shared_ptr<Model> ModelChoice::make() const {
  return info->make(Values(spec, info->keys));
}

ModelChoice choose_model(std::string_view text) {
  const auto parts = parse_spec(text);
  if (parts.size() != 1) {
    throw ConfigError("model \"" + std::string(text) + "\": models are not composed with '+'");
  }
  const ModelInfo& info = find_model(parts[0].name);
  const Values checked(parts[0], info.keys);  // throws on unknown keys
  return {&info, parts[0]};
}

ModelSize size_of(const torch::nn::Module& module) {
  ModelSize size;
  for (const at::Tensor& parameter : module.parameters()) {
    size.parameters += parameter.numel();
    ++size.tensors;
  }
  return size;
}

}  // namespace acp::models
