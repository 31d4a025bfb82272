// `none`: the dense average of the gradients (S-SGD), in their own dtype.
#include "compressors/registry.h"

namespace acp {
namespace {

// One message: the gradients in place, and behind them the count of the missing ones.
class None final : public Compressor {
 public:
  Exchange exchange(Bucket& bucket, StepContext) override {
    const auto count = bucket.missing_count();
    put_missing(bucket, count);
    co_await all_reduce(bucket.storage, ReduceOp::average);
    if (some_missing(count)) {
      const auto bitmap = used_bitmap(bucket);
      co_await all_reduce(bitmap, ReduceOp::max);
      set_used(bucket, bitmap);
    }
  }
};

double dense_bytes(std::span<const std::int64_t> shape, std::int64_t element_size, const Values&) {
  return static_cast<double>(numel(shape) * element_size);
}

const bool registered = register_method({
    .name = "none",
    .summary = "dense average of the gradients in their own dtype (S-SGD)",
    .source = "all-reduce, average over the ranks",
    .all_reducible = true,
    .wire_bytes = dense_bytes,
    .make = [](const Bucket&, const Values&, const CompressorOptions&) { return std::make_unique<None>(); },
});

}  // namespace
}  // namespace acp
