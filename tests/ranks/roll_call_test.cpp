// Ranks that tell each other how far they are, as threads.
#include "comm/roll_call.h"

#include <atomic>
#include <chrono>
#include <thread>

#include "comm/error.h"
#include "tests/catch.h"
#include "tests/support/ranks.h"

using namespace acp;

namespace {

// Within a time that only a failure takes.
template <class Condition>
void await(const Condition& condition, const char* what) {
  for (int i = 0; i < 2000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  if (!condition()) throw std::runtime_error(what);
}

}  // namespace

TEST_CASE("the roll call names the rank that is furthest behind", "[ranks][roll-call]") {
  std::atomic<int> seen = 0;
  on_ranks(3, [&](Communicator& c) {
    RollCall roll_call(c.channel(), [](const Failure&) {});
    for (int i = 0; i < 5 - 2 * c.rank(); ++i) roll_call.started();
    if (c.rank() == 0) {
      await([&] { return roll_call.late().rank == 2 && roll_call.late().theirs == 1; },
            "rank 2 was not late");
      if (roll_call.late().mine != 5) throw std::runtime_error("mine");
      seen = 1;
    } else if (c.rank() == 2) {
      if (roll_call.late().rank != -1) throw std::runtime_error("nobody is later than rank 2");
    }
    await([&] { return seen == 1; }, "rank 0 saw nothing");
  });
}

TEST_CASE("the roll call notices that a rank has aborted", "[ranks][roll-call]") {
  std::atomic<int> lost = 0;
  const auto body = [&](Communicator& c) {
    RollCall roll_call(c.channel(), [&](const Failure& failure) {
      if (failure.text.find("rank 1") != std::string::npos) ++lost;
    });
    if (c.rank() == 1) {
      roll_call.abort(std::make_exception_ptr(CommunicationError("[x] rank 1: it is broken")));
    } else {
      await([&] { return lost >= 2; }, "the abort was not noticed");
    }
  };
  on_ranks(3, body);
  CHECK(lost >= 2);
}

TEST_CASE("a roll call of one rank, and ones that end at different times", "[ranks][roll-call]") {
  on_ranks(1, [](Communicator& c) {
    const RollCall roll_call(c.channel(), [](const Failure&) { throw std::runtime_error("lost"); });
    if (roll_call.late().rank != -1) throw std::runtime_error("late");
  });
  std::atomic<int> failures = 0;
  on_ranks(3, [&](Communicator& c) {
    const RollCall roll_call(c.channel(), [&](const Failure&) { ++failures; });
    std::this_thread::sleep_for(std::chrono::milliseconds(c.rank() * 30));
  });
  CHECK(failures == 0);
}
