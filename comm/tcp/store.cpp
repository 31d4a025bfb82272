// The only file that sees c10d.
#include "comm/tcp/store.h"

#include <c10/util/Logging.h>

#include <algorithm>
#include <future>
#include <mutex>
#include <thread>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>
#include <vector>

namespace acp::tcp {

namespace {

// c10's log level is a variable of the process: the first to enter turns it up, the last to leave turns it
// back.
class Silence {
 public:
  Silence() {
    const std::lock_guard lock(mutex());
    if (users()++ == 0) before() = std::exchange(FLAGS_caffe2_log_level, static_cast<int>(c10::GLOG_FATAL));
  }
  ~Silence() {
    const std::lock_guard lock(mutex());
    if (--users() == 0) FLAGS_caffe2_log_level = before();
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  static std::mutex& mutex() {
    static std::mutex instance;
    return instance;
  }
  static int& users() {
    static int count = 0;
    return count;
  }
  static int& before() {
    static int level = 0;
    return level;
  }
};

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

// Runs `call` on a thread that ends with it, and returns its result; StoreSilent when that takes until
// `deadline`.
template <class Call>
auto within(Clock::time_point deadline, Call call) -> decltype(call()) {
  const auto silence = std::make_shared<Silence>();
  auto task = std::make_shared<std::packaged_task<decltype(call())()>>(std::move(call));
  auto result = task->get_future();
  std::thread worker([task, silence] { (*task)(); });  // one that is given up stays silent, too
  if (result.wait_until(deadline) != std::future_status::ready) {
    worker.detach();
    throw StoreSilent("it does not answer");
  }
  worker.join();
  task.reset();
  try {
    return result.get();
  } catch (const c10::Error& e) {
    throw StoreLost(first_line(e.what_without_backtrace()));
  } catch (const std::exception& e) {
    throw StoreLost(first_line(e.what()));
  }
}

// An answer that is due at once may be late by this much.
Clock::time_point with_slack(Clock::time_point deadline) {
  return std::max(deadline, Clock::now()) + std::chrono::seconds(2);
}

}  // namespace

struct Store::Impl {
  c10::intrusive_ptr<c10d::TCPStore> store;
};

Store::Store(std::shared_ptr<Impl> impl, std::string prefix)
    : impl_(std::move(impl)), prefix_(std::move(prefix)) {}

Store Store::serve(Fd listener, const std::string& prefix) {
  const Address own = Address::local_of(listener.get());
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(own.port());
  options.isServer = true;
  options.waitWorkers = false;
  options.masterListenFd = listener.release();
  const std::string host = own.host() == "0.0.0.0" ? "127.0.0.1" : own.host() == "::" ? "::1" : own.host();
  const auto open = [host, options]() mutable {
    try {
      // The event-driven server parses what arrives without ever waiting for the rest of it; the plain one
      // would.
      options.useLibUV = true;
      return std::make_shared<Impl>(Impl{c10::make_intrusive<c10d::TCPStore>(host, options)});
    } catch (const c10::Error& e) {
      if (std::string(e.what_without_backtrace()).find("without libuv") == std::string::npos) throw;
      options.useLibUV = false;
      return std::make_shared<Impl>(Impl{c10::make_intrusive<c10d::TCPStore>(host, options)});
    }
  };
  return {within(Clock::now() + std::chrono::seconds(30), open), prefix};
}

Store Store::join(const Address& server, const std::string& prefix, Clock::time_point deadline) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(server.port());
  options.waitWorkers = false;
  options.timeout = std::chrono::seconds(1 + milliseconds_until(deadline) / 1000);
  return {within(deadline,
                 [host = server.host(), options] {
                   return std::make_shared<Impl>(Impl{c10::make_intrusive<c10d::TCPStore>(host, options)});
                 }),
          prefix};
}

std::int64_t Store::add(const std::string& key, std::int64_t amount, Clock::time_point deadline) {
  return within(with_slack(deadline),
                [impl = impl_, key = prefix_ + key, amount] { return impl->store->add(key, amount); });
}

void Store::set(const std::string& key, const std::string& value, Clock::time_point deadline) {
  within(with_slack(deadline), [impl = impl_, key = prefix_ + key, value] {
    impl->store->set(key, std::vector<std::uint8_t>(value.begin(), value.end()));
  });
}

bool Store::wait(const std::string& key, Clock::time_point deadline) {
  return within(with_slack(deadline), [impl = impl_, key = prefix_ + key, deadline] {
    try {
      impl->store->wait({key}, std::chrono::milliseconds(std::max(1, milliseconds_until(deadline))));
      return true;
    } catch (const c10::DistStoreError&) {
      if (Clock::now() < deadline) throw;
      return false;
    }
  });
}

std::string Store::get(const std::string& key, Clock::time_point deadline) {
  return within(with_slack(deadline), [impl = impl_, key = prefix_ + key] {
    const auto value = impl->store->get(key);
    return std::string(value.begin(), value.end());
  });
}

void Store::erase(const std::string& key, Clock::time_point deadline) {
  within(with_slack(deadline), [impl = impl_, key = prefix_ + key] { impl->store->deleteKey(key); });
}

}  // namespace acp::tcp
