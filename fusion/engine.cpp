// The engine's thread: waits for buckets in index order, drives their exchanges, reports what happened.
#include "fusion/engine.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "comm/error.h"
#include "fusion/ownership.h"

namespace acp {

namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

// "bucket 2: layer3.weight, layer3.bias, ... (7 tensors)"
std::string name_bucket(const Bucket& bucket) {
  std::string text = "bucket " + std::to_string(bucket.index) + ":";
  constexpr std::size_t shown = 2;
  for (std::size_t k = 0; k < std::min(shown, bucket.slices.size()); ++k) {
    text += (k == 0 ? " " : ", ") + bucket.slices[k].name;
  }
  if (bucket.slices.size() > shown) text += ", ... (" + std::to_string(bucket.slices.size()) + " tensors)";
  return text;
}

}  // namespace

Engine::Engine(std::vector<Bucket> buckets, const Factory& make, Communicator& channel, EngineOptions options)
    : buckets_(std::move(buckets)),
      channel_(channel),
      options_(std::move(options)),
      stream_(buckets_),
      step_(options_.first_step),
      ready_(buckets_.size(), false),
      filled_(buckets_.size()) {
  for (const Bucket& bucket : buckets_) {
    compressors_.push_back(make(bucket));
    labels_.push_back(name_bucket(bucket));
  }
  exchanged_ = stream_.mark();  // the compressors' first state
  thread_ = std::jthread([this](const std::stop_token& stop) { loop(stop); });
}

Engine::~Engine() = default;

void Engine::ready(std::size_t bucket) {
  const auto now = Clock::now();
  MarkPtr filled = stream_.mark();
  {
    const std::lock_guard lock(mutex_);
    ready_[bucket] = true;
    filled_[bucket] = std::move(filled);
  }
  changed_.notify_all();
  report({Event::Kind::bucket_ready, step_, static_cast<int>(bucket), 0, 0, now, now});
}

void Engine::synchronize() {
  std::unique_lock lock(mutex_);
  if (buckets_.empty()) return;
  changed_.wait(lock, [&] { return completed_ > synchronized_ || error_; });
  if (error_) std::rethrow_exception(error_);
  ++synchronized_;
  join(exchanged_);
  channel_.check();
}

void Engine::between_steps(
    const std::function<void(std::vector<std::unique_ptr<Compressor>>&, std::uint64_t& step)>& task) {
  std::promise<void> done;
  const auto run = [&] {
    std::uint64_t step = step_;
    task(compressors_, step);
    step_ = step;
  };
  std::unique_lock lock(mutex_);
  if (buckets_.empty()) return run();  // there is no thread to run it
  const MarkPtr before = stream_.mark();
  MarkPtr after;
  changed_.wait(lock, [&] { return (idle_ && !task_) || error_; });
  if (error_) std::rethrow_exception(error_);
  task_ = [&] {
    try {
      join(before);
      run();
      after = stream_.mark();
      done.set_value();
    } catch (...) {
      done.set_exception(std::current_exception());
    }
  };
  changed_.notify_all();
  lock.unlock();
  done.get_future().get();
  join(after);
}

EngineStatistics Engine::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

void Engine::loop(const std::stop_token& stop) {
  const c10::NoGradGuard no_grad;  // for the thread's whole life: none may live across a co_await
  // OpenMP keeps its number of threads per thread: without this, products of a few rows would be spread over
  // all cores, where they wait for the backward pass (a hundred times slower with two ranks on two cores).
  at::init_num_threads();
  try {
    const auto stream = stream_.enter();  // as long
    join(exchanged_);
    try {
      while (run_step(stop)) {
        MarkPtr exchanged = stream_.mark();
        const std::lock_guard lock(mutex_);
        exchanged_ = std::move(exchanged);
        ++completed_;
        ++statistics_.steps;
        changed_.notify_all();
      }
    } catch (...) {
      channel_.abort(std::current_exception());  // first: it ends what the stream may be waiting for
      stream_.finish();
      throw;
    }
    // The buffers go back to the allocator as another stream's, and the last preparation may still write.
    stream_.finish();
  } catch (...) {
    const auto error = std::current_exception();
    channel_.abort(error);
    const std::lock_guard lock(mutex_);
    error_ = error;
    changed_.notify_all();
  }
}

