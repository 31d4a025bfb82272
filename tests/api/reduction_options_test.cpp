// Settings that the compressor and the reducer share: granularity, and the momentum that an error memory has.
#include <torch/torch.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "acp/context.h"
#include "acp/distributed_optimizer.h"
#include "comm/error.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

using namespace acp;
using namespace acp::test;

namespace {

using torch::optim::SGD;
using torch::optim::SGDOptions;

// What the process writes on standard error while `body` runs.
template <class Body>
std::string log_of(const Body& body) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(::fileno(file.get()), STDERR_FILENO);
  std::exception_ptr failure;
  try {
    body();
  } catch (...) {
    failure = std::current_exception();
  }
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  if (failure) std::rethrow_exception(failure);
  std::string text(static_cast<std::size_t>(::lseek(::fileno(file.get()), 0, SEEK_END)), '\0');
  text.resize(static_cast<std::size_t>(
      std::max<ssize_t>(0, ::pread(::fileno(file.get()), text.data(), text.size(), 0))));
  return text;
}

// How many gradients of each parameter are not zero after one step.
std::vector<std::int64_t> sent(const Options& options) {
  std::vector<std::int64_t> counts;
  run_local(1, [&](Context&) {
    Mlp model = make_mlp(1, {10, 10, 10});
    GradientReducer reducer(named_tensors(model->named_parameters()), options);
    auto loss = torch::zeros({});
    double scale = 1;
    for (const auto& p : model->parameters()) {
      loss = loss + scale * (p * numbers(static_cast<std::uint64_t>(scale), p.sizes().vec())).sum();
      scale *= 1000;  // the last parameter's gradient is by far the largest, the last matrix's next
    }
    loss.backward();
    reducer.synchronize();
    for (const auto& p : model->parameters()) counts.push_back(p.grad().count_nonzero().item<std::int64_t>());
  });
  return counts;
}

using Counts = std::vector<std::int64_t>;

}  // namespace

TEST_CASE("granularity: what top-k chooses among", "[api][options]") {
  const auto topk = [] { return Options().compressor("topk:ratio=0.1"); };
  CHECK(sent(topk()) == Counts{10, 1, 10, 1});
  CHECK(sent(topk().granularity("layer")) == Counts{10, 1, 10, 1});
  // 220 elements: 22 of them, the bias of the last layer and 12 of its matrix.
  CHECK(sent(topk().granularity("model")) == Counts{0, 0, 12, 10});
  CHECK(sent(topk().granularity("model").fusion_mb(0)) == Counts{0, 0, 12, 10});
  CHECK(sent(topk().granularity("bucket")) == Counts{0, 0, 12, 10});
  CHECK(sent(topk().granularity("bucket").fusion_mb(0)) == Counts{10, 1, 10, 1});
  CHECK(sent(Options().compressor("globaltopk:ratio=0.1").fusion_mb(0)) == Counts{0, 0, 12, 10});
  CHECK(sent(Options().compressor("globaltopk:ratio=0.1").granularity("layer")) == Counts{10, 1, 10, 1});
}

TEST_CASE("granularity and nonfinite are checked", "[api][options]") {
  CHECK_THROWS_WITH(Options().compressor("topk").granularity("layers").check(),
                    ContainsSubstring("did you mean \"layer\"?"));
  CHECK_THROWS_WITH(Options().compressor("acpsgd").granularity("bucket").check(),
                    ContainsSubstring("unknown granularity \"bucket\"") && ContainsSubstring("known: layer"));
  CHECK_NOTHROW(Options().compressor("acpsgd").granularity("layer").check());
  CHECK_THROWS_WITH(Options().nonfinite("ignore").check(), ContainsSubstring("known: auto, error, skip"));
  const auto message = message_of<ConfigError>([] {
    run_local(2, [](Context& context) {
      Mlp model = make_mlp();
      GradientReducer reducer(
          named_tensors(model->named_parameters()),
          Options().compressor("topk").granularity(context.rank() == 0 ? "layer" : "bucket"));
    });
  });
  CHECK_THAT(message, ContainsSubstring("granularity=bucket"));
}

TEST_CASE("the constructor warns of momentum in both the optimizer and the error memory", "[api][options]") {
  const auto log = [](auto base, const Options& options) {
    return log_of([&] {
      run_local(2, [&](Context&) {
        Mlp model = make_mlp();
        DistributedOptimizer optimizer(base(model), model->named_parameters(), options);
      });
    });
  };
  const auto sgd = [](double momentum) {
    return [=](Mlp& model) { return SGD(model->parameters(), SGDOptions(0.1).momentum(momentum)); };
  };
  const auto rms = [](Mlp& model) {
    return torch::optim::RMSprop(model->parameters(), torch::optim::RMSpropOptions(0.1).momentum(0.5));
  };
  const auto adam = [](Mlp& model) { return torch::optim::Adam(model->parameters(), 0.1); };
  const auto topk = [](const std::string& memory) { return Options().compressor("topk").memory(memory); };

  const auto warning = log(sgd(0.9), topk("dgc"));
  CHECK_THAT(warning, ContainsSubstring("momentum 0.9"));
  CHECK(warning.find("accelerate twice") == warning.rfind("accelerate twice"));  // once, not once a rank
  CHECK_THAT(log(sgd(0.9), Options().compressor("dgc")), ContainsSubstring("momentum 0.9"));
  CHECK_THAT(log(rms, topk("dgc")), ContainsSubstring("momentum 0.5"));
  CHECK(log(sgd(0), topk("dgc")).find("momentum") == std::string::npos);
  CHECK(log(sgd(0.9), topk("residual")).find("momentum") == std::string::npos);
  CHECK(log(sgd(0.9), Options().compressor("dgc:momentum=0")).find("momentum") == std::string::npos);
  CHECK(log(adam, topk("dgc")).find("momentum") == std::string::npos);
}
