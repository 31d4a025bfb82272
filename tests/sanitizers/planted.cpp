// Two planted races that a thread sanitizer build must report, and the same steps without them, which must be
// clean:
//   planted clean | hook | early-ready
#include <ATen/ATen.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "acp/context.h"
#include "acp/gradient_reducer.h"
#include "fusion/engine.h"
#include "fusion/plan.h"

using namespace acp;

namespace {

// Long enough for the engine to have touched what it was given: the race is then one of two accesses without
// any synchronisation between them, whichever thread the system prefers.
void let_the_engine_work() {
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
}

// Three layers, a bucket each. When the gradient of the first activation is there, the last layer's bucket is
// with the engine; a user's hook that then writes into that gradient races with it.
void train(bool planted) {
  run_local(2, [planted](Context&) {
    const auto make = [] { return at::full({8, 8}, 0.1F).set_requires_grad(true); };
    const at::Tensor first = make(), second = make(), third = make();
    GradientReducer reducer({{"first", first}, {"second", second}, {"third", third}}, Options().fusion_mb(0));
    for (int step = 0; step < 3; ++step) {
      const at::Tensor hidden = at::tanh(at::matmul(at::ones({4, 8}), first));
      if (step > 0) {  // the first step only observes the order
        hidden.register_hook([planted, third](const at::Tensor&) {
          let_the_engine_work();
          if (planted) third.grad().data_ptr<float>()[0] += 1;
        });
      }
      at::matmul(at::tanh(at::matmul(hidden, second)), third).sum().backward();
      reducer.synchronize();
    }
  });
}

class Average final : public Compressor {
 public:
  Exchange exchange(Bucket& bucket, StepContext) override {
    co_await all_reduce(bucket.storage, ReduceOp::average);
  }
};

// ready() comes before the last number has been written.
void announce_early() {
  run_local(2, [](Context& context) {
    ParameterInfo info;
    info.name = "weight";
    info.shape = {64};
    const auto channel = context.open_channel();
    Engine engine(allocate({{0}}, std::span(&info, 1)),
                  [](const Bucket&) { return std::make_unique<Average>(); }, *channel, {});
    float* gradient = engine.bucket(0).grads.data_ptr<float>();
    for (int i = 0; i < 63; ++i) gradient[i] = 1;
    engine.ready(0);
    let_the_engine_work();
    gradient[63] = 1;
    engine.synchronize();
  });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc == 2 ? argv[1] : "";
  if (name == "clean") {
    train(false);
  } else if (name == "hook") {
    train(true);
  } else if (name == "early-ready") {
    announce_early();
  } else {
    std::fputs("usage: planted clean|hook|early-ready\n", stderr);
    return 2;
  }
}
