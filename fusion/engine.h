// Performs the exchanges of all buckets, step after step, in an order that follows from bucket indexes alone.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "compressors/bucket.h"
#include "compressors/compressor.h"
#include "fusion/engine_stream.h"
#include "fusion/events.h"

namespace acp {

struct EngineOptions {
  std::size_t window = 2;  // exchanges in flight; resumed round-robin
  std::uint64_t seed = 0;
  std::uint64_t first_step = 0;
  Algorithm algorithm = Algorithm::automatic;
  EventSink events;
  // Called on the engine's thread before each exchange, while the bucket holds this rank's own gradients.
  std::function<void(const Bucket&, const Compressor&)> before_exchange;
};

// Totals since construction.
struct EngineStatistics {
  std::uint64_t steps = 0, collectives = 0;
  std::uint64_t payload_bytes = 0;  // inputs of the collectives, less the counts of missing gradients
  double encode_seconds = 0;        // local work up to each exchange's last collective
  double decode_seconds = 0;        // local work after it
  // Sum over the steps of |what this rank's messages lacked| / |what was to be sent|; 0 unless compressors
  // measure.
  double error_sum = 0;
  double squared_error_sum = 0;     // the same of |what they lacked|^2, as it is
  std::uint64_t sent_elements = 0;  // Compressor::sent_elements(), of the compressors that count them
};

// Owns the buckets, one compressor each, and one thread (joined by the destructor) that runs all compressor
// code. Buckets are admitted by index and resumed round-robin within the window (window 1: A1 A2 B1 B2;
// window 2: A1 B1 A2 B2), never by readiness, so that all ranks issue the same collectives in the same order.
class Engine {
 public:
  using Factory = std::function<std::unique_ptr<Compressor>(const Bucket&)>;

  // `channel` is used by this engine alone and outlives it.
  Engine(std::vector<Bucket> buckets, const Factory& make, Communicator& channel, EngineOptions options);
  // Inside a step (an exception between backward() and step()) the peers are waiting: they are aborted.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  std::size_t size() const { return buckets_.size(); }
  // Belongs to the caller until ready(), and again after synchronize().
  Bucket& bucket(std::size_t index) { return buckets_[index]; }

  // Hands the bucket over for this step. Any thread; only wakes the engine.
  void ready(std::size_t bucket);

  // Waits until every bucket of the step has been exchanged (on a GPU: until that much has been asked of it,
  // and the calling thread's current stream waits); rethrows the first error, now and ever after.
  void synchronize();

  // Runs `task` on the engine's thread between two steps and waits for it; for state, settings and the step
  // counter.
  void between_steps(
      const std::function<void(std::vector<std::unique_ptr<Compressor>>&, std::uint64_t& step)>& task);

  EngineStatistics statistics() const;

 private:
  struct InFlight {
    std::size_t bucket;
    int round;
    std::int64_t bytes;
    std::chrono::steady_clock::time_point started;
    Exchange exchange;
    std::future<void> done;
  };

  void loop(const std::stop_token& stop);
  bool run_step(const std::stop_token& stop);
  void prepare();
  void issue(std::deque<InFlight>& flight, std::size_t bucket, int round, Exchange exchange);
  void finish(InFlight& flight);
  void add_up();  // what the compressors say of the step that has ended, for the statistics
  bool wait_ready(std::size_t bucket, const std::stop_token& stop);
  bool wait_for_step(const std::stop_token& stop);
  StepContext context() const;
  void report(Event event) const;

  std::vector<Bucket> buckets_;
  std::vector<std::string> labels_;
  std::vector<std::unique_ptr<Compressor>> compressors_;
  Communicator& channel_;
  EngineOptions options_;
  const EngineStream stream_;        // of the engine's thread
  std::atomic<std::uint64_t> step_;  // written by the engine's thread, between steps

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<bool> ready_;
  std::vector<MarkPtr> filled_;  // of the buckets that are ready: their gradients are there
  MarkPtr exchanged_;            // the last step's
  std::uint64_t completed_ = 0, synchronized_ = 0;
  std::function<void()> task_;
  bool idle_ = false;  // waiting for the first bucket of a step
  std::exception_ptr error_;
  EngineStatistics statistics_;
  std::jthread thread_;  // last: stops and joins before the rest is destroyed
};

}  // namespace acp
