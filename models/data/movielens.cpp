// MovieLens 100K, 1M and 20M for collaborative filtering: the owners' ratings, or a split in the NCF authors'
// form.
#include <algorithm>
#include <charconv>
#include <string>
#include <unordered_map>

#include "comm/error.h"
#include "models/data/lines.h"
#include "models/data/ratings.h"
#include "models/file.h"
#include "models/random.h"

namespace acp::models {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t negatives_in_list = 99;
constexpr std::int64_t most = 99'999'999;  // number of a user or item

struct Rating {
  std::int32_t user = 0, item = 0;
  std::int64_t time = 0;
};

// "user SEPARATOR item SEPARATOR rating SEPARATOR time", with a first line of names where `header` is not
// empty.
struct Form {
  std::string file, separator, header{};
};

Rating parse(const Lines& lines, const std::string& separator) {
  const auto fields = lines.fields(separator);
  if (fields.size() != 4) {
    const std::string shown = separator == "\t" ? "tabs" : "\"" + separator + "\"";
    lines.fail(std::to_string(fields.size()) + " fields, expected user, item, rating and time split by " +
               shown);
  }
  double rating = 0;
  const auto [end, code] = std::from_chars(fields[2].data(), fields[2].data() + fields[2].size(), rating);
  if (code != std::errc() || end != fields[2].data() + fields[2].size())
    lines.fail(excerpt(fields[2]) + ", expected a rating, a number");
  return {static_cast<std::int32_t>(lines.integer(fields[0], "a user", 0, most)),
          static_cast<std::int32_t>(lines.integer(fields[1], "an item", 0, most)),
          lines.integer(fields[3], "a time", 0, std::int64_t{1} << 62)};
}

std::vector<Rating> read_ratings(const fs::path& path, const Form& form) {
  std::vector<Rating> ratings;
  Lines lines(path);
  if (!form.header.empty() && (!lines.next() || lines.line() != form.header))
    lines.fail(excerpt(lines.line()) + ", expected " + excerpt(form.header));
  while (lines.next()) ratings.push_back(parse(lines, form.separator));
  if (ratings.empty()) lines.fail("no ratings");
  return ratings;
}

// Replaces one of the owners' numbers in all ratings, which leave gaps, by 0, 1, ... in the same order;
// returns how many there are.
std::int64_t close_gaps(std::vector<Rating>& ratings, std::int32_t Rating::*number) {
  std::unordered_map<std::int32_t, std::int32_t> dense;
  for (const Rating& rating : ratings) dense.emplace(rating.*number, 0);
  std::vector<std::int32_t> given;
  given.reserve(dense.size());
  for (const auto& [each, unused] : dense) given.push_back(each);
  std::sort(given.begin(), given.end());
  for (std::size_t i = 0; i < given.size(); ++i) dense[given[i]] = static_cast<std::int32_t>(i);
  for (Rating& rating : ratings) rating.*number = dense.at(rating.*number);
  return static_cast<std::int64_t>(given.size());
}

// 99 different items that the user never took, the same in all runs.
void draw_list(const std::string& name, std::int64_t user, const ItemLists& taken, std::int64_t items,
               std::vector<std::int32_t>& list) {
  const auto own = taken.of(user);
  if (items - static_cast<std::int64_t>(own.size()) < negatives_in_list) {
    throw DataError(name + ": user " + std::to_string(user) + " rated " + std::to_string(own.size()) +
                    " of " + std::to_string(items) + " items; " + std::to_string(negatives_in_list) +
                    " others are needed to rank among");
  }
  constexpr std::uint64_t seed = 1;
  Random random{{seed, static_cast<std::uint64_t>(user)}};
  const auto begin = static_cast<std::ptrdiff_t>(list.size());
  while (static_cast<std::int64_t>(list.size()) - begin < negatives_in_list) {
    const auto item = static_cast<std::int32_t>(random.below(items));
    const bool drawn = std::find(list.begin() + begin, list.end(), item) != list.end();
    if (!drawn && !taken.has(user, item)) list.push_back(item);
  }
}

// Each user's latest rating is left out; of several at the same time the one that stands last in the file.
Interactions leave_one_out(const std::string& name, std::vector<Rating> ratings) {
  Interactions result;
  result.users = close_gaps(ratings, &Rating::user);
  result.items = close_gaps(ratings, &Rating::item);
  std::stable_sort(ratings.begin(), ratings.end(), [](const Rating& a, const Rating& b) {
    return a.user != b.user ? a.user < b.user : a.time < b.time;
  });
  std::vector<Pair> all;
  all.reserve(ratings.size());
  for (const Rating& rating : ratings) all.emplace_back(rating.user, rating.item);
  const ItemLists taken(result.users, all);
  result.train.reserve(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto& [user, item] = all[i];
    if (i + 1 < all.size() && all[i + 1].first == user) {
      result.train.push_back(all[i]);
      continue;
    }
    result.test_users.push_back(user);
    result.test_items.push_back(item);
    draw_list(name, user, taken, result.items, result.test_items);
  }
  result.list = 1 + negatives_in_list;
  return result;
}

// NAME.train.rating, NAME.test.rating, NAME.test.negative: lines as of ratings, and for each line of the test
// "(user,item)" and, split by tabs, as many items that the user did not take as on every line.
Interactions read_split(const fs::path& folder, const std::string& name) {
  Interactions result;
  const auto see = [&result](std::int64_t user, std::int64_t item) {
    result.users = std::max(result.users, user + 1);
    result.items = std::max(result.items, item + 1);
  };
  for (Lines lines(plain_or_gz(folder / (name + ".train.rating"))); lines.next();) {
    const Rating rating = parse(lines, "\t");
    result.train.emplace_back(rating.user, rating.item);
    see(rating.user, rating.item);
  }
  Lines test(plain_or_gz(folder / (name + ".test.rating")));
  Lines negative(plain_or_gz(folder / (name + ".test.negative")));
  result.list = 0;
  while (test.next()) {
    const Rating rating = parse(test, "\t");
    if (!negative.next()) negative.fail("the file ends, expected a line for each of " + test.path().string());
    const auto fields = negative.fields("\t");
    const std::string expected = "(" + std::to_string(rating.user) + "," + std::to_string(rating.item) + ")";
    if (fields[0] != expected) {
      negative.fail(excerpt(fields[0]) + ", expected " + expected + " as in " + test.path().string());
    }
    if (result.list == 0) result.list = static_cast<std::int64_t>(fields.size());
    if (static_cast<std::int64_t>(fields.size()) != result.list || fields.size() < 2) {
      negative.fail(std::to_string(fields.size() - 1) + " items, expected " +
                    (fields.size() < 2 ? "99" : std::to_string(result.list - 1) + " as on the first line"));
    }
    result.test_users.push_back(rating.user);
    result.test_items.push_back(rating.item);
    see(rating.user, rating.item);
    for (std::size_t i = 1; i < fields.size(); ++i) {
      const std::int64_t item = negative.integer(fields[i], "an item", 0, most);
      result.test_items.push_back(static_cast<std::int32_t>(item));
      see(rating.user, item);
    }
  }
  if (negative.next()) negative.fail("one line more than " + test.path().string() + " has");
  return result;
}

DataSetInfo movielens(const std::string& name, const std::string& summary, const Form& form) {
  DataSetInfo info;
  info.name = name;
  info.summary = summary;
  info.keys = {{"negatives", "4", "items drawn against each interaction in training, 1 to 1000"}};
  info.subfolders = {name};
  info.files = {name + ".train.rating", form.file};
  info.load = [name, form](const fs::path& folder, const Values& values, const LoadOptions& options) {
    const bool split = is_there(folder / (name + ".train.rating"));
    Interactions interactions =
        split ? read_split(folder, name)
              : leave_one_out(name, read_ratings(plain_or_gz(folder / form.file), form));
    DataSet set =
        interaction_set(name, std::move(interactions), values.integer("negatives", 1, 1000), options.seed);
    set.facts.push_back(split ? "split: as " + name + ".train.rating, .test.rating and .test.negative have it"
                              : "split: each user's latest rating of " + form.file + " left out");
    return set;
  };
  return info;
}

const bool ml_100k =
    register_data_set(movielens("ml-100k", "ratings of films: 943 users, 1,682 films", {"u.data", "\t"}));
const bool ml_1m = register_data_set(
    movielens("ml-1m", "ratings of films: 6,040 users, 3,706 films", {"ratings.dat", "::"}));
const bool ml_20m = register_data_set(movielens("ml-20m", "ratings of films: 138,493 users, 26,744 films",
                                                {"ratings.csv", ",", "userId,movieId,rating,timestamp"}));

}  // namespace
}  // namespace acp::models
