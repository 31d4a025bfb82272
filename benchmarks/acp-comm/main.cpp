// acp-comm: collectives by size, as nccl-tests measures them: time, bandwidth, and whether the result is
// right.
#include <c10/core/GradMode.h>
#include <spdlog/fmt/fmt.h>

#include <cstdlib>
#include <iostream>
#include <optional>

#include "benchmarks/acp-comm/options.h"
#include "benchmarks/acp-comm/report.h"
#include "benchmarks/common/output.h"
#include "benchmarks/common/program.h"
#include "comm/error.h"

using namespace acp::programs;

namespace {

int measure(const acp::Context& context, const CommOptions& options) {
  std::optional<JsonLines> json;
  agree(context, [&] { json.emplace("json", context.rank() == 0 ? options.json : ""); });
  if (options.root >= context.size()) {
    throw AgreedError(2, fmt::format("--root {}: there are {} ranks, 0 to {}", options.root, context.size(),
                                     context.size() - 1));
  }
  const c10::NoGradGuard no_grad;
  CommReport report(context, options, *json);
  std::int64_t wrong = 0;
  agreed([&] {
    wrong = options.action == CommOptions::Action::tensors ? report.tensors() : report.collectives();
  });
  if (wrong > 0) throw AgreedError(1, fmt::format("{} elements of the results are wrong", wrong));
  return 0;
}

int show(const CommOptions& options, const std::string& help) {
  if (launcher_rank() != 0) return 0;
  std::cout << (options.action == CommOptions::Action::help ? help : "acp-comm " ACP_VERSION "\n")
            << std::flush;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("acp-comm", [&] {
    using Action = CommOptions::Action;
    CommOptions options;
    std::string help;
    before_start([&] { options = parse_comm_options(argc, argv, help); });
    if (options.action == Action::help || options.action == Action::version) return show(options, help);
    if (options.action == Action::local) {
      if (launcher_rank() == 0) report_loops(options);  // the other processes leave it the machine
      return 0;
    }
    if (options.quiet) ::setenv("ACP_LOG", "warn", 0);  // the user's own level stands
    acp::InitOptions init;
    if (options.backend != "auto") init.backend(options.backend);
    if (options.device != "auto") init.device(options.device);
    check_rank([&] { acp::check(init); });
    const auto context = acp::init(init);
    return run_ranks("acp-comm", context, [&] { return measure(context, options); });
  });
}
