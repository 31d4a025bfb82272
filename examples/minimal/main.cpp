// Trains a small network on noisy samples of a function, on any number of processes.
#include <acp/acp.h>
#include <torch/torch.h>

#include <cstdio>

int main(int argc, char** argv) try {
  const std::string compressor = argc > 1 ? argv[1] : "acpsgd:rank=4";
  acp::Context context =
      acp::init();  // under mpirun: MPI; with RANK and WORLD_SIZE set: TCP; alone: one rank
  torch::manual_seed(1);

  torch::nn::Sequential model(torch::nn::Linear(8, 64), torch::nn::Tanh(), torch::nn::Linear(64, 64),
                              torch::nn::Tanh(), torch::nn::Linear(64, 1));
  acp::broadcast_parameters(*model);  // rank 0's go everywhere

  acp::DistributedOptimizer optimizer(
      torch::optim::SGD(model->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9)),
      model->named_parameters(), acp::Options().compressor(compressor));

  torch::manual_seed(100 + context.rank());  // every rank has samples of its own
  double first = 0;
  double last = 0;
  for (int step = 0; step < 200; ++step) {
    const torch::Tensor x = torch::randn({32, 8});
    const torch::Tensor y = torch::sin(x.sum(1, /*keepdim=*/true)) + 0.01 * torch::randn({32, 1});
    optimizer.zero_grad();
    const torch::Tensor loss = torch::mse_loss(model->forward(x), y);
    loss.backward();   // gradients are compressed and reduced while this runs
    optimizer.step();  // waits for what is left, then steps SGD
    const double mean = acp::all_reduce(loss.detach()).item<double>();
    if (step < 10) first += mean / 10;
    if (step >= 190) last += mean / 10;
  }
  acp::check_parameters_agree(*model);
  if (context.rank() == 0) {
    std::printf("%d ranks over %s: loss %.4f -> %.4f\n", context.size(), context.backend().c_str(), first,
                last);
  }
  return last < first ? 0 : 1;
} catch (const acp::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
