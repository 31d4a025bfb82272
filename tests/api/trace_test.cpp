// Traces are valid JSON that shows every kind of work, one file for each rank or one for all.
#include "acp/trace.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "acp/context.h"
#include "acp/gradient_reducer.h"
#include "comm/error.h"
#include "tests/api/toy.h"
#include "tests/catch.h"
#include "tests/support/temp_folder.h"

using namespace acp;
using namespace acp::test;
using nlohmann::json;

namespace {

using Clock = std::chrono::steady_clock;

// A step in which the collectives of two buckets overlap.
void report_step(const EventSink& sink, Clock::time_point start) {
  const auto at = [&](int microseconds) { return start + std::chrono::microseconds(microseconds); };
  sink({Event::Kind::backward_begin, 7, -1, 0, 0, at(0), at(0)});
  sink({Event::Kind::bucket_ready, 0, 0, 0, 0, at(10), at(10)});
  sink({Event::Kind::encode, 7, 0, 0, 0, at(11), at(20)});
  sink({Event::Kind::collective_start, 7, 0, 0, 64, at(20), at(20)});
  sink({Event::Kind::encode, 7, 1, 0, 0, at(21), at(30)});
  sink({Event::Kind::backward_end, 7, -1, 0, 0, at(35), at(35)});
  sink({Event::Kind::collective, 7, 1, 0, 32, at(30), at(60)});  // reported out of order
  sink({Event::Kind::collective, 7, 0, 0, 64, at(20), at(50)});
  sink({Event::Kind::synchronize, 7, -1, 0, 0, at(35), at(70)});
}

json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  return json::parse(file);
}

std::vector<json> named(const json& trace, const std::string& name) {
  std::vector<json> found;
  for (const json& item : trace.at("traceEvents")) {
    if (item.at("name") == name) found.push_back(item);
  }
  return found;
}

}  // namespace

TEST_CASE("a trace shows backward pass, encoding, collectives and waiting", "[api][trace]") {
  const TempFolder folder;
  const auto file = folder.path() / "trace.json";
  {
    Trace trace(file.string(), 0);
    report_step(trace.sink(), Clock::now());
    CHECK_FALSE(std::filesystem::exists(file));  // at the end, whole
  }
  const json trace = read_json(file);
  for (const json& item : trace.at("traceEvents")) {
    CHECK(item.at("pid") == 0);
    CHECK(item.contains("tid"));
    const std::string phase = item.at("ph");
    CHECK((phase == "M" || phase == "i" || phase == "X"));
    if (phase != "M") CHECK(item.at("ts").get<double>() > 1e15);  // microseconds of the wall clock
  }
  const auto backward = named(trace, "backward");
  REQUIRE(backward.size() == 1);
  CHECK(backward[0].at("dur").get<double>() == Approx(35));
  CHECK(backward[0].at("args").at("step") == 7);
  const auto first = named(trace, "collective 0"), second = named(trace, "collective 1");
  REQUIRE(first.size() == 1);
  REQUIRE(second.size() == 1);
  CHECK(first[0].at("args").at("bytes") == 64);
  CHECK(first[0].at("dur").get<double>() == Approx(30));
  CHECK(first[0].at("tid") != second[0].at("tid"));  // they overlap, so they get rows of their own
  CHECK(named(trace, "encode 0")[0].at("tid") == named(trace, "encode 1")[0].at("tid"));
  CHECK(named(trace, "bucket ready 0").size() == 1);
  CHECK(named(trace, "synchronize").size() == 1);
  CHECK(named(trace, "process_name")[0].at("args").at("name") == "rank 0");
  CHECK(named(trace, "thread_name").size() == 5);
  CHECK_FALSE(std::filesystem::exists(file.string() + ".part"));
}

TEST_CASE("each rank writes a file of its own; an empty trace is valid", "[api][trace]") {
  const TempFolder folder;
  const auto file = folder.path() / "trace.json";
  for (const int rank : {0, 1}) {
    Trace trace(file.string(), rank);
    trace.close();
    trace.sink()({Event::Kind::encode, 0, 0, 0, 0, {}, {}});  // too late: dropped
    trace.close();
  }
  CHECK(read_json(file).at("traceEvents").size() == 1);
  CHECK(read_json(file.string() + ".rank1").at("traceEvents")[0].at("pid") == 1);
}

TEST_CASE("close(context) makes one file of all ranks", "[api][trace]") {
  const TempFolder folder;
  const auto file = folder.path() / "trace.json";
  const auto start = Clock::now();
  run_local(3, [&](Context& context) {
    Trace trace(file.string(), context.rank());
    report_step(trace.sink(), start);
    trace.close(context);
  });
  const json trace = read_json(file);
  std::set<int> ranks;
  for (const json& item : named(trace, "backward")) ranks.insert(item.at("pid").get<int>());
  CHECK(ranks == std::set<int>{0, 1, 2});
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("a trace that cannot be written names the file", "[api][trace]") {
  Trace trace("/nonexistent-folder/trace.json", 0);
  CHECK_THROWS_WITH(trace.close(), ContainsSubstring("/nonexistent-folder/trace.json"));
  run_local(2, [](Context& context) {
    Trace together("/nonexistent-folder/trace.json", context.rank());
    require(!message_of<DataError>([&] { together.close(context); }).empty(), "on every rank");
  });
}

TEST_CASE("ACP_TRACE gives every context a sink", "[api][trace]") {
  const TempFolder folder;
  const auto file = folder.path() / "trace.json";
  {
    const Environment off("ACP_TRACE", nullptr);
    run_local(1, [](Context& context) { require(!context.events(), "no sink without ACP_TRACE"); });
  }
  const Environment on("ACP_TRACE", file.c_str());
  run_local(2, [](Context& context) { report_step(context.events(), Clock::now()); });
  CHECK(named(read_json(file), "collective 0").size() == 1);
  CHECK(named(read_json(file.string() + ".rank1"), "collective 0").size() == 1);
}

TEST_CASE("with ACP_TRACE a program's own reducer is in the timeline, beside its own sink", "[api][trace]") {
  const TempFolder folder;
  const auto file = folder.path() / "trace.json";
  const Environment on("ACP_TRACE", file.c_str());
  std::atomic<int> own = 0;
  run_local(2, [&](Context&) {
    torch::Tensor w = torch::zeros({4}, torch::requires_grad());
    GradientReducer reducer({{"w", w}}, Options().events([&](const Event& e) {
      if (e.kind == Event::Kind::collective) ++own;
    }));
    for (int step = 0; step < 3; ++step) {
      w.mutable_grad().reset();
      w.sum().backward();
      reducer.synchronize();
    }
  });
  CHECK(own == 6);
  for (const std::string& name : {file.string(), file.string() + ".rank1"}) {
    const json trace = read_json(name);
    CHECK(named(trace, "backward").size() == 3);
    CHECK(named(trace, "decode 0").size() == 3);
  }
}
