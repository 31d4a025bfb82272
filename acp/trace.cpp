// Chrome trace events: complete events for spans, instants for the rest.
#include "acp/trace.h"

#include <spdlog/spdlog.h>

#include <cstdio>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <vector>

#include "comm/error.h"

namespace acp {

struct Trace::State {
  std::mutex mutex;
  std::vector<Event> events;
  std::string file;
  int rank = 0;
  bool closed = false;
};

namespace {

const char* name_of(Event::Kind kind) {
  switch (kind) {
    case Event::Kind::backward_begin:
      return "backward begins";
    case Event::Kind::bucket_ready:
      return "bucket ready";
    case Event::Kind::encode:
      return "encode";
    case Event::Kind::collective_start:
      return "collective starts";
    case Event::Kind::collective:
      return "collective";
    case Event::Kind::backward_end:
      return "backward ends";
    case Event::Kind::synchronize:
      return "synchronize";
  }
  return "event";
}

// A row of the timeline for each kind of work; collectives of buckets that overlap get rows of their own.
int row_of(const Event& e) {
  switch (e.kind) {
    case Event::Kind::encode:
      return 1;
    case Event::Kind::collective:
    case Event::Kind::collective_start:
      return 2 + e.bucket % 8;
    default:
      return 0;
  }
}

}  // namespace

Trace::Trace(std::string file, int rank) : state_(std::make_shared<State>()) {
  state_->file = rank == 0 ? std::move(file) : file + ".rank" + std::to_string(rank);
  state_->rank = rank;
}

Trace::~Trace() {
  try {
    close();
  } catch (const std::exception& e) {
    spdlog::error("{}", e.what());
  }
}

EventSink Trace::sink() const {
  return [state = state_](const Event& event) {
    const std::lock_guard lock(state->mutex);
    if (!state->closed) state->events.push_back(event);
  };
}

void Trace::close() {
  const std::lock_guard lock(state_->mutex);
  if (state_->closed) return;
  state_->closed = true;
  auto first = std::chrono::steady_clock::time_point::max();
  for (const Event& e : state_->events) first = std::min(first, e.begin);
  const auto microseconds = [](auto duration) {
    return std::chrono::duration<double, std::micro>(duration).count();
  };
  nlohmann::json list = nlohmann::json::array();
  list.push_back({{"ph", "M"},
                  {"name", "process_name"},
                  {"pid", state_->rank},
                  {"args", {{"name", "rank " + std::to_string(state_->rank)}}}});
  for (const Event& e : state_->events) {
    nlohmann::json item{{"name", name_of(e.kind)},
                        {"pid", state_->rank},
                        {"tid", row_of(e)},
                        {"ts", microseconds(e.begin - first)}};
    if (e.end > e.begin) {
      item["ph"] = "X";
      item["dur"] = microseconds(e.end - e.begin);
    } else {
      item["ph"] = "i";
      item["s"] = "t";
    }
    item["args"] = {{"step", e.step}, {"bucket", e.bucket}, {"round", e.round}, {"bytes", e.bytes}};
    list.push_back(std::move(item));
  }
  const std::string temporary = state_->file + ".part";
  {
    std::ofstream out(temporary);
    out << nlohmann::json{{"traceEvents", std::move(list)}, {"displayTimeUnit", "ms"}}.dump() << '\n';
    if (!out.flush())
      throw DataError("cannot write the trace to " + temporary +
                      ": is the folder there and the disk not full?");
  }
  if (std::rename(temporary.c_str(), state_->file.c_str()) != 0) {
    throw DataError("cannot rename " + temporary + " to " + state_->file);
  }
}

}  // namespace acp
