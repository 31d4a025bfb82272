// Collectives are checked where they are made: what one rank can see alone is refused there.
#include "comm/collective.h"

#include <ATen/core/Tensor.h>

#include <numeric>
#include <sstream>

#include "comm/error.h"

namespace acp {

namespace {

void require_tensor(const at::Tensor& t, const char* what) {
  if (!t.defined()) throw ConfigError(std::string(what) + ": the tensor is undefined");
  if (!t.is_contiguous())
    throw ConfigError(std::string(what) + ": the tensor is not contiguous; call .contiguous()");
}

void require_pair(const at::Tensor& a, const at::Tensor& b, const char* what) {
  require_tensor(a, what);
  require_tensor(b, what);
  if (a.scalar_type() != b.scalar_type()) {
    throw ConfigError(std::string(what) + ": input is " + at::toString(a.scalar_type()) + " and output " +
                      at::toString(b.scalar_type()) + "; they must be the same");
  }
}

void require_counts(const std::vector<std::int64_t>& counts, const at::Tensor& t, const char* what) {
  std::int64_t sum = 0;
  for (const std::int64_t n : counts) {
    if (n < 0) throw ConfigError(std::string(what) + ": a count is negative");
    sum += n;
  }
  if (sum != t.numel()) {
    throw ConfigError(std::string(what) + ": the counts add up to " + std::to_string(sum) +
                      ", but the tensor has " + std::to_string(t.numel()) + " elements");
  }
}

void require_average(const at::Tensor& x, ReduceOp op, const char* what) {
  if (op == ReduceOp::average && !at::isFloatingType(x.scalar_type())) {
    throw ConfigError(std::string(what) + ": an average needs a floating type, not " +
                      at::toString(x.scalar_type()));
  }
}

std::string human_size(std::size_t bytes) {
  std::ostringstream text;
  text.precision(3);
  if (bytes < 1024) {
    text << bytes << " B";
  } else if (bytes < 1024 * 1024) {
    text << static_cast<double>(bytes) / 1024 << " KiB";
  } else {
    text << static_cast<double>(bytes) / (1024 * 1024) << " MiB";
  }
  return text.str();
}

}  // namespace

Collective Collective::all_reduce(at::Tensor x, ReduceOp op) {
  require_tensor(x, "all_reduce");
  require_average(x, op, "all_reduce");
  Collective c(Kind::all_reduce, x, x);
  c.op = op;
  return c;
}

Collective Collective::reduce_scatter(at::Tensor x, at::Tensor mine, ReduceOp op) {
  require_pair(x, mine, "reduce_scatter");
  require_average(x, op, "reduce_scatter");
  Collective c(Kind::reduce_scatter, std::move(x), std::move(mine));
  c.op = op;
  return c;
}

Collective Collective::all_gather(at::Tensor mine, at::Tensor all) {
  require_pair(mine, all, "all_gather");
  return {Kind::all_gather, std::move(mine), std::move(all)};
}

Collective Collective::all_gather_v(at::Tensor mine, at::Tensor all, std::vector<std::int64_t> counts) {
  require_pair(mine, all, "all_gather_v");
  require_counts(counts, all, "all_gather_v");
  Collective c(Kind::all_gather_v, std::move(mine), std::move(all));
  c.out_counts = std::move(counts);
  return c;
}

Collective Collective::all_to_all(at::Tensor mine, at::Tensor theirs) {
  require_pair(mine, theirs, "all_to_all");
  if (mine.numel() != theirs.numel()) throw ConfigError("all_to_all: input and output differ in size");
  return {Kind::all_to_all, std::move(mine), std::move(theirs)};
}

Collective Collective::all_to_all_v(at::Tensor mine, std::vector<std::int64_t> mine_counts, at::Tensor theirs,
                                    std::vector<std::int64_t> their_counts) {
  require_pair(mine, theirs, "all_to_all_v");
  require_counts(mine_counts, mine, "all_to_all_v");
  require_counts(their_counts, theirs, "all_to_all_v");
  Collective c(Kind::all_to_all_v, std::move(mine), std::move(theirs));
  c.in_counts = std::move(mine_counts);
  c.out_counts = std::move(their_counts);
  return c;
}

Collective Collective::send_receive(int to, at::Tensor mine, int from, at::Tensor theirs) {
  if (to >= 0) require_tensor(mine, "send_receive");
  if (from >= 0) require_tensor(theirs, "send_receive");
  Collective c(Kind::send_receive, std::move(mine), std::move(theirs));
  c.send_to = to;
  c.receive_from = from;
  return c;
}

Collective Collective::broadcast(at::Tensor x, int root) {
  require_tensor(x, "broadcast");
  Collective c(Kind::broadcast, x, x);
  c.root = root;
  return c;
}

Collective Collective::barrier() {
  return {Kind::barrier, {}, {}};
}

std::string_view to_string(Collective::Kind kind) {
  switch (kind) {
    case Collective::Kind::all_reduce:
      return "all_reduce";
    case Collective::Kind::reduce_scatter:
      return "reduce_scatter";
    case Collective::Kind::all_gather:
      return "all_gather";
    case Collective::Kind::all_gather_v:
      return "all_gather_v";
    case Collective::Kind::all_to_all:
      return "all_to_all";
    case Collective::Kind::all_to_all_v:
      return "all_to_all_v";
    case Collective::Kind::send_receive:
      return "send_receive";
    case Collective::Kind::broadcast:
      return "broadcast";
    case Collective::Kind::barrier:
      return "barrier";
  }
  return "collective";
}

std::string describe(const Collective& op) {
  std::string text(to_string(op.kind));
  const at::Tensor& t = op.in.defined() ? op.in : op.out;
  if (t.defined()) text += " of " + human_size(t.nbytes()) + " " + at::toString(t.scalar_type());
  if (!op.label.empty()) text += " (" + op.label + ")";
  return text;
}

}  // namespace acp
