// A program under mpirun in which something goes wrong: `mpi-faults SCENARIO`. Like any program of the
// project it prints one line for an error and ends with 2, 3 or 4; tests/mpi/faults.sh looks at both.
#include <ATen/ATen.h>
#include <mpi.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "comm/error.h"
#include "comm/mpi/mpi.h"
#include "comm/wire_communicator.h"

using namespace acp;
using namespace std::chrono_literals;

namespace {

Collective sum(std::int64_t numel, Algorithm algorithm = Algorithm::ring) {
  Collective op = Collective::all_reduce(at::ones({numel}));
  op.algorithm = algorithm;
  op.label = "step 7, bucket 2: fc.weight";
  return op;
}

int launcher_rank() {
  const char* text = std::getenv("OMPI_COMM_WORLD_RANK");
  return text == nullptr ? 0 : std::atoi(text);
}

// As a program's context does it: an exception of one rank is told to the others before it goes on.
void with_communicator(const std::function<void(Communicator&)>& body) {
  WireCommunicator communicator(mpi::connect());
  try {
    perform(communicator, sum(10));
    // A short deadline is for what follows, not for a machine that is slow to start its processes.
    if (const char* limit = std::getenv("FAULTS_TIMEOUT")) setenv("ACP_TIMEOUT", limit, 1);
    body(communicator);
  } catch (...) {
    communicator.abort(std::current_exception());
    throw;
  }
}

// Rank 1 fails while the others wait for it.
void fails(Communicator& c, Algorithm algorithm) {
  if (c.rank() == 1) throw DataError("the disk of rank 1 is full");
  perform(c, sum(100000, algorithm));
}

// Rank 1 is alive, but does something else until the others have given up.
void comes_late(Communicator& c, Algorithm algorithm) {
  if (c.rank() == 1) std::this_thread::sleep_for(3s);
  perform(c, sum(100000, algorithm));
}

void is_stopped(Communicator& c, Algorithm algorithm) {
  if (c.rank() == 1) kill(getpid(), SIGSTOP);
  perform(c, sum(100000, algorithm));
}

// Rank 1 ends in good order; the others expect one more operation of it.
void ends_early(Communicator& c, Algorithm algorithm) {
  if (c.rank() == 1) return;
  perform(c, sum(100000, algorithm));
}

void joins(int level) {
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, level, &provided);
  std::string error;
  try {
    with_communicator([](Communicator& c) { perform(c, sum(1000, Algorithm::native)); });
  } catch (const ConfigError& e) {
    error = e.what();
  }
  int sum_of_ones = 1;
  MPI_Allreduce(MPI_IN_PLACE, &sum_of_ones, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  std::printf("MPI still works, %d ranks\n", sum_of_ones);
  MPI_Finalize();
  if (!error.empty()) throw ConfigError(error);
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

// Rank 1 sleeps 5 seconds; the others print what waiting for it costs.
void waits(Communicator& c, Algorithm algorithm) {
  if (c.rank() == 1) std::this_thread::sleep_for(5s);
  const double before = cpu_seconds();
  perform(c, sum(100000, algorithm));
  if (c.rank() != 1)
    std::printf("rank %d: %.1f %% of a core\n", c.rank(), (cpu_seconds() - before) / 5 * 100);
}

const std::map<std::string, std::function<void()>>& scenarios() {
  const auto scenario = [](void (*body)(Communicator&, Algorithm), Algorithm algorithm) {
    return [=] { with_communicator([=](Communicator& c) { body(c, algorithm); }); };
  };
  static const std::map<std::string, std::function<void()>> all = {
      {"fails", scenario(fails, Algorithm::ring)},
      {"fails-native", scenario(fails, Algorithm::native)},
      {"late", scenario(comes_late, Algorithm::ring)},
      {"late-native", scenario(comes_late, Algorithm::native)},
      {"stopped", scenario(is_stopped, Algorithm::ring)},
      {"stopped-native", scenario(is_stopped, Algorithm::native)},
      {"ends-early", scenario(ends_early, Algorithm::ring)},
      {"ends-early-native", scenario(ends_early, Algorithm::native)},
      {"waits", scenario(waits, Algorithm::ring)},
      {"waits-native", scenario(waits, Algorithm::native)},
      {"all-well", [] { with_communicator([](Communicator& c) { perform(c, sum(100000)); }); }},
      {"length",
       [] { with_communicator([](Communicator& c) { perform(c, sum(c.rank() == 1 ? 30 : 20)); }); }},
      {"operation",
       [] {
         with_communicator([](Communicator& c) {
           perform(c,
                   Collective::all_reduce(at::ones({2000}), c.rank() == 1 ? ReduceOp::max : ReduceOp::sum));
         });
       }},
      {"killed",
       [] {
         with_communicator([](Communicator& c) {
           if (c.rank() == 1) kill(getpid(), SIGKILL);
           perform(c, sum(100000));
         });
       }},
      {"never-starts",
       [] {
         if (launcher_rank() == 1) std::this_thread::sleep_for(60s);
         with_communicator([](Communicator&) {});
       }},
      // Rank 0 has something to do alone for longer than any wait may take.
      {"works-on",
       [] {
         with_communicator([](Communicator& c) { std::this_thread::sleep_for(c.rank() == 0 ? 3s : 0s); });
       }},
      {"stopped-at-the-end",
       [] {
         with_communicator([](Communicator& c) {
           if (c.rank() == 1) kill(getpid(), SIGSTOP);
         });
       }},
      {"twice",
       [] {
         with_communicator([](Communicator&) {});
         with_communicator([](Communicator&) {});
       }},
      {"joins-single", [] { joins(MPI_THREAD_SINGLE); }},
      {"joins-serialized", [] { joins(MPI_THREAD_SERIALIZED); }},
      {"yields",
       [] {
         with_communicator([](Communicator&) {});
         std::printf("yield %s\n", std::getenv("OMPI_MCA_mpi_yield_when_idle"));
       }},
  };
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  const auto found = argc == 2 ? scenarios().find(argv[1]) : scenarios().end();
  if (found == scenarios().end()) {
    std::fprintf(stderr, "usage: mpi-faults SCENARIO\n");
    for (const auto& [name, run] : scenarios()) std::fprintf(stderr, "  %s\n", name.c_str());
    return 2;
  }
  const auto report = [](const std::exception& e, int code) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return code;
  };
  try {
    found->second();
    return 0;
  } catch (const ConfigError& e) {
    return report(e, 2);
  } catch (const DataError& e) {
    return report(e, 3);
  } catch (const Error& e) {
    return report(e, 4);
  }
}
