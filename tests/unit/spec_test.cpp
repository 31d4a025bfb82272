// The grammar of specifications, nearest names and typed values.
#include "compressors/spec.h"

#include "comm/error.h"
#include "tests/catch.h"

using acp::ConfigError;
using acp::KeyInfo;
using acp::MethodSpec;
using acp::nearest;
using acp::parse_spec;
using acp::Values;

namespace {

const std::vector<KeyInfo> keys{
    {"rank", "4", ""}, {"min_rate", "2", ""}, {"on", "yes", ""}, {"at", "1/2.5", ""}};

Values values(std::string_view text) {
  return {parse_spec(text).at(0), keys};
}

}  // namespace

TEST_CASE("specifications are parsed into names and keys", "[unit]") {
  const auto one = parse_spec("acpsgd");
  REQUIRE(one.size() == 1);
  CHECK(one[0].name == "acpsgd");
  CHECK(one[0].values.empty());
  CHECK(one[0].to_string() == "acpsgd");

  const auto two = parse_spec(" topk : ratio = 0.01 , b=2+ef_signsgd");
  REQUIRE(two.size() == 2);
  CHECK(two[0].to_string() == "topk:b=2,ratio=0.01");
  CHECK(two[1].name == "ef-signsgd");

  const auto lists = parse_spec("layer-size:group_splits=1000/100000,group_compressions=50/10/1;10/1/0.1");
  REQUIRE(lists.size() == 1);
  CHECK(lists[0].values.at("group_splits") == "1000/100000");
  CHECK(lists[0].values.at("group_compressions") == "50/10/1;10/1/0.1");
}

TEST_CASE("malformed specifications say what is wrong and quote the text", "[unit]") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "a name is missing"},
      {"+topk", "a name is missing"},
      {"topk+", "a name is missing"},
      {":rank=4", "a name is missing"},
      {"topk:", "key=value is missing after \"topk\""},
      {"topk:ratio=1,", "key=value is missing"},
      {"topk:ratio", "'=' is missing in \"ratio\""},
      {"topk:=3", "the key is missing in \"=3\""},
      {"topk:ratio=", "the value of \"ratio\" is missing"},
      {"powersgd:min_rate=1,min-rate=2", "key \"min-rate\" is given twice"},
      {"rank=4", "keys come after a colon"},
  };
  for (const auto& [text, what] : cases) {
    CAPTURE(text);
    CHECK_THROWS_WITH(parse_spec(text),
                      ContainsSubstring("specification \"" + text + "\"") && ContainsSubstring(what));
  }
}

TEST_CASE("the nearest known name is found, or none", "[unit]") {
  const std::vector<std::string> known{"acpsgd", "none", "powersgd", "size-epoch", "topk"};
  CHECK(nearest("acpsdg", known) == "acpsgd");
  CHECK(nearest("powerspd", known) == "powersgd");
  CHECK(nearest("top_k", known) == "topk");
  CHECK(nearest("size_epoc", known) == "size-epoch");
  CHECK(nearest("acp", known) == "acpsgd");
  CHECK(nearest("quantile", known).empty());
  CHECK(nearest("", known).empty());
  CHECK(nearest("topk", {}).empty());
}

TEST_CASE("values are typed, have defaults and name method, key, value and rule when wrong", "[unit]") {
  const auto given = values("acpsgd:rank=8,min-rate=1.5,on=off");
  CHECK(given.integer("rank", 1, 100) == 8);
  CHECK(given.number("min_rate", 0, 10) == 1.5);
  CHECK_FALSE(given.boolean("on"));
  CHECK(values("acpsgd").boolean("on"));
  CHECK(values("acpsgd").integer("rank", 1, 100) == 4);
  CHECK(values("acpsgd").list("at") == std::vector<double>{1, 2.5});

  CHECK_THROWS_WITH(values("acpsgd:rank=0").integer("rank", 1, 8),
                    "acpsgd: rank=0 is not a whole number from 1 to 8");
  CHECK_THROWS_WITH(values("acpsgd:rank=4x").integer("rank", 1, std::numeric_limits<std::int64_t>::max()),
                    "acpsgd: rank=4x is not a whole number of at least 1");
  CHECK_THROWS_WITH(values("acpsgd:rank=2.5").integer("rank", 1, 8), ContainsSubstring("not a whole number"));
  CHECK_THROWS_WITH(values("acpsgd:min_rate=nan").number("min_rate", 0, 9),
                    "acpsgd: min_rate=nan is not a number from 0 to 9");
  CHECK_THROWS_WITH(values("acpsgd:on=maybe").boolean("on"),
                    ContainsSubstring("on=maybe is neither on nor off"));
  CHECK_THROWS_WITH(values("acpsgd:at=1//2").list("at"), ContainsSubstring("\"\" is not a number"));
  const std::vector<std::string> forms{"ddp", "half-rank"};
  CHECK(values("acpsgd:at=half_rank").choice("at", forms) == "half-rank");
  CHECK_THROWS_WITH(values("acpsgd:at=dpd").choice("at", forms),
                    "acpsgd: unknown at \"dpd\"; did you mean \"ddp\"? known: ddp, half-rank");
}

TEST_CASE("an unknown key lists the known ones and the nearest", "[unit]") {
  CHECK_THROWS_AS(values("acpsgd:rnak=4"), ConfigError);
  CHECK_THROWS_WITH(values("acpsgd:rnak=4"),
                    "acpsgd: unknown key \"rnak\"; did you mean \"rank\"? known: rank, min_rate, on, at");
  CHECK_THROWS_WITH(Values(MethodSpec{"none", {{"a", "1"}}}, {}), "none: unknown key \"a\"; known: none");
}
