// exchange=tree: choices are merged pair by pair, each merge keeps as many elements as one rank sent, and the
// last rank's choice goes to all (gTop-k: Shi et al., "A distributed synchronous SGD algorithm with global
// top-k sparsification", ICDCS 2019, algorithm 3).
//
// What a merge drops stays in the error memory of the rank that merges, so that nothing is lost; the paper
// gives it back to the ranks that sent it, which loses what an element that survives elsewhere had collected
// here.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "comm/error.h"
#include "compressors/codec_compressor.h"
#include "compressors/kernels/select.h"

namespace acp {
namespace {

class TreeCodec final : public CodecCompressor {
 public:
  TreeCodec(const Bucket& bucket, CodecSettings settings) : CodecCompressor(bucket, std::move(settings)) {}

  bool sends_missing_count() const override { return false; }

  Exchange exchange(Bucket& bucket, StepContext context) override {
    begin(bucket, context);
    const auto mine = head(bucket, context);
    const auto plain = pack_plain(bucket);
    const auto heads = at::empty({static_cast<std::int64_t>(mine->size()) * context.size}, at::kByte);
    co_await all_gather(as_tensor(mine), heads);
    read_heads(bucket, heads, context.size);

    const auto message = at::zeros({static_cast<std::int64_t>(length())}, at::kByte);
    for (int distance = 1; distance < context.size; distance *= 2) {
      const int place = context.rank % (2 * distance);
      const bool sends = place == distance, receives = place == 0 && context.rank + distance < context.size;
      // Also of ranks that have nothing to do: all ranks start the same collectives.
      if (sends) write(message);
      const int to = sends ? context.rank - distance : -1, from = receives ? context.rank + distance : -1;
      co_await send_receive(to, message, from, message);
      if (receives) merge_in(message, from);
    }
    if (context.rank == 0) write(message);
    co_await broadcast(message, 0);
    decode(bucket, message);
    if (plain.numel() > 0) {
      co_await all_reduce(plain, ReduceOp::sum);
      unpack_plain(plain, bucket);
    }
    combine(context.size);
    finish(bucket);
  }

 private:
  // For all ranks to know: which gradients there are, and how many elements are chosen in each block.
  std::shared_ptr<Bytes> head(const Bucket& bucket, const StepContext& step) {
    auto bytes = std::make_shared<Bytes>();
    write_flags(bucket.used, *bytes);
    for (auto& part : parts_) {
      part.chosen.clear();
      if (!part.plain && any(part, bucket.used)) {
        choose(part, bucket, step);
        sent(part, part.chosen.values);
      }
      const auto count = static_cast<std::uint32_t>(part.chosen.indices.size());
      const auto raw = std::as_bytes(std::span(&count, 1));
      bytes->insert(bytes->end(), raw.begin(), raw.end());
    }
    return bytes;
  }

  void read_heads(Bucket& bucket, const at::Tensor& heads, int ranks) {
    room_.assign(parts_.size(), 0);
    std::vector<Flags> used;
    Reader in(as_bytes(heads));
    for (int rank = 0; rank < ranks; ++rank) {
      used.push_back(read_flags(in));
      for (std::size_t i = 0; i < parts_.size(); ++i) {
        const std::int64_t count = in.word();
        if (count > parts_[i].count)
          throw DataError("rank " + std::to_string(rank) + " announced too many elements");
        room_[i] = std::max(room_[i], static_cast<std::size_t>(count));
      }
    }
    bucket.used = merge(used);
  }

  // A block in a message: count, and room for as many indices and values as the largest choice has.
  std::size_t length() const {
    std::size_t bytes = 0;
    for (const auto room : room_) bytes += 4 + 8 * room;
    return bytes;
  }

