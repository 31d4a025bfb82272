// Ranks as processes: the test program started again as one rank of a scenario.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "comm/tcp/socket.h"

namespace acp::tcp {

// A process whose standard output and error are read by this one.
class Child {
 public:
  // Runs `scenario` (see child.cpp) with these variables added to the environment.
  Child(const std::string& scenario, const std::map<std::string, std::string>& environment);
  ~Child();  // kills it if it still runs
  Child(Child&&) noexcept;
  Child& operator=(Child&&) = delete;

  // Blocks until it has printed a line that contains `text` (returns true) or ended.
  bool wait_for(const std::string& text);
  void signal(int number) const;
  // Blocks until it has ended; its exit code, or minus the signal that ended it.
  int wait();
  const std::string& output() const { return output_; }

 private:
  bool read_some();
  pid_t pid_ = -1;
  Fd pipe_;
  std::string output_;
};

// n ranks of a scenario that meet on 127.0.0.1, by the variables that torchrun would set.
std::vector<Child> start_children(const std::string& scenario, int n,
                                  std::map<std::string, std::string> environment = {});

}  // namespace acp::tcp
