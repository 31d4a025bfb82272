// Compressors on a GPU, whose kernels are run on the host here, against their CPU forms: whole steps of
// several ranks.
#include <ATen/ATen.h>

#include "compressors/staged.h"
#include "tests/catch.h"
#include "tests/support/device_runs.h"
#include "tests/support/emulated_kernels.h"

using namespace acp;

namespace {

std::shared_ptr<void> emulate() {
  return std::make_shared<device::Emulation>();
}
std::shared_ptr<void> emulate_backwards() {
  return std::make_shared<device::Emulation>(true);
}

}  // namespace

TEST_CASE("choices and codes of few bits by a GPU's kernels give the CPU's gradients", "[ranks][device]") {
  compare_selections_and_codes(emulate);
  compare_selections_and_codes(emulate_backwards);
}

TEST_CASE("signs with scales by a GPU's kernels give the CPU's gradients", "[ranks][device]") {
  compare_signs_with_scales(emulate);
  compare_signs_with_scales(emulate_backwards);
}

TEST_CASE("low rank by a GPU's kernels gives the CPU's gradients", "[ranks][device]") {
  compare_low_rank(emulate);
  compare_low_rank(emulate_backwards);
}

TEST_CASE("what kernels cannot do is the CPU's", "[ranks][device]") {
  compare_others(emulate);
}

TEST_CASE("low rank by a GPU's kernels reproduces the recorded numbers", "[ranks][device]") {
  replay_low_rank(emulate);
}

TEST_CASE("gradients that are not finite end a step of a GPU's kernels, too", "[ranks][device]") {
  refuse_what_is_not_finite(emulate);
}

TEST_CASE("levels of policies change what a GPU sends", "[ranks][device]") {
  const auto steps = [](const std::string& spec, double level) {
    return each_rank(2, [&](Communicator& communicator) {
      RankDriver driver(spec, device_net, communicator);
      Gradients last;
      std::vector<Level> levels(device_net.size(), Level(level));
      levels[1] = std::nullopt;  // dense
      driver.step(random_gradients(device_net, communicator.rank(), 0));
      driver.compressor().set_levels(levels);
      driver.step(random_gradients(device_net, communicator.rank(), 1));
      return driver.step(random_gradients(device_net, communicator.rank(), 2));
    });
  };
  for (const auto& [spec, level] : {std::pair<std::string, double>{"topk:ratio=0.1", 0.3},
                                    {"qsgd:bits=8", 3},
                                    {"cgx:min_size=1", 2},
                                    {"acpsgd:rank=2", 3}}) {
    const auto cpu = steps(spec, level);
    const device::Emulation emulation;
    const auto gpu = steps(spec, level);
    INFO(spec);
    for (const auto& [name, gradient] : cpu[0]) CHECK(device_distance(gpu[1].at(name), gradient) < 5e-5);
  }
}

TEST_CASE("probes of policies see on a GPU what they see on the CPU", "[ranks][device]") {
  const auto norms = [] {
    return each_rank(2, [](Communicator& communicator) {
      RankDriver driver("topk:ratio=0.05", device_net, communicator);
      const std::vector<double> ratios{0.3, 0.05, 0.01};
      driver.compressor().set_probes(ratios);
      driver.step(random_gradients(device_net, communicator.rank(), 0));
      driver.step(random_gradients(device_net, communicator.rank(), 1));
      return driver.compressor().probe_norms();
    });
  };
  const auto cpu = norms();
  const device::Emulation emulation;
  const auto gpu = norms();
  for (std::size_t rank = 0; rank < 2; ++rank) {
    CHECK(gpu[rank].gradient.sum == Approx(cpu[rank].gradient.sum));
    CHECK(gpu[rank].input.squares == Approx(cpu[rank].input.squares));
    REQUIRE(gpu[rank].kept.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) CHECK(gpu[rank].kept[i].sum == Approx(cpu[rank].kept[i].sum));
  }
}

TEST_CASE("a staged compressor is the compressor itself", "[ranks][device]") {
  for (const std::string spec :
       {"topk:ratio=0.1", "randomk:ratio=0.1", "cgx:min_size=1", "globaltopk:exchange=tree", "signum",
        "threshold", "terngrad", "acpsgd:rank=2"}) {
    const auto own = each_rank(3, [&](Communicator& communicator) {
      RankDriver driver(spec, device_net, communicator);
      driver.step(random_gradients(device_net, communicator.rank(), 0));
      return driver.step(random_gradients(device_net, communicator.rank(), 1));
    });
    const auto staged = each_rank(3, [&](Communicator& communicator) {
      auto bucket = make_bucket(device_net);
      const CompressorFactory factory(spec, {"", RankDriver::seed});
      const auto compressor = make_staged(bucket, [&](const Bucket& mirror) { return factory.make(mirror); });
      Gradients result;
      for (std::uint64_t step = 0; step < 2; ++step) {
        const auto gradients = random_gradients(device_net, communicator.rank(), step);
        std::ranges::fill(bucket.used, std::uint8_t{1});
        for (const auto& slice : bucket.slices)
          bucket.view(slice).copy_(gradients.at(slice.name).reshape(-1));
        const StepContext context{communicator.rank(), communicator.size(), step, RankDriver::seed};
        compressor->prepare(bucket, context);
        acp::run(compressor->exchange(bucket, context), communicator);
        for (const auto& slice : bucket.slices)
          result[slice.name] = bucket.view(slice).view(slice.shape).clone();
      }
      return result;
    });
    INFO(spec);
    for (const auto& [name, gradient] : staged[1]) CHECK(gradient.equal(own[1].at(name)));
  }
}
