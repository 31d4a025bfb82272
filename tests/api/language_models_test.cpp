// Models of text and of users and items: counts as published, state, what a position sees, metrics, training.
#include <torch/torch.h>

#include <cmath>

#include "acp/context.h"
#include "acp/gradient_reducer.h"
#include "benchmarks/common/replicas.h"
#include "comm/error.h"
#include "models/model.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

namespace acp {
namespace {

using namespace models;
using at::Tensor;

const std::string small_lstm = "lstm-lm:layers=2,hidden=12,embedding=10,vocab=30,seq=8,dropout=0";
const std::string small_transformer =
    "transformer-lm:layers=2,hidden=16,heads=2,inner=24,vocab=30,seq=8,dropout=0";
const std::string small_xl =
    "transformer-xl:layers=2,hidden=16,heads=2,inner=24,vocab=30,cutoffs=10/20,seq=8,dropout=0";
const std::string small_bert = "bert-base:layers=2,hidden=16,heads=2,vocab=30,seq=8,dropout=0,head=";
const std::string small_ncf = "ncf:users=7,items=9,factors=4,mlp=8/6/3";

// Random samples of the model's shapes.
Batch random_batch(const ModelChoice& choice, std::int64_t n) {
  const auto draw = [n](const TensorSpec& spec) {
    auto shape = spec.shape;
    shape.insert(shape.begin(), n);
    return torch::randint(spec.classes, shape, torch::kLong);
  };
  Batch batch{{}, draw(choice.sample().target), n};
  for (const TensorSpec& input : choice.sample().inputs) batch.inputs.push_back(draw(input));
  return batch;
}

std::shared_ptr<Model> make_double(const std::string& spec) {
  auto model = choose_model(spec).make();
  model->to(torch::kDouble);
  model->eval();
  return model;
}

// The batch's columns begin ... begin + count - 1 of its first `rows` rows.
Batch part_of(const Batch& batch, std::int64_t rows, std::int64_t begin, std::int64_t count) {
  return {{batch.inputs[0].narrow(0, 0, rows).narrow(1, begin, count)},
          batch.target.narrow(0, 0, rows).narrow(1, begin, count),
          rows};
}

// -log p of the target at one position of each row, summed.
double loss_at(Model& model, Batch batch, std::int64_t position) {
  const Tensor target = torch::full_like(batch.target, -100);
  target.select(1, position).copy_(batch.target.select(1, position));
  batch.target = target;
  model.reset_state();
  const Sums sums = model.evaluate(batch);
  REQUIRE(sums.at("tokens") == static_cast<double>(batch.size));
  return sums.at("loss");
}

std::int64_t count(const std::string& spec) {
  return size_of(*choose_model(spec).make()).parameters;
}

}  // namespace

TEST_CASE("language models have the published numbers of parameters", "[api][language-models]") {
  CHECK(count("lstm-lm:layers=2,hidden=1500") == 66'034'000);
  for (const auto* name : {"lstm-lm", "ncf", "transformer-lm", "transformer-xl", "bert-base"}) {
    INFO(name);
    const auto choice = choose_model(name);
    const auto model = choice.make();
    CHECK(size_of(*model) == choice.info->size);
    if (choice.info->name == "transformer-lm") CHECK(size_of(*model).parameters == 155'999'232);
    if (choice.info->name == "transformer-xl") CHECK(size_of(*model).parameters == 191'950'298);
    if (choice.info->name == "bert-base")
      CHECK(size_of(*model->named_children()["encoder"]).parameters == 109'482'240);
  }
  // All layers are of one size, so two small forms tell the large one's.
  const std::int64_t one = count("bert-large:layers=1"), two = count("bert-large:layers=2");
  const std::int64_t head = 2 * 1024 + 2;
  CHECK(one + 23 * (two - one) == 335'141'888 + head);
  CHECK(choose_model("bert-large").info->size.parameters == 335'141'888 + head);
  // Embeddings of width 64 and 128, layers 256-256-128-64, one output for 64 + 64 numbers.
  CHECK(count("ncf:factors=64,mlp=256/256/128/64,users=1384,items=267") ==
        (1384 + 267) * (64 + 128) + 257 * 256 + 257 * 128 + 129 * 64 + 129);
}

TEST_CASE("heads of BERT add what they should", "[api][language-models]") {
  const std::int64_t hidden = 16, vocab = 30;
  const std::int64_t classify = count(small_bert + "classify"), encoder = classify - (2 * hidden + 2);
  const std::int64_t words = hidden * hidden + hidden + 2 * hidden + vocab, pooler = hidden * hidden + hidden;
  CHECK(count(small_bert + "pretrain") == encoder + words + 2 * hidden + 2);
  CHECK(count(small_bert + "mlm") == encoder - pooler + words);
  CHECK(count(small_bert + "classify,classes=5") == encoder + 5 * hidden + 5);
}

TEST_CASE("the LSTM against its equations", "[api][language-models]") {
  torch::manual_seed(1);
  const auto model = make_double(small_lstm);
  const torch::NoGradGuard no_gradients;
  const auto p = model->named_parameters();
  const Batch batch = random_batch(choose_model(small_lstm), 3);
  Tensor x = torch::embedding(p["embedding.weight"], batch.inputs[0]);  // [rows, time, width]
  for (const std::string layer : {"_l0", "_l1"}) {
    Tensor h = torch::zeros({3, 12}, torch::kDouble), c = h;
    std::vector<Tensor> outputs;
    for (std::int64_t t = 0; t < x.size(1); ++t) {
      const auto gates =
          (torch::linear(x.select(1, t), p["lstm.weight_ih" + layer], p["lstm.bias_ih" + layer]) +
           torch::linear(h, p["lstm.weight_hh" + layer], p["lstm.bias_hh" + layer]))
              .chunk(4, 1);
      c = gates[1].sigmoid() * c + gates[0].sigmoid() * gates[2].tanh();
      h = gates[3].sigmoid() * c.tanh();
      outputs.push_back(h);
    }
    x = torch::stack(outputs, 1);
  }
  const Tensor logits = torch::linear(x, p["decoder_weight"], p["decoder_bias"]);
  const Tensor loss = torch::cross_entropy_loss(logits.flatten(0, 1), batch.target.flatten());
  CHECK(model->loss(batch).item<double>() == Approx(loss.item<double>()).epsilon(1e-10));
}

TEST_CASE("carried state: two halves are the whole, and it is forgotten", "[api][language-models]") {
  for (const auto& spec : {small_lstm, small_xl}) {
    INFO(spec);
    torch::manual_seed(2);
    const auto model = make_double(spec);
    const torch::NoGradGuard no_gradients;
    const Batch batch = random_batch(choose_model(spec), 3);
    const auto loss = [&](std::int64_t rows, std::int64_t begin, std::int64_t columns) {
      return model->evaluate(part_of(batch, rows, begin, columns)).at("loss");
    };
    const double whole = loss(3, 0, 8);
    model->reset_state();
    const double first = loss(3, 0, 4), second = loss(3, 4, 4);
    CHECK(first + second == Approx(whole).epsilon(1e-10));
    CHECK_THROWS_WITH(model->evaluate(random_batch(choose_model(spec), 4)).at("loss"),
                      ContainsSubstring("reset_state()"));
    model->reset_state();
    const double alone = loss(3, 4, 4);
    CHECK(std::abs(alone - second) > 1e-6);
    // Fewer rows go on as the first ones did.
    model->reset_state();
    loss(3, 0, 4);
    const double fewer = loss(2, 4, 4);
    model->reset_state();
    loss(2, 0, 4);
    CHECK(loss(2, 4, 4) == Approx(fewer).epsilon(1e-10));
  }
}

TEST_CASE("Transformer-XL without memory takes each segment alone", "[api][language-models]") {
  const auto model = make_double(small_xl + ",mem=0");
  const torch::NoGradGuard no_gradients;
  const Batch batch = random_batch(choose_model(small_xl), 2);
  CHECK(model->evaluate(batch).at("loss") == model->evaluate(batch).at("loss"));
}

TEST_CASE("carried state has no gradient", "[api][language-models]") {
  for (const auto& spec : {small_lstm, small_xl}) {
    INFO(spec);
    const auto model = choose_model(spec).make();
    const Batch batch = random_batch(choose_model(spec), 2);
    model->loss(batch).backward();
    CHECK_NOTHROW(model->loss(batch).backward());  // else through the first graph again, which is gone
  }
}

TEST_CASE("no position sees a later token, all see the earlier ones", "[api][language-models]") {
  for (const auto& spec : {small_lstm, small_transformer, small_xl}) {
    INFO(spec);
    torch::manual_seed(3);
    const auto model = make_double(spec);
    const torch::NoGradGuard no_gradients;
    const Batch batch = random_batch(choose_model(spec), 2);
    for (const std::int64_t changed : {2, 5}) {
      Batch other = batch;
      other.inputs[0] = batch.inputs[0].clone();
      other.inputs[0].select(1, changed).add_(7).remainder_(30);
      for (std::int64_t t = 0; t < 8; ++t) {
        const double difference = std::abs(loss_at(*model, other, t) - loss_at(*model, batch, t));
        INFO("token " << changed << " as seen at " << t);
        if (t < changed) CHECK(difference < 1e-12);
        if (t >= changed) CHECK(difference > 1e-12);
      }
    }
  }
}

TEST_CASE("BERT does not see what is masked", "[api][language-models]") {
  torch::manual_seed(4);
  const torch::NoGradGuard no_gradients;
  for (const std::string head : {"classify", "mlm", "pretrain"}) {
    INFO(head);
    const auto model = make_double(small_bert + head);
    Batch batch = random_batch(choose_model(small_bert + head), 2);
    const std::size_t mask = head == "pretrain" ? 2 : 1;
    batch.inputs[mask] = torch::ones({2, 8}, torch::kLong);
    batch.inputs[mask].narrow(1, 5, 3).zero_();
    if (head != "classify") batch.target.narrow(1, 5, 3).fill_(-100);
    const double before = model->evaluate(batch).at("loss");
    batch.inputs[0].narrow(1, 5, 3).add_(1).remainder_(30);
    CHECK(model->evaluate(batch).at("loss") == Approx(before).epsilon(1e-12));
    batch.inputs[mask].select(1, 5).fill_(1);
    CHECK(std::abs(model->evaluate(batch).at("loss") - before) > 1e-9);
    batch.inputs[mask].zero_();
    CHECK(std::isfinite(model->evaluate(batch).at("loss")));
  }
}

TEST_CASE("tokens without a target do not count, and smoothing is spread over all words",
          "[api][language-models]") {
  torch::manual_seed(5);
  for (const auto& spec : {small_lstm, small_transformer}) {
    const auto model = make_double(spec);
    const torch::NoGradGuard no_gradients;
    Batch batch = random_batch(choose_model(spec), 2);
    const double all = model->evaluate(batch).at("loss");
    model->reset_state();
    double single = 0;
    for (std::int64_t t = 0; t < 8; ++t) single += loss_at(*model, batch, t);
    CHECK(single == Approx(all).epsilon(1e-10));
    model->reset_state();
    CHECK(model->loss(batch).item<double>() == Approx(all / 16).epsilon(1e-10));

    double every_word = 0;  // the sum over all words of -log p, at all positions
    const Tensor target = batch.target.clone();
    for (std::int64_t word = 0; word < 30; ++word) {
      batch.target.fill_(word);
      model->reset_state();
      every_word += model->evaluate(batch).at("loss");
    }
    batch.target = target;
    model->set_label_smoothing(0.1);
    model->reset_state();
    CHECK(model->loss(batch).item<double>() ==
          Approx((0.9 * all + 0.1 * every_word / 30) / 16).epsilon(1e-10));
    model->reset_state();
    CHECK(model->evaluate(batch).at("loss") == Approx(all).epsilon(1e-10));
    batch.target.fill_(-100);
    model->reset_state();
    CHECK(model->loss(batch).item<double>() == 0);
  }
  CHECK_THROWS_AS(choose_model(small_xl).make()->set_label_smoothing(0.1), ConfigError);
  const auto model = choose_model(small_lstm).make();
  const Metric metric = model->metric({{"count", 4}, {"loss", 60}, {"tokens", 20}});
  CHECK(metric.name == "perplexity");
  CHECK(metric.value == Approx(std::exp(3)));
  CHECK_FALSE(metric.higher_is_better);
}

TEST_CASE("lstm-lm: tied weights are one parameter", "[api][language-models]") {
  const std::string spec = "lstm-lm:layers=1,hidden=12,vocab=30,seq=8,dropout=0";
  CHECK(count(spec) - count(spec + ",tied=on") == 12 * 30);
  const auto tied = make_double(spec + ",tied=on");
  const Tensor weight = tied->named_parameters()["embedding.weight"];
  Batch batch = random_batch(choose_model(spec), 2);
  batch.inputs[0].fill_(3);
  tied->loss(batch).backward();
  CHECK((weight.grad().abs().sum(1) > 0).all().item<bool>());  // words that did not come in, from the output
  CHECK_THROWS_WITH(choose_model(spec + ",tied=on,embedding=8").make(),
                    ContainsSubstring("embedding = hidden"));
  CHECK(programs::unique_parameters(*choose_model(small_xl).make()).size() == 2 * 11 + 6);
}

TEST_CASE("keys of language models that do not fit", "[api][language-models]") {
  const auto fails = [](const std::string& spec, const std::string& with) {
    INFO(spec);
    CHECK_THROWS_WITH(choose_model(spec).make(), ContainsSubstring(with));
    CHECK_THROWS_AS(choose_model(spec).make(), ConfigError);
  };
  fails("transformer-lm:hidden=10,heads=4,vocab=30", "4 heads do not divide the width 10");
  fails("transformer-lm:hidden=9,heads=3,vocab=30", "even");
  fails("transformer-xl:hidden=9,heads=3,vocab=30", "even");
  fails("transformer-xl:cutoffs=20/10,vocab=30", "increasing");
  fails("bert-base:seq=600,layers=1,vocab=30", "positions=600");
  fails("bert-base:head=none,vocab=30", "pretrain");
  fails("bert-base:hidden=10,heads=4,vocab=30", "divide");
  fails("ncf:mlp=8", "at least one layer");
  fails("ncf:mlp=7/4", "even");
  fails("ncf:mlp=8/2.5", "whole numbers");
  fails("ncf:form=svd", "neumf");
}

TEST_CASE("NCF by hand, and its ranking", "[api][language-models]") {
  const torch::NoGradGuard no_gradients;
  const auto model = make_double("ncf:users=2,items=100,factors=1,mlp=2/1");
  auto p = model->named_parameters();
  for (auto& item : p) item.value().zero_();
  // GMF: user 1 has 2, item i has i. MLP: relu(1 + 3 item) with the item's embedding 1 for item 5 alone.
  p["gmf_user.weight"][1].fill_(2);
  p["gmf_item.weight"].copy_(torch::arange(100).unsqueeze(1));
  p["mlp_item.weight"][5].fill_(1);
  p["layer1.weight"].copy_(torch::tensor({{0, 3}}));
  p["layer1.bias"].fill_(1);
  p["out.weight"].copy_(torch::tensor({{1, 10}}));
  p["out.bias"].fill_(-20);
  // Logits: user 1, item 5: 10 + 40 - 20 = 30; user 0: 10 - 20 = -10; user 1, item 5 wins over items
  // below 20.
  const Batch pairs{{torch::tensor({1, 0}), torch::tensor({5, 3})}, torch::tensor({1, 1}), 2};
  CHECK(model->loss(pairs).item<double>() ==
        Approx((std::log1p(std::exp(-30.0)) + std::log1p(std::exp(10.0))) / 2));
  const Sums sums = model->evaluate(pairs);
  CHECK(sums.at("correct") == 1);
  CHECK(model->metric(sums).name == "accuracy");
  CHECK(model->metric(sums).value == 50);

  // Candidates 0..99 in this order: items above 20 have more than item 5's 30; item 20 has 30, too, and wins.
  const auto ranked = [&](std::int64_t user, std::int64_t place) {
    const Batch batch{
        {torch::full({1, 100}, user), torch::arange(100).unsqueeze(0)}, torch::tensor({place}), 1};
    return model->evaluate(batch);
  };
  CHECK(ranked(1, 5).at("hits") == 0);   // 80 before it
  CHECK(ranked(1, 90).at("hits") == 1);  // 91 ... 99 before it: the tenth
  CHECK(ranked(1, 89).at("hits") == 0);
  CHECK(ranked(1, 99).at("ndcg") == Approx(1));
  CHECK(ranked(1, 90).at("ndcg") == Approx(1 / std::log2(11)));
  CHECK(ranked(0, 7).at("hits") == 0);  // all equal but one
  CHECK(ranked(0, 5).at("hits") == 1);
  Sums total = model->no_sums();
  for (const std::int64_t place : {99, 98, 3, 90}) add(total, ranked(1, place));
  CHECK(model->metric(total).name == "HR@10");
  CHECK(model->metric(total).value == Approx(0.75));
  CHECK(total.at("ndcg") == Approx(1 + 1 / std::log2(3) + 1 / std::log2(11)));
  p["out.bias"].fill_(std::nan(""));
  CHECK(ranked(1, 99).at("hits") == 0);
}

TEST_CASE("language models' gradients agree with finite differences", "[api][language-models]") {
  for (const auto& spec :
       {small_lstm + "", std::string("lstm-lm:layers=1,hidden=6,vocab=9,seq=4,dropout=0,tied=on"), small_xl,
        small_transformer, small_bert + "pretrain", small_ncf}) {
    torch::manual_seed(6);
    const auto model = choose_model(spec).make();
    model->to(torch::kDouble);
    {
      const torch::NoGradGuard no_gradients;  // away from the start's zeros
      for (auto& p : model->parameters()) p.add_(torch::randn_like(p), 0.1);
    }
    const Batch batch = random_batch(choose_model(spec), 3);
    const auto loss = [&] {
      model->reset_state();
      return model->loss(batch);
    };
    loss().backward();
    const torch::NoGradGuard no_gradients;
    for (const auto& item : model->named_parameters()) {
      const Tensor flat = item.value().view({-1}), gradient = item.value().grad().view({-1});
      for (int pick = 0; pick < 3; ++pick) {
        const std::int64_t i = pick * (flat.numel() - 1) / 2;
        const double value = flat[i].item<double>(), step = 1e-5;
        flat[i] = value + step;
        const double above = loss().item<double>();
        flat[i] = value - step;
        const double below = loss().item<double>();
        flat[i] = value;
        INFO(spec << ": " << item.key() << '[' << i << ']');
        CHECK(gradient[i].item<double>() == Approx((above - below) / (2 * step)).epsilon(1e-5).margin(1e-8));
      }
    }
  }
}

TEST_CASE("language models learn a batch on 2 ranks", "[api][language-models]") {
  for (const auto& spec : {small_lstm, small_transformer, small_xl, small_bert + "classify",
                           small_bert + "mlm", small_bert + "pretrain", small_ncf}) {
    for (const std::string compressor : {"none", "acpsgd", "topk:ratio=0.1"}) {
      INFO(spec << " with " << compressor);
      const auto choice = choose_model(spec);
      std::vector<std::shared_ptr<Model>> models;
      std::vector<Batch> batches;
      for (int rank = 0; rank < 2; ++rank) {  // the generator belongs to the process, not to the rank
        torch::manual_seed(7);
        models.push_back(choice.make());
        torch::manual_seed(8 + static_cast<std::uint64_t>(rank));
        batches.push_back(random_batch(choice, 4));
      }
      std::vector<double> first(2), last(2);
      run_local(2, [&](Context& context) {
        const auto rank = static_cast<std::size_t>(context.rank());
        Model& model = *models[rank];
        const auto parameters = programs::unique_parameters(model);
        GradientReducer reducer(parameters, Options().compressor(compressor));
        torch::optim::Adam optimizer(model.parameters(),
                                     torch::optim::AdamOptions(spec == small_lstm ? 0.06 : 0.02));
        for (int step = 0; step < 20; ++step) {
          optimizer.zero_grad();
          model.reset_state();
          const Tensor loss = model.loss(batches[rank]);
          loss.backward();
          reducer.synchronize();
          optimizer.step();
          last[rank] = loss.item<double>();
          if (step == 0) first[rank] = last[rank];
        }
      });
      CHECK(last[0] + last[1] < 0.9 * (first[0] + first[1]));
      for (std::size_t i = 0; i < models[0]->parameters().size(); ++i)
        CHECK(torch::equal(models[0]->parameters()[i], models[1]->parameters()[i]));
    }
  }
}

}  // namespace acp
