// See source_root.h.
#include "tests/source_root.h"

std::filesystem::path source_root() {
  return ACP_SOURCE_ROOT;
}
