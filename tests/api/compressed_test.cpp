// acp::Compressed: one call for one tensor, with error memory by name.
#include "acp/compressed.h"

#include <torch/torch.h>

#include "acp/context.h"
#include "comm/error.h"
#include "compressors/residual.h"
#include "tests/api/toy.h"
#include "tests/catch.h"

using namespace acp;
using namespace acp::test;

namespace {

torch::Tensor value(int rank, std::uint64_t step, const std::vector<std::int64_t>& shape = {9, 11}) {
  return numbers(1000 * step + static_cast<std::uint64_t>(rank), shape);
}

}  // namespace

TEST_CASE("Compressed: the mean, in place, of any layout and dtype", "[api][compressed]") {
  run_local(3, [](Context& context) {
    Compressed dense("none");
    for (const auto type : {torch::kFloat, torch::kDouble, torch::kBFloat16}) {
      const auto x = value(context.rank(), 0).to(type).t();  // not contiguous
      auto expected = torch::zeros({11, 9}, torch::kDouble);
      for (int r = 0; r < 3; ++r) expected += value(r, 0).to(type).t().to(torch::kDouble) / 3;
      const auto* place = x.data_ptr();
      dense.all_reduce(x, c10::toString(type));
      require(x.data_ptr() == place, "in place");
      require(torch::allclose(x.to(torch::kDouble), expected, 0, type == torch::kBFloat16 ? 2e-2 : 1e-6),
              "mean");
    }
    auto leaf = value(context.rank(), 1).requires_grad_();
    dense.all_reduce(leaf, "leaf");
    auto empty = torch::zeros({0, 4});
    dense.all_reduce(empty, "empty");
  });
}

TEST_CASE("Compressed: what is left out comes later, name by name", "[api][compressed]") {
  run_local(2, [](Context& context) {
    Compressed topk("topk:ratio=0.1", "residual");
    torch::Tensor sent[2], given[2];
    for (int k : {0, 1}) sent[k] = given[k] = torch::zeros({9, 11});
    for (std::uint64_t step = 0; step < 4; ++step) {
      for (int k : {0, 1}) {
        auto x = value(context.rank() + 10 * k, step);
        for (int r : {0, 1}) given[k] = given[k] + value(r + 10 * k, step) / 2;
        topk.all_reduce(x, k == 0 ? "a" : "b");
        sent[k] = sent[k] + x;
        require(x.count_nonzero().item<std::int64_t>() <= 18, "9 elements of each rank");
      }
    }
    for (int k : {0, 1}) {
      auto kept = find_state(topk.state(), k == 0 ? "a" : "b", "error").clone();
      Compressed sum("none");
      sum.all_reduce(kept, "kept");
      require(torch::allclose(sent[k] + kept, given[k], 1e-5, 1e-5), "nothing is lost");
    }
    require(topk.payload_bytes() > 0 && topk.payload_bytes() < 8 * 8 * 9 * 2, "few bytes");
  });
}

TEST_CASE("Compressed: saved and loaded it goes on as if nothing had happened", "[api][compressed]") {
  run_local(2, [](Context& context) {
    for (const std::string spec :
         {"topk:ratio=0.1", "randomk:ratio=0.2", "powersgd:rank=2,min_rate=0", "dgc"}) {
      Compressed one(spec), two(spec);
      for (std::uint64_t step = 0; step < 3; ++step) {
        auto x = value(context.rank(), step);
        one.all_reduce(x, "x");
      }
      two.load_state(one.state());
      for (std::uint64_t step = 3; step < 6; ++step) {
        auto x = value(context.rank(), step), y = x.clone();
        one.all_reduce(x, "x");
        two.all_reduce(y, "x");
        require(torch::equal(x, y), spec + " goes on alike");
      }
    }
  });
}

TEST_CASE("Compressed: mistakes are named", "[api][compressed]") {
  run_local(2, [](Context& context) {
    Compressed topk("topk");
    auto x = value(context.rank(), 0);
    topk.all_reduce(x, "x");
    auto other = torch::zeros({3});
    require(message_of<ConfigError>([&] { topk.all_reduce(other, "x"); }).find("another name") !=
                std::string::npos,
            "another shape under the same name");
    auto whole = torch::zeros({3}, torch::kLong);
    require(
        message_of<ConfigError>([&] { topk.all_reduce(whole, "y"); }).find("floating") != std::string::npos,
        "integers");
    require(!message_of<ConfigError>([&] { Compressed("topk", "rseidual"); }).empty(), "unknown memory");
    auto uneven = torch::zeros({context.rank() + 1});
    require(!message_of<ConfigError>([&] { topk.all_reduce(uneven, "uneven"); }).empty(),
            "shapes that differ");
  });
  const auto message = message_of<DataError>([] {
    run_local(2, [](Context& context) {
      Compressed topk("topk");
      auto x = torch::ones({5});
      if (context.rank() == 1) x[3] = std::numeric_limits<float>::quiet_NaN();
      topk.all_reduce(x, "loss");
    });
  });
  CHECK_THAT(message, ContainsSubstring("rank 1") && ContainsSubstring("\"loss\""));
}
