// Holds the process's connection to MPI.
#include "tests/mpi/fixture.h"

#include <memory>

#include "comm/mpi/mpi.h"
#include "comm/wire_communicator.h"

namespace acp::test {

namespace {

struct Connection {
  std::unique_ptr<Communicator> channel;
  int local_size = 0;
};

Connection& connection() {
  static Connection instance;
  return instance;
}

Connection& connected() {
  Connection& c = connection();
  if (!c.channel) {
    auto transport = mpi::connect();
    c.local_size = mpi::local_rank(*transport).size;
    c.channel = std::make_unique<WireCommunicator>(std::move(transport));
  }
  return c;
}

}  // namespace

Communicator& mpi_channel() {
  return *connected().channel;
}
int mpi_local_size() {
  return connected().local_size;
}
void close_mpi() {
  connection().channel.reset();
}

}  // namespace acp::test
