// The tests' main(): Catch2's command line; ends MPI, if a test has started it, before the process does.
#define CATCH_CONFIG_RUNNER
#include "tests/catch.h"
#include "tests/mpi/fixture.h"

int main(int argc, char** argv) {
  const int result = Catch::Session().run(argc, argv);
  acp::test::close_mpi();
  return result;
}
