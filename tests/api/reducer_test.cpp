// GradientReducer and DistributedOptimizer: hooks, aliasing, missing gradients, accumulation, guards,
// clipping.
#include <torch/torch.h>

#include <optional>

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

torch::Tensor loss_of(Mlp& model, std::uint64_t seed) {
  return model->forward(numbers(seed, {4, 6})).pow(2).mean();
}

// Gradients of the mean loss over the ranks, computed by one process.
std::vector<torch::Tensor> reference_gradients(int ranks, std::uint64_t step) {
  Mlp model = make_mlp();
  torch::Tensor total = torch::zeros({});
  for (int r = 0; r < ranks; ++r) total = total + loss_of(model, 100 * step + static_cast<std::uint64_t>(r));
  (total / ranks).backward();
  std::vector<torch::Tensor> grads;
  for (auto& p : model->parameters()) grads.push_back(p.grad());
  return grads;
}

bool gradients_are(Mlp& model, const std::vector<torch::Tensor>& expected, double tolerance = 1e-6) {
  auto parameters = model->parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (!torch::allclose(parameters[i].grad(), expected[i], tolerance, tolerance)) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("gradients become their mean over the ranks", "[api][reducer]") {
  const int ranks = GENERATE(1, 2, 3);
  const double fusion = GENERATE(0.0, 0.0002, 25.0);
  const bool overlap = GENERATE(true, false);
  run_local(ranks, [&](Context& context) {
    Mlp model = make_mlp();
    GradientReducer reducer(named_tensors(model->named_parameters()),
                            Options().fusion_mb(fusion).overlap(overlap));
    for (std::uint64_t step = 0; step < 4; ++step) {
      model->zero_grad(step % 2 == 0);  // to none, or zeroed in place: the alias must allow it
      loss_of(model, 100 * step + static_cast<std::uint64_t>(context.rank())).backward();
      reducer.synchronize();
      require(gradients_are(model, reference_gradients(ranks, step)), "mean at step " + std::to_string(step));
    }
    require(reducer.statistics().steps == 4, "four reductions counted");
  });
}

TEST_CASE("without hooks, reduce() averages what is in .grad", "[api][reducer]") {
  run_local(2, [](Context& context) {
    Mlp model = make_mlp();
    GradientReducer reducer(named_tensors(model->named_parameters()), Options().hooks(false));
    for (std::uint64_t step = 0; step < 3; ++step) {
      model->zero_grad();
      loss_of(model, 100 * step + static_cast<std::uint64_t>(context.rank())).backward();
      reducer.reduce();
      require(gradients_are(model, reference_gradients(2, step)), "mean");
    }
  });
}

TEST_CASE("after planning .grad shares the bucket's storage and is no view", "[api][reducer]") {
  run_local(2, [](Context& context) {
    Mlp model = make_mlp();
    GradientReducer reducer(named_tensors(model->named_parameters()));
    std::vector<void*> places;
    for (std::uint64_t step = 0; step < 3; ++step) {
      model->zero_grad();
      loss_of(model, step + static_cast<std::uint64_t>(context.rank())).backward();
      reducer.synchronize();
      std::vector<void*> now;
      for (auto& p : model->parameters()) {
        now.push_back(p.grad().data_ptr());
        require(!p.grad().is_view(), "grad is a view");
      }
      if (step > 0) require(now == places, "the place of a gradient moved");
      places = now;
    }
    model->zero_grad(false);
    require(model->parameters()[0].grad().abs().sum().item<float>() == 0, "zeroed in place");
  });
}

TEST_CASE("a parameter that one rank does not use counts as zeros there", "[api][reducer]") {
  run_local(2, [](Context& context) {
    torch::Tensor shared = torch::ones({3}, torch::requires_grad());
    torch::Tensor sometimes = torch::ones({3}, torch::requires_grad());
    GradientReducer reducer({{"shared", shared}, {"sometimes", sometimes}});
    for (int step = 0; step < 3; ++step) {
      shared.mutable_grad().reset();
      sometimes.mutable_grad().reset();
      torch::Tensor loss = shared.sum();
      if (context.rank() == 0) loss = loss + 4 * sometimes.sum();
      loss.backward();
      reducer.synchronize();
      require(torch::equal(shared.grad(), torch::ones({3})), "shared");
      require(torch::equal(sometimes.grad(), torch::full({3}, 2.0)), "sometimes");
    }
  });
}

TEST_CASE("a parameter that no rank used keeps what it had", "[api][reducer]") {
  const std::string compressor = GENERATE("none", "acpsgd:rank=1", "powersgd:rank=1,min_rate=0.1");
  run_local(2, [&](Context&) {
    torch::Tensor used = torch::ones({4, 4}, torch::requires_grad());
    torch::Tensor unused = torch::ones({4, 4}, torch::requires_grad());
    GradientReducer reducer({{"used", used}, {"unused", unused}}, Options().compressor(compressor));
    used.sum().backward();
    reducer.synchronize();
    require(!unused.grad().defined(), "an undefined gradient stays so in the first step");

    (used.sum() + unused.sum()).backward();
    reducer.synchronize();
    const torch::Tensor kept = unused.grad().clone();
    used.mutable_grad().reset();
    used.sum().backward();  // .grad of the other still holds the last step's
    reducer.synchronize();
    require(torch::equal(unused.grad(), kept), "a defined gradient keeps its value");
    unused.mutable_grad().reset();
    used.sum().backward();
    reducer.synchronize();
    require(!unused.grad().defined(), "an undefined gradient stays so");
  });
}

TEST_CASE("a rank without any gradient takes part", "[api][reducer]") {
  run_local(3, [](Context& context) {
    torch::Tensor w = torch::ones({5}, torch::requires_grad());
    GradientReducer reducer({{"w", w}});
    for (int step = 0; step < 3; ++step) {
      w.mutable_grad().reset();
      if (context.rank() != 1) (3 * w.sum()).backward();
      reducer.synchronize();
      require(torch::allclose(w.grad(), torch::full({5}, 2.0)), "mean of 3, nothing, 3");
    }
  });
}

TEST_CASE("tied weights are one parameter, known by the first name, stepped once", "[api][reducer]") {
  run_local(2, [](Context&) {
    torch::Tensor w = torch::ones({2, 2}, torch::requires_grad());
    DistributedOptimizer optimizer(SGD(std::vector<torch::Tensor>{w, w}, SGDOptions(0.5)),
                                   NamedTensors{{"encoder.weight", w}, {"decoder.weight", w}});
    require(optimizer.reducer().names() == std::vector<std::string>{"encoder.weight"}, "one name");
    w.sum().backward();
    optimizer.step();
    require(torch::allclose(w, torch::full({2, 2}, 0.5)), "stepped once");
  });
}

TEST_CASE("sparse and non-contiguous gradients find their place", "[api][reducer]") {
  run_local(2, [](Context& context) {
    torch::nn::Embedding embedding(torch::nn::EmbeddingOptions(5, 3).sparse(true));
    torch::Tensor w =
        torch::ones({2, 3, 4, 4}).contiguous(torch::MemoryFormat::ChannelsLast).requires_grad_();
    GradientReducer reducer({{"embedding", embedding->weight}, {"w", w}});
    const torch::Tensor factor = numbers(7, {2, 3, 4, 4});
    for (int step = 0; step < 3; ++step) {
      embedding->weight.mutable_grad().reset();
      w.mutable_grad().reset();
      const torch::Tensor index = torch::tensor({context.rank()});
      (embedding->forward(index).sum() + (w * factor).sum()).backward();
      reducer.synchronize();
      torch::Tensor expected = torch::zeros({5, 3});
      expected.narrow(0, 0, 2).fill_(0.5);
      require(torch::allclose(embedding->weight.grad(), expected), "embedding");
      require(torch::allclose(w.grad(), factor), "channels last");
    }
  });
}

TEST_CASE("several backward passes per step add up", "[api][reducer]") {
  run_local(2, [](Context& context) {
    torch::Tensor w = torch::ones({3}, torch::requires_grad());
    GradientReducer reducer({{"w", w}}, Options().backward_passes_per_step(3));
    for (int step = 0; step < 3; ++step) {
      w.mutable_grad().reset();
      for (int pass = 0; pass < 3; ++pass) ((pass + 1) * (context.rank() + 1) * w.sum()).backward();
      reducer.synchronize();
      require(torch::allclose(w.grad(), torch::full({3}, 9.0)), "mean of 6 and 12");
    }
    require(reducer.statistics().steps == 3, "one reduction for three passes");
  });
}

TEST_CASE("no_sync() adds up locally; the next pass reduces all of it", "[api][reducer]") {
  run_local(2, [](Context& context) {
    torch::Tensor w = torch::ones({3}, torch::requires_grad());
    GradientReducer reducer({{"w", w}});
    for (int step = 0; step < 3; ++step) {
      w.mutable_grad().reset();
      {
        const auto guard = reducer.no_sync();
        ((context.rank() + 1) * w.sum()).backward();
      }
      require(torch::allclose(w.grad(), torch::full({3}, context.rank() + 1.0)), "local so far");
      ((context.rank() + 1) * w.sum()).backward();
      reducer.synchronize();
      require(torch::allclose(w.grad(), torch::full({3}, 3.0)), "mean of 2 and 4");
    }
  });
}

TEST_CASE("step() reduces once: synchronize, clip, step", "[api][optimizer]") {
  run_local(2, [](Context& context) {
    torch::Tensor w = torch::zeros({4}, torch::requires_grad());
    DistributedOptimizer optimizer(SGD(std::vector<torch::Tensor>{w}, SGDOptions(1.0)),
                                   NamedTensors{{"w", w}});
    for (int step = 0; step < 3; ++step) {
      optimizer.zero_grad();
      (2.0 * context.rank() * w.sum()).backward();  // mean gradient 1, norm 2
      optimizer.synchronize();
      torch::nn::utils::clip_grad_norm_({w}, 1.0);
      optimizer.step();
      require(torch::allclose(w, torch::full({4}, -0.5 * (step + 1)), 1e-4), "clipped mean");
    }
    require(optimizer.reducer().statistics().steps == 3, "one reduction a step");
  });
}

TEST_CASE("skip_synchronize() steps with local gradients if nothing was reduced", "[api][optimizer]") {
  run_local(2, [](Context& context) {
    torch::Tensor w = torch::zeros({2}, torch::requires_grad());
    DistributedOptimizer optimizer(SGD(std::vector<torch::Tensor>{w}, SGDOptions(1.0)),
                                   NamedTensors{{"w", w}});
    for (int step = 0; step < 2; ++step) {
      optimizer.zero_grad();
      const auto guard = optimizer.skip_synchronize();
      ((context.rank() + 1) * w.sum()).backward();
      optimizer.step();
    }
    require(torch::allclose(w, torch::full({2}, -2.0 * (context.rank() + 1))), "local steps");

    optimizer.zero_grad();
    w.sum().backward();
    const auto guard = optimizer.skip_synchronize();
    const std::string message = message_of<Error>([&] { optimizer.step(); });
    require(message.find("on their way already") != std::string::npos, "gradients under way: " + message);
  });
}

TEST_CASE("a second gradient before step() is an error that names the parameter", "[api][optimizer]") {
  enum class Guard { none, no_sync, skip };
  const Guard guard = GENERATE(Guard::none, Guard::no_sync, Guard::skip);
  const int steps_before = GENERATE(0, 1);  // without a plan, and with buckets that are on their way
  const bool synchronized = GENERATE(false, true);
  run_local(2, [&](Context&) {
    torch::Tensor w = torch::zeros({2}, torch::requires_grad());
    DistributedOptimizer optimizer(SGD(std::vector<torch::Tensor>{w}, SGDOptions(1.0)),
                                   NamedTensors{{"fc.w", w}});
    for (int i = 0; i < steps_before; ++i) {
      optimizer.zero_grad();
      w.sum().backward();
      optimizer.step();
    }
    optimizer.zero_grad();
    w.sum().backward();
    if (synchronized) optimizer.synchronize();
    const torch::Tensor before = w.detach().clone();
    const std::string message = message_of<Error>([&] {
      std::optional<GradientReducer::NoSync> no_sync;
      std::optional<GradientReducer::SkipSynchronize> skip;
      if (guard == Guard::no_sync) no_sync.emplace(optimizer.no_sync());
      if (guard == Guard::skip) skip.emplace(optimizer.skip_synchronize());
      w.sum().backward();
    });
    require(message.find("\"fc.w\"") != std::string::npos, "names it: " + message);
    require(message.find("backward_passes_per_step") != std::string::npos, "says what to do: " + message);
    require(message.find("no_sync") != std::string::npos, "says what to do: " + message);
    require(message_of<Error>([&] { optimizer.step(); }) == message, "and the step does not happen");
    require(torch::equal(w, before), "the parameters are as they were");
  });
}

TEST_CASE("clip_local() clips before the reduction", "[api][reducer]") {
  run_local(2, [](Context& context) {
    torch::Tensor a = torch::zeros({9}, torch::requires_grad());
    torch::Tensor b = torch::zeros({16}, torch::requires_grad());
    GradientReducer reducer({{"a", a}, {"b", b}}, Options().clip_local(1.0).fusion_mb(0));
    for (int step = 0; step < 2; ++step) {
      a.mutable_grad().reset();
      b.mutable_grad().reset();
      const double scale = context.rank() == 0 ? 1.0 : 0.1;  // local norms 5 and 0.5
      (scale * (a.sum() + b.sum())).backward();
      reducer.synchronize();
      require(torch::allclose(a.grad(), torch::full({9}, (0.2 + 0.1) / 2)),
              "mean of a clipped and an unclipped");
    }
  });
}

TEST_CASE("wrong sets of parameters are refused by name", "[api][optimizer]") {
  run_local(1, [](Context&) {
    torch::Tensor a = torch::zeros({2}, torch::requires_grad());
    torch::Tensor b = torch::zeros({3}, torch::requires_grad());
    const auto sgd = [](std::vector<torch::Tensor> p) { return SGD(std::move(p), SGDOptions(0.1)); };
    const auto contains = [](const std::string& text, const std::string& part) {
      require(text.find(part) != std::string::npos, "\"" + part + "\" in: " + text);
    };
    contains(message_of<ConfigError>([&] {
               DistributedOptimizer o(sgd({a, b}), NamedTensors{{"a", a}});
             }),
             "parameter 1 of group 0, of shape [3]");
    contains(message_of<ConfigError>([&] {
               DistributedOptimizer o(sgd({a}), NamedTensors{{"a", a}, {"b", b}});
             }),
             "\"b\" is named but the optimizer does not have it");
    contains(message_of<ConfigError>([&] {
               GradientReducer r({{"same", a}, {"same", b}});
             }),
             "two parameters are named \"same\"");
    GradientReducer holder(NamedTensors{{"a", a}});
    contains(message_of<ConfigError>([&] { GradientReducer r({{"a", a}}); }), "\"a\" already has");
    const torch::Tensor frozen = torch::zeros({2});
    contains(message_of<ConfigError>([&] { GradientReducer r({{"frozen", frozen}}); }), "nothing to reduce");
    contains(message_of<ConfigError>([&] {
               GradientReducer r({{"b", b}}, Options().compressor("acpsdg"));
             }),
             "acpsgd");
  });
}

TEST_CASE("destroying the reducer empties the hook slots; the model may outlive it", "[api][reducer]") {
  run_local(2, [](Context&) {
    torch::Tensor w = torch::zeros({2}, torch::requires_grad());
    for (int again = 0; again < 3; ++again) {
      GradientReducer reducer({{"w", w}});
      w.sum().backward();
      reducer.synchronize();
    }
    w.sum().backward();
  });
}

TEST_CASE("ranks whose models or settings differ are told at construction", "[api][reducer]") {
  std::array<std::string, 3> messages;
  run_local(3, [&](Context& context) {
    Mlp model = context.rank() == 2 ? make_mlp(1, {6, 8, 9, 3}) : make_mlp();
    messages[static_cast<std::size_t>(context.rank())] =
        message_of<ConfigError>([&] { GradientReducer r(named_tensors(model->named_parameters())); });
  });
  CHECK_THAT(messages[0], ContainsSubstring("layer1.weight [7, 8]"));
  CHECK_THAT(messages[0], ContainsSubstring("layer1.weight [9, 8]"));
  CHECK_THAT(messages[0], ContainsSubstring("on rank 2"));
  CHECK(messages[1] == messages[0]);
  CHECK(messages[2] == messages[0]);
  run_local(2, [&](Context& context) {
    Mlp model = make_mlp();
    messages[static_cast<std::size_t>(context.rank())] = message_of<ConfigError>([&] {
      GradientReducer r(named_tensors(model->named_parameters()), Options().fusion_mb(context.rank() + 1));
    });
  });
  CHECK_THAT(messages[1], ContainsSubstring("fusion_mb=1"));
  CHECK_THAT(messages[1], ContainsSubstring("fusion_mb=2"));
}

TEST_CASE("state survives a restart: the same gradients as without one", "[api][reducer]") {
  const std::string compressor = GENERATE("acpsgd:rank=2", "powersgd:rank=2,min_rate=0.1");
  run_local(2, [&](Context& context) {
    const auto gradients = [&](int from, int to, GradientReducer& reducer, Mlp& model) {
      for (int step = from; step < to; ++step) {
        model->zero_grad();
        loss_of(model, 100U * static_cast<unsigned>(step) + static_cast<unsigned>(context.rank())).backward();
        reducer.synchronize();
      }
      std::vector<torch::Tensor> result;
      for (auto& p : model->parameters()) result.push_back(p.grad().clone());
      return result;
    };
    const auto options = Options().compressor(compressor).fusion_mb(0.0001);
    std::vector<torch::Tensor> whole;
    State saved;
    {
      Mlp model = make_mlp();
      GradientReducer reducer(named_tensors(model->named_parameters()), options);
      gradients(0, 5, reducer, model);
      saved = reducer.state();
      whole = gradients(5, 8, reducer, model);
    }
    const double other_fusion = 25;
    for (const bool replanned : {false, true}) {
      Mlp model = make_mlp();
      GradientReducer reducer(named_tensors(model->named_parameters()),
                              replanned ? Options(options).fusion_mb(other_fusion) : options);
      reducer.load_state(saved);
      const auto resumed = gradients(5, 8, reducer, model);
      for (std::size_t i = 0; i < whole.size(); ++i) {
        if (replanned) {
          require(torch::allclose(whole[i], resumed[i], 1e-4, 1e-6), "after another plan");
        } else {
          require(torch::equal(whole[i], resumed[i]), "bit-identical with the same plan");
        }
      }
    }
  });
}
