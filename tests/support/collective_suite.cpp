// Values are small whole numbers derived from rank and index, so that sums are exact whatever the order.
#include "tests/support/collective_suite.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace acp::test {

namespace {

using Kind = Collective::Kind;
using Values = std::vector<std::int64_t>;

constexpr std::int64_t junk = 77;  // what outputs hold before; no value is as large

bool is_reduction(Kind kind) {
  return kind == Kind::all_reduce || kind == Kind::reduce_scatter;
}
bool is_half(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16;
}

// -30 .. 30, or 0 .. 60 of an unsigned type.
std::int64_t value(int rank, std::int64_t i, at::ScalarType type) {
  const std::int64_t v = (i * 37 + rank * 101 + (i ^ rank) * 13) % 61;
  return type == at::kByte ? v : v - 30;
}

Values values(int rank, std::int64_t begin, std::int64_t count, at::ScalarType type) {
  Values result(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) result[static_cast<std::size_t>(i)] = value(rank, begin + i, type);
  return result;
}

at::Tensor tensor(Values v, at::ScalarType type) {
  const auto n = static_cast<std::int64_t>(v.size());
  return at::from_blob(v.data(), {n}, at::TensorOptions().dtype(at::kLong)).to(type, false, true);
}

at::Tensor filled(std::int64_t count, at::ScalarType type) {
  return at::full({count}, junk, at::TensorOptions().dtype(type));
}

// Elements begin .. begin + count of the reduction over `ranks` ranks.
at::Tensor reduced(int ranks, std::int64_t begin, std::int64_t count, at::ScalarType type, ReduceOp op) {
  Values result = values(0, begin, count, type);
  for (int r = 1; r < ranks; ++r) {
    for (std::int64_t i = 0; i < count; ++i) {
      std::int64_t& mine = result[static_cast<std::size_t>(i)];
      const std::int64_t theirs = value(r, begin + i, type);
      mine = op == ReduceOp::min   ? std::min(mine, theirs)
             : op == ReduceOp::max ? std::max(mine, theirs)
                                   : mine + theirs;
    }
  }
  if (op != ReduceOp::average) return tensor(std::move(result), type);
  // The division rounds to the type (half precision: by way of float32), as that of doubles does for such
  // numbers.
  const at::Tensor mean = tensor(std::move(result), at::kDouble) / ranks;
  return is_half(type) ? mean.to(at::kFloat).to(type) : mean.to(type);
}

[[noreturn]] void wrong(const std::string& where, const std::string& what) {
  throw std::runtime_error(where + ": " + what);
}

void require_equal(const at::Tensor& got, const at::Tensor& expected, const std::string& where) {
  if (at::equal(got, expected)) return;
  if (got.sizes() != expected.sizes()) wrong(where, "sizes differ");
  const at::Tensor different = at::nonzero(got.ne(expected));
  if (different.numel() == 0) wrong(where, "the result has NaN");
  const auto i = different[0].item<std::int64_t>();
  std::ostringstream text;
  text << different.size(0) << " of " << got.numel() << " elements are wrong; element " << i << " is "
       << got[i].item<double>() << ", not " << expected[i].item<double>();
  wrong(where, text.str());
}

std::int64_t gathered(int rank, std::int64_t numel) {
  return rank % 3 == 1 ? 0 : numel + rank;
}
std::int64_t exchanged(int from, int to, std::int64_t numel) {
  return (from + to) % 3 == 1 ? 0 : numel + 2 * from + to;
}
std::int64_t exchanged_before(int from, int to, std::int64_t numel) {
  std::int64_t sum = 0;
  for (int t = 0; t < to; ++t) sum += exchanged(from, t, numel);
  return sum;
}

struct Maker {
  const int rank, size;
  const Spec spec;
  const std::string where;

  Case done(Collective op, at::Tensor expected, at::Tensor untouched = {}) const {
    op.algorithm = spec.algorithm;
    op.label = where;
    const at::Tensor out = op.out, in = op.in;
    const at::Tensor before = untouched.defined() ? untouched.clone() : at::Tensor();
    return {std::move(op), [=, where = where] {
              if (out.defined()) require_equal(out, expected, where);
              if (before.defined()) require_equal(in, before, where + ", input");
            }};
  }

