// See compressed.h: a bucket of one tensor and a compressor for each name, driven without an engine.
#include "acp/compressed.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <map>
#include <sstream>

#include "acp/agreement.h"
#include "acp/context.h"
#include "comm/error.h"
#include "compressors/names.h"
#include "compressors/registry.h"
#include "compressors/residual.h"
#include "fusion/plan.h"

namespace acp {
namespace {

// Under which a name's state has the number of its calls, which keys random numbers.
const std::string calls_key = "calls";

std::string describe(const at::Tensor& tensor) {
  std::ostringstream text;
  text << tensor.sizes() << ' ' << at::toString(tensor.scalar_type());
  return text.str();
}

}  // namespace

struct Compressed::Impl {
  struct Entry {
    Bucket bucket;
    std::unique_ptr<Compressor> compressor;
    std::uint64_t calls = 0;
    std::string description;
  };

  Impl(std::string_view spec, std::string memory, std::uint64_t given_seed)
      : factory(spec, CompressorOptions{std::move(memory), given_seed}),
        seed(given_seed),
        channel(current_context().open_channel()) {
    check_agreement(*channel, "setting of Compressed",
                    {factory.spec(), "memory=" + factory.memory(), "seed=" + std::to_string(seed)});
  }

  Entry& find(const at::Tensor& tensor, const std::string& name) {
    if (const auto found = entries.find(name); found != entries.end()) {
      if (found->second.description != describe(tensor)) {
        throw ConfigError("Compressed: " + in_quotes(name) + " was " + found->second.description +
                          " and is now " + describe(tensor) + "; give another tensor another name");
      }
      return found->second;
    }
    check_agreement(*channel, "tensor of Compressed", {name + " " + describe(tensor)});
    ParameterInfo info;
    info.name = name;
    info.shape = tensor.sizes().vec();
    info.dtype = tensor.scalar_type();
    info.device = tensor.device();
    Entry entry;
    entry.bucket = std::move(allocate({std::vector<int>{0}}, std::span(&info, 1)).at(0));
    entry.compressor = factory.make(entry.bucket);
    entry.description = describe(tensor);
    load(entry, name);
    return entries.emplace(name, std::move(entry)).first->second;
  }

  void load(Entry& entry, const std::string& name) {
    entry.compressor->load_state(pending);
    const auto calls = find_state(pending, name, calls_key);
    if (calls.defined()) entry.calls = static_cast<std::uint64_t>(calls.item<std::int64_t>());
  }

  void average(Entry& entry, const std::string& name) {
    const StepContext step{channel->rank(), channel->size(), entry.calls++, seed};
    entry.bucket.used.assign(1, 1);
    entry.compressor->prepare(entry.bucket, step);
    auto exchange = entry.compressor->exchange(entry.bucket, step);
    while (auto op = exchange.advance()) {
      payload_bytes += op->in.defined() ? op->in.nbytes() : 0;
      op->label = "Compressed, " + in_quotes(name) + ", call " + std::to_string(step.step);
      perform(*channel, *std::move(op));
    }
  }

  CompressorFactory factory;
  std::uint64_t seed;
  std::unique_ptr<Communicator> channel;
  std::map<std::string, Entry> entries;
  State pending;  // loaded, of names that may come later
  std::uint64_t payload_bytes = 0;
};

Compressed::Compressed(std::string_view spec, std::string memory, std::uint64_t seed)
    : impl_(std::make_unique<Impl>(spec, std::move(memory), seed)) {}
Compressed::~Compressed() = default;
Compressed::Compressed(Compressed&&) noexcept = default;
Compressed& Compressed::operator=(Compressed&&) noexcept = default;

void Compressed::all_reduce(const at::Tensor& tensor, const std::string& name) {
  const c10::NoGradGuard no_grad;
  if (!tensor.defined() || !at::isFloatingType(tensor.scalar_type()) || tensor.layout() != at::kStrided ||
      (!tensor.device().is_cpu() && tensor.device() != current_context().device())) {
    throw ConfigError("Compressed: " + in_quotes(name) +
                      " must be a dense tensor of floating numbers, on the CPU or on context.device()");
  }
  if (tensor.numel() == 0) return;
  auto& entry = impl_->find(tensor, name);
  const auto flat = entry.bucket.view(entry.bucket.slices[0]).view(tensor.sizes());
  flat.copy_(tensor);
  try {
    impl_->average(entry, name);
  } catch (...) {
    impl_->channel->abort(std::current_exception());  // the peers are waiting
    throw;
  }
  tensor.copy_(flat);
}

State Compressed::state() const {
  State state = impl_->pending;
  for (const auto& [name, entry] : impl_->entries) {
    state.erase(name);
    state.merge(entry.compressor->state());
    state[name][calls_key] = at::full({1}, static_cast<std::int64_t>(entry.calls), at::kLong);
  }
  return state;
}

void Compressed::load_state(const State& state) {
  impl_->pending = state;
  for (auto& [name, entry] : impl_->entries) impl_->load(entry, name);
}

std::uint64_t Compressed::payload_bytes() const {
  return impl_->payload_bytes;
}

}  // namespace acp
