// One rank of MPI's own blocking all-reduce, which Open MPI's coll_tuned_allreduce_algorithm governs, for
// collectives.py (acp-comm --algorithm native calls the non-blocking form, which has algorithms of its own):
//   mpirun ... peers-mpi-allreduce BYTES ITERATIONS WARMUP
// Sums float32 in place and prints a JSON line from rank 0: the slowest rank's median in microseconds.
#include <mpi.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <string_view>
#include <vector>

namespace {

// A whole number of at least `least`, or -1.
int number(std::string_view text, int least) {
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= least ? value : -1;
}

double median(std::vector<double> times) {
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

}  // namespace

int main(int argc, char** argv) {
  const int bytes = argc == 4 ? number(argv[1], 4) : -1;
  const int iterations = argc == 4 ? number(argv[2], 1) : -1;
  const int warmup = argc == 4 ? number(argv[3], 0) : -1;
  if (bytes < 0 || iterations < 0 || warmup < 0) {
    std::fputs("peers-mpi-allreduce BYTES (at least 4) ITERATIONS (at least 1) WARMUP (at least 0)\n",
               stderr);
    return 2;
  }
  MPI_Init(&argc, &argv);  // errors end all ranks: MPI's default
  int rank = 0;
  int size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  std::vector<float> x(static_cast<std::size_t>(bytes) / 4);
  std::vector<double> times;
  int wrong = 0;
  for (int i = 0; i < warmup + iterations; ++i) {
    std::ranges::fill(x, 1.0F);
    MPI_Barrier(MPI_COMM_WORLD);
    const double begin = MPI_Wtime();
    MPI_Allreduce(MPI_IN_PLACE, x.data(), static_cast<int>(x.size()), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    if (i >= warmup) times.push_back((MPI_Wtime() - begin) * 1e6);
    wrong += static_cast<int>(x.size() -
                              static_cast<std::size_t>(std::ranges::count(x, static_cast<float>(size))));
  }
  double slowest = median(std::move(times));
  MPI_Allreduce(MPI_IN_PLACE, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  if (rank == 0) std::printf("{\"bytes\": %d, \"p50_us\": %.3f, \"wrong\": %d}\n", bytes, slowest, wrong);
  MPI_Finalize();
  return 0;
}
