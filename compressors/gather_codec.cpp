// exchange=gather: everyone's payload goes to everyone and is decoded there, added in rank order.
#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "comm/error.h"
#include "compressors/codec_compressor.h"

namespace acp {
namespace {

// A payload: flags (bit 0: this rank misses gradients), then if so one bit per parameter, then the blocks
// that it has a gradient of, in order. Quantisers alone have payloads of one length: there the bits are
// always there, and blocks without gradient are zeros. Payloads of any length cost one message more, their
// lengths, for all blocks of the bucket at once.
class GatherCodec final : public CodecCompressor {
 public:
  GatherCodec(const Bucket& bucket, CodecSettings settings)
      : CodecCompressor(bucket, std::move(settings)), sparse_(static_cast<bool>(settings_.sparsifier)) {
    shared_ = sparse_ && settings_.sparsifier()->shared_choice();
    if (shared_) settings_.indices = IndexForm::shared;
    for (const auto& part : parts_) {
      if (words() && part.count > most_words) {
        throw ConfigError(settings_.method + ": indices=plain has 28 bits for an index, and " + part.name +
                          " has " + std::to_string(part.count) + " elements; take indices=auto");
      }
    }
  }

  bool sends_missing_count() const override { return false; }

  Exchange exchange(Bucket& bucket, StepContext context) override {
    begin(bucket, context);
    encode(bucket, context);
    const auto plain = pack_plain(bucket);
    lengths_.assign(static_cast<std::size_t>(context.size), static_cast<std::int64_t>(payload_->size()));
    if (sparse_) {
      const auto mine = at::full({1}, static_cast<std::int64_t>(payload_->size()), at::kLong);
      const auto all = at::empty({context.size}, at::kLong);
      co_await all_gather(mine, all);
      lengths_.assign(all.data_ptr<std::int64_t>(), all.data_ptr<std::int64_t>() + context.size);
    }
    const auto payloads = at::empty({total_length()}, at::kByte);
    if (sparse_) {
      co_await all_gather_v(as_tensor(payload_), payloads, lengths_);
    } else {
      co_await all_gather(as_tensor(payload_), payloads);
    }
    decode(bucket, payloads, context);
    bucket.used = used_;
    if (plain.numel() > 0) {
      co_await all_reduce(plain, ReduceOp::sum);
      unpack_plain(plain, bucket);
    }
    combine(context.size);
    finish(bucket);
  }

 private:
  // The published layout of powers of two.
  bool words() const {
    return settings_.values == ValueForm::power && settings_.indices == IndexForm::plain &&
           !settings_.quantiser;
  }

  // No payload is longer than one with every index and value in full.
  std::int64_t longest() const {
    auto bytes = static_cast<std::int64_t>(1 + flag_bytes());
    for (const auto& part : parts_) {
      bytes += 16 + 8 * part.count;
      if (part.quantiser) bytes += static_cast<std::int64_t>(part.quantiser->bytes(part.count));
    }
    return bytes;
  }

  std::int64_t total_length() const {
    const auto most = longest();
    for (const auto length : lengths_) {
      if (length < 1 || length > most)
        throw DataError("a rank announced a payload of " + std::to_string(length) + " bytes");
    }
    return std::accumulate(lengths_.begin(), lengths_.end(), std::int64_t{0});
  }

  void encode(const Bucket& bucket, const StepContext& step) {
    payload_->clear();
    const bool missing = bucket.missing() > 0;
    payload_->push_back(std::byte(missing ? 1 : 0));
    if (missing || !sparse_) write_flags(bucket.used, *payload_);
    for (auto& part : parts_) {
      if (part.plain || part.count == 0) continue;
      const bool present = any(part, bucket.used);
      if (sparse_) {
        if (present || shared_) choose(part, bucket, step);
        if (present) encode_sparse(part, step);
      } else {
        encode_dense(part, step, present);
      }
    }
  }

