// exchange=scatter on a GPU: as scatter_codec.cpp has it, with the sums of the codes in rank order, too.
#include <ATen/ATen.h>

#include <numeric>

#include "compressors/cuda/dispatch.h"
#include "compressors/device_codec.h"
#include "compressors/pieces.h"

namespace acp {
namespace {

std::int64_t total(const std::vector<std::int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

// For each other rank a head and the codes of its pieces; then everyone's codes of the sums.
class DeviceScatter final : public DeviceCodec {
 public:
  DeviceScatter(const Bucket& bucket, CodecSettings settings, const device::Kernels& kernels)
      : DeviceCodec(bucket, std::move(settings), kernels) {}

  Exchange exchange(Bucket& bucket, StepContext context) override {
    const auto y = take(bucket);
    if (chunks_.size() != static_cast<std::size_t>(context.size)) cut_up(context.size);
    const auto plain = pack_plain_blocks(y);
    std::vector<std::int64_t> my_counts, their_counts;
    for (int rank = 0; rank < context.size; ++rank) {
      my_counts.push_back(rank == context.rank ? 0 : head_bytes() + code_bytes_of(rank));
      their_counts.push_back(rank == context.rank ? 0 : head_bytes() + code_bytes_of(context.rank));
    }
    const auto bytes = y.options().dtype(at::kByte);
    const auto mine = at::empty({total(my_counts)}, bytes), theirs = at::empty({total(their_counts)}, bytes);
    encode_pieces(y, bucket, context, mine);
    co_await all_to_all_v(mine, my_counts, theirs, their_counts);

    const auto code = at::empty({code_bytes_of(context.rank)}, bytes);
    add_up(y, theirs, bucket, context, code);
    std::vector<std::int64_t> lengths;
    lengths.reserve(chunks_.size());
    for (int rank = 0; rank < context.size; ++rank) lengths.push_back(code_bytes_of(rank));
    const auto codes = at::empty({total(lengths)}, bytes);
    co_await all_gather_v(code, codes, lengths);
    decode_sums(codes, bucket, context.size);
    if (plain.numel() > 0) {
      co_await all_reduce(plain, ReduceOp::sum);
      unpack_plain_blocks(plain, bucket, context.size);
    }
    read(theirs, bucket, context);
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
  device::LevelCode code_of(const Piece& piece) const { return *parts_[piece.part].quantiser->level_code(); }

  std::int64_t code_bytes_of(int rank) const {
    std::int64_t bytes = 0;
    for (const auto& piece : chunk(rank)) bytes += aligned(code_bytes(code_of(piece), piece.count));
    return bytes;
  }

  // Codes of a chunk, from `to` on, which moves behind them.
  void encode_chunk(int rank, const at::Tensor& from, const char* what, const StepContext& step,
                    std::byte*& to, std::vector<Coding>& codings) const {
    for (const auto& piece : chunk(rank)) {
      const auto code = code_of(piece);
      const std::string name = piece.name + what;
      const auto key = Block{name, {piece.count}, &step}.own(Purpose::round).key();
      float* const x = at_block(from, parts_[piece.part], piece.from);
      codings.push_back({code, {x, memory_.keeps() ? x : nullptr, to, piece.count, {key[0], key[1]}}});
      to += aligned(code_bytes(code, piece.count));
    }
  }

  void encode_pieces(const at::Tensor& y, const Bucket& bucket, const StepContext& step,
                     const at::Tensor& mine) {
    std::vector<Coding> codings;
    std::byte* to = device::bytes_of(mine);
    for (int rank = 0; rank < step.size; ++rank) {
      if (rank == step.rank) continue;
      put_head(bucket, mine.narrow(0, to - device::bytes_of(mine), head_bytes()));
      to += head_bytes();
      encode_chunk(rank, y, "", step, to, codings);
    }
    encode(codings);
  }

  // The code of this rank's chunk of the sum. Its own part of it is added as it is; what coding the sum loses
  // stays in the error memory, also for parameters without a gradient of this rank.
  void add_up(const at::Tensor& y, const at::Tensor& theirs, const Bucket& bucket, const StepContext& step,
              const at::Tensor& code) {
    const auto sums = result(bucket);
    std::vector<Decoding> decodings;
    const std::byte* from = device::bytes_of(theirs) + head_bytes();
    for (const auto& piece : chunk(step.rank)) {
      const auto& part = parts_[piece.part];
      decodings.push_back({code_of(piece),
                           {from, device::bytes_of(theirs) + 4, static_cast<std::int64_t>(part.first),
                            at_block(sums, part, piece.from), piece.count, at_block(y, part, piece.from)}});
      from += aligned(code_bytes(code_of(piece), piece.count));
    }
    decode(decodings, step.size - 1, head_bytes() + code_bytes_of(step.rank), {1, false});
    if (memory_.keeps()) {
      for (const auto& piece : chunk(step.rank)) {
        y.narrow(0, parts_[piece.part].offset + piece.from, piece.count).zero_();
      }
    }
    memory_.done();
    std::vector<device::Sum> looks, rests;  // sums overflow, too
    for (const auto& piece : chunk(step.rank)) {
      const auto& part = parts_[piece.part];
      float* const sum = at_block(sums, part, piece.from);
      looks.push_back({sum, nullptr, piece.count, largest() + part.first});
      rests.push_back({at_block(y, part, piece.from), sum, piece.count, largest() + part.first});
    }
    kernels().accumulate(looks, 1, place());
    std::vector<Coding> codings;
    std::byte* to = device::bytes_of(code);
    encode_chunk(step.rank, sums, " summed", step, to, codings);
    encode(codings);
    if (memory_.keeps()) kernels().accumulate(rests, 1, place());
  }

  void decode_sums(const at::Tensor& codes, const Bucket& bucket, int ranks) {
    std::vector<Decoding> decodings;
    const auto out = result(bucket);
    const std::byte* from = device::bytes_of(codes);
    for (int rank = 0; rank < ranks; ++rank) {
      for (const auto& piece : chunk(rank)) {
        decodings.push_back(
            {code_of(piece), {from, nullptr, 0, at_block(out, parts_[piece.part], piece.from), piece.count}});
        from += aligned(code_bytes(code_of(piece), piece.count));
      }
    }
    decode(decodings, 1, 0, combined(ranks));
  }

  void read(const at::Tensor& theirs, Bucket& bucket, const StepContext& step) {
    auto own = at::empty({1, head_bytes()}, theirs.options());
    put_head(bucket, own.view(-1));
    std::vector<int> ranks;
    for (int rank = 0; rank < step.size; ++rank) {
      if (rank != step.rank) ranks.push_back(rank);
    }
    ranks.push_back(step.rank);
    const auto others = theirs.view({step.size - 1, head_bytes() + code_bytes_of(step.rank)});
    const auto heads = at::cat({others.narrow(1, 0, head_bytes()), own});
    bucket.used = read_heads(heads, ranks, bucket.used, step);
  }

  std::vector<std::vector<Piece>> chunks_;  // by rank
};

}  // namespace

std::unique_ptr<Compressor> make_device_scatter(const Bucket& bucket, CodecSettings settings,
                                                const device::Kernels& kernels) {
  return std::make_unique<DeviceScatter>(bucket, std::move(settings), kernels);
}

}  // namespace acp
