// What GPUs need of the mpi backend, as far as it shows without one.
#include "comm/staged/staged.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "comm/roll_call.h"
#include "tests/catch.h"
#include "tests/mpi/fixture.h"
#include "tests/support/collective_suite.h"
#include "tests/support/slow_copies.h"

using namespace acp;
using namespace acp::test;

TEST_CASE("every collective, staged over mpi", "[mpi]") {
  const auto staged = stage(mpi_channel().channel(), std::make_shared<SlowCopies>(), {4096});
  check_all(*staged, Algorithm::automatic, {0, 1, 17, 5000});
  run_random_suite(*staged, 5, 60);
}

TEST_CASE("a roll call over mpi goes on while nothing else does, and ends", "[mpi]") {
  std::atomic<int> lost = 0;
  {
    RollCall roll_call(mpi_channel().channel(), [&](const Failure&) { ++lost; });
    roll_call.started();
    std::this_thread::sleep_for(std::chrono::milliseconds(1200 + 100 * mpi_channel().rank()));
    CHECK(roll_call.late().rank == -1);
  }
  CHECK(lost == 0);
}
