// Ring algorithms: a plan's chunks travel in segments, so that receiving, adding and sending overlap.
#include <algorithm>
#include <cstring>

#include "comm/algorithms/reduce_kernels.h"
#include "comm/algorithms/wire.h"

namespace acp {

namespace {

constexpr std::int64_t receives_ahead = 4;

// Runs a plan as one sequence of messages: message i is segment i % K of step i / K. Message i from the left,
// once finished, is message i + K to the right (K = segments per chunk), and the first K to the right are
// this rank's own.
//
// Deadlock: a rank at message i waits for its left neighbour's message i, which that sends after finishing i
// - K, or for its right neighbour to take message j <= i, which that does before reaching i. In a ring of
// waiting ranks the one that is least far would have to wait for one that is less far.
class Pipeline {
 public:
  Pipeline(Wire& wire, std::vector<RingStep> steps, std::int64_t segments)
      : wire_(wire),
        steps_(std::move(steps)),
        segments_(segments),
        messages_(static_cast<std::int64_t>(steps_.size()) * segments) {}

  std::int64_t segments() const { return segments_; }
  const RingStep& step(std::int64_t i) const { return steps_[static_cast<std::size_t>(i / segments_)]; }
  Range sent(std::int64_t i) const { return segment_of(step(i).send, i % segments_, segments_); }
  Range received(std::int64_t i) const { return segment_of(step(i).receive, i % segments_, segments_); }

  // `source(i)`: the memory of message i to the right. `landing(i)`: where message i from the left goes; free
  // once message `busy(i)` to the right has left (-1: at once). `finish(i)`: works on what has landed.
  // `ahead` receives are posted before their turn; busy(i + ahead) <= i.
  template <class Source, class Landing, class Busy, class Finish>
  void run(std::int64_t ahead, Source source, Landing landing, Busy busy, Finish finish) {
    std::int64_t posted = 0;
    const auto post_until = [&](std::int64_t end) {
      for (; posted < std::min(end, messages_); ++posted) {
        retire_through(busy(posted));
        receives_.push_back(
            travels(received(posted), posted) ? wire_.receive(wire_.neighbour(-1), landing(posted)) : 0);
      }
    };
    const auto send = [&](std::int64_t i) {
      sends_.push_back(travels(sent(i), i) ? wire_.send(wire_.neighbour(1), source(i)) : 0);
    };
    post_until(ahead);
    for (std::int64_t i = 0; i < std::min(segments_, messages_); ++i) send(i);
    for (std::int64_t i = 0; i < messages_; ++i) {
      wire_.wait(receives_[static_cast<std::size_t>(i)]);
      finish(i);
      if (i + segments_ < messages_) send(i + segments_);
      post_until(i + 1 + ahead);
      retire_through(i - segments_);  // keeps the number of open messages bounded
    }
    retire_through(messages_ - 1);
  }

 private:
  // Of an empty chunk one empty message travels, so that even ranks that move nothing notice a difference.
  bool travels(Range range, std::int64_t i) const { return range.count > 0 || i % segments_ == 0; }

  void retire_through(std::int64_t i) {
    for (; retired_ <= i; ++retired_) wire_.wait(sends_[static_cast<std::size_t>(retired_)]);
  }