  Case all_reduce() const {
    const at::Tensor x = tensor(values(rank, 0, spec.numel, spec.type), spec.type);
    return done(Collective::all_reduce(x, spec.op), reduced(size, 0, spec.numel, spec.type, spec.op));
  }
  Case reduce_scatter() const {
    const std::int64_t piece = spec.numel <= 17 ? spec.numel : spec.numel / size;
    const at::Tensor x = tensor(values(rank, 0, piece * size, spec.type), spec.type);
    return done(Collective::reduce_scatter(x, filled(piece, spec.type), spec.op),
                reduced(size, piece * rank, piece, spec.type, spec.op), x);
  }
  Case all_gather() const {
    const at::Tensor mine = tensor(values(rank, 0, spec.numel, spec.type), spec.type);
    Values all;
    for (int r = 0; r < size; ++r) {
      const Values theirs = values(r, 0, spec.numel, spec.type);
      all.insert(all.end(), theirs.begin(), theirs.end());
    }
    return done(Collective::all_gather(mine, filled(spec.numel * size, spec.type)), tensor(all, spec.type),
                mine);
  }
  Case all_gather_v() const {
    const at::Tensor mine = tensor(values(rank, 0, gathered(rank, spec.numel), spec.type), spec.type);
    Values all, counts;
    for (int r = 0; r < size; ++r) {
      counts.push_back(gathered(r, spec.numel));
      const Values theirs = values(r, 0, counts.back(), spec.type);
      all.insert(all.end(), theirs.begin(), theirs.end());
    }
    const at::Tensor out = filled(static_cast<std::int64_t>(all.size()), spec.type);
    return done(Collective::all_gather_v(mine, out, counts), tensor(all, spec.type), mine);
  }
  Case all_to_all() const {
    const at::Tensor mine = tensor(values(rank, 0, spec.numel * size, spec.type), spec.type);
    Values arriving;
    for (int r = 0; r < size; ++r) {
      const Values piece = values(r, spec.numel * rank, spec.numel, spec.type);
      arriving.insert(arriving.end(), piece.begin(), piece.end());
    }
    return done(Collective::all_to_all(mine, filled(spec.numel * size, spec.type)),
                tensor(arriving, spec.type), mine);
  }
  Case all_to_all_v() const {
    Values arriving, in_counts, out_counts;
    for (int r = 0; r < size; ++r) {
      in_counts.push_back(exchanged(rank, r, spec.numel));
      out_counts.push_back(exchanged(r, rank, spec.numel));
      const Values piece = values(r, exchanged_before(r, rank, spec.numel), out_counts.back(), spec.type);
      arriving.insert(arriving.end(), piece.begin(), piece.end());
    }
    const at::Tensor mine =
        tensor(values(rank, 0, exchanged_before(rank, size, spec.numel), spec.type), spec.type);
    const at::Tensor theirs = filled(static_cast<std::int64_t>(arriving.size()), spec.type);
    return done(Collective::all_to_all_v(mine, in_counts, theirs, out_counts), tensor(arriving, spec.type),
                mine);
  }
  // Everybody to the right; or, of an even number, the even ranks only and one way only.
  Case send_receive() const {
    const int right = (rank + 1) % size, left = (rank + size - 1) % size;
    const bool one_way = spec.numel % 2 == 0 && size > 1;
    const bool sends = !one_way || (rank % 2 == 0 && rank + 1 < size);
    const bool receives = !one_way || rank % 2 == 1;
    const at::Tensor mine = tensor(values(rank, 0, spec.numel, spec.type), spec.type);
    return done(Collective::send_receive(sends ? right : -1, mine, receives ? left : -1,
                                         filled(spec.numel, spec.type)),
                tensor(values(left, 0, spec.numel, spec.type), spec.type), sends ? mine : at::Tensor());
  }
  Case broadcast() const {
    const at::Tensor x = tensor(values(rank, 0, spec.numel, spec.type), spec.type);
    return done(Collective::broadcast(x, spec.root),
                tensor(values(spec.root, 0, spec.numel, spec.type), spec.type));
  }
};

// A number that is no multiple of anything, of a magnitude that varies.
double rough(int rank, std::int64_t i) {
  const double x = std::sin(static_cast<double>(i * 12 + rank * 7 + 1));
  return x * std::exp2(static_cast<double>((i + rank) % 9) - 4);
}

at::Tensor rough_tensor(int rank, std::int64_t numel, at::ScalarType type) {
  std::vector<double> v(static_cast<std::size_t>(numel));
  for (std::int64_t i = 0; i < numel; ++i) v[static_cast<std::size_t>(i)] = rough(rank, i);
  return at::from_blob(v.data(), {numel}, at::TensorOptions().dtype(at::kDouble)).to(type, false, true);
}

}  // namespace

