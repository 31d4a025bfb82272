// See device_codec.h.
#include "compressors/device_codec.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "comm/error.h"
#include "compressors/cuda/code.h"
#include "compressors/cuda/dispatch.h"
#include "compressors/cuda/select.h"
#include "compressors/finite.h"

namespace acp {
namespace {

// Blocks of the same code, in order.
template <class Block, class Work>
void by_code(std::span<const Block> blocks, const Work& work) {
  std::vector<std::pair<device::LevelCode, std::vector<decltype(Block::block)>>> groups;
  for (const auto& [code, block] : blocks) {
    const auto of_code = code;
    const auto found =
        std::ranges::find_if(groups, [&](const auto& group) { return group.first == of_code; });
    if (found == groups.end()) {
      groups.push_back({code, {block}});
    } else {
      found->second.push_back(block);
    }
  }
  for (const auto& [code, some] : groups) work(code, some);
}

double squares(const at::Tensor& x) {
  const double norm = x.norm(2, at::kDouble).item<double>();
  return norm * norm;
}

}  // namespace

DeviceCodec::DeviceCodec(const Bucket& bucket, CodecSettings settings, const device::Kernels& kernels)
    : CodecCompressor(bucket, std::move(settings)),
      kernels_(&kernels),
      largest_(at::zeros({static_cast<std::int64_t>(bucket.slices.size())},
                         bucket.grads.options().dtype(at::kInt))) {
  Bytes head;
  head.resize(4);
  write_flags(Flags(slices_.size(), 1), head);
  head.resize(static_cast<std::size_t>(head_bytes()));
  heads_ = at::empty({head_bytes()}, at::kByte);
  std::memcpy(heads_.data_ptr(), head.data(), head.size());
  heads_ = heads_.to(bucket.grads.device());
}

device::Place DeviceCodec::place() const {
  return device::place_of(largest_);
}

std::uint32_t* DeviceCodec::largest() const {
  return reinterpret_cast<std::uint32_t*>(largest_.data_ptr<std::int32_t>());
}

at::Tensor DeviceCodec::take(const Bucket& bucket) {
  auto y = memory_.take(bucket, *kernels_, largest());
  sent_elements_ = settings_.sparsifier ? 0 : -1;
  if (!probes().empty()) probe(y, bucket.grads);
  return y;
}

void DeviceCodec::probe(const at::Tensor& y, const at::Tensor& gradients) {
  probe_norms_ = {};
  probe_norms_.kept.resize(probes().size());
  for (const auto& part : parts_) {
    if (part.count == 0) continue;
    const auto input = y.narrow(0, part.offset, part.count);
    probe_norms_.gradient.add(squares(gradients.narrow(0, part.offset, part.count)));
    probe_norms_.input.add(squares(input));
    for (std::size_t i = 0; i < probes().size(); ++i) {
      part.sparsifier->set_ratio(probes()[i]);
      const auto k = part.sparsifier->kept_largest(part.count).value_or(part.count);
      const auto indices = at::empty({k}, y.options().dtype(at::kInt)), values = at::empty({k}, y.options());
      const device::TopK top{at_block(y, part),
                             nullptr,
                             reinterpret_cast<std::uint32_t*>(indices.data_ptr<std::int32_t>()),
                             values.data_ptr<float>(),
                             part.count,
                             k};
      const auto scratch = device::room(device::top_k_scratch(top), y);
      kernels_->top_k({&top, 1}, device::bytes_of(scratch), place());
      probe_norms_.kept[i].add(squares(values));
    }
    part.sparsifier->set_ratio(part.ratio);
  }
}

void DeviceCodec::put_head(const Bucket& bucket, const at::Tensor& message) const {
  const auto head = message.narrow(0, 0, head_bytes());
  if (bucket.missing() == 0) {
    head.copy_(heads_);
  } else {
    auto bytes = std::make_shared<Bytes>(4);
    write_flags(bucket.used, *bytes);
    bytes->resize(static_cast<std::size_t>(head_bytes()));
    head.copy_(as_tensor(bytes));
  }
  if (largest_.numel() > 0) head.narrow(0, 0, 4).copy_(largest_.max().view({1}).view(at::kByte));
}

CodecCompressor::Flags DeviceCodec::read_heads(const at::Tensor& heads, std::span<const int> ranks,
                                               Flags used, const StepContext& step) const {
  const auto rows = heads.cpu().contiguous();
  std::vector<Flags> all{std::move(used)};
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const auto row =
        std::span<const std::byte>(as_bytes(rows)).subspan(i * static_cast<std::size_t>(head_bytes()));
    Reader in(row);
    if (in.word() >= device::infinite) {
      if (ranks[i] != step.rank)
        throw DataError(
            "rank " + std::to_string(ranks[i]) +
            ": its gradients, or their sums with what its error memory holds, have NaN or infinite "
            "values" +
            advice_not_finite);
      const auto bits = largest_.cpu();
      for (std::size_t k = 0; k < slices_.size(); ++k) {
        if (bits[static_cast<std::int64_t>(k)].item<std::int32_t>() <
            static_cast<std::int32_t>(device::infinite))
          continue;
        throw DataError(not_finite(step.rank, slices_[k].name) +
                        ", or overflows together with its error memory" + advice_not_finite);
      }
    }
    all.push_back(read_flags(in));
  }
  return merge(all);
}

