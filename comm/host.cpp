// The machine's identity, from the kernel.
#include "comm/host.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>

namespace acp {

std::string host_identity() {
  const char* const given = std::getenv("ACP_HOST_ID");
  if (given != nullptr && *given != '\0') return given;
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  file >> boot;
  return std::string(name.data()) + " " + boot;
}

}  // namespace acp
