// Data sets by name and folder: finding, choosing, reading, checking; and real MNIST where it is.
#include "models/data_set.h"

#include <torch/torch.h>

#include <iostream>
#include <numeric>
#include <sstream>

#include "comm/error.h"
#include "models/images.h"
#include "models/model.h"
#include "tests/catch.h"
#include "tests/support/idx_files.h"

namespace acp {
namespace {

using namespace models;
namespace fs = std::filesystem;

const std::vector<std::string> accepted{"mnist", "fashion-mnist", "digits", "synthetic"};
const SampleSpec grey{{{{1, 28, 28}, 0}}, {{}, 10}};

TEST_CASE("--data is a set's own folder or the folder of sets", "[api][data]") {
  const TempFolder temp;
  const auto chosen = [](const fs::path& folder) {
    const DataChoice choice = choose_data(accepted, folder.string());
    return std::pair(choice.set->name, choice.folder);
  };
  SECTION("mnist") {
    write_idx_set(temp, "sets/mnist/", 20, 10);
    const auto expected = std::pair<std::string, fs::path>("mnist", temp.path() / "sets/mnist");
    CHECK(chosen(temp.path() / "sets") == expected);
    CHECK(chosen(temp.path() / "sets/mnist") == expected);
  }
  SECTION("fashion-mnist has the same files and is known by its folder") {
    write_idx_set(temp, "fashion-mnist/", 20, 10);
    const auto expected = std::pair<std::string, fs::path>("fashion-mnist", temp.path() / "fashion-mnist");
    CHECK(chosen(temp.path()) == expected);
    CHECK(chosen(temp.path() / "fashion-mnist") == expected);
  }
  SECTION("the layout in which torchvision unpacks") {
    write_idx_set(temp, "FashionMNIST/raw/", 20, 10);
    CHECK(chosen(temp.path()).first == "fashion-mnist");
    CHECK(chosen(temp.path() / "FashionMNIST/raw").first == "fashion-mnist");
    write_idx_set(temp, "MNIST/raw/", 20, 10);
    CHECK(chosen(temp.path()).first == "mnist");
  }
  SECTION("of several, the one that the model prefers") {
    write_idx_set(temp, "mnist/", 20, 10);
    write_idx_set(temp, "fashion-mnist/", 20, 10);
    CHECK(chosen(temp.path()).first == "mnist");
    const std::vector<std::string> other{"fashion-mnist", "mnist"};
    CHECK(choose_data(other, temp.path().string()).set->name == "fashion-mnist");
  }
}

TEST_CASE("without --data: ACP_DATA, then what the system has, then what is built in", "[api][data]") {
  const TempFolder temp;
  write_idx_set(temp, "mnist/", 20, 10);
  {
    const Environment variable("ACP_DATA", temp.path().c_str());
    const DataChoice choice = choose_data(accepted, "");
    CHECK(choice.set->name == "mnist");
    CHECK_THAT(choice.sentence, ContainsSubstring("ACP_DATA"));
    CHECK_THAT(choice.sentence, ContainsSubstring((temp.path() / "mnist").string()));
    CHECK(choose_data(accepted, "digits").set->name == "digits");
    const std::vector<std::string> built_in{"digits"};  // by --data-set
    CHECK(choose_data(built_in, "").set->name == "digits");
  }
  {
    const Environment variable("ACP_DATA", "/nowhere/at/all");
    CHECK_THROWS_WITH(choose_data(accepted, ""),
                      ContainsSubstring("ACP_DATA /nowhere/at/all: no such folder"));
  }
  const Environment variable("ACP_DATA", nullptr);
  const DataSetInfo& fashion = find_data_set("fashion_mnist");
  const bool installed = !locate(fashion, fashion.system_folder).empty();
  CHECK(choose_data(accepted, "").set->name == (installed ? "fashion-mnist" : "digits"));
  const std::vector<std::string> without_fashion{"mnist", "synthetic", "digits"};
  CHECK(choose_data(without_fashion, "").set->name == "digits");
  const std::vector<std::string> synthetic_only{"mnist", "synthetic"};
  CHECK_THROWS_AS(choose_data(synthetic_only, ""), DataError);
}

TEST_CASE("wrong --data is one clear line", "[api][data]") {
  const TempFolder temp;
  CHECK_THROWS_AS(choose_data(accepted, "/nowhere/at/all"), DataError);
  CHECK_THROWS_WITH(choose_data(accepted, "digts"), ContainsSubstring("built in: digits, markov, synthetic"));
  CHECK_THROWS_AS(choose_data(accepted, temp.path().string()), DataError);
  CHECK_THROWS_WITH(
      choose_data(accepted, temp.path().string()),
      ContainsSubstring("mnist, fashion-mnist") && ContainsSubstring("train-images-idx3-ubyte"));
  const std::vector<std::string> mnist_only{"mnist"};
  CHECK_THROWS_AS(choose_data(mnist_only, "digits"), ConfigError);
  CHECK_THROWS_AS(choose_data(accepted, "digits+synthetic"), DataError);
  CHECK_THROWS_AS(load_data(choose_data(accepted, "digits:tran=100"), {}), ConfigError);
  CHECK_THROWS_WITH(find_data_set("mnits"), ContainsSubstring("mnist"));
}

TEST_CASE("a set with files is asked for by its name and keys", "[api][data]") {
  const TempFolder temp;
  const std::vector<std::string> models_sets{"cifar10", "cifar100", "synthetic"};
  const std::vector<std::uint8_t> record(3074);
  temp.write("sets/cifar100/train.bin", record);
  temp.write("sets/cifar100/test.bin", record);
  temp.write("sets/cifar10/data_batch_1.bin", std::vector<std::uint8_t>(3073));
  const fs::path sets = temp.path() / "sets";
  {
    const Environment variable("ACP_DATA", sets.c_str());
    CHECK(choose_data(models_sets, "").set->name == "cifar10");
    CHECK(choose_data(models_sets, "cifar100").folder == sets / "cifar100");
    const DataChoice coarse = choose_data(models_sets, "cifar100:labels=coarse");
    CHECK(coarse.sentence == "cifar100:labels=coarse from " + (sets / "cifar100").string() + " (--data)");
    CHECK(load_data(coarse, {}).sample.target.classes == 20);
    CHECK_THROWS_AS(load_data(choose_data(models_sets, "cifar100:label=coarse"), {}), ConfigError);
    CHECK_THROWS_AS(choose_data(models_sets, "mnist"), ConfigError);
    const std::vector<std::string> text{"ptb", "synthetic"};
    CHECK_THROWS_WITH(choose_data(text, "ptb"), ContainsSubstring("ptb is not in " + sets.string()));
  }
  {
    const Environment variable("ACP_DATA", "cifar100");
    CHECK_THROWS_WITH(choose_data(models_sets, ""), ContainsSubstring("ACP_DATA cifar100: no such folder"));
  }
  const Environment variable("ACP_DATA", nullptr);
  CHECK_THROWS_AS(choose_data(models_sets, "cifar100"), DataError);
  CHECK_THROWS_WITH(choose_data(models_sets, "cifar100"), ContainsSubstring("set ACP_DATA"));
}

TEST_CASE("a set in MNIST's form is read, and its damage found", "[api][data]") {
  const TempFolder temp;
  write_idx_set(temp, "mnist/", 20, 10);
  const auto load = [&] { return load_data(choose_data(accepted, temp.path().string()), {}); };
  SECTION("good") {
    const DataSet set = load();
    CHECK(set.name == "mnist");
    CHECK(set.sample == grey);
    CHECK(set.train->size() == 20);
    CHECK(set.eval->size() == 10);
    CHECK_FALSE(set.test);
    CHECK(set.train->class_counts() == std::vector<std::int64_t>(10, 2));
    // Image i is all i. Normalised by the training part's figures: mean 9.5, variance (20^2 - 1) / 12.
    const std::vector<std::int64_t> picked{3, 19};
    const Batch batch = set.train->get(picked, 0);
    CHECK(batch.size == 2);
    CHECK(batch.inputs.at(0).sizes() == at::IntArrayRef({2, 1, 28, 28}));
    CHECK(batch.target.equal(torch::tensor({3, 9})));
    const std::vector<std::int64_t> last{9};
    const double deviation = std::sqrt(399.0 / 12);
    CHECK(batch.inputs[0][0].min().item<double>() == Approx((3 - 9.5) / deviation));
    CHECK(batch.inputs[0][0].max().item<double>() == Approx((3 - 9.5) / deviation));
    CHECK(batch.inputs[0][1].mean().item<double>() == Approx((19 - 9.5) / deviation));
    CHECK(set.eval->get(last, 0).inputs[0][0].mean().item<double>() == Approx((9 - 9.5) / deviation));
  }
  SECTION("a file is missing") {
    fs::remove(temp.path() / "mnist/train-labels-idx1-ubyte");
    CHECK_THROWS_AS(load(), DataError);
    CHECK_THROWS_WITH(load(), ContainsSubstring("mnist/train-labels-idx1-ubyte: no such file"));
  }
  SECTION("counts differ") {
    temp.write("mnist/train-labels-idx1-ubyte", idx_labels(19));
    CHECK_THROWS_WITH(load(), ContainsSubstring("19 labels, expected 20"));
  }
  SECTION("another size of image") {
    temp.write("mnist/train-images-idx3-ubyte", idx_bytes(2051, {20, 2, 3}, FileBytes(120)));
    CHECK_THROWS_WITH(load(), ContainsSubstring("images of 2x3, expected 28x28"));
  }
  SECTION("a label that is no class") {
    temp.write("mnist/train-labels-idx1-ubyte", idx_bytes(2049, {20}, FileBytes(20, 10)));
    CHECK_THROWS_WITH(load(), ContainsSubstring("label 10 at position 0, expected 0 to 9"));
  }
  SECTION("samples that the model does not take") {
    DataSet set = load();
    set.sample = {{{{3, 32, 32}, 0}}, {{}, 10}};
    CHECK_THROWS_WITH(choose_model("mnist").fit(set),
                      ContainsSubstring("3x32x32") && ContainsSubstring("1x28x28"));
  }
}

TEST_CASE("--check-data says what it found and counts errors", "[api][data]") {
  const TempFolder temp;
  write_idx_set(temp, "mnist/", 20, 10);
  std::ostringstream out;
  CHECK(check_data(temp.path(), out) == 0);
  CHECK_THAT(out.str(), ContainsSubstring("mnist in " + (temp.path() / "mnist").string()));
  CHECK_THAT(out.str(), ContainsSubstring("train: 20 samples, 10 classes: 2 2 2 2 2 2 2 2 2 2"));
  CHECK_THAT(out.str(), ContainsSubstring("eval: 10 samples, 10 classes: 1 1 1 1 1 1 1 1 1 1"));
  CHECK_THAT(out.str(), ContainsSubstring("fashion-mnist"));

  write_idx_set(temp, "fashion-mnist/", 20, 10);
  temp.write("fashion-mnist/t10k-images-idx3-ubyte.gz", {0x1f, 0x8b, 8});
  CHECK(check_data(temp.path(), out) == 1);
  CHECK_THAT(out.str(), ContainsSubstring("error:") && ContainsSubstring("truncated gzip"));

  std::ostringstream built_in;
  CHECK(check_data("markov:train=1000,eval=100", built_in) == 0);
  CHECK_THAT(built_in.str(), ContainsSubstring("entropy rate: 2.136959 nats") &&
                                 ContainsSubstring("train: 28 samples") &&
                                 ContainsSubstring("eval: 3 samples"));

  const TempFolder empty;
  CHECK(check_data(empty.path(), out) == 1);
  CHECK_THROWS_AS(check_data(empty.path() / "absent", out), DataError);
}

TEST_CASE("synthetic data have the shapes that the model takes", "[api][data]") {
  const SampleSpec wanted{{{{5}, 100}, {{2, 3}, 0}}, {{5}, 7}};
  const DataSet set = load_data(choose_data(accepted, "synthetic:train=1000,eval=10"), {.wanted = wanted});
  CHECK(set.train->size() == 1000);
  CHECK(set.eval->size() == 10);
  std::vector<std::int64_t> all(1000);
  std::iota(all.begin(), all.end(), 0);
  const Batch batch = set.train->get(all, 0);
  REQUIRE(batch.inputs.size() == 2);
  CHECK(batch.inputs[0].sizes() == at::IntArrayRef({1000, 5}));
  CHECK(batch.inputs[0].scalar_type() == torch::kLong);
  CHECK(batch.inputs[0].min().item<std::int64_t>() >= 0);
  CHECK(batch.inputs[0].max().item<std::int64_t>() < 100);
  CHECK(batch.inputs[1].sizes() == at::IntArrayRef({1000, 2, 3}));
  CHECK(std::abs(batch.inputs[1].mean().item<double>()) < 0.1);
  CHECK(batch.inputs[1].std().item<double>() == Approx(1).margin(0.1));
  CHECK(batch.target.sizes() == at::IntArrayRef({1000, 5}));
  CHECK(batch.target.max().item<std::int64_t>() == 6);
}

TEST_CASE("batches change type where they hold numbers", "[api][data]") {
  const Batch batch{
      {torch::ones({2, 3}), torch::ones({2}, torch::kLong)}, torch::zeros({2}, torch::kLong), 2};
  const Batch other = batch.to(at::kCPU, torch::kDouble);
  CHECK(other.inputs.at(0).scalar_type() == torch::kDouble);
  CHECK(other.inputs.at(1).scalar_type() == torch::kLong);
  CHECK(other.target.scalar_type() == torch::kLong);
  CHECK(other.size == 2);
}

TEST_CASE("real MNIST and Fashion-MNIST", "[api][data]") {
  const char* given = std::getenv("ACP_DATA");
  const fs::path sets = given != nullptr ? given : "../shared/data";
  if (const fs::path folder = locate(find_data_set("mnist"), sets); !folder.empty()) {
    const DataSet set = load_data(choose_data(accepted, folder.string()), {});
    const std::vector<std::int64_t> train{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949};
    const std::vector<std::int64_t> test{980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009};
    CHECK(set.train->class_counts() == train);
    CHECK(set.eval->class_counts() == test);
    const auto figures = normalisation_of(dynamic_cast<const ImageSamples&>(*set.train).images());
    CHECK(figures.mean.at(0) == Approx(0.1307).margin(5e-5));
    CHECK(figures.deviation.at(0) == Approx(0.3081).margin(5e-5));
  } else {
    std::cout << "skipped: no data for MNIST in " << sets.string() << std::endl;
  }
  const DataSetInfo& fashion = find_data_set("fashion-mnist");
  if (!locate(fashion, fashion.system_folder).empty()) {
    const DataSet set = load_data(choose_data(accepted, fashion.system_folder.string()), {});
    CHECK(set.name == "fashion-mnist");
    CHECK(set.train->class_counts() == std::vector<std::int64_t>(10, 6000));
    CHECK(set.eval->class_counts() == std::vector<std::int64_t>(10, 1000));
  } else {
    std::cout << "skipped: no data for Fashion-MNIST in " << fashion.system_folder.string() << std::endl;
  }
}

}  // namespace
}  // namespace acp
