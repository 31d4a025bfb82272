// The engine: order on the wire, errors on all ranks, early destruction, work between steps.
#include "fusion/engine.h"

#include <ATen/ATen.h>

#include <atomic>
#include <random>

#include "comm/error.h"
#include "fusion/plan.h"
#include "tests/catch.h"
#include "tests/support/ranks.h"

using namespace acp;
using namespace std::chrono_literals;

namespace {

// Two rounds: averages the bucket, then adds the number of ranks once more.
class TwoRounds final : public Compressor {
 public:
  Exchange exchange(Bucket& bucket, StepContext context) override {
    co_await all_reduce(bucket.storage, ReduceOp::average);
    extra_.fill_(context.rank + 1);
    co_await all_reduce(extra_);
    bucket.grads.add_(extra_.item<float>());
  }

 private:
  at::Tensor extra_ = at::zeros({1});
};

class Throws final : public Compressor {
 public:
  Exchange exchange(Bucket& bucket, StepContext context) override {
    co_await all_reduce(bucket.storage);
    if (context.rank == 1 && bucket.index == 1) throw std::runtime_error("planted failure");
    co_await all_reduce(bucket.storage);
  }
};

class Unprepared final : public Compressor {
 public:
  void prepare(Bucket&, const StepContext&) override { throw ConfigError("planted before the first step"); }
  Exchange exchange(Bucket& bucket, StepContext) override { co_await all_reduce(bucket.storage); }
};

std::vector<Bucket> buckets(int count) {
  std::vector<ParameterInfo> infos;
  Plan plan;
  for (int i = 0; i < count; ++i) {
    ParameterInfo p;
    p.name = "p" + std::to_string(i);
    p.shape = {3 + i, 5};  // sizes differ, so a wrong order is an error of the transport
    infos.push_back(p);
    plan.push_back({i});
  }
  return allocate(plan, infos);
}

EngineOptions windowed(std::size_t window) {
  EngineOptions options;
  options.window = window;
  return options;
}

EngineOptions starting_at(std::uint64_t step) {
  EngineOptions options;
  options.first_step = step;
  return options;
}

template <class C>
Engine::Factory make() {
  return [](const Bucket&) { return std::make_unique<C>(); };
}

// Records the order in which an engine hands collectives over.
struct Recorder {
  std::mutex mutex;
  std::vector<std::pair<int, int>> started;
  EventSink sink() {
    return [this](const Event& e) {
      if (e.kind != Event::Kind::collective_start) return;
      const std::lock_guard lock(mutex);
      started.emplace_back(e.bucket, e.round);
    };
  }
};

}  // namespace

