// Memory that two processes of one machine share: through it go the long messages of a local connection.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "comm/tcp/socket.h"

namespace acp::tcp {

// A few slots that the sender fills and the receiver empties, in turn. Who may touch which slot, the two tell
// each other over their connection.
class SharedSlots {
 public:
  static constexpr std::size_t count = 4, slot_bytes = 128 * 1024;

  // Makes new memory and leaves its descriptor in `fd`, for the other process; empty where the system has
  // none.
  static std::optional<SharedSlots> create(Fd& fd);
  // Maps what create() has made in another process. Throws std::system_error.
  static SharedSlots open(const Fd& fd);

  SharedSlots(SharedSlots&& other) noexcept;
  SharedSlots& operator=(SharedSlots&& other) noexcept;
  ~SharedSlots();

  std::byte* slot(std::size_t i) const { return memory_ + i % count * slot_bytes; }

 private:
  explicit SharedSlots(int fd);
  std::byte* memory_ = nullptr;
};

}  // namespace acp::tcp
