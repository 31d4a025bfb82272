// See optimizers.h. An optimizer more is one entry in optimizers() and one branch in make_optimizer().
#include "benchmarks/common/optimizers.h"

#include <spdlog/fmt/fmt.h>
#include <torch/optim.h>

#include <algorithm>
#include <limits>

#include "benchmarks/common/command_line.h"
#include "benchmarks/common/lamb.h"
#include "comm/error.h"
#include "compressors/text.h"

namespace acp::programs {

namespace {

constexpr auto infinity = std::numeric_limits<double>::infinity();

MethodSpec single(std::string_view spec) {
  auto parts = parse_spec(spec);
  if (parts.size() != 1)
    throw ConfigError(fmt::format("optimizer \"{}\": optimizers do not compose with +", spec));
  std::replace(parts.front().name.begin(), parts.front().name.end(), '_', '-');
  return parts.front();
}

const OptimizerInfo& find(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& info : optimizers()) {
    if (info.name == name) return info;
    names.push_back(info.name);
  }
  throw ConfigError(
      fmt::format("unknown optimizer \"{}\"{}; known: {}", name, suggestion(name, names), join(names)));
}

// The setting in force; an optimizer without it takes none but 0.
double setting(const OptimizerInfo& info, const char* option, std::optional<double> given,
               std::optional<double> own) {
  if (!own && given.value_or(0) != 0)
    throw ConfigError(fmt::format("--{}: the optimizer {} has none", option, info.name));
  return given.value_or(own.value_or(0));
}

}  // namespace

const std::vector<OptimizerInfo>& optimizers() {
  static const KeyInfo beta1{"beta1", "0.9", "decay of the mean of gradients, 0 to 1"};
  static const KeyInfo beta2{"beta2", "0.999", "decay of the mean of squares, 0 to 1"};
  static const KeyInfo eps{"eps", "1e-8", "added to the denominator"};
  static const KeyInfo amsgrad{"amsgrad", "off", "keep the largest mean of squares"};
  static const std::vector<OptimizerInfo> all = {
      {"adagrad", {{"eps", "1e-10", "added to the denominator"}}, 0.01, {}, 0.0, false},
      {"adam", {beta1, beta2, eps, amsgrad}, 0.001, {}, 0.0, false},
      {"adamw", {beta1, beta2, eps, amsgrad}, 0.001, {}, 0.01, false},
      {"lamb",
       {beta1,
        beta2,
        {"eps", "1e-6", "added to the denominator"},
        {"vectors", "off", "weight decay and trust ratio for tensors of one dimension, too"}},
       0.001,
       {},
       0.01,
       false},
      {"lbfgs",
       {{"iterations", "20", "most iterations in a step"},
        {"history", "100", "updates remembered"},
        {"line_search", "none", "none or strong_wolfe"}},
       1,
       {},
       {},
       true,
       false},
      {"rmsprop",
       {{"alpha", "0.99", "decay of the mean of squares, 0 to 1"},
        eps,
        {"centered", "off", "subtract the squared mean"}},
       0.01,
       0.0,
       0.0,
       false},
      {"sgd",
       {{"nesterov", "off", "Nesterov's momentum"}, {"dampening", "0", "of the momentum"}},
       0.1,
       0.0,
       0.0,
       false}};
  return all;
}

const OptimizerInfo& find_optimizer(std::string_view spec) {
  return find(single(spec).name);
}

std::string check_optimizer(std::string_view spec) {
  const auto parsed = single(spec);
  const Values values(parsed, find(parsed.name).keys);
  return parsed.to_string();
}

