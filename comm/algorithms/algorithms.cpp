// Ring, pairwise and tree algorithms, blocking, over a transport.
#include "comm/algorithms/algorithms.h"

#include <atomic>
#include <cstring>
#include <deque>
#include <vector>

#include "comm/algorithms/reduce_kernels.h"
#include "comm/error.h"

namespace acp {

namespace {

std::atomic<std::size_t> segment_bytes = 512 * 1024;

std::byte* bytes(const at::Tensor& t) {
  return static_cast<std::byte*>(t.data_ptr());
}

// 15 bits that differ (nearly always) when two ranks do different things.
int tag_of(const Collective& op) {
  std::uint64_t h = 14695981039346656037ULL;
  const auto mix = [&](std::uint64_t v) { h = (h ^ v) * 1099511628211ULL; };
  mix(static_cast<std::uint64_t>(op.kind));
  mix(static_cast<std::uint64_t>(op.op));
  mix(static_cast<std::uint64_t>(op.root + 1));
  if (op.out.defined()) mix(static_cast<std::uint64_t>(op.out.scalar_type()));
  if (op.kind == Collective::Kind::all_reduce) mix(static_cast<std::uint64_t>(op.in.numel()));
  return static_cast<int>((h ^ (h >> 17) ^ (h >> 40)) & 0x7fff);
}

struct Range {
  std::int64_t begin, size;
};

class Ring {
 public:
  Ring(Transport& transport, int tag) : t_(transport), tag_(tag), n_(t_.size()), rank_(t_.rank()) {}

  // Afterwards this rank's `data[chunk rank]` holds the reduction; other chunks hold partial sums.
  void reduce_scatter(std::byte* data, std::int64_t numel, at::ScalarType type, ReduceOp op) {
    const auto width = static_cast<std::int64_t>(at::elementSize(type));
    const std::int64_t step =
        std::max<std::int64_t>(1, static_cast<std::int64_t>(segment_bytes.load()) / width);
    std::vector<std::byte> incoming[2];
    std::deque<Ticket> sends;
    for (int s = 0; s < n_ - 1; ++s) {
      const Range out = chunk(numel, rank_ - s - 1);
      const Range in = chunk(numel, rank_ - s - 2);
      if (s == 0) {
        for (std::int64_t at = 0; at < out.size; at += step) {
          sends.push_back(send(data, out.begin + at, std::min(step, out.size - at), width));
        }
      }
      const std::int64_t segments = (in.size + step - 1) / step;
      Ticket tickets[2] = {0, 0};
      const auto post = [&](std::int64_t k) {
        if (k >= segments) return;
        const std::int64_t size = std::min(step, in.size - k * step) * width;
        incoming[k % 2].resize(static_cast<std::size_t>(size));
        tickets[k % 2] = t_.receive(left(), {incoming[k % 2].data(), static_cast<std::size_t>(size)}, tag_);
      };
      post(0);
      for (std::int64_t k = 0; k < segments; ++k) {
        t_.wait(tickets[k % 2]);
        post(k + 1);
        const std::int64_t begin = in.begin + k * step;
        const std::int64_t size = std::min(step, in.size - k * step);
        reduce_into(data + begin * width, incoming[k % 2].data(), size, type, op);
        if (s + 1 < n_ - 1) sends.push_back(send(data, begin, size, width));
      }
    }
    for (const Ticket ticket : sends) t_.wait(ticket);
  }

  // Chunk `rank` of every rank goes to all; `range(r)` tells where chunk r lies, in bytes.
  template <class RangeOf>
  void all_gather(std::byte* data, RangeOf range) {
    const auto step = static_cast<std::int64_t>(segment_bytes.load());
    std::deque<Ticket> sends;
    for (int s = 0; s < n_ - 1; ++s) {
      const Range out = range(wrap(rank_ - s));
      const Range in = range(wrap(rank_ - s - 1));
      if (s == 0) {
        for (std::int64_t at = 0; at < out.size; at += step) {
          sends.push_back(send(data, out.begin + at, std::min(step, out.size - at), 1));
        }
      }
      std::deque<Ticket> receives;
      for (std::int64_t at = 0; at < in.size; at += step) {
        const auto size = static_cast<std::size_t>(std::min(step, in.size - at));
        receives.push_back(t_.receive(left(), {data + in.begin + at, size}, tag_));
      }
      for (std::int64_t at = 0; at < in.size; at += step) {
        t_.wait(receives.front());
        receives.pop_front();
        if (s + 1 < n_ - 1) sends.push_back(send(data, in.begin + at, std::min(step, in.size - at), 1));
      }
    }
    for (const Ticket ticket : sends) t_.wait(ticket);
  }

