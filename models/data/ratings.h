// Who took what: the interactions of users with items, for collaborative filtering with implicit feedback (He
// et al., "Neural Collaborative Filtering", WWW 2017, section 4.1: leave one out, rank it among items not
// taken).
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "models/data_set.h"

namespace acp::models {

using Pair = std::pair<std::int32_t, std::int32_t>;  // (user, item), both from 0

// The items of each user.
class ItemLists {
 public:
  ItemLists() = default;
  ItemLists(std::int64_t users, std::span<const Pair> pairs);

  std::int64_t users() const { return static_cast<std::int64_t>(begins_.size()) - 1; }
  std::span<const std::int32_t> of(std::int64_t user) const;  // ascending
  bool has(std::int64_t user, std::int32_t item) const;

 private:
  std::vector<std::size_t> begins_{0};
  std::vector<std::int32_t> items_;
};

// A data set's interactions, split.
struct Interactions {
  std::int64_t users = 0, items = 0;
  std::vector<Pair> train;
  std::vector<std::int32_t> test_users;
  // For each of them `list` items to be ranked; the first is the one left out, the user took none of the
  // others.
  std::vector<std::int32_t> test_items;
  std::int64_t list = 100;
};

// Training: inputs {user int64 [n], item int64 [n]}, target int64 [n]. Of each `1 + negatives` successive
// samples the first is an interaction (1), the others have its user and an item that the user did not take in
// training (0), drawn by seed, epoch and the sample's number. Evaluation: one sample a test user, inputs
// {user int64 [n, list], item int64 [n, list]}, target int64 [n] = 0, where the item left out stands in the
// list. DataError when a user took all items, so that there are no others to draw.
DataSet interaction_set(std::string name, Interactions interactions, std::int64_t negatives,
                        std::uint64_t seed);

}  // namespace acp::models
