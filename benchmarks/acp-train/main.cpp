// acp-train: trains or benchmarks a model on all ranks, with any optimizer and gradient compressor.
#include <torch/torch.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "benchmarks/acp-train/listings.h"
#include "benchmarks/acp-train/options.h"
#include "benchmarks/acp-train/report.h"
#include "benchmarks/acp-train/trainer.h"
#include "benchmarks/common/output.h"
#include "benchmarks/common/program.h"

using namespace acp::programs;

namespace {

int train(const acp::Context& context, const TrainOptions& options) {
  const bool first = context.rank() == 0;
  std::optional<JsonLines> json;
  agree(context, [&] { json.emplace("json", first ? options.json : ""); });
  Console console(options.quiet || !first, options.json == "-");
  Trainer trainer(context, options, console);
  const auto result = trainer.run();
  if (result.stopped_by != 0) {
    console.line(describe_stop(options, result));
    return 128 + result.stopped_by;
  }
  if (first) {
    const auto object = report(context, options, result);
    for (const auto& line : summary(object)) console.line(line);
    json->write(object);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("acp-train", [&] {
    TrainOptions options;
    std::string help;
    before_start([&] { options = parse_train_options(argc, argv, help); });
    if (options.action != TrainOptions::Action::train) return launcher_rank() == 0 ? show(options, help) : 0;
    if (options.quiet) ::setenv("ACP_LOG", "warn", 0);  // the user's own level stands
    auto init = acp::InitOptions().device(options.device);
    if (options.backend != "auto") init.backend(options.backend);
    check_rank([&] { acp::check(init); });
    const auto context = acp::init(init);
    return run_ranks("acp-train", context, [&] { return train(context, options); });
  });
}
