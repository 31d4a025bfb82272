// The table of compressors, and the factory made from a specification.
#include "compressors/registry.h"

#include <ATen/ATen.h>

#include "comm/error.h"
#include "tests/catch.h"

using acp::CompressorFactory;
using acp::ConfigError;

TEST_CASE("an unknown compressor lists the known ones and the nearest", "[unit]") {
  CHECK_THROWS_AS(acp::find_method("nnoe"), ConfigError);
  CHECK_THROWS_WITH(acp::find_method("nnoe"),
                    ContainsSubstring("unknown compressor \"nnoe\"; did you mean \"none\"? known: ") &&
                        ContainsSubstring("none"));
  CHECK_THROWS_WITH(CompressorFactory("xyzzy:rank=4", {}), !ContainsSubstring("did you mean"));
}

TEST_CASE("methods are listed in alphabetical order, each with a summary", "[unit]") {
  const auto methods = acp::methods();
  REQUIRE_FALSE(methods.empty());
  CHECK(std::ranges::is_sorted(methods, {}, [](const acp::MethodInfo* method) { return method->name; }));
  for (const auto* method : methods) {
    CAPTURE(method->name);
    CHECK(&acp::find_method(method->name) == method);
    CHECK_FALSE(method->summary.empty());
    CHECK_FALSE(method->source.empty());
    CHECK_FALSE(method->memories.empty());
    for (const auto& key : method->keys) CHECK_FALSE(key.help.empty());
    CHECK_NOTHROW(CompressorFactory(method->name, {}));
  }
}

TEST_CASE("a name is registered once", "[unit]") {
  CHECK_THROWS_WITH(acp::register_method({.name = "none", .summary = "", .wire_bytes = {}, .make = {}}),
                    ContainsSubstring("two compressors are called \"none\""));
}

TEST_CASE("the factory checks keys, memory and combinations at once", "[unit]") {
  const CompressorFactory factory("none", {});
  CHECK(factory.spec() == "none");
  CHECK(factory.memory() == "none");
  CHECK(CompressorFactory("powersgd: rank=2, min-rate=3", {}).spec() == "powersgd:min_rate=3,rank=2");
  CHECK(factory.wire_bytes(std::vector<std::int64_t>{3, 5}, 4) == 60);
  CHECK(factory.wire_bytes(std::vector<std::int64_t>{}, 8) == 8);

  CHECK_THROWS_WITH(CompressorFactory("none:rank=4", {}), "none: unknown key \"rank\"; known: none");
  CHECK_THROWS_WITH(CompressorFactory("none", {.memory = "dgc"}),
                    ContainsSubstring("none: unknown memory \"dgc\"") && ContainsSubstring("known: none"));
  CHECK_THROWS_WITH(CompressorFactory("none+none", {}),
                    ContainsSubstring("nothing combines \"none\" with \"none\""));
}
