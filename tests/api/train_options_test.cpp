// The command line of acp-train: defaults, presets, and one clear message for every mistake.
#include <set>

#include "benchmarks/acp-train/options.h"
#include "benchmarks/acp-train/presets.h"
#include "comm/error.h"
#include "compressors/text.h"
#include "tests/catch.h"

using namespace acp::programs;

namespace {

TrainOptions parse(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv{"acp-train"};
  for (const auto& argument : arguments) argv.push_back(argument.c_str());
  std::string help;
  return parse_train_options(static_cast<int>(argv.size()), argv.data(), help);
}

void fails(const std::vector<std::string>& arguments, const std::string& with) {
  INFO(acp::join(arguments));
  CHECK_THROWS_AS(parse(arguments), acp::ConfigError);
  CHECK_THROWS_WITH(parse(arguments), ContainsSubstring(with));
  try {
    parse(arguments);
  } catch (const acp::ConfigError& error) {
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
  }
}

}  // namespace

TEST_CASE("the model's own settings are the defaults", "[api][train-options]") {
  const auto options = parse({"--model", "mnist"});
  CHECK(options.model == "mnist");
  CHECK(options.optimizer == "sgd");
  CHECK(options.lr == 0.05);
  CHECK(options.momentum == 0.9);
  CHECK(options.lr_schedule == "linear");
  CHECK(options.batch_size == 64);
  CHECK(options.reduction.compressor() == "none");
  CHECK(options.reduction.fusion_mb() == 25);
  CHECK(options.reduction.overlap());
  CHECK(options.reduction.seed() == 42);
  CHECK(options.test_batch_size == options.eval_batch_size);
}

TEST_CASE("what is given wins", "[api][train-options]") {
  const auto options = parse({"--lr=0.5",
                              "--batch_size",
                              "8",
                              "--lr",
                              "0.25",
                              "--compressor",
                              "acpsgd:rank=2",
                              "--fusion-mb",
                              "0",
                              "--no-overlap",
                              "--algorithm",
                              "ring",
                              "--backward-passes",
                              "2",
                              "--seed",
                              "7",
                              "--clip-local",
                              "0.5",
                              "--iterations",
                              "20",
                              "--warmup",
                              "5",
                              "--test-batch-size",
                              "10",
                              "--lr-warmup",
                              "2e",
                              "--quiet"});
  CHECK(options.lr == 0.25);
  CHECK(options.batch_size == 8);
  CHECK(options.reduction.compressor() == "acpsgd:rank=2");
  CHECK(options.reduction.fusion_mb() == 0);
  CHECK_FALSE(options.reduction.overlap());
  CHECK(options.reduction.algorithm() == acp::Algorithm::ring);
  CHECK(options.reduction.backward_passes_per_step() == 2);
  CHECK(options.reduction.seed() == 7);
  CHECK(options.reduction.clip_local() == 0.5);
  CHECK(options.iterations == 20);
  CHECK(options.epochs == 0);
  CHECK(options.warmup == 5);
  CHECK(options.test_batch_size == 10);
  CHECK(options.quiet);
  CHECK(lr_warmup_steps(options.lr_warmup, 100) == 200);
  CHECK(lr_warmup_steps("30", 100) == 30);
  CHECK(lr_warmup_steps("0.5e", 100) == 50);
}

TEST_CASE("the size of buckets is a number or auto", "[api][train-options]") {
  CHECK(parse({"--fusion-mb", "auto"}).reduction.fusion_auto());
  CHECK_FALSE(parse({}).reduction.fusion_auto());
  CHECK(parse({"--fusion-mb", "auto", "--fusion-mb", "3"}).reduction.fusion_mb() == 3);
}

TEST_CASE("presets are defaults, and all of them parse", "[api][train-options]") {
  const auto options = parse({"--preset", "acp_mnist", "--epochs", "1"});
  CHECK(options.reduction.compressor() == "acpsgd:rank=4");
  CHECK(options.epochs == 1);
  CHECK(options.lr == 0.05);
  for (const auto& preset : presets()) {
    INFO(preset.name);
    CHECK_NOTHROW(parse({"--preset", preset.name}));
  }
  CHECK(parse({"--preset", "acp-mnist-original"}).scale_lr);
}

