// `powersgd`: both factors in every step, P first, then Q from the common P: two messages per bucket.
//
// With M the gradient (n x m) and E this rank's error memory (form=ddp, the algorithm of PyTorch's DDP hook):
//   Q = orth(Q)                before the backward pass: Q is the average of the last step
//   P = average of (M + E) Q   first message; the tensors that are not compressed travel in it
//   P = orth(P)
//   Q = average of (M + E)^T P second message
//   out = P Q^T;  E = (M + E) - out;  M = out
#include <algorithm>

#include "comm/error.h"
#include "compressors/acp_sgd.h"
#include "compressors/registry.h"

namespace acp {
namespace {

struct PowerSgdOptions {
  LowRankOptions low_rank;
  bool alternating = false;
  Side first = Side::p;      // alternating
  bool local_error = false;  // E = (M + E) - P Q_w^T with this rank's own Q
  bool warm_start = true;    // Q continues from the last step, else it is drawn anew
  int rounds = 1;
};

class PowerSgd final : public LowRankCompressor {
 public:
  PowerSgd(const Bucket& bucket, PowerSgdOptions options)
      : LowRankCompressor(bucket, std::move(options.low_rank)),
        local_error_(options.local_error),
        warm_start_(options.warm_start),
        rounds_(options.rounds) {}

  void prepare(Bucket&, const StepContext& context) override {
    if (context.step < options().start || prepared == context.step) return;
    warm_start_ ? orthogonalize(Side::q) : draw_basis(Side::q, context.step);
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
      if (round > 0) orthogonalize(Side::q);
      project(bucket, Side::p);
      check_local(bucket, Side::p, context.rank);
      if (round == 0) {
        pack(bucket, Side::p);
        co_await all_reduce(factor(Side::p).message, ReduceOp::average);
        if (missing(bucket, factor(Side::p).count, context.rank)) {
          const auto bitmap = used_bitmap(bucket);
          co_await all_reduce(bitmap, ReduceOp::max);
          set_used(bucket, bitmap);
        }
        unpack(bucket, Side::p);
        if (!compresses()) co_return;
      } else {
        co_await all_reduce(factor(Side::p).factors, ReduceOp::average);
      }
      accept(bucket, Side::p);
      orthogonalize(Side::p);
      project(bucket, Side::q);
      check_local(bucket, Side::q, context.rank);
      if (round + 1 == rounds_) count_lost(Side::q);
      co_await all_reduce(factor(Side::q).factors, ReduceOp::average);
      accept(bucket, Side::q);
    }
    if (has_error_memory() && local_error_) subtract_own(bucket, Side::q);
    reconstruct(bucket, Side::q, Write::set);
    if (has_error_memory() && !local_error_) subtract_shared(bucket);
    write_back(bucket);
  }

