// Every compressor between processes: the numbers are those that ranks of one process reach, bit for bit.
#include <torch/torch.h>

#include "acp/collectives.h"
#include "acp/context.h"
#include "acp/gradient_reducer.h"
#include "acp/hash.h"
#include "comm/error.h"
#include "compressors/registry.h"
#include "tests/api/toy.h"
#include "tests/catch.h"
#include "tests/support/process_context.h"

using namespace acp;
using namespace acp::test;

namespace {

bool allows(const std::string& spec, const std::string& granularity) {
  try {
    const CompressorFactory factory(spec, {"", 0, granularity});
    return true;
  } catch (const ConfigError&) {
    return false;
  }
}

std::vector<std::string> specs() {
  std::vector<std::string> all;
  for (const auto* method : methods()) {
    all.push_back(method->name);
    for (const auto* exchange : {"reduce", "gather", "scatter", "tree"}) {
      const auto spec = method->name + ":exchange=" + exchange;
      if (allows(spec, "")) all.push_back(spec);
    }
  }
  for (const auto* spec : {"topk:ratio=0.1+efsignsgd", "topk:ratio=0.1+terngrad", "adacomp+efsignsgd",
                           "adacomp+terngrad", "topk:ratio=0.1+qsgd:bits=4", "threshold:value=2"}) {
    all.emplace_back(spec);
  }
  return all;
}

// The gradients after a few steps; rank 1 has nothing to send in the second, and every rank of a threshold's
// has another number of values.
std::uint64_t train(const std::string& spec, const std::string& granularity, int rank, int size) {
  Mlp model = make_mlp(1, {9, 33, 7});
  GradientReducer reducer(
      named_tensors(model->named_parameters()),
      Options().compressor(spec).granularity(granularity).fusion_mb(0.001).hooks(false).algorithm("ring"));
  Hash hash;
  for (int step = 0; step < 3; ++step) {
    std::uint64_t seed = static_cast<std::uint64_t>(step * size + rank) * 100;
    for (const auto& p : model->parameters()) {
      p.mutable_grad() = numbers(++seed, p.sizes().vec()) * (1 + rank);
      if (step == 1 && rank == 1) p.mutable_grad().zero_();
    }
    reducer.reduce();
    for (const auto& p : model->parameters()) {
      const auto grad = p.grad().contiguous();
      hash.add(
          std::as_bytes(std::span(grad.const_data_ptr<float>(), static_cast<std::size_t>(grad.numel()))));
    }
  }
  return hash.value();
}

}  // namespace

// Under mpirun, or a launcher that sets RANK and WORLD_SIZE.
TEST_CASE("every compressor between processes gives what it gives between threads",
          "[api-mpi][compressors]") {
  Context& context = process_context();
  const int ranks = context.size();
  try {
    for (const auto& spec : specs()) {
      for (const auto* granularity : {"", "bucket"}) {
        if (!allows(spec, granularity)) continue;
        CAPTURE(spec, granularity);
        const auto own = static_cast<std::int64_t>(train(spec, granularity, context.rank(), ranks));
        const auto all = all_gather(torch::tensor({own}));
        CHECK(all.eq(own).all().item<bool>());
        std::int64_t threads = 0;
        run_local(ranks, [&](Context& local) {
          const auto value = static_cast<std::int64_t>(train(spec, granularity, local.rank(), ranks));
          if (local.rank() == 0) threads = value;
        });
        CHECK(own == threads);
      }
    }
  } catch (...) {
    context.abort(std::current_exception());  // else the others would wait for their deadline
    throw;
  }
}
