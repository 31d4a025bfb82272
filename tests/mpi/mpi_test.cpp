// The mpi backend, started by mpirun with any number of ranks: every rank runs the same cases in the same
// order.
#include "comm/mpi/mpi.h"

#include <ATen/ATen.h>

#include "comm/error.h"
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

TEST_CASE("ranks that do different things over mpi are told so", "[mpi]") {
  Communicator& c = mpi_channel();
  if (c.size() < 2) return;
  const auto channel = c.channel();
  at::Tensor a = at::zeros({8});
  at::Tensor b = at::zeros({16});
  const bool odd = c.rank() % 2 == 1;
  Collective op = Collective::send_receive((c.rank() + 1) % c.size(), odd ? b : a,
                                           (c.rank() + c.size() - 1) % c.size(), odd ? b.clone() : a.clone());
  std::string message;
  try {
    perform(*channel, std::move(op));
  } catch (const CommunicationError& e) {
    message = e.what();
  }
  // With an odd number of ranks rank 0 hears from another even one.
  const bool differs = (c.rank() + c.size() - 1) % c.size() % 2 != c.rank() % 2;
  CHECK((message.find("ranks do different things") != std::string::npos) == differs);
  perform(c, Collective::barrier());
}

TEST_CASE("the local rank over mpi", "[mpi]") {
  CHECK(mpi_local_size() == mpi_channel().size());  // the tests run on one host
}