bool Engine::run_step(const std::stop_token& stop) {
  if (buckets_.empty()) return false;
  prepare();
  if (!wait_for_step(stop)) return false;         // between steps, stopping is quiet
  const std::stop_callback cancel(stop, [this] {  // inside a step it fails what the peers are waiting for
    channel_.abort(std::make_exception_ptr(CommunicationError(
        "rank " + std::to_string(channel_.rank()) +
        " gave up inside a step: its optimizer was destroyed between backward() and step()")));
  });
  std::deque<InFlight> flight;
  for (std::size_t next = 0; next < buckets_.size() || !flight.empty();) {
    if (next < buckets_.size() && flight.size() < options_.window) {
      if (!wait_ready(next, stop)) return false;
      Bucket& bucket = buckets_[next];
      take_ownership(bucket.storage);
      if (options_.before_exchange) options_.before_exchange(bucket, *compressors_[next]);
      issue(flight, next, 0, compressors_[next]->exchange(bucket, context()));
      ++next;
    } else {
      InFlight oldest = std::move(flight.front());
      flight.pop_front();
      finish(oldest);
      issue(flight, oldest.bucket, oldest.round + 1, std::move(oldest.exchange));
    }
  }
  ++step_;
  add_up();
  return true;
}

void Engine::add_up() {
  ErrorNorms sum;
  std::int64_t elements = 0;
  for (const auto& compressor : compressors_) {
    sum.lost += compressor->error_norms().lost;
    sum.input += compressor->error_norms().input;
    elements += std::max<std::int64_t>(compressor->sent_elements(), 0);
  }
  const std::lock_guard lock(mutex_);
  statistics_.sent_elements += static_cast<std::uint64_t>(elements);
  statistics_.squared_error_sum += sum.lost;
  if (sum.input > 0) statistics_.error_sum += std::sqrt(sum.lost / sum.input);
}

void Engine::prepare() {
  for (std::size_t b = 0; b < buckets_.size(); ++b) compressors_[b]->prepare(buckets_[b], context());
}

void Engine::issue(std::deque<InFlight>& flight, std::size_t bucket, int round, Exchange exchange) {
  const auto begin = Clock::now();
  std::optional<Collective> op = exchange.advance();
  const auto end = Clock::now();
  report({op ? Event::Kind::encode : Event::Kind::decode, step_, static_cast<int>(bucket), round, 0, begin,
          end});
  const std::int64_t bytes = op && op->in.defined() ? static_cast<std::int64_t>(op->in.nbytes()) : 0;
  {
    const std::lock_guard lock(mutex_);
    (op ? statistics_.encode_seconds : statistics_.decode_seconds) += seconds(begin, end);
    if (op) {
      ++statistics_.collectives;
      // The first message's extra element, the count of missing gradients, is no payload of the method: none
      // sends exactly the dense bytes.
      const bool counts = round == 0 && bytes > 0 && compressors_[bucket]->sends_missing_count();
      const std::int64_t extra = counts ? op->in.element_size() : 0;
      statistics_.payload_bytes += static_cast<std::uint64_t>(bytes - extra);
    }
  }
  if (!op) {
    channel_.check();  // decoding has looked at what arrived: an aborted exchange leaves what was there
    take_ownership(buckets_[bucket].storage);
    return;
  }
  op->label = "step " + std::to_string(step_) + ", " + labels_[bucket];
  op->algorithm = options_.algorithm;
  report({Event::Kind::collective_start, step_, static_cast<int>(bucket), round, bytes, end, end});
  flight.push_back({bucket, round, bytes, end, std::move(exchange), channel_.start(*std::move(op))});
}

void Engine::finish(InFlight& flight) {
  flight.done.get();
  report({Event::Kind::collective, step_, static_cast<int>(flight.bucket), flight.round, flight.bytes,
          flight.started, Clock::now()});
}

bool Engine::wait_for_step(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  idle_ = true;
  changed_.notify_all();
  for (;;) {
    if (!changed_.wait(lock, stop, [&] { return ready_[0] || task_; })) return false;
    if (!task_) break;
    task_();  // its caller waits outside the lock, and nobody else may touch the compressors meanwhile
    task_ = nullptr;
    lock.unlock();
    prepare();  // the task may have changed what the preparation started from
    lock.lock();
    changed_.notify_all();
  }
  idle_ = false;
  return true;
}

bool Engine::wait_ready(std::size_t bucket, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait(lock, stop, [&] { return ready_[bucket]; })) return false;
  ready_[bucket] = false;
  const MarkPtr filled = std::move(filled_[bucket]);
  lock.unlock();
  join(filled);
  return true;
}

StepContext Engine::context() const {
  return {channel_.rank(), channel_.size(), step_, options_.seed};
}

void Engine::report(Event event) const {
  if (options_.events) options_.events(event);
}

}  // namespace acp
