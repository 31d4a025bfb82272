// What a reducer says of its work: reductions of this process, steps of the run, bytes to the last one.
#include <torch/torch.h>

#include <mutex>

#include "acp/gradient_reducer.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

using namespace acp;
using namespace acp::test;

namespace {

// The steps of the events of one kind.
class StepLog {
 public:
  explicit StepLog(Event::Kind kind) : kind_(kind) {}
  EventSink sink() {
    return [this](const Event& e) {
      const std::lock_guard lock(mutex_);
      if (e.kind == kind_) steps_.push_back(e.step);
    };
  }
  std::vector<std::uint64_t> steps() const {
    const std::lock_guard lock(mutex_);
    return steps_;
  }

 private:
  const Event::Kind kind_;
  mutable std::mutex mutex_;
  std::vector<std::uint64_t> steps_;
};

void train(Mlp& model, GradientReducer& reducer, int steps) {
  for (int step = 0; step < steps; ++step) {
    model->zero_grad();
    model->forward(numbers(static_cast<std::uint64_t>(step), {4, 6})).pow(2).mean().backward();
    reducer.synchronize();
  }
}

std::uint64_t bytes_of(const Mlp& model) {
  std::uint64_t bytes = 0;
  for (const auto& p : model->parameters()) bytes += p.nbytes();
  return bytes;
}

// What rank r of n sends in a ring all-reduce of so many floats, which are cut into n chunks, the first ones
// an element longer where n does not divide them: it passes on every chunk but its own while they are added
// up, and every chunk but its right neighbour's while the sums go round.
std::uint64_t ring_bytes(std::int64_t elements, int r, int n) {
  const auto chunk = [&](int i) { return elements / n + (i % n < elements % n ? 1 : 0); };
  return 4 * static_cast<std::uint64_t>(2 * elements - chunk(r) - chunk(r + 1));
}

}  // namespace

TEST_CASE("after a resume statistics count this process alone, events go on", "[api][statistics]") {
  run_local(2, [](Context&) {
    const double fusion = 0.0001;
    State saved;
    {
      Mlp model = make_mlp();
      GradientReducer reducer(named_tensors(model->named_parameters()), Options().fusion_mb(fusion));
      train(model, reducer, 5);
      saved = reducer.state();
    }
    for (const bool replanned : {false, true}) {
      for (const Event::Kind kind :
           {Event::Kind::backward_begin, Event::Kind::encode, Event::Kind::synchronize}) {
        Mlp model = make_mlp();
        StepLog log(kind);
        GradientReducer reducer(named_tensors(model->named_parameters()),
                                Options().fusion_mb(replanned ? 25 : fusion).events(log.sink()));
        reducer.load_state(saved);
        require(reducer.statistics().steps == 0, "nothing reduced yet");
        train(model, reducer, 3);
        const auto s = reducer.statistics();
        require(s.steps == 3, "three reductions, not " + std::to_string(s.steps));
        require(s.dense_bytes == 3 * bytes_of(model), "dense bytes of three reductions");
        require(s.payload_bytes == s.dense_bytes, "ratio 1 without compression");
        auto steps = log.steps();
        steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
        require(steps == std::vector<std::uint64_t>{5, 6, 7}, "steps of the run in events");

        reducer.load_state(saved);  // back, between steps
        train(model, reducer, 1);
        require(reducer.statistics().steps == 4, "four reductions");
        require(log.steps().back() == 5, "the step that was loaded");
      }
    }
  });
}

TEST_CASE("bytes sent are those of the exchanges, from the first step on", "[api][statistics]") {
  for (const int ranks : {1, 2, 3}) {
    for (const double fusion : {0.0, 25.0}) {
      run_local(ranks, [&](Context& context) {
        Mlp model = make_mlp();
        GradientReducer reducer(named_tensors(model->named_parameters()),
                                Options().fusion_mb(fusion).algorithm("ring"));
        // Every message carries one element more, the count of missing gradients.
        std::uint64_t each = 0;
        std::int64_t all = 0;
        for (const auto& p : model->parameters()) {
          all += p.numel();
          if (fusion == 0) each += ring_bytes(p.numel() + 1, context.rank(), ranks);
        }
        if (fusion > 0) each = ring_bytes(all + 1, context.rank(), ranks);
        if (ranks == 1) each = 0;
        for (std::uint64_t step = 1; step <= 3; ++step) {
          const double before = reducer.traffic().seconds;
          train(model, reducer, 1);
          require(reducer.traffic().seconds > before, "collectives take time");
          reducer.mean(torch::ones({}));  // of a loss: no gradient
          const auto sent = reducer.traffic().bytes_sent;
          require(sent == step * each, std::to_string(sent) + " bytes after step " + std::to_string(step) +
                                           ", not " + std::to_string(step * each));
        }
      });
    }
  }
}