  void encode_sparse(Part& part, const StepContext& step) {
    auto& chosen = part.chosen;
    if (words()) {
      write_words(chosen.indices, chosen.values, *payload_);
      return sent(part, chosen.values);
    }
    write_indices(chosen.indices, part.count, settings_.indices, *payload_);
    if (part.quantiser) {
      const auto code = room(part.quantiser->bytes(static_cast<std::int64_t>(chosen.values.size())));
      if (chosen.values.empty()) {
        if (settings_.indices == IndexForm::plain) room(empty_scale);
        return;
      }
      part.quantiser->encode(chosen.values, part.block(step), code);
      part.quantiser->decode(code, chosen.values);
    } else {
      round_values(chosen.values, settings_.values);
      write_values(chosen.values, settings_.values, *payload_);
    }
    sent(part, chosen.values);
  }

  void encode_dense(Part& part, const StepContext& step, bool present) {
    const auto code = room(part.quantiser->bytes(part.count));
    if (!present) return;
    part.quantiser->prepare(values(part));
    if (settings_.memory == MemoryKind::residual) {
      return part.quantiser->encode_and_keep(values(part), part.block(step), code);
    }
    part.quantiser->encode(values(part), part.block(step), code);
    if (!memory_.wants_sent()) return;
    decoded_.resize(static_cast<std::size_t>(part.count));
    part.quantiser->decode(code, decoded_);
    memory_.sent(part.offset, decoded_);
  }

  // Zeros at the end of the payload.
  std::span<std::byte> room(std::size_t count) {
    payload_->resize(payload_->size() + count);
    return std::span(*payload_).last(count);
  }

  void decode(Bucket& bucket, const at::Tensor& payloads, const StepContext& step) {
    clear_result(bucket);
    used_.assign(slices_.size(), 0);
    auto rest = std::span<const std::byte>(as_bytes(payloads));
    for (int rank = 0; rank < step.size; ++rank) {
      const auto length = static_cast<std::size_t>(lengths_[static_cast<std::size_t>(rank)]);
      try {
        decode_rank(rest.first(length));
      } catch (const DataError& error) {
        throw DataError("payload of rank " + std::to_string(rank) + ": " + error.what());
      }
      rest = rest.subspan(length);
    }
  }

  void decode_rank(std::span<const std::byte> payload) {
    Reader in(payload);
    const auto flags = in.byte();
    if (flags > 1) throw DataError("a payload begins with " + std::to_string(flags));
    Flags used(slices_.size(), 1);
    if (flags == 1 || !sparse_) used = read_flags(in);
    for (auto& part : parts_) {
      if (part.plain || part.count == 0) continue;
      if (!sparse_) {
        decode_dense(part, in, used);
      } else if (any(part, used)) {
        decode_sparse(part, in, used);
      }
    }
    in.end();
    for (std::size_t k = 0; k < used.size(); ++k) used_[k] |= used[k];
  }

  void decode_dense(const Part& part, Reader& in, const Flags& used) {
    const auto code = in.take(part.quantiser->bytes(part.count));
    if (!any(part, used)) return;
    decoded_.resize(static_cast<std::size_t>(part.count));
    part.quantiser->decode(code, decoded_);
    add(part, 0, decoded_, used);
  }

  void decode_sparse(Part& part, Reader& in, const Flags& used) {
    if (words()) {
      read_words(in, part.count, indices_, decoded_);
      return add(part, indices_, decoded_, used);
    }
    read_indices(in, part.count, settings_.indices, part.chosen.indices, indices_);
    if (part.quantiser) {
      decoded_.resize(indices_.size());
      const auto code = in.take(part.quantiser->bytes(static_cast<std::int64_t>(indices_.size())));
      if (!indices_.empty()) {
        part.quantiser->decode(code, decoded_);
      } else if (settings_.indices == IndexForm::plain) {
        in.take(empty_scale);
      }
    } else {
      read_values(in, indices_.size(), settings_.values, decoded_);
    }
    add(part, indices_, decoded_, used);
  }

  // The published layout has a scale, 0, even if nothing was chosen.
  static constexpr std::size_t empty_scale = 4;

  bool sparse_;
  bool shared_ = false;
  std::shared_ptr<Bytes> payload_ = std::make_shared<Bytes>();
  std::vector<std::int64_t> lengths_;
  std::vector<std::uint32_t> indices_;
  std::vector<float> decoded_;
  Flags used_;
};

}  // namespace

std::unique_ptr<Compressor> make_gather_codec(const Bucket& bucket, CodecSettings settings) {
  return std::make_unique<GatherCodec>(bucket, std::move(settings));
}

}  // namespace acp
