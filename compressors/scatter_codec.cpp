// exchange=scatter: compressed reduce-scatter and all-gather. Each rank sums one chunk of the bucket from
// everyone's codes, codes the sum again, and everyone decodes these codes: 2 (N - 1) / N of the code's size
// is sent instead of N - 1 times.
//
// A rank's own part of its chunk is added as it is, then the others' in rank order. What coding the sum loses
// stays in the error memory of the chunk's rank.
#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "comm/error.h"
#include "compressors/codec_compressor.h"
#include "compressors/kernels/select.h"
#include "compressors/pieces.h"

namespace acp {
namespace {

class ScatterCodec final : public CodecCompressor {
 public:
  ScatterCodec(const Bucket& bucket, CodecSettings settings) : CodecCompressor(bucket, std::move(settings)) {}

  bool sends_missing_count() const override { return false; }

  Exchange exchange(Bucket& bucket, StepContext context) override {
    begin(bucket, context);
    if (chunks_.size() != static_cast<std::size_t>(context.size)) cut_up(context.size);
    const auto plain = pack_plain(bucket);
    const auto mine = std::make_shared<Bytes>();
    std::vector<std::int64_t> my_counts, their_counts;
    encode(bucket, context, *mine, my_counts, their_counts);
    const auto theirs =
        at::empty({std::accumulate(their_counts.begin(), their_counts.end(), std::int64_t{0})}, at::kByte);
    co_await all_to_all_v(as_tensor(mine), my_counts, theirs, their_counts);

    const auto code = std::make_shared<Bytes>(add_up(bucket, theirs, context));
    std::vector<std::int64_t> lengths;
    lengths.reserve(static_cast<std::size_t>(context.size));
    for (int rank = 0; rank < context.size; ++rank)
      lengths.push_back(static_cast<std::int64_t>(code_bytes(rank)));
    const auto codes =
        at::empty({std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0})}, at::kByte);
    co_await all_gather_v(as_tensor(code), codes, lengths);
    decode(bucket, codes, context.size);
    if (plain.numel() > 0) {
      co_await all_reduce(plain, ReduceOp::sum);
      unpack_plain(plain, bucket);
    }
    combine(context.size);
    finish(bucket);
  }

 private:
  void laid_out() override { chunks_.clear(); }

  void cut_up(int ranks) {
    std::vector<CodedBlock> blocks;
    for (const auto& part : parts_) blocks.push_back({part.name, part.plain ? 0 : part.count});
    chunks_ = cut(blocks, ranks);
  }

  const std::vector<Piece>& chunk(int rank) const { return chunks_[static_cast<std::size_t>(rank)]; }

  std::size_t code_bytes(int rank) const {
    std::size_t bytes = 0;
    for (const auto& piece : chunk(rank)) bytes += parts_[piece.part].quantiser->bytes(piece.count);
    return bytes;
  }

  // The same elements may be coded twice in a step, by two ranks or as part and sum: names that differ keep
  // their random numbers apart.
  void encode_piece(const Piece& piece, std::span<const float> x, const StepContext& step, const char* what,
                    Bytes& out) {
    auto& part = parts_[piece.part];
    const auto size = part.quantiser->bytes(piece.count);
    out.resize(out.size() + size);
    const std::string name = piece.name + what;
    part.quantiser->encode(x, {name, {piece.count}, &step}, std::span(out).last(size));
  }

  std::span<float> y(const Piece& piece) {
    return values(parts_[piece.part])
        .subspan(static_cast<std::size_t>(piece.from), static_cast<std::size_t>(piece.count));
  }

  // For every other rank: flags, and the codes of its pieces.
  void encode(const Bucket& bucket, const StepContext& step, Bytes& out, std::vector<std::int64_t>& my_counts,
              std::vector<std::int64_t>& their_counts) {
    for (const auto& part : parts_) {
      if (!part.plain && any(part, bucket.used)) part.quantiser->prepare(values(part));
    }
    for (int rank = 0; rank < step.size; ++rank) {
      const auto before = out.size();
      const bool own = rank == step.rank;
      if (!own) write_flags(bucket.used, out);
      for (const auto& piece : chunk(rank)) {
        // Votes are counted as votes, also one's own.
        if (own && combine_ != Combine::majority) continue;
        const auto at = out.size();
        encode_piece(piece, y(piece), step, "", out);
        if (!own && !memory_.wants_sent()) continue;
        decoded_.resize(static_cast<std::size_t>(piece.count));
        parts_[piece.part].quantiser->decode(std::span(std::as_const(out)).subspan(at), decoded_);
        memory_.sent(parts_[piece.part].offset + piece.from, decoded_);
        if (own) {
          own_.insert(own_.end(), decoded_.begin(), decoded_.end());
          out.resize(at);
        }
      }
      if (own && combine_ != Combine::majority) {
        for (const auto& piece : chunk(rank)) {
          const auto at = own_.size();
          own_.insert(own_.end(), y(piece).begin(), y(piece).end());
          memory_.sent(parts_[piece.part].offset + piece.from, std::span(std::as_const(own_)).subspan(at));
        }
      }
      my_counts.push_back(static_cast<std::int64_t>(out.size() - before));
      their_counts.push_back(own ? 0 : static_cast<std::int64_t>(flag_bytes() + code_bytes(step.rank)));
    }
  }