TEST_CASE("a preset's settings reach the run, its data set gives way to built-in data",
          "[api][train-options]") {
  const auto resnet = parse({"--preset", "legacy-resnet18-cifar100"});
  CHECK(resnet.preset == "legacy-resnet18-cifar100");
  CHECK(resnet.data_set == "cifar100");
  CHECK(resnet.no_decay == std::vector<std::string>{"norm"});
  CHECK(resnet.lr_warmup == "5e");
  CHECK(resnet.scale_lr);
  CHECK(parse({"--preset", "legacy-resnet18-cifar100", "--data", "synthetic"}).data_set.empty());
  CHECK(parse({"--preset", "legacy-resnet18-cifar100", "--data-set", "cifar10"}).data_set == "cifar10");
  const auto hybrids = parse({"--preset", "hybrids-lstm-ptb"});
  CHECK(hybrids.reduction.clip_local() == 0.25);
  CHECK(hybrids.clip == 0);
  CHECK(hybrids.lr == 20);
  const auto bert = parse({"--preset", "acp-bert-base"});
  CHECK_THAT(bert.model, ContainsSubstring("seq=64") && ContainsSubstring("head=pretrain"));
  CHECK(bert.iterations == 50);
  CHECK(bert.data == "synthetic");
  CHECK(bert.data_set.empty());
  CHECK(bert.clip == 0);
  CHECK(bert.epochs == 0);
  CHECK(parse({"--preset", "acp-bert-base", "--epochs", "1"}).iterations == 0);
  CHECK(parse({"--preset", "lgreco-resnet50-imagenet"}).label_smoothing == 0.1);
  // Another optimizer than the model's: its own decay, not the model's.
  const auto lamb = parse({"--preset", "legacy-transformer-xl-wikitext103"});
  CHECK(lamb.optimizer == "lamb");
  CHECK(lamb.weight_decay.value_or(0.01) == 0.01);
  CHECK(lamb.lr == 0.01);
}

TEST_CASE("lengths of sequences are the model's key", "[api][train-options]") {
  CHECK_THAT(parse({"--model", "lstm-lm", "--seq-len", "20"}).model, ContainsSubstring("seq=20"));
  CHECK_THAT(parse({"--model", "lstm-lm:seq=20", "--seq-len", "20"}).model, ContainsSubstring("seq=20"));
  fails({"--model", "lstm-lm:seq=30", "--seq-len", "20"}, "give one of them");
  fails({"--model", "mnist", "--seq-len", "20"}, "takes no sequences");
  fails({"--model", "lstm-lm", "--seq-len", "0"}, "--seq-len 0");
}

TEST_CASE("decay, smoothing, augmentation, evaluations between", "[api][train-options]") {
  const auto options =
      parse({"--no-decay", "bias,norm", "--label-smoothing", "0.1", "--no-augment", "--eval-every", "5"});
  CHECK(options.no_decay == std::vector<std::string>{"bias", "norm"});
  CHECK(options.label_smoothing == 0.1);
  CHECK_FALSE(options.augment);
  CHECK(options.eval_every == 5);
  CHECK(parse({}).augment);
  CHECK(parse({}).no_decay.empty());
  CHECK(parse({"--data-set", "fashion_mnist"}).data_set == "fashion-mnist");
  fails({"--no-decay", "biases"}, "did you mean bias?");
  fails({"--label-smoothing", "2"}, "--label-smoothing 2");
  fails({"--data-set", "mnits"}, "mnist");
  fails({"--model", "mnist", "--data-set", "cifar10"}, "cifar10");
}

TEST_CASE("another optimizer has its own rate", "[api][train-options]") {
  const auto options = parse({"--model", "mnist", "--optimizer", "adam"});
  CHECK(options.lr == 0.001);
  CHECK_FALSE(options.momentum);
  CHECK(parse({"--optimizer", "sgd:nesterov=on"}).momentum == 0.9);
  CHECK(parse({"--optimizer", "rmsprop", "--momentum", "0.5"}).momentum == 0.5);
}

TEST_CASE("granularity and the answer to NaN reach the reduction", "[api][train-options]") {
  const auto options = parse({"--compressor", "topk", "--granularity", "bucket", "--nonfinite", "skip"});
  CHECK(options.reduction.granularity() == "bucket");
  CHECK(options.reduction.nonfinite() == "skip");
  CHECK(parse({}).reduction.granularity().empty());
  CHECK(parse({}).reduction.nonfinite() == "auto");
  fails({"--compressor", "topk", "--granularity", "layres"}, "did you mean \"layer\"?");
  fails({"--compressor", "powersgd", "--granularity", "model"}, "known: layer");
  fails({"--nonfinite", "stop"}, "nonfinite");
}

TEST_CASE("a compressor's recipe replaces the model's rate and momentum, and lines say so",
          "[api][train-options]") {
  for (const auto* compressor : {"signsgd", "signum:momentum=0.8", "topk+signsgd"}) {
    const auto options = parse({"--model", "mnist", "--compressor", compressor});
    CHECK(options.lr == 0.0005);
    CHECK(options.momentum == 0.0);
    REQUIRE(options.notes.size() == 2);
    CHECK_THAT(options.notes[0], ContainsSubstring("--lr 0.0005") && ContainsSubstring(compressor));
  }
  const auto own_rate = parse({"--compressor", "signsgd", "--lr", "0.01"});
  CHECK(own_rate.lr == 0.01);
  CHECK(own_rate.momentum == 0.0);
  CHECK(own_rate.notes.size() == 1);
  CHECK(parse({"--compressor", "signsgd", "--optimizer", "adam"}).lr == 0.001);
  CHECK(parse({"--compressor", "signsgd", "--preset", "ssgd-mnist"}).lr == 0.0005);
  CHECK(parse({"--compressor", "efsignsgd"}).lr == 0.05);
}

