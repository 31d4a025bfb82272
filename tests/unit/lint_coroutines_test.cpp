// Every co_await in the tree has the one form that g++ 12 compiles correctly: a plain call of a function that
// makes a Collective, as a statement of its own, without '[' and '?'.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>

#include "tests/catch.h"
#include "tests/source_root.h"

namespace {

namespace fs = std::filesystem;

// The text without comments and with the insides of string and character literals blanked.
std::string code_only(const std::string& text) {
  static const std::regex noise(R"(//[^\n]*|/\*[^]*?\*/|"(\\.|[^"\\\n])*"|'(\\.|[^'\\\n])')");
  std::string result;
  auto last = text.cbegin();
  for (std::sregex_iterator it(text.begin(), text.end(), noise), end; it != end; ++it) {
    result.append(last, (*it)[0].first);
    result += ' ';
    last = (*it)[0].second;
  }
  return result.append(last, text.cend());
}

// What is wrong with the first co_await statement that breaks the rules; empty if none does.
std::string lint(const std::string& text) {
  static const std::set<std::string> makers{"all_reduce",   "reduce_scatter", "all_gather",
                                            "all_gather_v", "all_to_all",     "all_to_all_v",
                                            "send_receive", "broadcast",      "barrier"};
  static const std::regex call(R"(^\s*(?:Collective::)?(\w+)\s*\(([^]*)\)\s*$)");
  const std::string keyword = "co_await";
  const auto code = code_only(text);
  for (auto at = code.find(keyword); at != std::string::npos; at = code.find(keyword, at + 1)) {
    const auto begin = at + keyword.size();
    const auto expression = code.substr(begin, code.find(';', begin) - begin);
    const auto before = code.find_last_not_of(" \t\n", at - 1);
    const bool statement =
        before != std::string::npos && (std::string(";{})").find(code[before]) != std::string::npos ||
                                        code.substr(0, before + 1).ends_with("else"));
    std::smatch parts;
    if (!statement) return "is not a statement of its own: " + expression;
    if (expression.find_first_of("[?{") != std::string::npos) return "has '[', '?' or '{': " + expression;
    if (!std::regex_match(expression, parts, call) || !makers.contains(parts[1])) {
      return "is no plain call of a function that makes a Collective: " + expression;
    }
  }
  return "";
}

}  // namespace

TEST_CASE("every co_await of the tree is a plain call", "[unit]") {
  int found = 0;
  for (const std::string folder :
       {"acp", "adaptive", "benchmarks", "comm", "compressors", "examples", "fusion", "models", "tests"}) {
    const auto root = source_root() / folder;
    if (!fs::exists(root)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      const auto extension = entry.path().extension();
      if ((extension != ".cpp" && extension != ".h") || entry.path().filename() == "lint_coroutines_test.cpp")
        continue;
      std::ifstream in(entry.path());
      const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
      const auto code = code_only(text);
      if (code.find("co_await") == std::string::npos) continue;
      ++found;
      CAPTURE(entry.path().string());
      CHECK(lint(text) == "");
      // A thread-local guard would live across the awaits, on whatever thread resumes next.
      CHECK(code.find("Guard ") == std::string::npos);
    }
  }
  CHECK(found >= 4);
}

TEST_CASE("the lint sees what g++ 12 miscompiles", "[unit]") {
  CHECK(lint("{ co_await all_reduce(x); }").empty());
  CHECK(
      lint("{ if (a) co_await Collective::broadcast(x, f(1)); else co_await all_gather(a,\n b); }").empty());
  CHECK(lint("{ f(); // co_await x[1]\n \"co_await ?\"; }").empty());
  CHECK_FALSE(lint("{ co_await Collective{a, b}; }").empty());
  CHECK_FALSE(lint("{ co_await all_reduce([&] { return x; }()); }").empty());
  CHECK_FALSE(lint("{ co_await all_reduce(a ? b : c); }").empty());
  CHECK_FALSE(lint("{ co_await all_reduce(parts[k]); }").empty());
  CHECK_FALSE(lint("{ co_await op; }").empty());
  CHECK_FALSE(lint("{ co_await make(x); }").empty());
  CHECK_FALSE(lint("{ auto y = co_await all_reduce(x); }").empty());
  CHECK_FALSE(lint("{ f(co_await all_reduce(x)); }").empty());
}
