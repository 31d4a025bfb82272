// Broadcasts of models and optimizers over the user's channel.
#include "acp/broadcast.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>
#include <torch/serialize.h>

#include <sstream>
#include <unordered_set>

#include "acp/agreement.h"
#include "acp/collectives.h"
#include "comm/error.h"

namespace acp {

namespace {

NamedTensors tensors_of(const torch::nn::Module& module) {
  NamedTensors all = named_tensors(module.named_parameters());
  for (auto& buffer : named_tensors(module.named_buffers())) all.push_back(std::move(buffer));
  return all;
}

}  // namespace

void broadcast_parameters(torch::nn::Module& module, int root) {
  broadcast_parameters(tensors_of(module), root);
}

void broadcast_parameters(const NamedTensors& tensors, int root) {
  const c10::NoGradGuard no_grad;
  std::vector<std::string> lines;
  std::vector<at::Tensor> each;
  std::unordered_set<const void*> seen;
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.defined() || !seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
    std::ostringstream line;
    line << name << ' ' << tensor.sizes() << ' ' << at::toString(tensor.scalar_type());
    lines.push_back(line.str());
    each.push_back(tensor.detach());
  }
  check_agreement(current_context().user_channel(), "parameter or buffer", lines);
  std::vector<Handle> started;
  for (const at::Tensor& t : each) started.push_back(broadcast_async(t, root));
  for (std::size_t i = 0; i < each.size(); ++i) each[i].copy_(started[i].wait());
}

void broadcast_optimizer_state(torch::optim::Optimizer& optimizer, int root) {
  Communicator& channel = current_context().user_channel();
  std::string bytes;
  std::string failure;
  if (channel.rank() == root) {
    try {
      std::ostringstream stream;
      torch::serialize::OutputArchive archive;
      optimizer.save(archive);
      archive.save_to(stream);
      bytes = stream.str();
    } catch (const c10::Error& e) {
      failure = e.what_without_backtrace();
    } catch (const std::exception& e) {
      failure = e.what();
    }
  }
  // The others learn of a failure too, instead of waiting.
  failure = broadcast_bytes(channel, failure, root);
  if (!failure.empty()) {
    throw Error("broadcast_optimizer_state: the optimizer of rank " + std::to_string(root) +
                " cannot be saved (libtorch: " + failure.substr(0, failure.find('\n')) +
                "); broadcast before its first step");
  }
  bytes = broadcast_bytes(channel, bytes, root);
  if (channel.rank() == root) return;
  std::istringstream stream(bytes);
  torch::serialize::InputArchive archive;
  archive.load_from(stream);
  try {
    optimizer.load(archive);
  } catch (const c10::Error& e) {
    throw ConfigError("broadcast_optimizer_state: rank " + std::to_string(channel.rank()) +
                      " has another optimizer than rank " + std::to_string(root) + " (" +
                      std::string(e.what_without_backtrace()) + ")");
  }
}

std::string broadcast_object(std::string_view bytes, int root) {
  return broadcast_bytes(current_context().user_channel(), bytes, root);
}

std::vector<std::string> all_gather_object(std::string_view bytes) {
  return all_gather_bytes(current_context().user_channel(), bytes);
}

std::uint64_t parameters_hash(const torch::nn::Module& module) {
  std::uint64_t hash = 14695981039346656037ULL;
  std::unordered_set<const void*> seen;
  for (const auto& p : module.parameters()) {
    if (!seen.insert(p.unsafeGetTensorImpl()).second) continue;
    const at::Tensor flat = p.detach().to(at::kCPU).contiguous();
    const auto* data = static_cast<const unsigned char*>(flat.const_data_ptr());
    for (std::size_t i = 0; i < flat.nbytes(); ++i) hash = (hash ^ data[i]) * 1099511628211ULL;
  }
  return hash;
}

std::uint64_t check_parameters_agree(const torch::nn::Module& module) {
  const std::uint64_t mine = parameters_hash(module);
  const std::vector<std::string> all =
      all_gather_object(std::string_view(reinterpret_cast<const char*>(&mine), sizeof mine));
  std::string differing;
  for (std::size_t r = 1; r < all.size(); ++r) {
    if (all[r] != all[0]) differing += (differing.empty() ? "" : ", ") + std::to_string(r);
  }
  if (!differing.empty()) {
    throw CommunicationError("the parameters of rank " + differing + " are not those of rank 0");
  }
  return mine;
}

}  // namespace acp
