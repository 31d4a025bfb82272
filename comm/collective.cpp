// Makes and describes collectives; checks here what one rank can see alone.
#include "comm/collective.h"

#include <c10/core/ScalarType.h>

#include <cctype>
#include <cstdio>
#include <numeric>
#include <string>

#include "comm/error.h"

namespace acp {

namespace {

using Kind = Collective::Kind;

[[noreturn]] void refuse(Kind kind, const std::string& what) {
  throw ConfigError(std::string(to_string(kind)) + ": " + what);
}

void check_tensor(Kind kind, const char* name, const at::Tensor& x) {
  if (!x.defined()) refuse(kind, std::string(name) + " is an undefined tensor");
  if (x.layout() != at::kStrided) refuse(kind, std::string(name) + " is sparse; call to_dense() first");
  if (!x.is_contiguous()) refuse(kind, std::string(name) + " is not contiguous; call contiguous() first");
}

void check_pair(Kind kind, const char* in_name, const at::Tensor& in, const char* out_name,
                const at::Tensor& out) {
  check_tensor(kind, in_name, in);
  check_tensor(kind, out_name, out);
  if (in.scalar_type() != out.scalar_type()) {
    refuse(kind, std::string(in_name) + " is " + c10::toString(in.scalar_type()) + ", " + out_name + " is " +
                     c10::toString(out.scalar_type()) + "; they must have one dtype");
  }
  if (in.device() != out.device()) {
    refuse(kind, std::string(in_name) + " is on " + in.device().str() + ", " + out_name + " on " +
                     out.device().str());
  }
}

// `whole` must consist of equal pieces of `piece` elements.
void check_pieces(Kind kind, const char* name, std::int64_t whole, std::int64_t piece) {
  if (piece == 0 ? whole != 0 : whole % piece != 0) {
    refuse(kind, std::string(name) + " has " + std::to_string(whole) +
                     " elements, which is no whole number of pieces of " + std::to_string(piece));
  }
}

void check_counts(Kind kind, const char* name, std::int64_t numel, const std::vector<std::int64_t>& counts) {
  for (std::size_t r = 0; r < counts.size(); ++r) {
    if (counts[r] < 0) refuse(kind, "the count of rank " + std::to_string(r) + " is negative");
  }
  const auto sum = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  if (sum != numel) {
    refuse(kind, std::string(name) + " has " + std::to_string(numel) + " elements, its counts add up to " +
                     std::to_string(sum));
  }
}

std::string human_bytes(std::int64_t bytes) {
  static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(units); ++unit) value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text,
                value == static_cast<double>(static_cast<std::int64_t>(value)) ? "%.0f %s" : "%.1f %s", value,
                units[unit]);
  return text;
}

std::string dtype_name(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "float32";
    case at::kDouble:
      return "float64";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    case at::kInt:
      return "int32";
    case at::kLong:
      return "int64";
    case at::kShort:
      return "int16";
    case at::kChar:
      return "int8";
    case at::kByte:
      return "uint8";
    case at::kBool:
      return "bool";
    default:
      return c10::toString(type);
  }
}

}  // namespace

Collective Collective::all_reduce(at::Tensor x, ReduceOp op) {
  check_tensor(Kind::all_reduce, "x", x);
  Collective made(Kind::all_reduce, x, x);
  made.op = op;
  return made;
}

Collective Collective::reduce_scatter(at::Tensor x, at::Tensor mine, ReduceOp op) {
  check_pair(Kind::reduce_scatter, "x", x, "mine", mine);
  check_pieces(Kind::reduce_scatter, "x", x.numel(), mine.numel());
  Collective made(Kind::reduce_scatter, std::move(x), std::move(mine));
  made.op = op;
  return made;
}

Collective Collective::all_gather(at::Tensor mine, at::Tensor all) {
  check_pair(Kind::all_gather, "mine", mine, "all", all);
  check_pieces(Kind::all_gather, "all", all.numel(), mine.numel());
  return {Kind::all_gather, std::move(mine), std::move(all)};
}

