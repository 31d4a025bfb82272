// The start of a GradientReducer: agreement of the ranks, the plan of buckets, and its state in checkpoints.
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cstring>
#include <sstream>
#include <unordered_map>
#include <unordered_set>

#include "acp/agreement.h"
#include "acp/reducer_impl.h"
#include "comm/algorithms/choice.h"
#include "comm/error.h"
#include "comm/log.h"
#include "fusion/bucket_size.h"

namespace acp {

namespace {

using Clock = std::chrono::steady_clock;

// A compressor's work on its own core, for choosing the size of buckets: about four passes over the gradient
// at 12 GB/s.
constexpr double coding_seconds_per_byte = 3e-10;

// The key under which a State holds what belongs to no parameter.
const std::string kReducerKey;

at::Tensor bytes_tensor(const std::string& text) {
  at::Tensor t = at::empty({static_cast<std::int64_t>(text.size())}, at::kByte);
  if (!text.empty()) std::memcpy(t.data_ptr(), text.data(), text.size());
  return t;
}

std::string tensor_bytes(const at::Tensor& t) {
  return {static_cast<const char*>(t.const_data_ptr()), static_cast<std::size_t>(t.numel())};
}

std::optional<std::uint64_t> saved_step(const State& saved) {
  const auto own = saved.find(kReducerKey);
  if (own == saved.end() || !own->second.contains("step")) return std::nullopt;
  return static_cast<std::uint64_t>(own->second.at("step").item<std::int64_t>());
}

}  // namespace

GradientReducer::Impl::Impl(Options opts, std::unique_ptr<Communicator> engine_channel,
                            Communicator& control_channel, const LinkCost& link_cost, at::Device rank_device)
    : options(std::move(opts)),
      factory((options.check(), options.compressor()),
              CompressorOptions{options.memory(), options.seed(), options.granularity(),
                                options.compression_error()}),
      channel(std::move(engine_channel)),
      control(control_channel),
      link(link_cost),
      device(rank_device) {}

void GradientReducer::Impl::attach(const NamedTensors& named) {
  if (attached || !parameters.empty())
    throw Error("attach() may be called once; make another reducer for other parameters");
  std::unordered_set<const void*> tensors;
  std::unordered_set<std::string> names;
  for (const auto& [name, tensor] : named) {
    if (!tensor.defined() || !tensor.requires_grad()) continue;
    if (!tensors.insert(tensor.unsafeGetTensorImpl()).second) continue;  // tied: known by its first name
    if (!names.insert(name).second)
      throw ConfigError("two parameters are named \"" + name + "\"; names must be unique");
    if (!tensor.is_leaf()) {
      throw ConfigError("parameter \"" + name +
                        "\" is not a leaf of the graph, so it never receives a gradient");
    }
    if (!at::isFloatingType(tensor.scalar_type())) {
      throw ConfigError("parameter \"" + name + "\" has dtype " +
                        std::string(at::toString(tensor.scalar_type())) +
                        "; gradients of float64, float32, float16 and bfloat16 can be reduced");
    }
    if (!tensor.device().is_cpu() && tensor.device() != device) {
      throw ConfigError(
          "parameter \"" + name + "\" is on " + tensor.device().str() + ", and this rank works on " +
          device.str() +
          ": move the model to context.device() (acp::init(acp::InitOptions().device(\"cuda\")) "
          "makes that a GPU)");
    }
    Parameter p;
    p.name = name;
    p.tensor = tensor;
    dense_bytes_per_step += tensor.nbytes();
    parameters.push_back(std::move(p));
  }
  if (parameters.empty()) throw ConfigError("no parameter requires a gradient: there is nothing to reduce");

  std::vector<std::string> lines;
  for (const Parameter& p : parameters) {
    std::ostringstream line;
    line << p.name << ' ' << p.tensor.sizes() << ' ' << at::toString(p.tensor.scalar_type());
    lines.push_back(line.str());
  }
  check_agreement(control, "parameter", lines);
  std::ostringstream clip;
  clip << "clip_local=" << options.clip_local();
  check_agreement(
      control, "setting",
      {plan_signature(), "memory=" + factory.memory(), "seed=" + std::to_string(options.seed()),
       "backward_passes_per_step=" + std::to_string(options.backward_passes_per_step()), clip.str(),
       "algorithm=" + to_string(options.algorithm()), "window=" + std::to_string(options.window()),
       "nonfinite=" + options.nonfinite(), "policy=" + PolicySpec(options.policy()).text()});
  if (!PolicySpec(options.policy()).fixed()) {
    policy = std::make_unique<PolicyRunner>(options, factory, layers(), control, link);
    check_agreement(control, "setting", policy->settings());
  }
  if (options.nonfinite() == "skip" && channel->rank() == 0) {
    log_info(
        "nonfinite=skip: all gradients are looked at before any is sent, so no communication overlaps with "
        "backward");
  }
  if (options.clip_local() > 0 && channel->rank() == 0) {
    log_info(clip.str() +
             ": gradients are clipped before compression, so no communication overlaps with backward");
  }
}

std::vector<ParameterInfo> GradientReducer::Impl::parameter_infos() const {
  std::vector<ParameterInfo> infos;
  for (const Parameter& p : parameters) {
    ParameterInfo info;
    info.name = p.name;
    info.shape = p.tensor.sizes().vec();
    info.dtype = p.tensor.scalar_type();
    info.device = p.tensor.device();
    info.wire_bytes = factory.wire_bytes(info.shape, static_cast<std::int64_t>(p.tensor.element_size()));
    infos.push_back(std::move(info));
  }
  return infos;
}

std::vector<Layer> GradientReducer::Impl::layers() const {
  std::vector<Layer> result;
  for (const Parameter& p : parameters) {
    Layer layer;
    layer.name = p.name;
    layer.shape = p.tensor.sizes().vec();
    layer.rows = layer.shape.empty() ? 1 : layer.shape[0];
    layer.cols = layer.rows > 0 ? p.tensor.numel() / layer.rows : 0;
    layer.element_size = static_cast<std::int64_t>(p.tensor.element_size());
    layer.compressed = p.tensor.numel() > 0 && factory.compresses(layer.shape);
    result.push_back(std::move(layer));
  }
  return result;
}

// Rank 0's order goes everywhere; what it has not seen follows in reverse registration order.
void GradientReducer::Impl::plan_from_observation() {
  const auto n = static_cast<std::int64_t>(parameters.size());
  std::vector<bool> seen(parameters.size(), false);
  {
    const std::lock_guard lock(mutex);
    for (const int i : order) seen[static_cast<std::size_t>(i)] = true;
    for (int i = static_cast<int>(n) - 1; i >= 0; --i) {
      if (!seen[static_cast<std::size_t>(i)]) order.push_back(i);
    }
  }
  const at::Tensor agreed = at::empty({n}, at::kInt);
  std::copy(order.begin(), order.end(), agreed.data_ptr<int>());
  Collective op = Collective::broadcast(agreed, 0);
  op.label = "order of gradients, before the first step";
  perform(control, std::move(op));
  order.assign(agreed.const_data_ptr<int>(), agreed.const_data_ptr<int>() + n);
  const bool whole = factory.granularity() == "model";
  if (!whole) {
    const double mb = options.fusion_auto() ? choose_fusion() : options.fusion_mb();
    const std::lock_guard lock(mutex);
    fusion_mb = mb;
  }
  build(make_plan(parameter_infos(), order, whole ? whole_model : *fusion_mb));
}

double GradientReducer::Impl::choose_fusion() {
  const at::Tensor chosen = at::zeros({1}, at::kDouble);
  if (control.rank() == 0) {
    const auto infos = parameter_infos();
    StepCosts costs;
    costs.link = link;
    costs.ranks = control.size();
    costs.tuning = tuning_for(link, link.host_of);
    costs.algorithm = options.algorithm();
    costs.exchange = factory.exchange();
    costs.messages = factory.messages();
    costs.window = static_cast<std::size_t>(options.window());
    costs.coding = factory.spec() == "none" ? 0 : coding_seconds_per_byte;
    std::vector<double> times(parameters.size(),
                              0);  // without overlap all are there when the first is asked for
    if (overlaps() && !arrivals.empty()) {
      const auto since = [&](Clock::time_point t) {
        return std::chrono::duration<double>(t - arrivals.front()).count();
      };
      std::ranges::fill(times, since(arrivals.back()));  // missing ones are completed at the end
      for (std::size_t k = 0; k < arrivals.size(); ++k)
        times[static_cast<std::size_t>(order[k])] = since(arrivals[k]);
    }
    chosen.fill_(choose_fusion_mb(infos, order, times, costs));
  }
  Collective op = Collective::broadcast(chosen, 0);
  op.label = "size of buckets, before the first step";
  perform(control, std::move(op));
  return chosen.item<double>();
}

void GradientReducer::Impl::build(const Plan& plan) {
  const auto infos = parameter_infos();
  EngineOptions engine_options;
  engine_options.window = static_cast<std::size_t>(options.window());
  engine_options.seed = options.seed();
  engine_options.algorithm = options.algorithm();
  engine_options.events = options.events();
  if (policy) {
    engine_options.before_exchange = [&runner = *policy](const Bucket& bucket, const Compressor& compressor) {
      runner.observe(bucket, compressor);
    };
  }
  auto built = std::make_unique<Engine>(
      allocate(plan, infos), [this](const Bucket& bucket) { return factory.make(bucket); }, *channel,
      std::move(engine_options));

  std::unique_lock lock(mutex);
  for (Parameter& p : parameters) p.slot = at::empty({0}, p.tensor.options());
  remaining.assign(built->size(), 0);
  handed.assign(built->size(), false);
  for (std::size_t b = 0; b < plan.size(); ++b) {
    Bucket& bucket = built->bucket(b);
    if (factory.wants_squares()) {
      bucket.squares = at::zeros_like(bucket.grads, at::kFloat);
      bucket.has_squares.assign(bucket.slices.size(), 0);
    }
    for (std::size_t k = 0; k < plan[b].size(); ++k) {
      Parameter& p = parameters[static_cast<std::size_t>(plan[b][k])];
      p.bucket = b;
      p.slice = k;
      p.slot = bucket.view(bucket.slices[k]);
      // variable_data(): an ordinary autograd view would make zero_grad(false) throw.
      p.alias = p.slot.view(p.tensor.sizes()).variable_data();
      if (bucket.squares.defined()) {
        p.squares = bucket.squares.narrow(0, bucket.slices[k].offset, bucket.slices[k].numel())
                        .view(p.tensor.sizes());
        p.has_squares = &bucket.has_squares[k];
      }
      if (p.arrived) {
        adopt(p);
      } else {
        ++remaining[b];
      }
    }
  }
  engine = std::move(built);
  lock.unlock();  // the engine's thread works now, and this one waits for it
  // Before the saved factors are taken back: they have the ranks that the policy chose.
  if (policy) policy->attach(*engine);
  if (pending) {
    apply_state(*pending);
    pending.reset();
  }
}

std::string GradientReducer::Impl::plan_signature() const {
  std::ostringstream text;
  text << "world_size=" << channel->size() << " compressor=" << factory.spec()
       << " granularity=" << factory.granularity() << " fusion_mb=";
  if (options.fusion_auto()) {
    text << "auto";
  } else {
    text << options.fusion_mb();
  }
  return text.str();
}

std::string GradientReducer::Impl::plan_text() const {
  std::string text = plan_signature() + "\n";
  for (std::size_t b = 0; b < engine->size(); ++b) {
    std::string line;
    for (const Slice& slice : engine->bucket(b).slices) line += (line.empty() ? "" : "\t") + slice.name;
    text += line + "\n";
  }
  return text;
}

// Empty when the plan was made for something else, or does not cover exactly these parameters.
std::optional<Plan> GradientReducer::Impl::parse_plan(const std::string& text) const {
  std::istringstream lines(text);
  std::string line;
  if (!std::getline(lines, line) || line != plan_signature()) return std::nullopt;
  std::unordered_map<std::string, int> index;
  std::size_t with_elements = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    index[parameters[i].name] = static_cast<int>(i);
    with_elements += parameters[i].tensor.numel() > 0;
  }
  Plan plan;
  std::size_t covered = 0;
  while (std::getline(lines, line)) {
    std::istringstream names(line);
    std::string name;
    std::vector<int> members;
    while (std::getline(names, name, '\t')) {
      const auto found = index.find(name);
      if (found == index.end()) return std::nullopt;
      members.push_back(found->second);
      index.erase(found);
      ++covered;
    }
    if (members.empty()) return std::nullopt;
    plan.push_back(std::move(members));
  }
  if (covered != with_elements) return std::nullopt;
  return plan;
}

