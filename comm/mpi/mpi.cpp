// The mpi backend's front door.
#include "comm/mpi/mpi.h"

#include <mpi.h>

#include "comm/error.h"
#include "comm/mpi/transport.h"

namespace acp::mpi {

std::unique_ptr<Transport> connect() {
  const auto thread = MpiThread::get();
  return std::make_unique<MpiTransport>(thread, thread->open(nullptr));
}

void use_device(Transport& transport, c10::Device device) {
  if (auto* mine = dynamic_cast<MpiTransport*>(&transport)) mine->use_device(device);
}

Local local_rank(Transport& transport) {
  auto* mine = dynamic_cast<MpiTransport*>(&transport);
  if (mine == nullptr)
    throw ConfigError("the local rank is asked of a transport of another backend than mpi");
  return mine->local();
}

}  // namespace acp::mpi