TEST_CASE("the dgc memory takes the optimizer's momentum away, and a line says so", "[api][train-options]") {
  for (const auto& arguments : {std::vector<std::string>{"--compressor", "dgc"},
                                {"--compressor", "topk", "--memory", "dgc", "--momentum", "0.8"}}) {
    const auto options = parse(arguments);
    CHECK(options.momentum == 0.0);
    REQUIRE(options.notes.size() == 1);
    CHECK_THAT(options.notes[0], ContainsSubstring("is set to 0") && ContainsSubstring("dgc"));
  }
  CHECK(parse({"--compressor", "dgc", "--memory", "residual"}).momentum == 0.9);
  CHECK(parse({"--compressor", "dgc", "--memory", "residual"}).notes.empty());
  CHECK(parse({"--compressor", "dgc:momentum=0"}).momentum == 0.9);
  CHECK(parse({"--compressor", "dgc", "--momentum", "0"}).notes.empty());
  CHECK(parse({"--compressor", "dgc", "--optimizer", "adam"}).notes.empty());
  fails({"--compressor", "dgc", "--optimizer", "sgd:nesterov=on"}, "--memory residual");
}

TEST_CASE("mistakes are named with what to do", "[api][train-options]") {
  fails({"--compresor", "none"}, "did you mean --compressor?");
  fails({"--compressor", "acpsdg:rank=4"}, "acpsgd");
  fails({"--compressor", "acpsgd:rnak=4"}, "rank");
  fails({"--compressor", "acpsgd:rank=0"}, "rank");
  fails({"--model", "mnits"}, "mnist");
  fails({"--optimizer", "sdg"}, "did you mean sgd?");
  fails({"--optimizer", "adam", "--momentum", "0.9"}, "--momentum");
  fails({"--lr-schedule", "cosin"}, "did you mean cosine?");
  fails({"--lr", "fast"}, "--lr fast: must be a number");
  fails({"--fusion-mb", "atuo"}, "--fusion-mb atuo: must be a number from 0 to 1e+06, or auto");
  fails({"--lr", "-1"}, "--lr -1");
  fails({"--lr", "nan"}, "--lr nan");
  fails({"--lr-warmup", "3x"}, "--lr-warmup 3x");
  fails({"--lr-warmup", "2.5"}, "--lr-warmup 2.5");
  fails({"--batch-size", "0"}, "--batch-size 0: must be a whole number");
  fails({"--batch-size", "1.5"}, "--batch-size 1.5");
  fails({"--batch-size"}, "--batch-size needs a value");
  fails({"--batch-size="}, "--batch-size needs a value");
  fails({"--epochs", "2", "--iterations", "5"}, "one of them");
  fails({"--backend", "mpii"}, "did you mean mpi?");
  fails({"--algorithm", "rign"}, "did you mean ring?");
  fails({"--device", "gpu"}, "cuda");
  fails({"--policy", "unifrom"}, "uniform");
  fails({"--memory", "residul"}, "memor");
  fails({"--quiet=yes"}, "takes no value");
  fails({"--model", "resnet9", "--lr", "0.7"}, "has rates of its own");
  fails({"--preset", "legacy-resnet9-cifar10", "--scale-lr"}, "--scale-lr: the schedule piecewise");
  fails({"--lr-schedule", "plateau", "--no-eval"}, "plateau waits for evaluations");
  fails({"--label-smoothing", "1"}, "--label-smoothing 1");
  fails({"--resume"}, "--checkpoint DIR");
  fails({"--checkpoint-every", "5"}, "--checkpoint DIR");
  fails({"--checkpoint", "d", "--optimizer", "lbfgs"}, "cannot save the optimizer lbfgs");
  fails({"--preset", "acp-mnits"}, "did you mean acp-mnist?");
  fails({"mnist"}, "unexpected argument");
  fails({"-x"}, "unexpected argument");
}

TEST_CASE("help shows every option, and the list actions need no more", "[api][train-options]") {
  const char* argv[] = {"acp-train", "--help"};
  std::string help;
  CHECK(parse_train_options(2, argv, help).action == TrainOptions::Action::help);
  std::set<std::string> names;
  for (const auto& option : train_option_table()) {
    CHECK(names.insert(option.name).second);
    CHECK_THAT(help, ContainsSubstring("--" + option.name));
    CHECK_FALSE(option.help.empty());
  }
  CHECK(parse({"--version"}).action == TrainOptions::Action::version);
  CHECK(parse({"--list-models"}).action == TrainOptions::Action::list_models);
  CHECK(parse({"--list-presets"}).action == TrainOptions::Action::list_presets);
  CHECK(parse({"--check-data", "/x"}).data == "/x");
}
