// `acpsgd`: one factor per step, P and Q in turn, one message per bucket.
//
// With M the gradient (n x m) and E this rank's error memory, a step that sends P does (the next one sends
// Q):
//   Q = orth(Q)                before the backward pass: Q is the average of the last step
//   P_w = (M + E) Q            this rank's factor
//   P = average of P_w         the only message; 1-D tensors travel in it
//   M' = P Q^T                 the gradient that the optimizer sees
//   E = (M + E) - P_w Q^T      what this rank could not express: in the next step's pass over E
#include "compressors/acp_sgd.h"

#include "compressors/registry.h"

namespace acp {
namespace {

class AcpSgd final : public LowRankCompressor {
 public:
  AcpSgd(const Bucket& bucket, AlternatingOptions options)
      : LowRankCompressor(bucket, std::move(options.low_rank)),
        first_(options.first),
        rounds_(options.rounds) {}

  // Ranks change when the first factor is sent: the fixed one then has the new columns.
  bool may_change(std::uint64_t step) const override {
    return step < options().start || moving(step, 0) == first_;
  }

  void prepare(Bucket&, const StepContext& context) override {
    if (context.step < options().start || prepared == context.step) return;
    orthogonalize(other(moving(context.step, 0)));
    prepared = context.step;
  }

  Exchange exchange(Bucket& bucket, StepContext context) override {
    if (context.step < options().start) {
      check_all(bucket, context.rank);
      announce(bucket, bucket.missing_count());
      co_await all_reduce(bucket.storage, ReduceOp::average);
      if (missing(bucket, bucket.missing_count(), context.rank)) {
        const auto bitmap = used_bitmap(bucket);
        co_await all_reduce(bitmap, ReduceOp::max);
        set_used(bucket, bitmap);
      }
      co_return;
    }
    check_input(bucket, context.rank);
    prepare(bucket, context);
    prepared.reset();
    take_input(bucket);
    for (int round = 0; round < rounds_; ++round) {
      const Side side = moving(context.step, round);
      if (round > 0) orthogonalize(other(side));
      project(bucket, side);
      check_local(bucket, side, context.rank);
      count_lost(side);
      if (round == 0) {
        pack(bucket, side);
        co_await all_reduce(factor(side).message, ReduceOp::average);
        if (missing(bucket, factor(side).count, context.rank)) {
          const auto bitmap = used_bitmap(bucket);
          co_await all_reduce(bitmap, ReduceOp::max);
          set_used(bucket, bitmap);
        }
        unpack(bucket, side);
      } else if (compresses()) {
        co_await all_reduce(factor(side).factors, ReduceOp::average);
      }
      accept(bucket, side);
      if (round + 1 < rounds_) {
        subtract_own(bucket, side);
      } else if (has_error_memory()) {
        owe_own(bucket, side);
      }
      reconstruct(bucket, side, round == 0 ? Write::set : Write::add);
    }
    write_back(bucket);
  }

 private:
  // Which factor is sent: they take turns, over the rounds of a step and from step to step.
  Side moving(std::uint64_t step, int round) const {
    const auto turn =
        (step - options().start) * static_cast<std::uint64_t>(rounds_) + static_cast<std::uint64_t>(round);
    return turn % 2 == 0 ? first_ : other(first_);
  }

  Side first_;
  int rounds_;
};

double sent(const Slice& slice, std::int64_t rank) {
  return 0.5 * static_cast<double>(rank * (slice.rows + slice.cols));
}

LowRankOptions parse(const Values& values, const CompressorOptions& options) {
  const double min_rate = values.number("min_rate", 0, 1e9);
  LowRankOptions result;
  result.rank = values.integer("rank", 1, 1'000'000);
  result.worthwhile = [min_rate](const Slice& slice, std::int64_t rank) {
    return sent(slice, rank) * min_rate < static_cast<double>(slice.numel());
  };
  result.error_memory = options.memory == "residual";
  result.measure_error = options.measure_error;
  result.start = static_cast<std::uint64_t>(values.integer("start", 0, 1'000'000'000'000));
  result.seed = options.seed;
  return result;
}

const bool registered = register_method({
    .name = "acpsgd",
    .summary = "low rank, one factor per step: P and Q take turns, one all-reduce per bucket",
    .source =
        "Zhang et al., Evaluation and Optimization of Gradient Compression for Distributed Deep Learning, "
        "ICDCS 2023",
    .keys = {{"rank", "4", "columns of P and Q, at least 1; min(rank, n, m) are used"},
             {"min_rate", "0",
              "an n x m matrix is compressed if rank (n + m) / 2 * min_rate < n m; 0 = every matrix"},
             {"start", "0", "dense steps before the first compressed one"}},
    .knob = Knob::rank,
    .all_reducible = true,
    .memories = {"residual", "none"},
    .compresses = [](std::span<const std::int64_t> shape,
                     const Values& values) { return low_rank_compresses(shape, parse(values, {})); },
    .wire_bytes =
        [](std::span<const std::int64_t> shape, std::int64_t element_size, const Values& values) {
          return low_rank_bytes(shape, element_size, parse(values, {}), sent);
        },
    .make = [](const Bucket& bucket, const Values& values, const CompressorOptions& options)
        -> std::unique_ptr<Compressor> { return make_alternating(bucket, {parse(values, options)}); },
});

}  // namespace

std::unique_ptr<Compressor> make_alternating(const Bucket& bucket, AlternatingOptions options) {
  options.low_rank.input_survives = options.rounds > 1;
  return std::make_unique<AcpSgd>(bucket, std::move(options));
}

}  // namespace acp
