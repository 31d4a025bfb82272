// See messages.h.
#include "benchmarks/acp-comm/messages.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/utils.h>

#include <algorithm>
#include <deque>
#include <numeric>

#include "comm/error.h"
#include "compressors/registry.h"
#include "models/model.h"

namespace acp::programs {

namespace {

// As many exchanges at a time as the engine has by default, resumed in turn.
constexpr std::size_t window = 2;

std::vector<Message> step(std::vector<Bucket>& buckets, std::vector<std::unique_ptr<Compressor>>& compressors,
                          const StepContext& context) {
  std::vector<Message> result;
  std::deque<Exchange> flight;
  const auto advance = [&](Exchange exchange) {
    const auto op = exchange.advance();
    if (!op) return;
    if (op->kind != Collective::Kind::all_reduce) {
      throw ConfigError("--tensors: the compressor asks for " + std::string(to_string(op->kind)) +
                        "; only methods that all-reduce are measured");
    }
    result.push_back({op->in.numel(), op->in.scalar_type()});
    flight.push_back(std::move(exchange));
  };
  for (std::size_t next = 0; next < buckets.size() || !flight.empty();) {
    if (next < buckets.size() && flight.size() < window) {
      compressors[next]->prepare(buckets[next], context);
      advance(compressors[next]->exchange(buckets[next], context));
      ++next;
    } else {
      Exchange oldest = std::move(flight.front());
      flight.pop_front();
      advance(std::move(oldest));
    }
  }
  return result;
}

}  // namespace

std::int64_t Message::bytes() const {
  return elements * static_cast<std::int64_t>(c10::elementSize(type));
}

double StepMessages::payload() const {
  const auto sum = [](const std::vector<Message>& messages) {
    return std::accumulate(messages.begin(), messages.end(), 0.0,
                           [](double s, const Message& m) { return s + static_cast<double>(m.bytes()); });
  };
  return (sum(even) + sum(odd)) / 2;
}

std::vector<ParameterInfo> parameters_of(const std::string& model, const std::string& compressor,
                                         std::uint64_t seed) {
  torch::manual_seed(seed);
  const auto module = models::choose_model(model).make();
  const CompressorFactory factory(compressor, {"", seed});
  std::vector<ParameterInfo> result;
  for (const auto& item : module->named_parameters()) {
    const auto& tensor = item.value();
    if (!tensor.requires_grad()) continue;
    const auto shape = tensor.sizes().vec();
    const auto wire = factory.wire_bytes(shape, static_cast<std::int64_t>(tensor.element_size()));
    result.push_back({item.key(), shape, tensor.scalar_type(), at::kCPU, wire});
  }
  return result;
}

StepMessages messages_of(std::span<const ParameterInfo> parameters, const std::string& compressor,
                         double fusion_mb, int ranks, std::uint64_t seed) {
  const c10::NoGradGuard no_grad;
  std::vector<int> order(parameters.size());
  std::iota(order.rbegin(), order.rend(), 0);
  auto buckets = allocate(make_plan(parameters, order, fusion_mb), parameters);
  const CompressorFactory factory(compressor, {"", seed});
  std::vector<std::unique_ptr<Compressor>> compressors;
  compressors.reserve(buckets.size());
  for (const auto& bucket : buckets) compressors.push_back(factory.make(bucket));
  StepMessages result;
  StepContext context{0, ranks, 0, seed};
  for (auto* messages : {&result.even, &result.odd}) {
    for (auto& bucket : buckets) {
      bucket.grads.normal_();
      std::fill(bucket.used.begin(), bucket.used.end(), std::uint8_t{1});
    }
    *messages = step(buckets, compressors, context);
    ++context.step;
  }
  return result;
}

}  // namespace acp::programs