std::int64_t DeviceCodec::code_bytes(const device::LevelCode& code, std::int64_t count) {
  return device::CodePlaces(code, count).total;
}

void DeviceCodec::encode(std::span<const Coding> blocks) {
  by_code(blocks, [&](const device::LevelCode& code, const std::vector<device::Encode>& some) {
    const auto scratch = device::room(device::encode_scratch(some, code), largest_);
    kernels_->encode(some, code, device::bytes_of(scratch), place());
  });
}

void DeviceCodec::decode(std::span<const Decoding> blocks, int ranks, std::int64_t stride,
                         device::Combined combined) {
  by_code(blocks, [&](const device::LevelCode& code, const std::vector<device::Decode>& some) {
    kernels_->decode(some, code, ranks, stride, combined, place());
  });
}

device::Combined DeviceCodec::combined(int ranks) const {
  if (combine_ == Combine::majority) return {1, true};
  return {combine_ == Combine::mean ? static_cast<float>(ranks) : 1.0F, false};
}

at::Tensor DeviceCodec::pack_plain_blocks(const at::Tensor& y) {
  std::int64_t total = 0;
  for (const auto& part : parts_) total += part.plain ? part.count : 0;
  auto message = at::empty({total}, y.options());
  std::vector<device::Copy> pieces;
  float* to = message.data_ptr<float>();
  for (const auto& part : parts_) {
    if (!part.plain) continue;
    pieces.push_back({at_block(y, part), to, part.count});
    to += part.count;
    if (sent_elements_ >= 0) sent_elements_ += part.count;
  }
  if (total > 0) kernels_->copy(pieces, device::Type::float32, device::Type::float32, 1, place());
  // All of it is sent.
  for (const auto& part : parts_) {
    if (part.plain && memory_.keeps()) y.narrow(0, part.offset, part.count).zero_();
  }
  return message;
}

void DeviceCodec::unpack_plain_blocks(const at::Tensor& sums, const Bucket& bucket, int ranks) {
  sums.div_(ranks);
  const auto out = result(bucket);
  std::vector<device::Copy> pieces;
  const float* from = sums.data_ptr<float>();
  for (const auto& part : parts_) {
    if (!part.plain) continue;
    pieces.push_back({from, at_block(out, part), part.count});
    from += part.count;
  }
  kernels_->copy(pieces, device::Type::float32, device::Type::float32, 1, place());
}

// The rules of docs/gpu-kernels.md: what is left of a setting is the kernels' to do, else it is staged.
std::unique_ptr<Compressor> make_device_codec(const Bucket& bucket, const CodecSettings& settings,
                                              const device::Kernels& kernels) {
  const auto& feedback = settings.feedback;
  if (settings.memory == MemoryKind::dgc || feedback.scale != 1 || feedback.first_unscaled) return nullptr;
  if (settings.measure_error || bucket.grads.scalar_type() == at::kDouble) return nullptr;
  if (settings.sparsifier) {
    const bool as_it_is = settings.values == ValueForm::fp32 && settings.indices == IndexForm::automatic;
    if (settings.quantiser || !as_it_is || settings.exchange != "gather") return nullptr;
    if (!settings.sparsifier()->kept_largest(1)) return nullptr;
    return make_device_gather(bucket, settings, kernels);
  }
  for (const auto& slice : bucket.slices) {
    if (!settings.quantiser(slice.shape)->level_code()) return nullptr;
  }
  // Codes of several parameters together would need the flags of each.
  if (!settings.by_layer && bucket.slices.size() > 1) return nullptr;
  if (settings.exchange == "gather") return make_device_gather(bucket, settings, kernels);
  // Votes that are coded twice are counted on the CPU.
  const bool votes =
      !bucket.slices.empty() && settings.quantiser(bucket.slices[0].shape)->combine() == Combine::majority;
  return settings.exchange == "scatter" && !votes ? make_device_scatter(bucket, settings, kernels) : nullptr;
}

}  // namespace acp