State GradientReducer::Impl::state() {
  {
    const std::lock_guard lock(mutex);
    if (open && !reduced) throw Error("state() inside a step: call it after step() or synchronize()");
  }
  if (!engine) return pending.value_or(State{});
  State result;
  std::uint64_t step_index = 0;
  engine->between_steps([&](auto& compressors, std::uint64_t& engine_step) {
    for (const auto& compressor : compressors) result.merge(compressor->state());
    step_index = engine_step;
  });
  auto& own = result[kReducerKey];
  own["step"] = at::empty({1}, at::kLong).fill_(static_cast<std::int64_t>(step_index));
  own["plan"] = bytes_tensor(plan_text());
  if (fusion_mb) own["fusion_mb"] = at::full({1}, *fusion_mb, at::kDouble);
  if (policy) policy->save(result);
  return result;
}

void GradientReducer::Impl::load_state(const State& saved) {
  if (!attached) throw Error("load_state() before attach(): give the reducer its parameters first");
  {
    const std::lock_guard lock(mutex);
    if (open && !reduced)
      throw Error("load_state() inside a step: call it before backward() or after step()");
  }
  const auto resumed = saved_step(saved);
  if (policy) policy->load(saved, resumed.value_or(0));
  if (engine) {
    apply_state(saved);
    const std::lock_guard lock(mutex);
    step = resumed.value_or(step);
    return;
  }
  pending = saved;
  {
    const std::lock_guard lock(mutex);
    step = resumed.value_or(step);
  }
  // All ranks load alike; that they found the same plan (or none) is checked, since its order is the wire's.
  std::optional<Plan> plan;
  const auto own = saved.find(kReducerKey);
  if (own != saved.end() && own->second.contains("plan"))
    plan = parse_plan(tensor_bytes(own->second.at("plan")));
  std::vector<std::string> lines;
  if (plan) {
    for (const auto& bucket : *plan) {
      lines.emplace_back();
      for (const int i : bucket) lines.back() += std::to_string(i) + " ";
    }
  }
  check_agreement(control, "bucket of the loaded plan", lines);
  if (!plan) return;
  if (own->second.contains("fusion_mb")) {
    const std::lock_guard lock(mutex);
    fusion_mb = own->second.at("fusion_mb").item<double>();
  }
  build(*plan);
}

void GradientReducer::Impl::apply_state(const State& saved) {
  const auto resumed = saved_step(saved);
  engine->between_steps([&](auto& compressors, std::uint64_t& engine_step) {
    for (const auto& compressor : compressors) compressor->load_state(saved);
    engine_step = resumed.value_or(engine_step);
  });
}

}  // namespace acp
