// docs/compressors.md holds the current table of compressors.
// To bring it up to date: build/tests/core-tests "[write-docs]"
#include <filesystem>
#include <fstream>
#include <iterator>

#include "compressors/registry.h"
#include "tests/catch.h"
#include "tests/source_root.h"

namespace {

const std::string begin = "<!-- generated from the registry: begin -->\n", end = "<!-- end -->\n";

std::filesystem::path page() {
  return source_root() / "docs" / "compressors.md";
}

std::string read() {
  std::ifstream in(page());
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

TEST_CASE("docs/compressors.md has the table of all compressors and keys", "[unit]") {
  const auto text = read();
  INFO("run core-tests \"[write-docs]\" to bring docs/compressors.md up to date");
  CHECK(text.find(begin + "\n" + acp::methods_table() + "\n" + end) != std::string::npos);
}

TEST_CASE("write docs/compressors.md", "[.][write-docs]") {
  auto text = read();
  const auto from = text.find(begin), to = text.find(end);
  REQUIRE(from != std::string::npos);
  REQUIRE(to != std::string::npos);
  text.replace(from, to - from, begin + "\n" + acp::methods_table() + "\n");
  std::ofstream(page()) << text;
}
