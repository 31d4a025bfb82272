// Overlap and independence: communication starts inside the backward pass, and channels never mix.
#include <torch/torch.h>

#include <condition_variable>
#include <mutex>
#include <random>

#include "acp/broadcast.h"
#include "acp/collectives.h"
#include "acp/context.h"
#include "acp/distributed_optimizer.h"
#include "tests/api/toy.h"
#include "tests/catch.h"
#include "tests/support/process_context.h"

using namespace acp;
using namespace acp::test;
using namespace std::chrono_literals;

namespace {

// Every event, in the order in which it happened, and a way to wait for one.
class EventLog {
 public:
  EventSink sink() {
    return [this](const Event& e) {
      const std::lock_guard lock(mutex_);
      events_.push_back(e);
      changed_.notify_all();
    };
  }
  bool wait_for(Event::Kind kind, int bucket, std::uint64_t step) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 60s, [&] { return find(kind, bucket, step) < events_.size(); });
  }
  std::size_t position(Event::Kind kind, int bucket, std::uint64_t step) {
    const std::lock_guard lock(mutex_);
    return find(kind, bucket, step);
  }

 private:
  std::size_t find(Event::Kind kind, int bucket, std::uint64_t step) const {
    std::size_t i = 0;
    while (i < events_.size() &&
           !(events_[i].kind == kind && events_[i].bucket == bucket && events_[i].step == step)) {
      ++i;
    }
    return i;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Event> events_;
};

// The identity, whose backward runs a function first.
struct Gate : torch::autograd::Function<Gate> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               std::function<void()>* opened) {
    context->saved_data["opened"] = reinterpret_cast<std::int64_t>(opened);
    return x.clone();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    (*reinterpret_cast<std::function<void()>*>(context->saved_data["opened"].toInt()))();
    return {grads[0], torch::Tensor()};
  }
};

}  // namespace

TEST_CASE("a bucket's communication starts before the backward pass ends", "[api][overlap]") {
  run_local(2, [](Context&) {
    EventLog log;
    Mlp model = make_mlp(1, {6, 8, 8, 8, 3});
    // After the first layer in the order of backward: its gradients cannot arrive before the gate opens.
    GradientReducer reducer(named_tensors(model->named_parameters()),
                            Options().fusion_mb(0).events(log.sink()));
    for (std::uint64_t step = 0; step < 3; ++step) {
      model->zero_grad();
      bool seen = true;
      std::function<void()> gate = [&] {
        if (step > 0) seen = log.wait_for(Event::Kind::collective_start, 0, step);
      };
      torch::Tensor x = model->layers[0]->forward(numbers(step, {4, 6}));
      x = Gate::apply(x, &gate);
      for (std::size_t i = 1; i < model->layers.size(); ++i) x = model->layers[i]->forward(torch::tanh(x));
      x.pow(2).mean().backward();
      require(seen, "the engine started the last layers' collective while the first layer waited");
      reducer.synchronize();
      if (step == 0) continue;
      const auto none = log.position(Event::Kind::backward_end, 99, 99);  // = number of events: «not there»
      const auto first = log.position(Event::Kind::collective_start, 0, step);
      const auto end = log.position(Event::Kind::backward_end, -1, step);
      require(first < end && end < none, "order of events");
      require(log.position(Event::Kind::collective_start, 7, step) < none, "eight buckets took part");
    }
  });
}

TEST_CASE("without overlap nothing is sent before the backward pass has ended", "[api][overlap]") {
  run_local(2, [](Context&) {
    EventLog log;
    Mlp model = make_mlp(1, {6, 8, 8, 8, 3});
    GradientReducer reducer(named_tensors(model->named_parameters()),
                            Options().fusion_mb(0).overlap(false).events(log.sink()));
    for (std::uint64_t step = 0; step < 3; ++step) {
      model->zero_grad();
      model->forward(numbers(step, {4, 6})).pow(2).mean().backward();
      reducer.synchronize();
      require(log.position(Event::Kind::backward_end, -1, step) <
                  log.position(Event::Kind::collective_start, 0, step),
              "backward first");
    }
  });
}

// Shared with the tests under mpirun and over tcp: the user's own all-reduce between backward() and step(),
// with delays that differ between ranks, and two models whose backward passes interleave.
namespace acp::test {

void interleaved_training(Context& context) {
  std::mt19937 random(17U + static_cast<unsigned>(context.rank()));
  const auto dawdle = [&] { std::this_thread::sleep_for(std::chrono::microseconds(random() % 800)); };
  const auto n = static_cast<double>(context.size());

  Mlp one = make_mlp(1, {6, 16, 16, 3});
  Mlp two = make_mlp(2, {6, 12, 3});
  using torch::optim::SGD;
  using torch::optim::SGDOptions;
  DistributedOptimizer first(SGD(one->parameters(), SGDOptions(0.01)), one->named_parameters(),
                             Options().fusion_mb(0));
  DistributedOptimizer second(SGD(two->parameters(), SGDOptions(0.01)), two->named_parameters(),
                              Options().fusion_mb(0).compressor("powersgd:rank=1,min_rate=0.1"));
  for (int step = 0; step < 25; ++step) {
    first.zero_grad();
    second.zero_grad();
    const torch::Tensor x = numbers(static_cast<std::uint64_t>(1000 * step + context.rank()), {4, 6});
    const torch::Tensor loss_one = one->forward(x).pow(2).mean();
    const torch::Tensor loss_two = two->forward(x).pow(2).mean();
    dawdle();
    loss_one.backward();
    dawdle();
    const torch::Tensor sum = all_reduce(torch::full({5}, context.rank() + 1.0), ReduceOp::sum);
    require(torch::allclose(sum, torch::full({5}, n * (n + 1) / 2)),
            "the user's sum, between two backward passes");
    loss_two.backward();
    dawdle();
    const torch::Tensor mean = all_reduce(torch::full({1}, static_cast<double>(step + context.rank())));
    require(torch::allclose(mean, torch::full({1}, step + (n - 1) / 2)), "the user's mean, before step()");
    if (step % 2 == 0) {
      first.step();
      second.step();
    } else {
      second.step();
      first.step();
    }
  }
  check_parameters_agree(*one);
  check_parameters_agree(*two);
}

}  // namespace acp::test

TEST_CASE("the user's collectives and a second optimizer never mix with the first", "[api][overlap]") {
  const int ranks = GENERATE(2, 3);
  run_local(ranks, [](Context& context) { interleaved_training(context); });
}

// Under mpirun, or a launcher that sets RANK and WORLD_SIZE.
TEST_CASE("the user's collectives and a second optimizer never mix with the first: processes",
          "[api-mpi][overlap]") {
  Context& context = acp::test::process_context();
  try {
    interleaved_training(context);
  } catch (...) {
    context.abort(std::current_exception());  // else the others would wait for their deadline
    throw;
  }
}
