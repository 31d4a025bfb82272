// Broadcasts over the user's channel: many tensors in few messages, optimizers and objects as bytes.
#include "acp/broadcast.h"

#include <ATen/ops/empty.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <sstream>
#include <unordered_set>

#include "acp/agreement.h"
#include "acp/hash.h"
#include "acp/optimizer_bytes.h"
#include "acp/user_queue.h"
#include "comm/error.h"

namespace acp {

namespace {

// Small tensors share a message of this size; larger ones have one each.
constexpr std::int64_t kMessageBytes = 32 << 20;
// So that every tensor in a message is aligned for its type.
constexpr std::int64_t kAlignment = 16;

// Performs `work` on the user's channel, in the order of the calls.
void on_user_channel(const std::function<void(Communicator&)>& work) {
  current_context().user_queue().run([&](Communicator& channel) {
    work(channel);
    return at::Tensor();
  });
}

// Each defined tensor once, by its first name.
NamedTensors unique(const NamedTensors& tensors) {
  NamedTensors result;
  std::unordered_set<const void*> seen;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.defined() && seen.insert(tensor.unsafeGetTensorImpl()).second) {
      result.emplace_back(name, tensor.detach());
    }
  }
  return result;
}

std::vector<std::string> describe(const NamedTensors& tensors) {
  std::vector<std::string> lines;
  for (const auto& [name, tensor] : tensors) {
    std::ostringstream line;
    line << name << ' ' << tensor.sizes() << ' ' << at::toString(tensor.scalar_type());
    lines.push_back(line.str());
  }
  return lines;
}

std::int64_t padded_bytes(const at::Tensor& x) {
  return (static_cast<std::int64_t>(x.nbytes()) + kAlignment - 1) / kAlignment * kAlignment;
}

void broadcast_one(Communicator& channel, const std::string& name, const at::Tensor& x, int root) {
  const at::Tensor wire = x.to(at::kCPU).contiguous();
  Collective op = Collective::broadcast(wire.view(-1).view(at::kByte), root);
  op.label = name;
  perform(channel, std::move(op));
  x.copy_(wire);  // itself, if it was contiguous on the CPU
}

void broadcast_together(Communicator& channel, std::span<const std::pair<std::string, at::Tensor>> tensors,
                        std::int64_t bytes, int root) {
  const at::Tensor message = at::empty({bytes}, at::kByte);
  const auto each = [&](const auto& action) {
    std::int64_t offset = 0;
    for (const auto& [name, x] : tensors) {
      const auto n = static_cast<std::int64_t>(x.nbytes());
      action(message.narrow(0, offset, n).view(x.scalar_type()).view(x.sizes()), x);
      offset += padded_bytes(x);
    }
  };
  if (channel.rank() == root) each([](const at::Tensor& part, const at::Tensor& x) { part.copy_(x); });
  Collective op = Collective::broadcast(message, root);
  op.label = tensors.front().first + " ...";
  perform(channel, std::move(op));
  if (channel.rank() != root) each([](const at::Tensor& part, const at::Tensor& x) { x.copy_(part); });
}

void broadcast_all(Communicator& channel, const NamedTensors& tensors, int root) {
  for (std::size_t begin = 0; begin < tensors.size();) {
    std::size_t end = begin;
    std::int64_t bytes = 0;
    while (end < tensors.size() && bytes + padded_bytes(tensors[end].second) <= kMessageBytes) {
      bytes += padded_bytes(tensors[end++].second);
    }
    if (end <= begin + 1) {
      broadcast_one(channel, tensors[begin].first, tensors[begin].second, root);
      ++begin;
    } else {
      broadcast_together(channel, std::span(tensors).subspan(begin, end - begin), bytes, root);
      begin = end;
    }
  }
}

void require_root(int root) {
  if (root < 0 || root >= size()) {
    throw ConfigError("broadcast: root " + std::to_string(root) + " is not one of the " +
                      std::to_string(size()) + " ranks");
  }
}

std::uint64_t hash_of(const std::string& name, const at::Tensor& x) {
  std::ostringstream text;
  text << name << ' ' << x.sizes() << ' ' << at::toString(x.scalar_type());
  const at::Tensor flat = x.detach().to(at::kCPU).contiguous();
  return Hash()
      .add(text.str())
      .add(std::span(static_cast<const std::byte*>(flat.const_data_ptr()), flat.nbytes()))
      .value();
}

