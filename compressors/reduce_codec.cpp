// exchange=reduce: all ranks chose the same elements, so their values alone are added on the way.
#include <ATen/ATen.h>

#include <algorithm>

#include "compressors/codec_compressor.h"

namespace acp {
namespace {

// One message: the chosen values of all blocks, the plain blocks, the count of missing gradients.
class ReduceCodec final : public CodecCompressor {
 public:
  ReduceCodec(const Bucket& bucket, CodecSettings settings) : CodecCompressor(bucket, std::move(settings)) {}

  Exchange exchange(Bucket& bucket, StepContext context) override {
    begin(bucket, context);
    const auto message = pack(bucket, context);
    co_await all_reduce(message, ReduceOp::sum);
    const auto count = message.narrow(0, message.numel() - 1, 1);
    if (some_missing(count)) {
      const auto bitmap = used_bitmap(bucket);
      co_await all_reduce(bitmap, ReduceOp::max);
      set_used(bucket, bitmap);
    }
    unpack(bucket, message.to(at::kFloat));
    combine(context.size);
    finish(bucket);
  }

 private:
  at::Tensor pack(const Bucket& bucket, const StepContext& step) {
    std::vector<at::Tensor> pieces;
    for (auto& part : parts_) {
      if (part.plain || part.count == 0) continue;
      choose(part, step);
      auto& chosen = part.chosen;
      round_values(chosen.values, settings_.values);
      // Parameters without a gradient show y = 0, so nothing is sent for them.
      memory_.sent(part.offset, chosen.indices, chosen.values);
      pieces.push_back(
          at::from_blob(chosen.values.data(), {static_cast<std::int64_t>(chosen.values.size())}, at::kFloat));
    }
    pieces.push_back(pack_plain(bucket));
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
    unpack_plain(message.narrow(0, from, message.numel() - 1 - from), bucket);
  }
};

}  // namespace

std::unique_ptr<Compressor> make_reduce_codec(const Bucket& bucket, CodecSettings settings) {
  return std::make_unique<ReduceCodec>(bucket, std::move(settings));
}

}  // namespace acp
