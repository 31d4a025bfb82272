// exchange=reduce: all ranks chose the same elements, so their values alone are added on the way.
#include <ATen/ATen.h>

#include <algorithm>

#include "compressors/codec_compressor.h"

namespace acp {
namespace {

// One message: the chosen values of all blocks and the count of missing gradients; another one for plain
// blocks.
class ReduceCodec final : public CodecCompressor {
 public:
  ReduceCodec(const Bucket& bucket, CodecSettings settings) : CodecCompressor(bucket, std::move(settings)) {}

  Exchange exchange(Bucket& bucket, StepContext context) override {
    begin(bucket, context);
    const auto plain = pack_plain(bucket);
    const auto message = pack(bucket, context);
    // A sum of numbers that fit may not fit in half precision; their average does.
    const bool half = settings_.values == ValueForm::fp16;
    const auto op = half ? ReduceOp::average : ReduceOp::sum;
    co_await all_reduce(message, op);
    const auto count = message.narrow(0, message.numel() - 1, 1);
    if (some_missing(count)) {
      const auto bitmap = used_bitmap(bucket);
      co_await all_reduce(bitmap, ReduceOp::max);
      set_used(bucket, bitmap);
    }
    unpack(bucket, half ? message.to(at::kFloat).mul_(context.size) : message);
    if (plain.numel() > 0) {
      co_await all_reduce(plain, ReduceOp::sum);
      unpack_plain(plain, bucket);
    }
    combine(context.size);
    finish(bucket);
  }

 private:
  at::Tensor pack(const Bucket& bucket, const StepContext& step) {
    std::vector<at::Tensor> pieces;
    for (auto& part : parts_) {
      if (part.plain || part.count == 0) continue;
      choose(part, bucket, step);
      auto& chosen = part.chosen;
      round_values(chosen.values, settings_.values);
      // Parameters without a gradient show y = 0, so nothing is sent for them.
      sent(part, chosen.values);
      pieces.push_back(
          at::from_blob(chosen.values.data(), {static_cast<std::int64_t>(chosen.values.size())}, at::kFloat));
    }
    pieces.push_back(at::empty({1}, at::kFloat));
    put_missing(bucket, pieces.back());
    const auto message = at::cat(pieces);
    return settings_.values == ValueForm::fp16 ? message.to(at::kHalf) : message;
  }

  void unpack(Bucket& bucket, const at::Tensor& message) {
    clear_result(bucket);
    std::int64_t from = 0;
    const Flags all_used(slices_.size(), 1);
    for (auto& part : parts_) {
      if (part.plain) continue;
      const std::span sums(message.data_ptr<float>() + from, part.chosen.indices.size());
      add(part, part.chosen.indices, sums, all_used);
      from += static_cast<std::int64_t>(sums.size());
    }
  }
};

}  // namespace

std::unique_ptr<Compressor> make_reduce_codec(const Bucket& bucket, CodecSettings settings) {
  return std::make_unique<ReduceCodec>(bucket, std::move(settings));
}

}  // namespace acp
