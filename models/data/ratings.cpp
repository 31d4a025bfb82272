// Who took what: the interactions of users with items, as samples.
#include "models/data/ratings.h"

#include <torch/types.h>

#include <algorithm>
#include <string>

#include "comm/error.h"
#include "models/random.h"

namespace acp::models {
namespace {

class TrainingPairs final : public Samples {
 public:
  TrainingPairs(std::int64_t items, std::vector<Pair> pairs, ItemLists taken, std::int64_t negatives,
                std::uint64_t seed)
      : items_(items),
        pairs_(std::move(pairs)),
        taken_(std::move(taken)),
        group_(1 + negatives),
        seed_(seed) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(pairs_.size()) * group_; }

  Batch get(std::span<const std::int64_t> indices, std::int64_t epoch) const override {
    const auto n = static_cast<std::int64_t>(indices.size());
    const at::Tensor users = torch::empty({n}, torch::kLong), items = torch::empty({n}, torch::kLong);
    const at::Tensor target = torch::empty({n}, torch::kLong);
    auto* user = users.mutable_data_ptr<std::int64_t>();
    auto* item = items.mutable_data_ptr<std::int64_t>();
    auto* taken = target.mutable_data_ptr<std::int64_t>();
    for (const std::int64_t index : indices) {
      const Pair& pair = pairs_[static_cast<std::size_t>(index / group_)];
      const bool positive = index % group_ == 0;
      *user++ = pair.first;
      *item++ = positive ? pair.second : other(pair.first, epoch, index);
      *taken++ = positive ? 1 : 0;
    }
    return {{users, items}, target, n};
  }

 private:
  std::int64_t other(std::int32_t user, std::int64_t epoch, std::int64_t index) const {
    Random random{{seed_, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(index)}};
    for (;;) {
      const auto item = static_cast<std::int32_t>(random.below(items_));
      if (!taken_.has(user, item)) return item;
    }
  }

  std::int64_t items_;
  std::vector<Pair> pairs_;
  ItemLists taken_;
  std::int64_t group_;
  std::uint64_t seed_;
};

class Rankings final : public Samples {
 public:
  Rankings(std::vector<std::int32_t> users, std::vector<std::int32_t> items, std::int64_t list)
      : users_(std::move(users)), items_(std::move(items)), list_(list) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(users_.size()); }

  Batch get(std::span<const std::int64_t> indices, std::int64_t) const override {
    const auto n = static_cast<std::int64_t>(indices.size());
    const at::Tensor users = torch::empty({n, list_}, torch::kLong),
                     items = torch::empty({n, list_}, torch::kLong);
    const at::Tensor target = torch::empty({n}, torch::kLong);
    auto* user = users.mutable_data_ptr<std::int64_t>();
    auto* item = items.mutable_data_ptr<std::int64_t>();
    std::fill_n(target.mutable_data_ptr<std::int64_t>(), n, 0);
    for (const std::int64_t index : indices) {
      user = std::fill_n(user, list_, users_[static_cast<std::size_t>(index)]);
      item = std::copy_n(items_.begin() + index * list_, list_, item);
    }
    return {{users, items}, target, n};
  }

 private:
  std::vector<std::int32_t> users_, items_;
  std::int64_t list_;
};

// Some item is left to be drawn for every user.
void check(const std::string& name, const Interactions& interactions, const ItemLists& taken) {
  for (std::int64_t user = 0; user < taken.users(); ++user) {
    const auto list = taken.of(user);
    if (static_cast<std::int64_t>(list.size()) < interactions.items) continue;
    std::vector<std::int32_t> different(list.begin(), list.end());
    different.erase(std::unique(different.begin(), different.end()), different.end());
    if (static_cast<std::int64_t>(different.size()) == interactions.items) {
      throw DataError(name + ": user " + std::to_string(user) + " took all " +
                      std::to_string(interactions.items) +
                      " items, so that there is none to set against them");
    }
  }
}

}  // namespace

ItemLists::ItemLists(std::int64_t users, std::span<const Pair> pairs)
    : begins_(static_cast<std::size_t>(users) + 1), items_(pairs.size()) {
  // Counting sort by user, then each user's items.
  for (const auto& [user, item] : pairs) ++begins_[static_cast<std::size_t>(user) + 1];
  for (std::size_t u = 1; u < begins_.size(); ++u) begins_[u] += begins_[u - 1];
  std::vector<std::size_t> next(begins_.begin(), begins_.end() - 1);
  for (const auto& [user, item] : pairs) items_[next[static_cast<std::size_t>(user)]++] = item;
  for (std::size_t u = 0; u + 1 < begins_.size(); ++u)
    std::sort(items_.data() + begins_[u], items_.data() + begins_[u + 1]);
}

std::span<const std::int32_t> ItemLists::of(std::int64_t user) const {
  const auto u = static_cast<std::size_t>(user);
  return {items_.data() + begins_[u], begins_[u + 1] - begins_[u]};
}

bool ItemLists::has(std::int64_t user, std::int32_t item) const {
  const auto list = of(user);
  return std::binary_search(list.begin(), list.end(), item);
}

DataSet interaction_set(std::string name, Interactions interactions, std::int64_t negatives,
                        std::uint64_t seed) {
  auto& [users, items, train, test_users, test_items, list] = interactions;
  ItemLists taken(users, train);
  check(name, interactions, taken);
  DataSet set;
  set.sample = {{{{}, users}, {{}, items}}, {{}, 2}};
  set.facts = {"users: " + std::to_string(users) + ", items: " + std::to_string(items),
               "interactions: " + std::to_string(train.size()) + " to train, each against " +
                   std::to_string(negatives) + " drawn items, and " + std::to_string(test_users.size()) +
                   " left out, each ranked among " + std::to_string(list) + " items"};
  set.name = std::move(name);
  set.train = std::make_shared<TrainingPairs>(items, std::move(train), std::move(taken), negatives, seed);
  set.eval = std::make_shared<Rankings>(std::move(test_users), std::move(test_items), list);
  return set;
}

}  // namespace acp::models
