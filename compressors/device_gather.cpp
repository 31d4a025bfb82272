// exchange=gather on a GPU: everyone's message goes to everyone, and one pass adds all of them in rank order.
#include <ATen/ATen.h>

#include <numeric>

#include "compressors/cuda/dispatch.h"
#include "compressors/cuda/select.h"
#include "compressors/device_codec.h"

namespace acp {
namespace {

// A message: the head, then of each block that is not plain its code, or k indices and k values. All ranks'
// messages have one length; blocks without gradient are zeros.
class DeviceGather final : public DeviceCodec {
 public:
  DeviceGather(const Bucket& bucket, CodecSettings settings, const device::Kernels& kernels)
      : DeviceCodec(bucket, std::move(settings), kernels) {}

  Exchange exchange(Bucket& bucket, StepContext context) override {
    const auto y = take(bucket);
    encode_all(y, bucket, context);
    const auto plain = pack_plain_blocks(y);
    const auto all = at::empty({message_.numel() * context.size}, message_.options());
    co_await all_gather(message_, all);
    decode_all(all, bucket, context.size);
    if (plain.numel() > 0) {
      co_await all_reduce(plain, ReduceOp::sum);
      unpack_plain_blocks(plain, bucket, context.size);
    }
    std::vector<int> ranks(static_cast<std::size_t>(context.size));
    std::iota(ranks.begin(), ranks.end(), 0);
    const auto heads = all.view({context.size, -1}).narrow(1, 0, head_bytes());
    bucket.used = read_heads(heads, ranks, bucket.used, context);
    finish(bucket);
  }

 private:
  void laid_out() override { places_.clear(); }

  // How many elements of each block are chosen, at today's levels.
  std::vector<std::int64_t> kept() const {
    std::vector<std::int64_t> counts;
    counts.reserve(parts_.size());
    for (const auto& part : parts_) {
      const bool chosen = part.sparsifier && !part.plain && part.count > 0;
      counts.push_back(chosen ? part.sparsifier->kept_largest(part.count).value_or(0) : 0);
    }
    return counts;
  }

  // Where the blocks lie in a message; -1: not at all.
  void lay_out(const at::Tensor& like) {
    std::int64_t end = head_bytes();
    counts_ = kept();
    places_.clear();
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const auto& part = parts_[i];
      places_.push_back(part.plain || part.count == 0 ? -1 : end);
      if (places_.back() < 0) continue;
      if (part.sparsifier) {
        end += aligned(8 * counts_[i]);
      } else {
        end += aligned(code_bytes(*part.quantiser->level_code(), part.count));
      }
    }
    message_ = at::zeros({end}, like.options().dtype(at::kByte));
  }

  void encode_all(const at::Tensor& y, const Bucket& bucket, const StepContext& step) {
    if (places_.empty() || counts_ != kept()) lay_out(y);
    put_head(bucket, message_);
    std::byte* const message = device::bytes_of(message_);
    std::vector<device::TopK> choices;
    std::vector<Coding> codes;
    const bool keeps = memory_.keeps();
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const auto& part = parts_[i];
      if (places_[i] < 0) continue;
      std::byte* const to = message + places_[i];
      float* const x = at_block(y, part);
      if (part.sparsifier) {
        choices.push_back({x, keeps ? x : nullptr, reinterpret_cast<std::uint32_t*>(to),
                           reinterpret_cast<float*>(to) + counts_[i], part.count, counts_[i]});
        if (any(part, bucket.used)) sent_elements_ += counts_[i];
      } else {
        const auto key = part.block(step).own(Purpose::round).key();
        codes.push_back(
            {*part.quantiser->level_code(), {x, keeps ? x : nullptr, to, part.count, {key[0], key[1]}}});
      }
    }
    if (!choices.empty()) {
      const auto scratch = device::room(device::top_k_scratch(choices), y);
      kernels().top_k(choices, device::bytes_of(scratch), place());
    }
    encode(codes);
  }

  void decode_all(const at::Tensor& all, const Bucket& bucket, int ranks) {
    const auto out = result(bucket);
    const auto stride = message_.numel();
    const std::byte* const messages = device::bytes_of(all);
    std::vector<device::Scatter> choices;
    std::vector<Decoding> codes;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const auto& part = parts_[i];
      if (places_[i] < 0) continue;
      const std::byte* const from = messages + places_[i];
      if (part.sparsifier) {
        choices.push_back({reinterpret_cast<const std::uint32_t*>(from),
                           reinterpret_cast<const float*>(from) + counts_[i], at_block(out, part), part.count,
                           counts_[i]});
      } else {
        codes.push_back(
            {*part.quantiser->level_code(),
             {from, messages + 4, static_cast<std::int64_t>(part.first), at_block(out, part), part.count}});
      }
    }
    if (!choices.empty()) kernels().scatter(choices, ranks, stride, combined(ranks), place());
    decode(codes, ranks, stride, combined(ranks));
  }

  at::Tensor message_;
  std::vector<std::int64_t> places_, counts_;  // by block; counts: of chosen elements
};

}  // namespace

std::unique_ptr<Compressor> make_device_gather(const Bucket& bucket, CodecSettings settings,
                                               const device::Kernels& kernels) {
  return std::make_unique<DeviceGather>(bucket, std::move(settings), kernels);
}

}  // namespace acp