  Range chunk(std::int64_t numel, int index) const {
    const std::int64_t i = wrap(index);
    return {numel * i / n_, numel * (i + 1) / n_ - numel * i / n_};
  }

 private:
  int wrap(int r) const { return ((r % n_) + n_) % n_; }
  int left() const { return wrap(rank_ - 1); }
  Ticket send(std::byte* data, std::int64_t begin, std::int64_t size, std::int64_t width) {
    return t_.send(wrap(rank_ + 1), {data + begin * width, static_cast<std::size_t>(size * width)}, tag_);
  }
  Transport& t_;
  int tag_, n_, rank_;
};

void all_to_all(Transport& t, int tag, const std::byte* in, std::byte* out, const std::vector<Range>& from,
                const std::vector<Range>& to) {
  const int n = t.size();
  const int rank = t.rank();
  const auto at = [](const std::vector<Range>& r, int i) { return r[static_cast<std::size_t>(i)]; };
  std::memcpy(out + at(to, rank).begin, in + at(from, rank).begin,
              static_cast<std::size_t>(at(from, rank).size));
  for (int s = 1; s < n; ++s) {
    const int dst = (rank + s) % n;
    const int src = (rank - s + n) % n;
    const Ticket r =
        t.receive(src, {out + at(to, src).begin, static_cast<std::size_t>(at(to, src).size)}, tag);
    const Ticket w =
        t.send(dst, {in + at(from, dst).begin, static_cast<std::size_t>(at(from, dst).size)}, tag);
    t.wait(r);
    t.wait(w);
  }
}

bool is_half(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16;
}

// Pieces are exchanged, added in float32 in rank order, and rounded once; `sums` gets this rank's piece.
void reduce_half(Transport& t, int tag, const std::byte* data, std::int64_t numel, at::ScalarType type,
                 ReduceOp op, std::vector<float>& sums) {
  if (op == ReduceOp::min || op == ReduceOp::max) {
    throw ConfigError("min and max of half-precision numbers are not offered; convert to float32");
  }
  Ring ring(t, tag);
  std::vector<Range> from;
  std::vector<Range> to;
  const Range mine = ring.chunk(numel, t.rank());
  for (int r = 0; r < t.size(); ++r) {
    const Range piece = ring.chunk(numel, r);
    from.push_back({piece.begin * 2, piece.size * 2});
    to.push_back({mine.size * 2 * r, mine.size * 2});
  }
  std::vector<std::byte> pieces(static_cast<std::size_t>(mine.size * 2 * t.size()));
  all_to_all(t, tag, data, pieces.data(), from, to);
  sums.assign(static_cast<std::size_t>(mine.size), 0.0F);
  for (int r = 0; r < t.size(); ++r)
    add_half(sums.data(), pieces.data() + mine.size * 2 * r, mine.size, type);
  if (op == ReduceOp::average) {
    for (float& x : sums) x /= static_cast<float>(t.size());
  }
}

void all_reduce(const Collective& op, Transport& t, int tag) {
  const auto type = op.in.scalar_type();
  const std::int64_t numel = op.in.numel();
  Ring ring(t, tag);
  const auto width = static_cast<std::int64_t>(op.in.element_size());
  const Range mine = ring.chunk(numel, t.rank());
  if (is_half(type)) {
    std::vector<float> sums;
    reduce_half(t, tag, bytes(op.in), numel, type, op.op, sums);
    round_half(bytes(op.out) + mine.begin * width, sums.data(), mine.size, type);
  } else {
    ring.reduce_scatter(bytes(op.out), numel, type, op.op);
    if (op.op == ReduceOp::average) divide(bytes(op.out) + mine.begin * width, mine.size, type, t.size());
  }
  ring.all_gather(bytes(op.out), [&](int r) {
    const Range c = ring.chunk(numel, r);
    return Range{c.begin * width, c.size * width};
  });
}

}  // namespace

void set_segment_bytes(std::size_t size) {
  segment_bytes = size;
}

void perform(const Collective& op, Transport& t) {
  const int n = t.size();
  const int rank = t.rank();
  const int tag = tag_of(op);
  const auto width = op.out.defined() ? static_cast<std::int64_t>(op.out.element_size()) : 1;
  const auto check = [&](bool ok, const char* what) {
    if (!ok) throw ConfigError(std::string(what));
  };
  switch (op.kind) {
    case Collective::Kind::all_reduce:
      all_reduce(op, t, tag);
      break;
    case Collective::Kind::reduce_scatter: {
      check(op.in.numel() == op.out.numel() * n,
            "reduce_scatter: the input must have size() times the output's elements");
      const auto type = op.in.scalar_type();
      if (is_half(type)) {
        std::vector<float> sums;
        reduce_half(t, tag, bytes(op.in), op.in.numel(), type, op.op, sums);
        round_half(bytes(op.out), sums.data(), op.out.numel(), type);
        break;
      }
      at::Tensor work = op.in.clone();
      Ring ring(t, tag);
      ring.reduce_scatter(bytes(work), work.numel(), type, op.op);
      std::memcpy(bytes(op.out), bytes(work) + op.out.nbytes() * static_cast<std::size_t>(rank),
                  op.out.nbytes());
      if (op.op == ReduceOp::average) divide(bytes(op.out), op.out.numel(), type, n);
      break;
    }
    case Collective::Kind::all_gather:
    case Collective::Kind::all_gather_v: {
      std::vector<Range> ranges;
      std::int64_t at = 0;
      for (int r = 0; r < n; ++r) {
        const std::int64_t size =
            (op.kind == Collective::Kind::all_gather ? op.in.numel()
                                                     : op.out_counts.at(static_cast<std::size_t>(r))) *
            width;
        ranges.push_back({at, size});
        at += size;
      }
      check(at == static_cast<std::int64_t>(op.out.nbytes()),
            "all_gather: the output must have room for every rank's input");
      const Range mine = ranges[static_cast<std::size_t>(rank)];
      check(mine.size == static_cast<std::int64_t>(op.in.nbytes()),
            "all_gather_v: counts[rank] is not the size of the input");
      if (mine.size > 0)
        std::memmove(bytes(op.out) + mine.begin, bytes(op.in), static_cast<std::size_t>(mine.size));
      Ring(t, tag).all_gather(bytes(op.out), [&](int r) { return ranges[static_cast<std::size_t>(r)]; });
      break;
    }
    case Collective::Kind::all_to_all:
    case Collective::Kind::all_to_all_v: {
      std::vector<Range> from;
      std::vector<Range> to;
      std::int64_t out_at = 0;
      std::int64_t in_at = 0;
      for (std::size_t r = 0; r < static_cast<std::size_t>(n); ++r) {
        const bool v = op.kind == Collective::Kind::all_to_all_v;
        const std::int64_t in = (v ? op.in_counts.at(r) : op.in.numel() / n) * width;
        const std::int64_t out = (v ? op.out_counts.at(r) : op.out.numel() / n) * width;
        from.push_back({in_at, in});
        to.push_back({out_at, out});
        in_at += in;
        out_at += out;
      }
      check(in_at == static_cast<std::int64_t>(op.in.nbytes()),
            "all_to_all: the input must have size() equal pieces");
      all_to_all(t, tag, bytes(op.in), bytes(op.out), from, to);
      break;
    }
    case Collective::Kind::send_receive: {
      Ticket r = 0;
      Ticket w = 0;
      if (op.receive_from >= 0) r = t.receive(op.receive_from, {bytes(op.out), op.out.nbytes()}, 1);
      if (op.send_to >= 0) w = t.send(op.send_to, {bytes(op.in), op.in.nbytes()}, 1);
      t.wait(r);
      t.wait(w);
      break;
    }
    case Collective::Kind::broadcast: {
      const int relative = (rank - op.root + n) % n;
      int mask = 1;
      for (; mask < n; mask <<= 1) {
        if (relative & mask) {
          t.wait(t.receive((rank - mask + n) % n, {bytes(op.out), op.out.nbytes()}, tag));
          break;
        }
      }
      std::vector<Ticket> sends;
      for (mask >>= 1; mask > 0; mask >>= 1) {
        if (relative + mask < n)
          sends.push_back(t.send((rank + mask) % n, {bytes(op.out), op.out.nbytes()}, tag));
      }
      for (const Ticket ticket : sends) t.wait(ticket);
      break;
    }
    case Collective::Kind::barrier:
      for (int step = 1; step < n; step <<= 1) {
        const Ticket r = t.receive((rank - step + n) % n, {}, tag);
        const Ticket w = t.send((rank + step) % n, {}, tag);
        t.wait(r);
        t.wait(w);
      }
      break;
  }
}

}  // namespace acp