// One hash for each parameter.
std::vector<std::uint64_t> hashes_of(const NamedTensors& parameters) {
  std::vector<std::uint64_t> hashes;
  for (const auto& [name, x] : parameters) hashes.push_back(hash_of(name, x));
  return hashes;
}

std::uint64_t combine(const std::vector<std::uint64_t>& hashes) {
  return Hash().add(std::as_bytes(std::span(hashes))).value();
}

// Some rank's hashes are not rank 0's: which, and from which parameter on.
[[noreturn]] void refuse_parameters(const NamedTensors& parameters,
                                    const std::vector<std::vector<std::uint64_t>>& all) {
  std::string ranks, name = "their number";
  std::size_t first = parameters.size();
  for (std::size_t r = 1; r < all.size(); ++r) {
    if (all[r] == all[0]) continue;
    ranks += (ranks.empty() ? "" : ", ") + std::to_string(r);
    const auto place = std::ranges::mismatch(all[r], all[0]).in1 - all[r].begin();
    first = std::min(first, static_cast<std::size_t>(place));
  }
  if (first < parameters.size()) name = "\"" + parameters[first].first + "\"";
  throw CommunicationError("the parameters of rank " + ranks +
                           " are not those of rank 0; the first to differ is " + name +
                           " (were they broadcast at the start, and is every gradient reduced?)");
}

}  // namespace

void broadcast_parameters(torch::nn::Module& module, int root) {
  NamedTensors all = named_tensors(module.named_parameters());
  for (auto& buffer : named_tensors(module.named_buffers())) all.push_back(std::move(buffer));
  broadcast_parameters(all, root);
}

void broadcast_parameters(const NamedTensors& tensors, int root) {
  require_root(root);
  on_user_channel([&](Communicator& channel) {
    const NamedTensors each = unique(tensors);
    check_agreement(channel, "parameter or buffer", describe(each));
    if (channel.size() > 1) broadcast_all(channel, each, root);
  });
}

void broadcast_optimizer_state(torch::optim::Optimizer& optimizer, int root) {
  require_root(root);
  on_user_channel([&](Communicator& channel) {
    check_agreement(channel, "line of the optimizer", describe_optimizer(optimizer));
    std::string bytes;
    together(channel, [&] {
      if (channel.rank() == root) bytes = optimizer_to_bytes(optimizer);
    });
    bytes = broadcast_bytes(channel, bytes, root);
    // What the lines above do not show (groups without parameters, a class's own save()) shows here, on some
    // ranks perhaps.
    together(channel, [&] {
      if (channel.rank() == root) return;
      try {
        optimizer_from_bytes(optimizer, bytes);
      } catch (const Error& e) {
        throw ConfigError(e.what());
      }
    });
  });
}

std::string broadcast_object(std::string_view bytes, int root) {
  std::string result;
  on_user_channel([&](Communicator& channel) { result = broadcast_bytes(channel, bytes, root); });
  return result;
}

std::vector<std::string> all_gather_object(std::string_view bytes) {
  std::vector<std::string> result;
  on_user_channel([&](Communicator& channel) { result = all_gather_bytes(channel, bytes); });
  return result;
}

void detail::refuse_bytes(std::size_t have, std::size_t element) {
  throw ConfigError("an object of another rank has " + std::to_string(have) + " bytes, here it takes " +
                    std::to_string(element) + " each: all ranks must give the same type");
}

std::uint64_t parameters_hash(const torch::nn::Module& module) {
  return parameters_hash(named_tensors(module.named_parameters()));
}

std::uint64_t parameters_hash(const NamedTensors& parameters) {
  return combine(hashes_of(unique(parameters)));
}

std::uint64_t check_parameters_agree(const torch::nn::Module& module) {
  return check_parameters_agree(named_tensors(module.named_parameters()));
}

std::uint64_t check_parameters_agree(const NamedTensors& parameters) {
  const NamedTensors each = unique(parameters);
  const std::vector<std::uint64_t> hashes = hashes_of(each);
  const std::uint64_t mine = combine(hashes);
  const auto all = all_gather_object(mine);
  if (std::ranges::any_of(all, [&](std::uint64_t hash) { return hash != all[0]; })) {
    refuse_parameters(each, all_gather_object(hashes));
  }
  return mine;
}

}  // namespace acp
