// The mpi backend, started by mpirun with any number of ranks: every rank runs the same cases in the same
// order.
#include "comm/mpi/mpi.h"

#include "comm/wire_communicator.h"
#include "tests/catch.h"
#include "tests/mpi/fixture.h"
#include "tests/support/collective_suite.h"

using namespace acp;
using namespace acp::test;

TEST_CASE("every collective over mpi", "[mpi]") {
  run_collective_suite(mpi_channel());
}

TEST_CASE("every collective over mpi in short segments", "[mpi]") {
  const auto channel = dynamic_cast<WireCommunicator&>(mpi_channel()).channel(Tuning{24, 0});
  check_all(*channel, Algorithm::ring, {0, 1, 3, 17, 250});
  check_bits(*channel, Algorithm::ring, at::kFloat, 501);
}

TEST_CASE("channels over mpi are independent", "[mpi]") {
  run_channel_suite(mpi_channel());
}

TEST_CASE("the local rank over mpi", "[mpi]") {
  CHECK(mpi_local_size() == mpi_channel().size());  // the tests run on one host
}