  void write(const at::Tensor& message) const {
    auto* to = as_bytes(message).data();
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const auto& chosen = parts_[i].chosen;
      const auto count = static_cast<std::uint32_t>(chosen.indices.size());
      std::memset(to, 0, 4 + 8 * room_[i]);
      std::memcpy(to, &count, 4);
      if (count > 0) {
        std::memcpy(to + 4, chosen.indices.data(), 4 * std::size_t{count});
        std::memcpy(to + 4 + 4 * room_[i], chosen.values.data(), 4 * std::size_t{count});
      }
      to += 4 + 8 * room_[i];
    }
  }

  void read(Reader& in, std::size_t i, Selection& selection, int from) const {
    const auto refuse = [&](const char* why) {
      throw DataError("exchange=tree: the choice of " + parts_[i].name + " that rank " +
                      std::to_string(from) + " sent " + why);
    };
    const std::size_t count = in.word();
    if (count > room_[i]) refuse("is larger than agreed");
    const auto indices = in.take(4 * room_[i]), values = in.take(4 * room_[i]);
    selection.indices.resize(count);
    selection.values.resize(count);
    if (count == 0) return;
    std::memcpy(selection.indices.data(), indices.data(), 4 * count);
    std::memcpy(selection.values.data(), values.data(), 4 * count);
    std::int64_t before = -1;
    for (std::size_t k = 0; k < count; ++k) {
      if (selection.indices[k] <= before || selection.indices[k] >= parts_[i].count ||
          !std::isfinite(selection.values[k])) {
        refuse("is corrupt");
      }
      before = selection.indices[k];
    }
  }

  void merge_in(const at::Tensor& message, int from) {
    Reader in(as_bytes(message));
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      auto& part = parts_[i];
      Selection theirs, sum;
      read(in, i, theirs, from);
      const auto& mine = part.chosen;
      for (std::size_t a = 0, b = 0; a < mine.indices.size() || b < theirs.indices.size();) {
        const bool from_a =
            b == theirs.indices.size() || (a < mine.indices.size() && mine.indices[a] <= theirs.indices[b]);
        const bool from_b =
            a == mine.indices.size() || (b < theirs.indices.size() && theirs.indices[b] <= mine.indices[a]);
        sum.indices.push_back(from_a ? mine.indices[a] : theirs.indices[b]);
        sum.values.push_back((from_a ? mine.values[a] : 0) + (from_b ? theirs.values[b] : 0));
        a += from_a;
        b += from_b;
      }
      if (kernels::largest(sum.values) >= kernels::infinite) {
        throw DataError("exchange=tree: the sum of the gradients of " + part.name +
                        " overflows float32; lower the learning "
                        "rate, or clip");
      }
      std::vector<std::uint32_t> stay;
      std::vector<float> largest;
      kernels::top_k(sum.values, room_[i], stay, largest);
      part.chosen.clear();
      std::size_t next = 0;
      for (std::size_t k = 0; k < sum.values.size(); ++k) {
        if (next < stay.size() && stay[next] == k) {
          part.chosen.indices.push_back(sum.indices[k]);
          part.chosen.values.push_back(sum.values[k]);
          ++next;
        } else {
          dropped_.emplace_back(part.offset + sum.indices[k], sum.values[k]);
        }
      }
    }
  }

  void decode(Bucket& bucket, const at::Tensor& message) {
    memory_.done();  // before what was dropped goes in: also for parameters that this rank has no gradient of
    for (const auto& [index, value] : dropped_) memory_.kept(index, 0, value);
    dropped_.clear();
    clear_result(bucket);
    Reader in(as_bytes(message));
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      Selection result;
      read(in, i, result, 0);
      add(parts_[i], result.indices, result.values, bucket.used);
    }
    in.end();
  }

  std::vector<std::size_t> room_;  // per block: the largest number of elements that a rank chose
  std::vector<std::pair<std::int64_t, float>> dropped_;
};

}  // namespace

std::unique_ptr<Compressor> make_tree_codec(const Bucket& bucket, CodecSettings settings) {
  return std::make_unique<TreeCodec>(bucket, std::move(settings));
}

}  // namespace acp
