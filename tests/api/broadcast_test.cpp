// Broadcasts of models, optimizers and objects, and the comparison of parameters.
#include "acp/broadcast.h"

#include <nlohmann/json.hpp>

#include "acp/collectives.h"
#include "acp/distributed_optimizer.h"
#include "comm/error.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

using namespace acp;
using namespace acp::test;

namespace {

// A network with buffers, tied weights and a parameter larger than one message.
struct NetImpl : torch::nn::Module {
  explicit NetImpl(int rank, std::int64_t wide = 4) {
    first = register_module("first", torch::nn::Linear(3, wide));
    norm = register_module("norm", torch::nn::BatchNorm1d(4));
    twin = register_module("twin", torch::nn::Linear(3, 4));
    twin->weight = twin->register_parameter("tied", torch::empty({4, 3}));
    half = register_parameter("half", torch::empty({5}, at::kHalf));
    const torch::NoGradGuard no_grad;
    for (auto& p : parameters()) p.fill_(rank + 1);
    for (auto& b : buffers()) b.fill_(rank + 2);
    scalar = register_parameter("scalar", torch::tensor(rank + 0.5));
  }
  torch::nn::Linear first{nullptr}, twin{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
  torch::Tensor half, scalar;
};
TORCH_MODULE(Net);

// Runs `body` on `n` ranks and returns what each threw as `Failure`, or "".
template <class Failure>
std::vector<std::string> failures(int n, const std::function<void(Context&)>& body) {
  std::vector<std::string> messages(static_cast<std::size_t>(n));
  run_local(n, [&](Context& context) {
    messages[static_cast<std::size_t>(context.rank())] = message_of<Failure>([&] { body(context); });
    barrier();  // the channel is as good as before
  });
  return messages;
}

// A gradient and a step, which leave the optimizer with state.
template <class Optimizer>
void step(Optimizer& optimizer, Mlp& model, float factor = 1) {
  const auto closure = [&] {
    optimizer.zero_grad();
    torch::Tensor loss = (model->forward(numbers(3, {4, 6})) * factor).pow(2).mean();
    loss.backward();
    return loss;
  };
  optimizer.step(closure);
}

torch::Tensor trained(Mlp& model) {
  return flatten(model->parameters());
}

// After the broadcast the ranks' optimizers do the same, although rank 0 alone had made steps before.
template <class Make>
void continues_as_rank_0(Make make, int steps_before) {
  std::array<torch::Tensor, 2> results;
  run_local(2, [&](Context& context) {
    Mlp model = make_mlp(7);
    auto optimizer = make(model->parameters(), context.rank());
    for (int i = 0; i < steps_before && context.rank() == 1; ++i) step(optimizer, model, 2.0F);
    broadcast_parameters(*model, 1);
    broadcast_optimizer_state(optimizer, 1);
    for (int i = 0; i < 3; ++i) step(optimizer, model);
    results[static_cast<std::size_t>(context.rank())] = trained(model);
  });
  CHECK(torch::equal(results[0], results[1]));

  // The same without a broadcast, so that the state does matter.
  Mlp model = make_mlp(7);
  auto optimizer = make(model->parameters(), 1);
  for (int i = 0; i < steps_before; ++i) step(optimizer, model, 2.0F);
  for (int i = 0; i < 3; ++i) step(optimizer, model);
  CHECK(torch::equal(results[0], trained(model)));
}

struct NoOptions : torch::optim::OptimizerCloneableOptions<NoOptions> {};

// A user's optimizer: gradient descent that counts, with or without save() and load().
template <bool saves>
class Counting : public torch::optim::Optimizer {
 public:
  struct CountState : torch::optim::OptimizerCloneableParamState<CountState> {
    std::int64_t count = 0;
  };
  explicit Counting(std::vector<at::Tensor> parameters)
      : Optimizer(std::move(parameters), std::make_unique<NoOptions>()) {}
  at::Tensor step(LossClosure closure) override {
    const at::Tensor loss = closure();
    for (auto& p : param_groups()[0].params()) {
      auto& entry = state()[p.unsafeGetTensorImpl()];
      if (!entry) entry = std::make_unique<CountState>();
      ++static_cast<CountState&>(*entry).count;
    }
    return loss;
  }
  std::int64_t count() {
    return state().empty() ? 0 : static_cast<CountState&>(*state().begin()->second).count;
  }
  void save(torch::serialize::OutputArchive& archive) const override {
    if constexpr (saves) {
      const auto n = state().empty() ? 0 : static_cast<CountState&>(*state().begin()->second).count;
      archive.write("count", torch::tensor(n));
    }
  }
  void load(torch::serialize::InputArchive& archive) override {
    if constexpr (saves) {
      torch::Tensor n;
      archive.read("count", n);
      if (n.item<std::int64_t>() == 0) return;
      for (auto& p : param_groups()[0].params()) {
        auto entry = std::make_unique<CountState>();
        entry->count = n.item<std::int64_t>();
        state()[p.unsafeGetTensorImpl()] = std::move(entry);
      }
    }
  }
};

}  // namespace

TEST_CASE("broadcast_parameters: parameters and buffers of the root, whatever their type",
          "[api][broadcast]") {
  for (const int root : {0, 2}) {
    run_local(3, [&](Context& context) {
      Net net(context.rank());
      broadcast_parameters(*net, root);
      for (const auto& item : net->named_parameters()) {
        const double expected = item.key() == "scalar" ? root + 0.5 : root + 1;
        require(item.value().to(at::kDouble).eq(expected).all().item<bool>(), item.key());
        require(item.value().requires_grad(), item.key() + " still requires a gradient");
      }
      for (const auto& item : net->named_buffers()) {
        require(item.value().eq(root + 2).all().item<bool>(), item.key());
      }
      require(net->norm->num_batches_tracked.scalar_type() == at::kLong, "types stay");
    });
  }
}

TEST_CASE("broadcast_parameters: lists, views, large tensors and tied ones", "[api][broadcast]") {
  run_local(2, [](Context& context) {
    const auto value = static_cast<float>(context.rank());
    const torch::Tensor large = torch::full({9'000'000}, value);  // above one message
    const torch::Tensor base = torch::full({4, 6}, value);
    const torch::Tensor tied = torch::full({3}, value);
    broadcast_parameters(NamedTensors{{"small", torch::full({2}, value)},
                                      {"large", large},
                                      {"view", base.t()},
                                      {"tied", tied},
                                      {"again", tied},
                                      {"none", torch::Tensor()},
                                      {"empty", torch::empty({0})}},
                         1);
    require(large.eq(1).all().item<bool>(), "large");
    require(base.eq(1).all().item<bool>(), "through a view");
    require(tied.eq(1).all().item<bool>(), "tied");
    broadcast_parameters(NamedTensors{});
  });
}

TEST_CASE("broadcast_parameters: models that differ", "[api][broadcast]") {
  const auto wide = failures<ConfigError>(3, [](Context& context) {
    Net net(0, context.rank() == 2 ? 5 : 4);
    broadcast_parameters(*net);
  });
  for (const auto& text : wide) {
    CHECK_THAT(text, ContainsSubstring("first.weight [4, 3] Float\" on ranks 0 and 1") &&
                         ContainsSubstring("first.weight [5, 3] Float\" on rank 2"));
  }
  const auto more = failures<ConfigError>(2, [](Context& context) {
    NamedTensors list{{"a", torch::ones({1})}};
    if (context.rank() == 1) list.emplace_back("b", torch::ones({2}));
    broadcast_parameters(list);
  });
  for (const auto& text : more) {
    CHECK_THAT(text,
               ContainsSubstring("parameter or buffer 1 is nothing (1 in all) on rank 0, \"b [2] Float\""));
  }
  const auto root = failures<ConfigError>(2, [](Context&) { broadcast_parameters(NamedTensors{}, 2); });
  CHECK(root[0] == "broadcast: root 2 is not one of the 2 ranks");
}

TEST_CASE("broadcast_optimizer_state: every optimizer of libtorch", "[api][broadcast]") {
  using torch::optim::Optimizer;
  const auto lr = [](int rank) { return rank == 1 ? 0.05 : 0.9; };  // options travel too
  using Parameters = std::vector<at::Tensor>;
  continues_as_rank_0(
      [&](Parameters p, int rank) {
        return torch::optim::SGD(std::move(p), torch::optim::SGDOptions(lr(rank)).momentum(0.9));
      },
      2);
  continues_as_rank_0([&](Parameters p, int rank) { return torch::optim::Adam(std::move(p), lr(rank)); }, 2);
  continues_as_rank_0([&](Parameters p, int rank) { return torch::optim::AdamW(std::move(p), lr(rank)); }, 2);
  continues_as_rank_0([&](Parameters p, int rank) { return torch::optim::RMSprop(std::move(p), lr(rank)); },
                      2);
  continues_as_rank_0([&](Parameters p, int rank) { return torch::optim::Adagrad(std::move(p), lr(rank)); },
                      2);
  continues_as_rank_0([&](Parameters p, int rank) { return torch::optim::LBFGS(std::move(p), lr(rank)); }, 0);
}

TEST_CASE("broadcast_optimizer_state: a root without state leaves the others without", "[api][broadcast]") {
  run_local(2, [](Context& context) {
    Mlp model = make_mlp();
    torch::optim::Adam optimizer(model->parameters(), 0.1);
    if (context.rank() == 1) step(optimizer, model);
    require(optimizer.state().empty() == (context.rank() == 0), "before");
    broadcast_optimizer_state(optimizer);
    require(optimizer.state().empty(), "after");
  });
}

TEST_CASE("broadcast_optimizer_state: a wrapped optimizer", "[api][broadcast]") {
  run_local(2, [](Context& context) {
    Mlp model = make_mlp();
    DistributedOptimizer optimizer(torch::optim::Adam(model->parameters(), context.rank() + 0.1),
                                   model->named_parameters());
    broadcast_optimizer_state(optimizer);
    require(optimizer.param_groups()[0].options().get_lr() == 0.1, "the root's learning rate");
  });
}

TEST_CASE("broadcast_optimizer_state: a user's optimizer by its save() and load()", "[api][broadcast]") {
  run_local(2, [](Context& context) {
    Mlp model = make_mlp();
    Counting<true> optimizer(model->parameters());
    if (context.rank() == 0) {
      for (int i = 0; i < 3; ++i) step(optimizer, model);
    }
    broadcast_optimizer_state(optimizer);
    require(optimizer.count() == 3, "the root's count");
  });
  const auto messages = failures<ConfigError>(2, [](Context& context) {
    Mlp model = make_mlp();
    Counting<false> optimizer(model->parameters());
    broadcast_optimizer_state(optimizer);  // nothing to lose yet
    if (context.rank() == 0) step(optimizer, model);
    broadcast_optimizer_state(optimizer);
  });
  for (const auto& text : messages) CHECK_THAT(text, ContainsSubstring("override save() and load()"));
}

TEST_CASE("broadcast_optimizer_state: what cannot be done is one clear line on every rank",
          "[api][broadcast]") {
  const auto lbfgs = failures<ConfigError>(2, [](Context&) {
    Mlp model = make_mlp();
    torch::optim::LBFGS optimizer(model->parameters(), 0.1);
    step(optimizer, model);
    broadcast_optimizer_state(optimizer);
  });
  for (const auto& text : lbfgs) {
    CHECK_THAT(text,
               ContainsSubstring("LBFGS cannot be saved") && ContainsSubstring("before its first step"));
    CHECK(text.find('\n') == std::string::npos);
  }
  CHECK_THAT(lbfgs[1], ContainsSubstring("rank 0"));

  const auto classes = failures<ConfigError>(2, [](Context& context) {
    Mlp model = make_mlp();
    torch::optim::SGD sgd(model->parameters(), 0.1);
    torch::optim::Adam adam(model->parameters(), 0.1);
    broadcast_optimizer_state(context.rank() == 0 ? static_cast<torch::optim::Optimizer&>(sgd) : adam);
  });
  for (const auto& text : classes) {
    CHECK_THAT(text, ContainsSubstring("torch::optim::SGD\" on rank 0") &&
                         ContainsSubstring("torch::optim::Adam\" on rank 1"));
  }
  const auto groups = failures<ConfigError>(2, [](Context& context) {
    Mlp model = make_mlp(1, {6, context.rank() + 2});
    torch::optim::SGD optimizer(model->parameters(), 0.1);
    broadcast_optimizer_state(optimizer);
  });
  for (const auto& text : groups) CHECK_THAT(text, ContainsSubstring("parameter 0.0 [2, 6] Float"));

  // A difference that only the rank sees that takes the bytes.
  const auto empty = failures<ConfigError>(3, [](Context& context) {
    Mlp model = make_mlp();
    std::vector<torch::optim::OptimizerParamGroup> parts{{model->parameters()}};
    if (context.rank() != 1) parts.emplace_back(std::vector<at::Tensor>{});
    torch::optim::SGD optimizer(parts, torch::optim::SGDOptions(0.1));
    broadcast_optimizer_state(optimizer);
  });
  for (const auto& text : empty) {
    CHECK_THAT(text, ContainsSubstring("does not fit the optimizer torch::optim::SGD"));
    CHECK(text.find('\n') == std::string::npos);
  }
  CHECK_THAT(empty[0], ContainsSubstring("rank 1"));
  CHECK_THAT(empty[2], ContainsSubstring("rank 1"));
}

TEST_CASE("broadcast_object and all_gather_object: bytes, numbers, structures, lists, JSON",
          "[api][broadcast]") {
  struct Place {
    int step;
    double loss;
    bool operator==(const Place&) const = default;
  };
  for (const int n : {1, 2, 3}) {
    run_local(n, [&](Context& context) {
      const int r = context.rank(), root = n - 1;
      require(broadcast_object(std::string(static_cast<std::size_t>(100 * r), 'a'), root) ==
                  std::string(static_cast<std::size_t>(100 * root), 'a'),
              "text");
      require(broadcast_object("rank " + std::to_string(r)) == "rank 0", "text");
      require(broadcast_object("a literal", root) == "a literal", "a literal");
      require(broadcast_object(r + 0.25, root) == root + 0.25, "a number");
      require(broadcast_object(Place{r, 0.5 * r}, root) == Place{root, 0.5 * root}, "a structure");
      const std::vector<std::int64_t> list(static_cast<std::size_t>(r), r);
      require(broadcast_object(list, root) == std::vector<std::int64_t>(static_cast<std::size_t>(root), root),
              "a list");
      const nlohmann::json json{{"rank", r}, {"list", {1, 2.5, nullptr}}, {"nan", r == 0}};
      require(broadcast_object(json, root).at("rank") == root, "JSON");
      require(broadcast_object(json).at("list").dump() == "[1,2.5,null]", "JSON");

      const auto texts = all_gather_object(std::string_view(std::string(static_cast<std::size_t>(r), 'x')));
      const auto lists = all_gather_object(list);
      const auto places = all_gather_object(Place{r, 2.0 * r});
      require(texts.size() == static_cast<std::size_t>(n), "one for each rank");
      for (int i = 0; i < n; ++i) {
        const auto k = static_cast<std::size_t>(i);
        require(texts[k] == std::string(k, 'x') && lists[k].size() == k && places[k] == Place{i, 2.0 * i},
                "gathered");
      }
    });
  }
  const auto types = failures<ConfigError>(2, [](Context& context) {
    context.rank() == 0 ? void(broadcast_object(1.5)) : void(broadcast_object('c'));
    throw ConfigError("rank 0 gave it");
  });
  CHECK_THAT(types[1], ContainsSubstring("8 bytes"));
}

TEST_CASE("parameters_hash depends on every bit, name and shape, not on buffers", "[api][broadcast]") {
  Net a(0), b(0);
  const auto hash = parameters_hash(*a);
  CHECK(parameters_hash(*b) == hash);
  const torch::NoGradGuard no_grad;
  b->norm->running_mean.fill_(100);
  CHECK(parameters_hash(*b) == hash);
  b->first->bias[3] = std::nextafter(1.0F, 2.0F);
  CHECK(parameters_hash(*b) != hash);
  b->first->bias[3] = 1.0F;
  CHECK(parameters_hash(*b) == hash);

  const torch::Tensor x = torch::arange(6, at::kFloat);
  const auto of = [](const std::string& name, const torch::Tensor& t) {
    return parameters_hash(NamedTensors{{name, t}});
  };
  CHECK(of("a", x) == of("a", x.clone()));
  CHECK(of("a", x) != of("b", x));
  CHECK(of("a", x) != of("a", x.view({2, 3})));
  CHECK(of("a", x.view({2, 3}).t()) == of("a", x.view({2, 3}).t().contiguous()));
  CHECK(of("a", torch::zeros({2})) != of("a", torch::tensor({0.0F, -0.0F})));
  CHECK(parameters_hash(NamedTensors{{"a", x}, {"tied", x}}) == of("a", x));
}

TEST_CASE("check_parameters_agree names the ranks that differ and the first parameter", "[api][broadcast]") {
  run_local(3, [](Context&) {
    Mlp model = make_mlp();
    require(check_parameters_agree(*model) == parameters_hash(*model), "the common hash");
  });
  const auto messages = failures<CommunicationError>(4, [](Context& context) {
    Mlp model = make_mlp();
    const torch::NoGradGuard no_grad;
    if (context.rank() == 1) model->layers[2]->bias[0] += 1e-3;
    if (context.rank() == 3) model->layers[1]->weight[0][0] += 1e-3;
    check_parameters_agree(*model);
  });
  for (const auto& text : messages) {
    CHECK_THAT(text, ContainsSubstring("the parameters of rank 1, 3 are not those of rank 0") &&
                         ContainsSubstring("\"layer1.weight\""));
  }
}