std::string to_string(const Spec& spec) {
  static constexpr const char* ops[] = {"sum", "average", "min", "max"};
  static constexpr const char* algorithms[] = {"automatic", "ring",    "native",
                                               "doubling",  "halving", "hierarchical"};
  std::ostringstream text;
  text << to_string(spec.kind);
  if (is_reduction(spec.kind)) text << ' ' << ops[static_cast<int>(spec.op)];
  text << " of " << spec.numel << ' ' << c10::toString(spec.type) << ", "
       << algorithms[static_cast<int>(spec.algorithm)];
  if (spec.kind == Kind::broadcast) text << ", root " << spec.root;
  return text.str();
}

Case make_case(const Communicator& c, const Spec& spec) {
  const Maker maker{
      c.rank(), c.size(), spec,
      "rank " + std::to_string(c.rank()) + " of " + std::to_string(c.size()) + ", " + to_string(spec)};
  switch (spec.kind) {
    case Kind::all_reduce:
      return maker.all_reduce();
    case Kind::reduce_scatter:
      return maker.reduce_scatter();
    case Kind::all_gather:
      return maker.all_gather();
    case Kind::all_gather_v:
      return maker.all_gather_v();
    case Kind::all_to_all:
      return maker.all_to_all();
    case Kind::all_to_all_v:
      return maker.all_to_all_v();
    case Kind::send_receive:
      return maker.send_receive();
    case Kind::broadcast:
      return maker.broadcast();
    case Kind::barrier:
      return maker.done(Collective::barrier(), {});
  }
  throw std::logic_error("unknown kind");
}

void check_collective(Communicator& c, const Spec& spec) {
  Case made = make_case(c, spec);
  perform(c, std::move(made.op));
  made.verify();
}

void check_all(Communicator& c, Algorithm algorithm, const std::vector<std::int64_t>& sizes) {
  const std::vector<at::ScalarType> reducible{at::kFloat, at::kDouble, at::kInt,     at::kLong,
                                              at::kByte,  at::kHalf,   at::kBFloat16};
  for (const std::int64_t numel : sizes) {
    for (const Kind kind : {Kind::all_reduce, Kind::reduce_scatter}) {
      for (const at::ScalarType type : reducible) {
        for (const ReduceOp op : {ReduceOp::sum, ReduceOp::average, ReduceOp::min, ReduceOp::max}) {
          if (op == ReduceOp::average && !at::isFloatingType(type)) continue;
          check_collective(c, {kind, type, op, algorithm, numel, 0});
        }
      }
    }
    for (const Kind kind : {Kind::all_gather, Kind::all_gather_v, Kind::all_to_all, Kind::all_to_all_v,
                            Kind::send_receive, Kind::broadcast}) {
      for (const at::ScalarType type : {at::kFloat, at::kByte, at::kHalf, at::kLong, at::kShort}) {
        check_collective(c, {kind, type, ReduceOp::sum, algorithm, numel, 0});
      }
    }
    for (int root = 1; root < c.size(); ++root) {
      check_collective(c, {Kind::broadcast, at::kFloat, ReduceOp::sum, algorithm, numel, root});
    }
  }
  check_collective(c, {Kind::barrier, at::kFloat, ReduceOp::sum, algorithm, 0, 0});
}

void check_bits(Communicator& c, Algorithm algorithm, at::ScalarType type, std::int64_t numel) {
  const std::string where = "rank " + std::to_string(c.rank()) + ", bits of " + c10::toString(type);
  at::Tensor exact = rough_tensor(0, numel, type).to(at::kDouble), magnitude = exact.abs();
  at::Tensor in_order = rough_tensor(0, numel, type).to(at::kFloat);
  for (int r = 1; r < c.size(); ++r) {
    const at::Tensor x = rough_tensor(r, numel, type);
    exact += x.to(at::kDouble);
    magnitude += x.to(at::kDouble).abs();
    in_order += x.to(at::kFloat);
  }
  at::Tensor first;
  for (int repetition = 0; repetition < 2; ++repetition) {
    const at::Tensor x = rough_tensor(c.rank(), numel, type);
    Collective op = Collective::all_reduce(x, ReduceOp::average);
    op.algorithm = algorithm;
    perform(c, std::move(op));
    if (repetition > 0) require_equal(x, first, where + ", repeated");
    first = x;

    const at::Tensor all = at::empty({c.size(), numel}, x.options());
    perform(c, Collective::all_gather(x, all));
    for (int r = 0; r < c.size(); ++r)
      require_equal(all[r], x, where + " against those of rank " + std::to_string(r));

    if (is_half(type) && algorithm != Algorithm::hierarchical)
      require_equal(x, (in_order / c.size()).to(type), where + ", in rank order and rounded once");
    const double epsilon = type == at::kDouble  ? 0x1p-52
                           : type == at::kFloat ? 0x1p-23
                           : type == at::kHalf  ? 0x1p-10
                                                : 0x1p-7;
    const at::Tensor error = (x.to(at::kDouble) - exact / c.size()).abs() - magnitude * epsilon - 1e-7;
    if (numel > 0 && error.max().item<double>() > 0) wrong(where, "far from the sum in double precision");
  }
}