Collective Collective::all_gather_v(at::Tensor mine, at::Tensor all, std::vector<std::int64_t> counts) {
  check_pair(Kind::all_gather_v, "mine", mine, "all", all);
  check_counts(Kind::all_gather_v, "all", all.numel(), counts);
  Collective made(Kind::all_gather_v, std::move(mine), std::move(all));
  made.out_counts = std::move(counts);
  return made;
}

Collective Collective::all_to_all(at::Tensor mine, at::Tensor theirs) {
  check_pair(Kind::all_to_all, "mine", mine, "theirs", theirs);
  if (mine.numel() != theirs.numel()) {
    refuse(Kind::all_to_all, "mine has " + std::to_string(mine.numel()) + " elements, theirs " +
                                 std::to_string(theirs.numel()) + "; all pieces have one size");
  }
  return {Kind::all_to_all, std::move(mine), std::move(theirs)};
}

Collective Collective::all_to_all_v(at::Tensor mine, std::vector<std::int64_t> mine_counts, at::Tensor theirs,
                                    std::vector<std::int64_t> their_counts) {
  check_pair(Kind::all_to_all_v, "mine", mine, "theirs", theirs);
  check_counts(Kind::all_to_all_v, "mine", mine.numel(), mine_counts);
  check_counts(Kind::all_to_all_v, "theirs", theirs.numel(), their_counts);
  if (mine_counts.size() != their_counts.size()) {
    refuse(Kind::all_to_all_v, std::to_string(mine_counts.size()) + " counts for mine, " +
                                   std::to_string(their_counts.size()) +
                                   " for theirs; each needs one for every rank");
  }
  Collective made(Kind::all_to_all_v, std::move(mine), std::move(theirs));
  made.in_counts = std::move(mine_counts);
  made.out_counts = std::move(their_counts);
  return made;
}

Collective Collective::send_receive(int to, at::Tensor mine, int from, at::Tensor theirs) {
  if (to < -1 || from < -1) refuse(Kind::send_receive, "a rank is negative; -1 leaves that half out");
  if (to >= 0) check_tensor(Kind::send_receive, "mine", mine);
  if (from >= 0) check_tensor(Kind::send_receive, "theirs", theirs);
  if (to >= 0 && from >= 0) check_pair(Kind::send_receive, "mine", mine, "theirs", theirs);
  Collective made(Kind::send_receive, to >= 0 ? std::move(mine) : at::Tensor(),
                  from >= 0 ? std::move(theirs) : at::Tensor());
  made.send_to = to;
  made.receive_from = from;
  return made;
}

Collective Collective::broadcast(at::Tensor x, int root) {
  check_tensor(Kind::broadcast, "x", x);
  if (root < 0) refuse(Kind::broadcast, "root is " + std::to_string(root) + "; it must be a rank");
  Collective made(Kind::broadcast, x, x);
  made.root = root;
  return made;
}

Collective Collective::barrier() {
  return {Kind::barrier, at::Tensor(), at::Tensor()};
}

std::string_view to_string(Kind kind) {
  switch (kind) {
    case Kind::all_reduce:
      return "all_reduce";
    case Kind::reduce_scatter:
      return "reduce_scatter";
    case Kind::all_gather:
      return "all_gather";
    case Kind::all_gather_v:
      return "all_gather_v";
    case Kind::all_to_all:
      return "all_to_all";
    case Kind::all_to_all_v:
      return "all_to_all_v";
    case Kind::send_receive:
      return "send_receive";
    case Kind::broadcast:
      return "broadcast";
    case Kind::barrier:
      return "barrier";
  }
  return "unknown collective";
}

std::string describe(const Collective& op) {
  std::string text(to_string(op.kind));
  const at::Tensor& x = op.in.defined() ? op.in : op.out;
  if (x.defined()) {
    text += " of " + human_bytes(static_cast<std::int64_t>(x.nbytes())) + " " + dtype_name(x.scalar_type());
  }
  if (op.kind == Kind::broadcast) text += " from rank " + std::to_string(op.root);
  if (op.send_to >= 0) text += " to rank " + std::to_string(op.send_to);
  if (op.receive_from >= 0) text += " from rank " + std::to_string(op.receive_from);
  if (!op.label.empty()) text += " (" + op.label + ")";
  return text;
}

}  // namespace acp
