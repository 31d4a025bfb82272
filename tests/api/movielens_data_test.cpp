// MovieLens: the owners' files and the NCF authors' split, negatives, damage; and the real MovieLens 100K.
#include <torch/torch.h>

#include <array>
#include <set>

#include "comm/error.h"
#include "models/data/ratings.h"
#include "models/loader.h"
#include "models/random.h"
#include "tests/catch.h"
#include "tests/support/data_sets.h"
#include "tests/support/idx_files.h"

namespace acp {
namespace {

using namespace models;
namespace fs = std::filesystem;

// What the files of the next tests hold: users 0, 1, 2; of user 2 the items 4 to 123.
void check_split(const DataSet& set) {
  CHECK(set.sample == SampleSpec{{{{}, 3}, {{}, 124}}, {{}, 2}});
  CHECK(set.train->size() == 5 * (2 + 2 + 120));
  const Batch batch = get_all(*set.train);
  CHECK(batch.inputs.at(0).sizes() == at::IntArrayRef({620}));
  std::set<std::pair<std::int64_t, std::int64_t>> positives;
  for (std::int64_t i = 0; i < batch.size; ++i) {
    const auto user = batch.inputs[0][i].item<std::int64_t>(), item = batch.inputs[1][i].item<std::int64_t>();
    CHECK(batch.target[i].item<std::int64_t>() == (i % 5 == 0 ? 1 : 0));
    CHECK((item >= 0 && item < 124));
    if (i % 5 == 0) positives.emplace(user, item);
  }
  CHECK(positives.size() == 124);
  for (const auto& pair :
       {std::pair<std::int64_t, std::int64_t>{0, 2}, {0, 0}, {1, 1}, {1, 0}, {2, 4}, {2, 123}})
    CHECK(positives.count(pair) == 1);
  for (std::int64_t i = 0; i < batch.size; ++i) {
    if (i % 5 != 0) {
      CHECK(batch.inputs[0][i].equal(batch.inputs[0][i - i % 5]));
      CHECK(positives.count(
                {batch.inputs[0][i].item<std::int64_t>(), batch.inputs[1][i].item<std::int64_t>()}) == 0);
    }
  }
}

void check_lists(const DataSet& set) {
  const Batch lists = get_all(*set.eval);
  CHECK(lists.inputs.at(0).equal(torch::tensor({0, 1, 2}).unsqueeze(1).expand({3, 100})));
  CHECK(lists.inputs.at(1).select(1, 0).equal(torch::tensor({1, 3, 2})));
  CHECK(lists.target.equal(torch::zeros({3}, torch::kLong)));
}

TEST_CASE("MovieLens: training pairs, lists to rank, and draws", "[api][data]") {
  const TempFolder temp;
  // User 2's list holds what it took, which is the file's business.
  std::string train, test, negative;
  const auto line = [](std::int64_t user, std::int64_t item) {
    return std::to_string(user) + "\t" + std::to_string(item) + "\t3\t1\n";
  };
  for (const auto& [user, item] : {std::pair<int, int>{0, 2}, {0, 0}, {1, 1}, {1, 0}})
    train += line(user, item);
  for (int item = 4; item < 124; ++item) train += line(2, item);
  const int left_out[] = {1, 3, 2};
  for (int user = 0; user < 3; ++user) {
    test += line(user, left_out[user]);
    negative += "(" + std::to_string(user) + "," + std::to_string(left_out[user]) + ")";
    for (int item = 20; item < 119; ++item) negative += "\t" + std::to_string(item);
    negative += "\n";
  }
  temp.write("ml-1m.train.rating", text_bytes(train));
  temp.write("ml-1m.test.rating", text_bytes(test));
  temp.write("ml-1m.test.negative.gz", gzip(text_bytes(negative)));
  const auto load = [&](const LoadOptions& options = {},
                        const std::map<std::string, std::string>& values = {}) {
    return load_set("ml-1m", temp.path(), options, values);
  };
  const DataSet set = load();
  check_split(set);
  check_lists(set);
  CHECK(get(*set.eval, 1, 1).inputs[1][0].narrow(0, 1, 99).equal(torch::arange(20, 119)));

  const auto drawn = [](const DataSet& data, std::int64_t epoch) {
    return get(*data.train, 0, 20, epoch).inputs[1];
  };
  CHECK(drawn(set, 0).equal(drawn(set, 0)));
  CHECK_FALSE(drawn(set, 0).equal(drawn(set, 1)));
  CHECK_FALSE(drawn(set, 0).equal(drawn(load({.seed = 7}), 0)));
  CHECK(load({}, {{"negatives", "1"}}).train->size() == 248);
  CHECK_THROWS_AS(load({}, {{"negatives", "0"}}), ConfigError);
  // All ranks make as many steps.
  for (int rank = 0; rank < 3; ++rank)
    CHECK(TrainingLoader(set.train, {.rank = rank, .size = 3, .batch_size = 10}).batches() == 620 / 30);

  SECTION("the authors' form is preferred to the owners'") {
    temp.write("ratings.dat", text_bytes("broken"));
    CHECK_NOTHROW(load());
  }
  SECTION("another item left out than in the list") {
    test.replace(test.find("1\t3\t3"), 3, "1\t2");
    temp.write("ml-1m.test.rating", text_bytes(test));
    CHECK_THROWS_AS(load(), DataError);
    CHECK_THROWS_WITH(load(), ContainsSubstring("ml-1m.test.negative.gz:2: \"(1,3)\", expected (1,2)"));
  }
  SECTION("a line of the lists is missing, or too many") {
    temp.write("ml-1m.test.rating", text_bytes(test + line(2, 3)));
    CHECK_THROWS_WITH(
        load(), ContainsSubstring("ml-1m.test.negative.gz:3: the file ends, expected a line for each of"));
    temp.write("ml-1m.test.rating", text_bytes(test.substr(0, test.find("2\t2"))));
    CHECK_THROWS_WITH(load(), ContainsSubstring("ml-1m.test.negative.gz:3: one line more than"));
  }
  SECTION("lists of unlike length") {
    fs::remove(temp.path() / "ml-1m.test.negative.gz");
    temp.write("ml-1m.test.negative", text_bytes(negative.substr(0, negative.size() - 5)));
    CHECK_THROWS_WITH(load(),
                      ContainsSubstring("test.negative:3: 98 items, expected 99 as on the first line"));
  }
  SECTION("someone took everything") {
    for (int item = 0; item < 124; ++item) train += line(1, item);
    temp.write("ml-1m.train.rating", text_bytes(train));
    CHECK_THROWS_WITH(load(), ContainsSubstring("user 1 took all 124 items"));
  }
}

TEST_CASE("MovieLens: the owners' files end up in the same split", "[api][data]") {
  const TempFolder temp;
  struct Form {
    std::string name, file, separator, header;
  };
  const Form form = GENERATE(Form{"ml-100k", "u.data", "\t", ""}, Form{"ml-1m", "ratings.dat", "::", ""},
                             Form{"ml-20m", "ratings.csv", ",", "userId,movieId,rating,timestamp\n"});
  // Up to twenty items a user, item numbers with gaps, many ratings at the same time.
  const std::int64_t users = 30, items = 300;
  std::string text = form.header;
  std::vector<std::pair<std::int64_t, std::int64_t>> latest(users, {-1, -1});  // time, item
  std::vector<std::set<std::int64_t>> taken(users);
  Random random{{1}};
  for (std::int64_t i = 0; i < 20 * users; ++i) {
    const std::int64_t user = random.below(users), item = random.below(items), time = random.below(17);
    if (!taken[static_cast<std::size_t>(user)].insert(item).second) continue;
    text += std::to_string(user + 5) + form.separator + std::to_string(2 * item + 1) + form.separator + "4" +
            form.separator + std::to_string(time) + "\n";
    auto& last = latest[static_cast<std::size_t>(user)];
    if (time >= last.first) last = {time, item};
  }
  std::set<std::int64_t> known;
  for (const auto& own : taken) known.insert(own.begin(), own.end());
  const auto dense = [&](std::int64_t item) { return std::distance(known.begin(), known.find(item)); };
  temp.write(form.file, text_bytes(text));
  const DataSet set = load_set(form.name, temp.path());
  CHECK(set.sample.inputs.at(0).classes == users);
  CHECK(set.sample.inputs.at(1).classes == static_cast<std::int64_t>(known.size()));
  const Batch lists = get_all(*set.eval);
  REQUIRE(lists.inputs.at(1).sizes() == at::IntArrayRef({users, 100}));
  std::size_t pairs = 0;
  for (std::int64_t user = 0; user < users; ++user) {
    const auto row = lists.inputs[1][user];
    const auto& own = taken[static_cast<std::size_t>(user)];
    pairs += own.size();
    CHECK(row[0].item<std::int64_t>() == dense(latest[static_cast<std::size_t>(user)].second));
    std::set<std::int64_t> mine, list;
    for (const std::int64_t item : own) mine.insert(dense(item));
    for (std::int64_t i = 1; i < 100; ++i) {
      const auto item = row[i].item<std::int64_t>();
      CHECK(list.insert(item).second);
      CHECK(mine.count(item) == 0);
    }
  }
  CHECK(set.train->size() == static_cast<std::int64_t>(5 * (pairs - users)));
  // The lists do not depend on the run's seed.
  CHECK(get_all(*load_set(form.name, temp.path(), {.seed = 9}).eval).inputs[1].equal(lists.inputs[1]));
}

TEST_CASE("MovieLens: too few items to rank among", "[api][data]") {
  const TempFolder temp;
  std::string text;
  for (int item = 1; item <= 120; ++item)
    text += "1\t" + std::to_string(item % 100 + 1) + "\t3\t" + std::to_string(item) + "\n";
  temp.write("u.data", text_bytes(text));
  CHECK_THROWS_WITH(load_set("ml-100k", temp.path()),
                    ContainsSubstring("user 0 rated 120 of 100 items; 99 others are needed"));
}

TEST_CASE("wrong ratings are named by their line", "[api][data]") {
  const TempFolder temp;
  const auto failure = [&](const std::string& name, const std::string& file, const std::string& text) {
    temp.write(file, text_bytes(text));
    try {
      load_set(name, temp.path());
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  CHECK_THAT(failure("ml-100k", "u.data", "1\t2\t3\t4\n1\t2\t3\n"),
             ContainsSubstring("u.data:2: 3 fields, expected user, item, rating and time split by tabs"));
  CHECK_THAT(failure("ml-1m", "ratings.dat", "1::2::3::4\n1::x::3::4\n"),
             ContainsSubstring("ratings.dat:2: \"x\", expected an item, a whole number"));
  CHECK_THAT(failure("ml-1m", "ratings.dat", "1::2::good::4\n"),
             ContainsSubstring("\"good\", expected a rating"));
  CHECK_THAT(failure("ml-1m", "ratings.dat", "1::2::3::-4\n"), ContainsSubstring("\"-4\", expected a time"));
  CHECK_THAT(failure("ml-20m", "ratings.csv", "1,2,3.5,4\n"),
             ContainsSubstring("ratings.csv:1: \"1,2,3.5,4\", expected \"userId,movieId,rating,timestamp\""));
  CHECK_THAT(failure("ml-20m", "ratings.csv", "userId,movieId,rating,timestamp\n"),
             ContainsSubstring("no ratings"));
}

// Ranking by the number of training ratings, ties against the item left out: HR@10 and NDCG@10.
std::pair<double, double> popularity(const DataSet& set) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(set.sample.inputs[1].classes));
  const Batch all = get_all(*set.train), lists = get_all(*set.eval);
  const auto items = all.inputs[1].accessor<std::int64_t, 1>(),
             target = all.target.accessor<std::int64_t, 1>();
  for (std::int64_t i = 0; i < all.size; ++i) counts[static_cast<std::size_t>(items[i])] += target[i];
  const auto candidates = lists.inputs[1].accessor<std::int64_t, 2>();
  double hits = 0, gain = 0;
  for (std::int64_t row = 0; row < lists.size; ++row) {
    const auto count = [&](std::int64_t i) { return counts[static_cast<std::size_t>(candidates[row][i])]; };
    std::int64_t before = 0;
    for (std::int64_t i = 1; i < candidates.size(1); ++i) before += count(i) >= count(0) ? 1 : 0;
    if (before < 10) hits += 1, gain += 1 / std::log2(static_cast<double>(before) + 2);
  }
  return {hits / static_cast<double>(lists.size), gain / static_cast<double>(lists.size)};
}

TEST_CASE("real MovieLens 100K", "[api][data]") {
  const auto folder = real_folder("ml-100k");
  if (folder.empty()) return;
  const DataSet set = load_set("ml-100k", folder);
  CHECK(set.sample == SampleSpec{{{{}, 943}, {{}, 1682}}, {{}, 2}});
  CHECK(set.train->size() == 5 * 99057);
  CHECK(set.eval->size() == 943);
  const auto [hits, gain] = popularity(set);
  CHECK(hits == Approx(0.4062).margin(5e-5));
  CHECK(gain == Approx(0.2255).margin(5e-5));

  // From the ratings themselves the same items are left out, only the lists are others.
  const TempFolder temp;
  fs::create_symlink(fs::absolute(folder / "u.data.gz"), temp.path() / "u.data.gz");
  const DataSet own = load_set("ml-100k", temp.path());
  CHECK(own.sample == set.sample);
  const Batch lists = get_all(*set.eval), other = get_all(*own.eval);
  CHECK(other.inputs[1].select(1, 0).equal(lists.inputs[1].select(1, 0)));
  CHECK_FALSE(other.inputs[1].equal(lists.inputs[1]));
  const Batch positives = get_all(*set.train), others = get_all(*own.train);
  CHECK(
      positives.inputs[1].slice(0, 0, positives.size, 5).equal(others.inputs[1].slice(0, 0, others.size, 5)));
  CHECK(popularity(own).first == Approx(hits).margin(0.02));
}

}  // namespace
}  // namespace acp