void run_channel_suite(Communicator& c) {
  const auto first = c.channel();
  const auto second = c.channel();
  const auto nested = second->channel();
  std::vector<Communicator*> channels{&c, first.get(), second.get(), nested.get()};
  std::rotate(channels.begin(), channels.begin() + c.rank() % 4,
              channels.end());  // another order on each rank
  for (int step = 0; step < 20; ++step) {
    std::vector<std::pair<std::future<void>, std::function<void()>>> pending;
    for (Communicator* channel : channels) {
      // The numbers differ between channels, so that mixed messages show.
      const auto index = channel == &c ? 0 : channel == first.get() ? 1 : channel == second.get() ? 2 : 3;
      Case made =
          make_case(c, {Kind::all_reduce, at::kFloat, ReduceOp::sum, Algorithm::automatic, 100 + step, 0});
      made.op.in.mul_(index + 1);
      const at::Tensor x = made.op.in;
      pending.emplace_back(channel->start(std::move(made.op)), [x, index, verify = std::move(made.verify)] {
        x.div_(index + 1);
        verify();
      });
    }
    for (auto& [future, verify] : pending) future.get();
    for (auto& [future, verify] : pending) verify();
  }
}

void run_random_suite(Communicator& c, std::uint64_t seed, int count) {
  std::mt19937_64 shared(seed);
  std::mt19937_64 own(seed + 1000003 * static_cast<std::uint64_t>(c.rank() + 1));
  const auto pick = [](std::mt19937_64& random, std::uint64_t n) {
    return static_cast<std::int64_t>(random() % n);
  };

  std::vector<std::unique_ptr<Communicator>> channels;
  for (int i = 0; i < 3; ++i) channels.push_back(c.channel());
  std::vector<std::vector<Spec>> todo(channels.size());
  for (int i = 0; i < count; ++i) {
    Spec spec;
    spec.kind = static_cast<Kind>(pick(shared, 9));
    const std::vector<at::ScalarType> types{at::kFloat, at::kDouble, at::kHalf, at::kBFloat16,
                                            at::kInt,   at::kLong,   at::kByte};
    spec.type = types[static_cast<std::size_t>(pick(shared, types.size()))];
    spec.op = static_cast<ReduceOp>(pick(shared, 4));
    if (spec.op == ReduceOp::average && !at::isFloatingType(spec.type)) spec.op = ReduceOp::sum;
    spec.algorithm = static_cast<Algorithm>(pick(shared, 6));
    spec.numel = pick(shared, 3) == 0 ? pick(shared, 5000) : pick(shared, 20);
    spec.root = static_cast<int>(pick(shared, static_cast<std::uint64_t>(c.size())));
    todo[static_cast<std::size_t>(pick(shared, channels.size()))].push_back(spec);
  }

  std::vector<std::pair<std::future<void>, std::function<void()>>> pending;
  std::vector<std::size_t> next(channels.size(), 0);
  for (int started = 0; started < count;) {
    const auto k = static_cast<std::size_t>(pick(own, channels.size()));  // each rank in an order of its own
    if (next[k] == todo[k].size()) continue;
    Case made = make_case(c, todo[k][next[k]++]);
    pending.emplace_back(channels[k]->start(std::move(made.op)), std::move(made.verify));
    ++started;
    if (pick(own, 4) == 0) std::this_thread::sleep_for(std::chrono::microseconds(pick(own, 300)));
  }
  for (auto& [future, verify] : pending) future.get();
  for (auto& [future, verify] : pending) verify();
}

void run_collective_suite(Communicator& c) {
  for (const Algorithm algorithm : {Algorithm::ring, Algorithm::native, Algorithm::automatic,
                                    Algorithm::doubling, Algorithm::halving, Algorithm::hierarchical}) {
    check_all(c, algorithm, {0, 1, 2, 3, 5, 17, 1000});
    for (const Kind kind : {Kind::all_reduce, Kind::reduce_scatter, Kind::all_gather, Kind::all_gather_v,
                            Kind::all_to_all, Kind::all_to_all_v, Kind::send_receive, Kind::broadcast}) {
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
        check_collective(c, {kind, type, ReduceOp::average, algorithm, 65537, c.size() - 1});
      }
    }
    for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
      for (const std::int64_t numel : {100, 10007}) check_bits(c, algorithm, type, numel);
    }
  }
  run_channel_suite(c);
  run_random_suite(c, 1, 60);
}

}  // namespace acp::test