std::unique_ptr<torch::optim::Optimizer> make_optimizer(std::string_view spec,
                                                        std::vector<at::Tensor> parameters,
                                                        const OptimizerSettings& settings) {
  namespace optim = torch::optim;
  const auto parsed = single(spec);
  const auto& info = find(parsed.name);
  const Values values(parsed, info.keys);
  const double momentum = setting(info, "momentum", settings.momentum, info.momentum);
  const double decay = setting(info, "weight-decay", settings.weight_decay, info.weight_decay);
  constexpr double below_one = 1 - 1e-12;  // at 1 the averages stay 0, and so does their correction
  const auto betas = [&] {
    return std::make_tuple(values.number("beta1", 0, below_one), values.number("beta2", 0, below_one));
  };

  if (info.name == "sgd") {
    const bool nesterov = values.boolean("nesterov");
    const double dampening = values.number("dampening", 0, 1);
    if (nesterov && (momentum <= 0 || dampening != 0)) {
      throw ConfigError("optimizer sgd: nesterov=on needs a --momentum above 0 and dampening=0");
    }
    return std::make_unique<optim::SGD>(std::move(parameters), optim::SGDOptions(settings.lr)
                                                                   .momentum(momentum)
                                                                   .dampening(dampening)
                                                                   .weight_decay(decay)
                                                                   .nesterov(nesterov));
  }
  if (info.name == "adam") {
    return std::make_unique<optim::Adam>(std::move(parameters), optim::AdamOptions(settings.lr)
                                                                    .betas(betas())
                                                                    .eps(values.number("eps", 0, infinity))
                                                                    .weight_decay(decay)
                                                                    .amsgrad(values.boolean("amsgrad")));
  }
  if (info.name == "adamw") {
    return std::make_unique<optim::AdamW>(std::move(parameters), optim::AdamWOptions(settings.lr)
                                                                     .betas(betas())
                                                                     .eps(values.number("eps", 0, infinity))
                                                                     .weight_decay(decay)
                                                                     .amsgrad(values.boolean("amsgrad")));
  }
  if (info.name == "lamb") {
    return std::make_unique<Lamb>(std::move(parameters), LambOptions(settings.lr)
                                                             .betas(betas())
                                                             .eps(values.number("eps", 0, infinity))
                                                             .weight_decay(decay)
                                                             .adapt_vectors(values.boolean("vectors")));
  }
  if (info.name == "rmsprop") {
    return std::make_unique<optim::RMSprop>(std::move(parameters), optim::RMSpropOptions(settings.lr)
                                                                       .alpha(values.number("alpha", 0, 1))
                                                                       .eps(values.number("eps", 0, infinity))
                                                                       .weight_decay(decay)
                                                                       .momentum(momentum)
                                                                       .centered(values.boolean("centered")));
  }
  if (info.name == "adagrad") {
    return std::make_unique<optim::Adagrad>(
        std::move(parameters),
        optim::AdagradOptions(settings.lr).eps(values.number("eps", 0, infinity)).weight_decay(decay));
  }
  static const std::vector<std::string> searches{"none", "strong_wolfe"};
  auto options = optim::LBFGSOptions(settings.lr)
                     .max_iter(values.integer("iterations", 1, 1 << 20))
                     .history_size(values.integer("history", 1, 1 << 20));
  if (values.choice("line_search", searches) != "none") options.line_search_fn("strong_wolfe");
  return std::make_unique<optim::LBFGS>(std::move(parameters), options);
}

std::unique_ptr<torch::optim::Optimizer> make_optimizer(std::string_view spec,
                                                        std::vector<at::Tensor> parameters, double lr,
                                                        double momentum, double weight_decay) {
  return make_optimizer(spec, std::move(parameters), OptimizerSettings{lr, momentum, weight_decay});
}

std::unique_ptr<torch::optim::Optimizer> make_optimizer(std::string_view spec,
                                                        std::vector<at::Tensor> decayed,
                                                        std::vector<at::Tensor> undecayed,
                                                        const OptimizerSettings& settings) {
  const double decay = settings.weight_decay.value_or(find_optimizer(spec).weight_decay.value_or(0));
  if (undecayed.empty() || decay == 0) {  // some optimizers take one group alone
    decayed.insert(decayed.end(), undecayed.begin(), undecayed.end());
    return make_optimizer(spec, std::move(decayed), settings);
  }
  auto without = settings;
  without.weight_decay = 0;
  auto rest = make_optimizer(spec, std::move(undecayed), without);
  if (decayed.empty()) return rest;
  auto optimizer = make_optimizer(spec, std::move(decayed), settings);
  optimizer->add_param_group(rest->param_groups().front());
  for (auto& [parameter, state] : rest->state()) {  // Adagrad's exists before the first step
    optimizer->state()[parameter] = std::move(state);
  }
  return optimizer;
}

void set_learning_rate(torch::optim::Optimizer& optimizer, double lr) {
  for (auto& group : optimizer.param_groups()) group.options().set_lr(lr);
}

}  // namespace acp::programs
