// Holds the process's context.
#include "tests/support/process_context.h"

#include <optional>

namespace acp::test {
namespace {

std::optional<Context>& holder() {
  static std::optional<Context> context;
  return context;
}

}  // namespace

Context& process_context() {
  if (!holder()) holder().emplace(init());
  return *holder();
}

void close_process_context() {
  holder().reset();
}

}  // namespace acp::test
