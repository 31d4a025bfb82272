// Events to Chrome's trace format, as text: a million of them as JSON objects would take a gigabyte.
#include "acp/trace.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <mutex>
#include <vector>

#include "acp/agreement.h"
#include "acp/context.h"
#include "acp/files.h"
#include "comm/error.h"
#include "comm/log.h"

namespace acp {

struct Trace::State {
  std::mutex mutex;
  std::vector<Event> events;
  std::size_t dropped = 0;
  bool closed = false;
};

namespace {

using Clock = std::chrono::steady_clock;

// The rows of a rank, from top to bottom.
enum class Row : int { backward = 1, encode = 2, collective = 3, wait = 4 };
constexpr std::array<const char*, 5> kRowNames{"", "backward", "encode and decode", "collectives", "wait"};

struct Entry {
  const char* name;
  Row row;
  Event event;
  bool instant = false;
};

// Spans in the order of their begin. A backward pass is what lies between its two events.
std::vector<Entry> entries_of(const std::vector<Event>& events) {
  std::vector<Entry> entries;
  std::map<std::uint64_t, Clock::time_point> backward;  // by step
  for (const Event& e : events) {
    switch (e.kind) {
      case Event::Kind::backward_begin:
        backward[e.step] = e.begin;
        break;
      case Event::Kind::backward_end:
        if (const auto begin = backward.extract(e.step)) {
          entries.push_back({"backward", Row::backward, e});
          entries.back().event.end = e.begin;
          entries.back().event.begin = begin.mapped();
        }
        break;
      case Event::Kind::bucket_ready:
        entries.push_back({"bucket ready", Row::backward, e, true});
        break;
      case Event::Kind::encode:
        entries.push_back({"encode", Row::encode, e});
        break;
      case Event::Kind::decode:
        entries.push_back({"decode", Row::encode, e});
        break;
      case Event::Kind::collective_start:  // the span of the same collective begins there
        break;
      case Event::Kind::collective:
        entries.push_back({"collective", Row::collective, e});
        break;
      case Event::Kind::synchronize:
        entries.push_back({"synchronize", Row::wait, e});
        break;
    }
  }
  std::ranges::stable_sort(entries, {}, [](const Entry& e) { return e.event.begin; });
  return entries;
}

// Microseconds with three decimals; as text, since a double holds no nanoseconds of today.
std::string microseconds(std::chrono::nanoseconds t) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%lld.%03lld", static_cast<long long>(t.count() / 1000),
                static_cast<long long>(t.count() % 1000));
  return text.data();
}

std::string metadata(const char* what, int rank, int row, const std::string& name) {
  return R"({"ph":"M","name":")" + std::string(what) + R"(","pid":)" + std::to_string(rank) + R"(,"tid":)" +
         std::to_string(row) + R"(,"args":{"name":")" + name + "\"}}";
}

// The events of one rank, each a JSON object, separated by commas; never empty.
std::string to_json(const std::vector<Event>& events, int rank) {
  const auto to_wall = std::chrono::system_clock::now().time_since_epoch() - Clock::now().time_since_epoch();
  std::string text = metadata("process_name", rank, 0, "rank " + std::to_string(rank));
  // Spans of a row that overlap (buckets in flight together) go to lanes of their own.
  std::map<Row, std::vector<Clock::time_point>> lanes;
  for (const Entry& entry : entries_of(events)) {
    auto& ends = lanes[entry.row];
    std::size_t lane = 0;
    if (!entry.instant) {
      while (lane < ends.size() && ends[lane] > entry.event.begin) ++lane;
    }
    const int tid = static_cast<int>(entry.row) * 100 + static_cast<int>(lane);
    if (lane == ends.size()) {
      ends.push_back(entry.event.begin);
      const std::string name = kRowNames[static_cast<std::size_t>(entry.row)];
      text += ",\n" +
              metadata("thread_name", rank, tid, name + (lane == 0 ? "" : " " + std::to_string(lane + 1)));
    }
    const Event& e = entry.event;
    text += ",\n{\"name\":\"" + std::string(entry.name) +
            (e.bucket >= 0 ? " " + std::to_string(e.bucket) : "") + "\",\"pid\":" + std::to_string(rank) +
            ",\"tid\":" + std::to_string(tid) +
            ",\"ts\":" + microseconds(e.begin.time_since_epoch() + to_wall);
    if (entry.instant) {
      text += R"(,"ph":"i","s":"t")";
    } else {
      ends[lane] = e.end;
      text += R"(,"ph":"X","dur":)" + microseconds(std::max(e.end - e.begin, Clock::duration::zero()));
    }
    text += ",\"args\":{\"step\":" + std::to_string(e.step) + ",\"bucket\":" + std::to_string(e.bucket) +
            ",\"round\":" + std::to_string(e.round) + ",\"bytes\":" + std::to_string(e.bytes) + "}}";
  }
  return text;
}

void write(const std::string& file, const std::vector<std::string>& ranks) {
  write_file(file, [&](const Append& append) {
    append("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      if (r > 0) append(",\n");
      append(ranks[r]);
    }
    append("\n]}\n");
  });
}

// What was collected, if this is the first call; no event is taken afterwards.
std::optional<std::vector<Event>> take(auto& state, const std::string& file) {
  const std::lock_guard lock(state.mutex);
  if (std::exchange(state.closed, true)) return std::nullopt;
  if (state.dropped > 0) {
    log_warning("trace " + file + ": the first " + std::to_string(Trace::max_events) + " events are kept, " +
                std::to_string(state.dropped) + " later ones are not");
  }
  return std::exchange(state.events, {});
}

}  // namespace

Trace::Trace(std::string file, int rank)
    : file_(std::move(file)), rank_(rank), state_(std::make_shared<State>()) {}

Trace::~Trace() {
  try {
    close();
  } catch (const std::exception& e) {
    log_warning(e.what());
  }
}

EventSink Trace::sink() const {
  return [state = state_](const Event& event) {
    const std::lock_guard lock(state->mutex);
    if (state->closed) return;
    if (state->events.size() < max_events) {
      state->events.push_back(event);
    } else {
      ++state->dropped;
    }
  };
}

void Trace::close() {
  if (const auto events = take(*state_, file_)) {
    write(rank_ == 0 ? file_ : file_ + ".rank" + std::to_string(rank_), {to_json(*events, rank_)});
  }
}

void Trace::close(const Context& context) {
  const auto events = take(*state_, file_);
  Communicator& channel = context.user_channel();
  const std::vector<std::string> ranks =
      all_gather_bytes(channel, to_json(events.value_or(std::vector<Event>()), rank_));
  together(channel, [&] {
    if (channel.rank() == 0) write(file_, ranks);
  });
}

}  // namespace acp
