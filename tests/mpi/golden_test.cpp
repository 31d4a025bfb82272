// ACP-SGD and Power-SGD over MPI against the recorded numbers: all cases of as many workers as there are
// ranks.
#include "tests/catch.h"
#include "tests/mpi/fixture.h"
#include "tests/support/golden_lowrank.h"

TEST_CASE("low-rank compressors over mpi give the recorded numbers", "[mpi]") {
  const auto folder = acp::golden::folder();
  if (!folder) return;
  auto& channel = acp::test::mpi_channel();
  int checked = 0;
  for (const std::string set : {"acpsgd", "powersgd_ddp", "powersgd_epfml", "powersgd_paper"}) {
    for (const auto& path : acp::golden::cases(*folder / set)) {
      if (acp::golden::world_size(path) != channel.size()) continue;
      CAPTURE(path.string());
      CHECK(acp::golden::check(path, channel, true) == "");
      ++checked;
    }
  }
  // 1, 2 and 4 workers were recorded
  CHECK((checked > 0) == (channel.size() == 1 || channel.size() == 2 || channel.size() == 4));
}