  // The code of this rank's chunk of the sum.
  Bytes add_up(Bucket& bucket, const at::Tensor& theirs, const StepContext& step) {
    const auto own_used = bucket.used;
    clear_result(bucket);
    std::size_t at = 0;
    for (const auto& piece : chunk(step.rank)) {
      const auto count = static_cast<std::size_t>(piece.count);
      add(parts_[piece.part], piece.from, std::span(own_).subspan(at, count), own_used);
      at += count;
    }
    own_.clear();
    std::vector<Flags> used{own_used};
    Reader in(as_bytes(theirs));
    for (int rank = 0; rank < step.size; ++rank) {
      if (rank == step.rank) continue;
      used.push_back(read_flags(in));
      for (const auto& piece : chunk(step.rank)) {
        decode_piece(in, piece, rank);
        add(parts_[piece.part], piece.from, decoded_, used.back());
      }
    }
    in.end();
    bucket.used = merge(used);

    Bytes code;
    // What coding the sum loses stays here, also for parameters without a gradient of this rank.
    memory_.done();
    for (const auto& piece : chunk(step.rank)) {
      const auto& part = parts_[piece.part];
      const auto sums = result_.subspan(static_cast<std::size_t>(part.offset + piece.from),
                                        static_cast<std::size_t>(piece.count));
      if (combine_ == Combine::majority) {
        for (auto& sum : sums) sum = sum >= 0 ? 1.0F : -1.0F;
      }
      if (kernels::largest(sums) >= kernels::infinite) {
        throw DataError("exchange=scatter: the sum of the gradients of " + part.name +
                        " overflows float32; lower the learning rate, or clip");
      }
      const auto begin = code.size();
      encode_piece(piece, sums, step, " summed", code);
      if (!memory_.keeps() || combine_ == Combine::majority) continue;
      decoded_.resize(sums.size());
      part.quantiser->decode(std::span(std::as_const(code)).subspan(begin), decoded_);
      keep(part, piece.from, sums, bucket.used);
    }
    return code;
  }

  void decode_piece(Reader& in, const Piece& piece, int from) {
    const auto& part = parts_[piece.part];
    decoded_.resize(static_cast<std::size_t>(piece.count));
    try {
      part.quantiser->decode(in.take(part.quantiser->bytes(piece.count)), decoded_);
    } catch (const DataError& error) {
      throw DataError("payload of rank " + std::to_string(from) + ": " + error.what());
    }
  }

  // Sum minus decoded goes to the error memory, of parameters that somebody has a gradient of.
  void keep(const Part& part, std::int64_t from, std::span<const float> sums, const Flags& used) {
    const std::int64_t begin = part.offset + from, end = begin + static_cast<std::int64_t>(sums.size());
    for (std::size_t k = part.first; k < part.first + part.slices; ++k) {
      if (used[k] == 0) continue;
      const auto last = std::min(end, slices_[k].offset + slices_[k].numel());
      for (auto i = std::max(begin, slices_[k].offset); i < last; ++i) {
        const auto at = static_cast<std::size_t>(i - begin);
        memory_.kept(i, 0, sums[at] - decoded_[at]);
      }
    }
  }

  void decode(Bucket& bucket, const at::Tensor& codes, int ranks) {
    clear_result(bucket);
    Reader in(as_bytes(codes));
    for (int rank = 0; rank < ranks; ++rank) {
      for (const auto& piece : chunk(rank)) {
        decode_piece(in, piece, rank);
        add(parts_[piece.part], piece.from, decoded_, bucket.used);
      }
    }
    in.end();
  }

  std::vector<std::vector<Piece>> chunks_;  // by rank
  std::vector<float> decoded_, own_;
};

}  // namespace

std::unique_ptr<Compressor> make_scatter_codec(const Bucket& bucket, CodecSettings settings) {
  return std::make_unique<ScatterCodec>(bucket, std::move(settings));
}

}  // namespace acp
