// acp::init() compiled without copy elision: the Context that it returns is then moved, as the language
// allows. What context_moved.sh starts: a deadlock cannot be a test case.
#include <cstdio>

#include "acp/context.h"

int main() {
  acp::Context context = acp::init(acp::InitOptions().backend("local"));
  const bool current = &acp::current_context() == &context;
  std::printf("%s\n", current && acp::size() == 1 ? "current" : "another is current");
  return current ? 0 : 1;
}