 private:
  bool local_error_, warm_start_;
  int rounds_;
};

const std::vector<std::string> forms{"ddp", "rankk", "alternating", "halfrankk"};
const std::vector<std::string> errors{"auto", "global", "local"};

// The count of the published implementation of the alternating form: it looks at the tensor's own dimensions,
// not at the matrix's (a convolution 16 x 3 x 3 x 3 counts as rank <= 3 and 25 numbers per rank).
double alternating_numbers(const Slice& slice, std::int64_t rank, int rounds) {
  std::int64_t sum = 0;
  for (const auto size : slice.shape) {
    sum += size;
    rank = std::min(rank, size);
  }
  return 0.5 * rounds * static_cast<double>(rank * sum);
}

double sent(const Slice& slice, std::int64_t rank, const PowerSgdOptions& options) {
  const auto both = static_cast<double>(rank * (slice.rows + slice.cols));
  return options.rounds * (options.alternating ? 0.5 * both : both);
}

PowerSgdOptions parse(const Values& values, const CompressorOptions& given) {
  const auto form = values.choice("form", forms), error = values.choice("error", errors);
  PowerSgdOptions options;
  options.alternating = form == "alternating" || form == "halfrankk";
  options.first = form == "alternating" ? Side::q : Side::p;
  options.local_error = options.alternating || error == "local";
  options.warm_start = values.boolean("warm_start");
  options.rounds = static_cast<int>(values.integer("iterations", 1, 100));
  if (options.alternating && error == "global") {
    throw ConfigError("powersgd: error=global needs form=ddp or rankk; form=" + form +
                      " keeps the local error");
  }
  if (options.alternating && !options.warm_start) {
    throw ConfigError("powersgd: warm_start=off needs form=ddp or rankk; form=" + form +
                      " lives from the last step");
  }

  const bool automatic = values.text("min_rate") == "auto";
  const double form_rate = form == "ddp" || form == "alternating" ? 2 : 0;
  const double min_rate = automatic ? form_rate : values.number("min_rate", 0, 1e9);
  options.low_rank.rank = values.integer("rank", 1, 1'000'000);
  options.low_rank.worthwhile = [min_rate, form, options](const Slice& slice, std::int64_t rank) {
    const double numbers = form == "alternating"
                               ? alternating_numbers(slice, options.low_rank.rank, options.rounds)
                               : sent(slice, rank, options);
    return numbers * min_rate < static_cast<double>(slice.numel());
  };
  options.low_rank.error_memory = given.memory == "residual";
  options.low_rank.measure_error = given.measure_error;
  options.low_rank.start = static_cast<std::uint64_t>(values.integer("start", 0, 1'000'000'000'000));
  options.low_rank.seed = given.seed;
  return options;
}

double wire_bytes(std::span<const std::int64_t> shape, std::int64_t element_size, const Values& values) {
  const auto options = parse(values, {});
  const auto numbers = [&](const Slice& slice, std::int64_t rank) { return sent(slice, rank, options); };
  return low_rank_bytes(shape, element_size, options.low_rank, numbers);
}

std::unique_ptr<Compressor> make(const Bucket& bucket, const Values& values, const CompressorOptions& given) {
  auto options = parse(values, given);
  if (options.alternating) return make_alternating(bucket, {options.low_rank, options.first, options.rounds});
  return std::make_unique<PowerSgd>(bucket, std::move(options));
}

const bool registered = register_method({
    .name = "powersgd",
    .summary = "low rank, both factors in every step: two all-reduces per bucket",
    .source =
        "Vogels et al., PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization, "
        "NeurIPS 2019; form=ddp as in PyTorch's communication hook",
    .keys =
        {{"rank", "4", "columns of P and Q, at least 1; min(rank, n, m) are used"},
         {"start", "0", "dense steps before the first compressed one"},
         {"min_rate", "auto",
          "an n x m matrix is compressed if rank (n + m) * iterations * min_rate < n m (half of it in the "
          "alternating forms); 0 = every matrix; auto = 2 for ddp and alternating, 0 for rankk and "
          "halfrankk"},
         {"form", "ddp",
          "ddp, rankk: P and Q in every step; alternating, halfrankk: one of them, Q first or P first"},
         {"error", "auto",
          "error memory against the average (global: ddp, rankk) or this rank's own product (local: all)"},
         {"iterations", "1", "power iterations per step, 1 to 100"},
         {"warm_start", "on", "off: Q is drawn anew in every step (ddp, rankk)"}},
    .knob = Knob::rank,
    .all_reducible = true,
    .messages =
        [](const Values& values) {
          const auto options = parse(values, {});
          return options.rounds * (options.alternating ? 1 : 2);
        },
    .memories = {"residual", "none"},
    .compresses = [](std::span<const std::int64_t> shape,
                     const Values& values) { return low_rank_compresses(shape, parse(values, {}).low_rank); },
    .wire_bytes = wire_bytes,
    .make = make,
});

}  // namespace
}  // namespace acp
