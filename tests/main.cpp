// The tests' main(): Catch2's command line; ends the backend that a test has started before the process ends.
#define CATCH_CONFIG_RUNNER
#include "tests/catch.h"
#include "tests/mpi/fixture.h"
#include "tests/support/process_context.h"

int main(int argc, char** argv) {
  const int result = Catch::Session().run(argc, argv);
  acp::test::close_process_context();
  acp::test::close_mpi();
  return result;
}