TEST_CASE("buckets are averaged whatever the order and timing of readiness", "[ranks][engine]") {
  const int ranks = GENERATE(1, 2, 4);
  const std::size_t window = GENERATE(1U, 2U, 3U);
  on_ranks(ranks, [&](Communicator& channel) {
    Engine engine(buckets(4), make<TwoRounds>(), channel, windowed(window));
    std::mt19937 random(static_cast<unsigned>(channel.rank()) + 1U);
    const double mean = (ranks + 1) / 2.0;
    const double extra = ranks * (ranks + 1) / 2.0;
    for (int step = 0; step < 6; ++step) {
      std::vector<std::size_t> order{0, 1, 2, 3};
      std::shuffle(order.begin(), order.end(), random);  // differs between ranks
      for (const std::size_t b : order) {
        engine.bucket(b).grads.fill_((channel.rank() + 1) * static_cast<double>(b + 1));
        if (random() % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
        engine.ready(b);
      }
      engine.synchronize();
      for (std::size_t b = 0; b < 4; ++b) {
        const at::Tensor expected =
            at::full_like(engine.bucket(b).grads, mean * static_cast<double>(b + 1) + extra);
        if (!at::allclose(engine.bucket(b).grads, expected)) throw std::runtime_error("wrong average");
      }
    }
    if (engine.statistics().steps != 6) throw std::runtime_error("wrong number of steps");
  });
}

TEST_CASE("the order on the wire follows from bucket indexes alone", "[ranks][engine]") {
  using Order = std::vector<std::pair<int, int>>;
  const std::size_t window = GENERATE(1U, 2U);
  std::array<Recorder, 2> recorders;
  on_ranks(2, [&](Communicator& channel) {
    EngineOptions options = windowed(window);
    options.events = recorders[static_cast<std::size_t>(channel.rank())].sink();
    Engine engine(buckets(3), make<TwoRounds>(), channel, options);
    for (const std::size_t b :
         channel.rank() == 0 ? std::array<std::size_t, 3>{0, 1, 2} : std::array<std::size_t, 3>{2, 1, 0}) {
      engine.ready(b);
      std::this_thread::sleep_for(1ms);
    }
    engine.synchronize();
  });
  const Order expected = window == 1 ? Order{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, {2, 1}}
                                     : Order{{0, 0}, {1, 0}, {0, 1}, {1, 1}, {2, 0}, {2, 1}};
  CHECK(recorders[0].started == recorders[1].started);
  CHECK(recorders[0].started == expected);
}

TEST_CASE("a failure on one rank is thrown by synchronize() on all, again and again", "[ranks][engine]") {
  std::atomic<int> caught = 0;
  on_ranks(3, [&](Communicator& channel) {
    Engine engine(buckets(3), make<Throws>(), channel, {});
    for (std::size_t b = 0; b < 3; ++b) engine.ready(b);
    for (int again = 0; again < 2; ++again) {
      try {
        engine.synchronize();
      } catch (const std::exception& e) {
        caught += std::string(e.what()).find("planted failure") != std::string::npos;
      }
    }
  });
  CHECK(caught == 6);
}

TEST_CASE("an engine that is destroyed inside a step fails its channel, between steps it does not",
          "[ranks][engine]") {
  const int ready_ranks = GENERATE(0, 1, 2);
  std::array<std::string, 2> messages;
  std::atomic<int> right = 0, destroyed = 0;
  on_ranks(2, [&](Communicator& channel) {
    {
      Engine engine(buckets(3), make<TwoRounds>(), channel, {});
      if (channel.rank() < ready_ranks) {
        engine.ready(0);
        std::this_thread::sleep_for(20ms);  // its thread has to have begun the step
      }
    }
    ++destroyed;
    while (destroyed < 2) std::this_thread::sleep_for(1ms);
    at::Tensor x = at::ones({4});
    try {
      perform(channel, Collective::all_reduce(x));
      right += at::equal(x, at::full({4}, 2.0));
    } catch (const CommunicationError& e) {
      messages[static_cast<std::size_t>(channel.rank())] = e.what();
    }
  });
  CHECK(right == (ready_ranks == 0 ? 2 : 0));
  for (const std::string& message : messages) {
    if (ready_ranks > 0) CHECK_THAT(message, ContainsSubstring("gave up inside a step"));
  }
}

TEST_CASE("an engine without buckets runs the work between steps", "[ranks][engine]") {
  on_ranks(1, [&](Communicator& channel) {
    Engine engine({}, make<TwoRounds>(), channel, {});
    std::uint64_t seen = 0;
    engine.between_steps([](auto&, std::uint64_t& step) { step = 7; });
    engine.between_steps([&](auto&, std::uint64_t& step) { seen = step; });
    CHECK(seen == 7);
  });
}

TEST_CASE("a failure of prepare() ends those who wait for the engine", "[ranks][engine]") {
  on_ranks(1, [&](Communicator& channel) {
    Engine engine(buckets(1), make<Unprepared>(), channel, {});
    CHECK_THROWS_WITH(engine.between_steps([](auto&, std::uint64_t&) {}),
                      ContainsSubstring("planted before the first step"));
  });
}

TEST_CASE("a rank that leaves inside a step is named to those who wait", "[ranks][engine]") {
  std::string message;
  on_ranks(2, [&](Communicator& channel) {
    Engine engine(buckets(2), make<TwoRounds>(), channel, {});
    engine.ready(0);
    if (channel.rank() == 0) return;
    engine.ready(1);
    try {
      engine.synchronize();
    } catch (const CommunicationError& e) {
      message = e.what();
    }
  });
  CHECK_THAT(message, ContainsSubstring("rank 0"));
  CHECK_THAT(message, ContainsSubstring("destroyed between backward() and step()"));
}

TEST_CASE("ranks with different buckets are told so", "[ranks][engine]") {
  std::atomic<int> caught = 0;
  on_ranks(2, [&](Communicator& channel) {
    auto mine = buckets(2);
    if (channel.rank() == 1) mine.erase(mine.begin());
    Engine engine(std::move(mine), make<TwoRounds>(), channel, {});
    for (std::size_t b = 0; b < engine.size(); ++b) engine.ready(b);
    try {
      engine.synchronize();
    } catch (const Error&) {
      ++caught;
    }
  });
  CHECK(caught == 2);
}

TEST_CASE("work between steps sees the compressors and the step counter", "[ranks][engine]") {
  on_ranks(2, [](Communicator& channel) {
    Engine engine(buckets(2), make<TwoRounds>(), channel, starting_at(5));
    for (std::uint64_t step = 5; step < 8; ++step) {
      std::uint64_t seen = 0;
      engine.between_steps([&](auto& compressors, std::uint64_t& s) {
        if (compressors.size() != 2) throw std::runtime_error("wrong number of compressors");
        seen = s;
      });
      if (seen != step) throw std::runtime_error("wrong step");
      engine.ready(0);
      engine.ready(1);
      engine.synchronize();
    }
    bool thrown = false;
    try {
      engine.between_steps([](auto&, std::uint64_t&) { throw std::runtime_error("from the task"); });
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    if (!thrown) throw std::runtime_error("the task's exception was lost");
    engine.ready(0);
    engine.ready(1);
    engine.synchronize();  // and the engine goes on
  });
}

TEST_CASE("an engine without buckets has nothing to wait for", "[ranks][engine]") {
  on_ranks(2, [](Communicator& channel) {
    Engine engine({}, make<TwoRounds>(), channel, {});
    engine.synchronize();
  });
}