  Wire& wire_;
  const std::vector<RingStep> steps_;
  const std::int64_t segments_, messages_;
  std::vector<Ticket> sends_, receives_;
  std::int64_t retired_ = 0;
};

std::int64_t longest_segment(const std::vector<Range>& chunks, std::int64_t segments) {
  std::int64_t longest = 0;
  for (const Range& chunk : chunks) longest = std::max(longest, segment_of(chunk, 0, segments).count);
  return longest;
}

}  // namespace

std::int64_t pipelined_segments(const Wire& wire, const std::vector<Range>& chunks, std::size_t width) {
  constexpr std::size_t overlapping = 4, worth_a_message = 32 * 1024;
  std::int64_t longest = 0;
  for (const Range& chunk : chunks) longest = std::max(longest, chunk.count);
  const std::size_t share = static_cast<std::size_t>(longest) * width / overlapping;
  return segments_per_chunk(chunks, width,
                            std::min(wire.tuning.segment_bytes, std::max(share + width, worth_a_message)));
}

void ring_all_reduce(Wire& wire, const at::Tensor& x, ReduceOp op) {
  const Elements elements(x);
  const auto chunks = equal_chunks(x.numel(), wire.size);
  const auto segments = pipelined_segments(wire, chunks, elements.width);
  Pipeline pipeline(wire, plan_all_reduce(chunks, wire.rank), segments);

  const std::int64_t reducing = (wire.size - 1) * segments;  // messages before the gathering ones
  const std::int64_t ahead = std::min(receives_ahead, reducing);
  const std::size_t slot_bytes = static_cast<std::size_t>(longest_segment(chunks, segments)) * elements.width;
  const auto slots = wire.workspace.bytes(slot_bytes * static_cast<std::size_t>(ahead));
  const auto slot = [&](std::int64_t i) {
    return slots.data() + slot_bytes * static_cast<std::size_t>(i % ahead);
  };

  pipeline.run(
      ahead, [&](std::int64_t i) { return elements[pipeline.sent(i)]; },
      [&](std::int64_t i) {
        const auto place = elements[pipeline.received(i)];
        return pipeline.step(i).reduce ? std::span(slot(i), place.size()) : place;
      },
      // The final segment takes the place of the one that left as this rank's contribution.
      [&](std::int64_t i) { return i - reducing; },
      [&](std::int64_t i) {
        if (!pipeline.step(i).reduce) return;
        const Range range = pipeline.received(i);
        reduce_into(elements.at(range.begin), slot(i), range.count, elements.type, op);
        if (pipeline.step(i).final && op == ReduceOp::average) {
          divide(elements.at(range.begin), range.count, elements.type, wire.size);
        }
      });
}

void ring_reduce_scatter(Wire& wire, const at::Tensor& x, const at::Tensor& mine, ReduceOp op) {
  const Elements in(x), out(mine);
  const auto chunks = equal_chunks(x.numel(), wire.size);
  const auto segments = pipelined_segments(wire, chunks, in.width);
  Pipeline pipeline(wire, plan_reduce_scatter(chunks, wire.rank), segments);

  // The input stays as it is: partial sums live in slots for two chunks, one arriving while the other leaves.
  const std::int64_t count = 2 * segments;
  const std::size_t slot_bytes = static_cast<std::size_t>(longest_segment(chunks, segments)) * in.width;
  const auto slots = wire.workspace.bytes(slot_bytes * static_cast<std::size_t>(count));
  const auto slot = [&](std::int64_t i, Range range) {
    return std::span(slots.data() + slot_bytes * static_cast<std::size_t>(i % count),
                     static_cast<std::size_t>(range.count) * in.width);
  };
  const std::int64_t first = chunks[static_cast<std::size_t>(wire.rank)].begin;

  pipeline.run(
      std::min(receives_ahead, segments),
      [&](std::int64_t i) {
        return i < segments ? in[pipeline.sent(i)] : slot(i - segments, pipeline.sent(i));
      },
      [&](std::int64_t i) { return slot(i, pipeline.received(i)); },
      [&](std::int64_t i) { return i - segments; },
      [&](std::int64_t i) {
        const Range range = pipeline.received(i);
        const auto partial = slot(i, range);
        reduce_into(partial.data(), in.at(range.begin), range.count, in.type, op);
        if (!pipeline.step(i).final) return;
        if (op == ReduceOp::average) divide(partial.data(), range.count, in.type, wire.size);
        copy(partial, out[{range.begin - first, range.count}]);
      });
}

void ring_all_gather(Wire& wire, const at::Tensor& all, const std::vector<Range>& chunks) {
  const Elements elements(all);
  const auto segments = pipelined_segments(wire, chunks, elements.width);
  Pipeline pipeline(wire, plan_all_gather(chunks, wire.rank), segments);
  pipeline.run(
      receives_ahead, [&](std::int64_t i) { return elements[pipeline.sent(i)]; },
      [&](std::int64_t i) { return elements[pipeline.received(i)]; },
      [](std::int64_t) { return std::int64_t{-1}; }, [](std::int64_t) {});
}

}  // namespace acp
