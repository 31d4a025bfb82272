// One collective, as data: what a compressor asks for and a communicator performs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace acp {

// How the ranks' numbers become one. `average` is the sum divided by the number of ranks (floating types
// only).
enum class ReduceOp : std::uint8_t { sum, average, min, max };

// `ring`: our own algorithms over point-to-point messages. `native`: the backend's collective where it has
// one (else ours). `automatic`: whichever is expected to be faster for this size. The others are ways to
// all-reduce (other collectives take what `automatic` takes): `doubling`, `halving` with few messages,
// `hierarchical` first among the ranks of a host.
enum class Algorithm : std::uint8_t { automatic, ring, native, doubling, halving, hierarchical };

// Holds its tensors, so their storage stays alive while it is on the wire. All tensors are contiguous and of
// one dtype; sizes are checked here, and the factories throw ConfigError on a mismatch that one rank can see
// alone. Made only by the static functions below: g++ 12 destroys an awaited aggregate temporary twice. They
// are members, so that acp::all_reduce(tensor) and its like stay free for the user's blocking calls.
class Collective {
 public:
  enum class Kind : std::uint8_t {
    all_reduce,
    reduce_scatter,
    all_gather,
    all_gather_v,
    all_to_all,
    all_to_all_v,
    send_receive,
    broadcast,
    barrier
  };

  Kind kind;
  at::Tensor in;   // what this rank contributes (undefined for a barrier)
  at::Tensor out;  // where the result goes; the same tensor as `in` for operations in place
  ReduceOp op = ReduceOp::sum;
  Algorithm algorithm = Algorithm::automatic;
  int root = 0;                          // broadcast
  int send_to = -1, receive_from = -1;   // send_receive; -1 = no such half
  std::vector<std::int64_t> in_counts;   // all_to_all_v: elements for each rank
  std::vector<std::int64_t> out_counts;  // all_gather_v, all_to_all_v: elements from each rank
  std::string label;  // for messages: "step 120, bucket 2: layer3.weight ..."; may be empty

  // In place: every rank's x becomes the reduction over all ranks.
  static Collective all_reduce(at::Tensor x, ReduceOp op = ReduceOp::sum);
  // x has size() equal pieces; `mine` receives the reduction of piece rank().
  static Collective reduce_scatter(at::Tensor x, at::Tensor mine, ReduceOp op = ReduceOp::sum);
  // `all` has size() pieces of mine.numel() elements, in rank order.
  static Collective all_gather(at::Tensor mine, at::Tensor all);
  // `all` has counts[r] elements from rank r, in rank order; counts are the same on all ranks.
  static Collective all_gather_v(at::Tensor mine, at::Tensor all, std::vector<std::int64_t> counts);
  // Piece r of `mine` goes to rank r; piece r of `theirs` comes from rank r.
  static Collective all_to_all(at::Tensor mine, at::Tensor theirs);
  static Collective all_to_all_v(at::Tensor mine, std::vector<std::int64_t> mine_counts, at::Tensor theirs,
                                 std::vector<std::int64_t> their_counts);
  // Sends `mine` to one rank while `theirs` arrives from another; a rank of -1 leaves that half out.
  static Collective send_receive(int to, at::Tensor mine, int from, at::Tensor theirs);
  // x of `root` goes to all.
  static Collective broadcast(at::Tensor x, int root = 0);
  static Collective barrier();

 private:
  Collective(Kind k, at::Tensor i, at::Tensor o) : kind(k), in(std::move(i)), out(std::move(o)) {}
};

// "all_reduce", "all_gather", ...
std::string_view to_string(Collective::Kind kind);

// "all_reduce of 4 MiB float32 (step 120, bucket 2: layer3.weight ...)"
std::string describe(const Collective& op);

}  // namespace acp
