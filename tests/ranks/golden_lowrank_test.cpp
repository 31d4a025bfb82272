// ACP-SGD and Power-SGD against the recorded numbers of the published implementations, ranks as threads.
#include "tests/support/golden_lowrank.h"

#include "tests/catch.h"
#include "tests/support/ranks.h"

namespace {

// Every case of a set, in one bucket and in a bucket for each tensor; `expected` guards against an empty
// folder.
void check_set(const std::string& set, std::size_t expected) {
  const auto folder = acp::golden::folder();
  if (!folder) return;
  const auto cases = acp::golden::cases(*folder / set);
  CHECK(cases.size() == expected);
  for (const auto& path : cases) {
    const auto size = static_cast<std::size_t>(acp::golden::world_size(path));
    for (const bool one_bucket : {true, false}) {
      std::vector<std::string> findings(size);
      acp::on_ranks(static_cast<int>(size), [&](acp::Communicator& communicator) {
        findings[static_cast<std::size_t>(communicator.rank())] =
            acp::golden::check(path, communicator, one_bucket);
      });
      CAPTURE(path.filename().string(), one_bucket);
      for (const auto& finding : findings) CHECK(finding == "");
    }
  }
}

}  // namespace

TEST_CASE("ACP-SGD gives the recorded gradients, errors, factors and parameters", "[ranks]") {
  check_set("acpsgd", 11);
}

TEST_CASE("Power-SGD as the DDP hook gives the recorded gradients and errors", "[ranks]") {
  check_set("powersgd_ddp", 9);
}

TEST_CASE("alternating Power-SGD gives the recorded gradients, errors and factors", "[ranks]") {
  check_set("powersgd_epfml", 4);
}

TEST_CASE("the paper's two-sided and alternating Power-SGD give the recorded gradients and errors",
          "[ranks]") {
  check_set("powersgd_paper", 3);
}
