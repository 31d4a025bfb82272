// The procedural digits: the same bytes everywhere, balanced, and worth learning.
#include "models/digits.h"

#include <torch/torch.h>

#include <set>

#include "models/loader.h"
#include "models/model.h"
#include "tests/catch.h"

namespace acp {
namespace {

using namespace models;

// FNV-1a, 64 bits.
std::uint64_t hash(const std::vector<std::uint8_t>& bytes) {
  std::uint64_t h = 0xcbf29ce484222325U;
  for (const std::uint8_t byte : bytes) h = (h ^ byte) * 0x100000001b3U;
  return h;
}

TEST_CASE("digits are the same bytes on every machine", "[api][data]") {
  const Images images = draw_digits(1000, 1, 0);
  CHECK(hash(images.pixels) == 0xf02748096d0bc130U);
  CHECK(hash(images.labels) == 0xd1472a91c8c68ba9U);
}

TEST_CASE("digits depend on seed, part and index alone", "[api][data]") {
  const Images some = draw_digits(50, 1, 0), more = draw_digits(200, 1, 0);
  CHECK(std::equal(some.pixels.begin(), some.pixels.end(), more.pixels.begin()));
  CHECK(std::equal(some.labels.begin(), some.labels.end(), more.labels.begin()));
  CHECK(hash(draw_digits(50, 2, 0).pixels) != hash(some.pixels));
  CHECK(hash(draw_digits(50, 1, 1).pixels) != hash(some.pixels));
}

TEST_CASE("digits are balanced, all different, and have ink", "[api][data]") {
  const Images images = draw_digits(2000, 1, 0);
  CHECK(images.count() == 2000);
  std::vector<int> counts(10);
  for (const auto label : images.labels) ++counts.at(label);
  CHECK(counts == std::vector<int>(10, 200));
  CHECK(std::vector<std::uint8_t>(images.labels.begin(), images.labels.begin() + 10) !=
        std::vector<std::uint8_t>(images.labels.begin() + 10, images.labels.begin() + 20));
  std::set<std::vector<std::uint8_t>> different;
  for (auto at = images.pixels.begin(); at != images.pixels.end(); at += 784) {
    different.emplace(at, at + 784);
    const auto bright = std::count_if(at, at + 784, [](int p) { return p > 100; });
    CHECK(bright > 20);
    CHECK(bright < 500);
  }
  CHECK(different.size() == 2000);
}

TEST_CASE("the MNIST network learns the digits", "[api][data]") {
  torch::manual_seed(1);
  const auto model = choose_model("mnist:dropout=0").make();
  const std::vector<std::string> accepted{"digits"};
  const DataSet data = load_data(choose_data(accepted, "digits:train=6000,eval=1000"),
                                 {.wanted = choose_model("mnist").sample()});
  LoaderOptions options;
  options.batch_size = 50;
  const TrainingLoader loader(data.train, options);
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9));
  const auto accuracy = [&] {
    const torch::NoGradGuard no_gradients;
    model->eval();
    Sums sums = model->no_sums();
    for (const Batch& batch : evaluation_batches(data.eval, options)) add(sums, model->evaluate(batch));
    model->train();
    CHECK(sums.at("count") == 1000);
    return model->metric(sums).value;
  };
  CHECK(accuracy() < 30);
  for (int epoch = 0; epoch < 2; ++epoch) {
    for (const Batch& batch : loader.epoch(epoch)) {
      optimizer.zero_grad();
      model->loss(batch).backward();
      optimizer.step();
    }
  }
  const double learnt = accuracy();
  INFO("accuracy " << learnt);
  CHECK(learnt > 85);
  CHECK(learnt < 100);
}

}  // namespace
}  // namespace acp
