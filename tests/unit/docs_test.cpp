// docs/compressors.md and docs/policies.md hold the current tables of the registries.
// To bring them up to date: build/tests/core-tests "[write-docs]"
#include <filesystem>
#include <fstream>
#include <iterator>

#include "adaptive/policy.h"
#include "compressors/registry.h"
#include "tests/catch.h"
#include "tests/source_root.h"

namespace {

const std::string begin = "<!-- generated from the registry: begin -->\n", end = "<!-- end -->\n";

std::filesystem::path page(const std::string& name) {
  return source_root() / "docs" / name;
}

std::string read(const std::string& name) {
  std::ifstream in(page(name));
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void check(const std::string& name, const std::string& table) {
  INFO("run core-tests \"[write-docs]\" to bring docs/" << name << " up to date");
  CHECK(read(name).find(begin + "\n" + table + "\n" + end) != std::string::npos);
}

void write(const std::string& name, const std::string& table) {
  auto text = read(name);
  const auto from = text.find(begin), to = text.find(end);
  REQUIRE(from != std::string::npos);
  REQUIRE(to != std::string::npos);
  text.replace(from, to - from, begin + "\n" + table + "\n");
  std::ofstream(page(name)) << text;
}

}  // namespace

TEST_CASE("docs/compressors.md has the table of all compressors and keys", "[unit]") {
  check("compressors.md", acp::methods_table());
}

TEST_CASE("docs/policies.md has the table of all policies and keys", "[unit]") {
  check("policies.md", acp::policies_table());
}

TEST_CASE("write docs/compressors.md", "[.][write-docs]") {
  write("compressors.md", acp::methods_table());
}

TEST_CASE("write docs/policies.md", "[.][write-docs]") {
  write("policies.md", acp::policies_table());
}
