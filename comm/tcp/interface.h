// Which of this machine's addresses the other ranks shall use.
#pragma once

#include <string>

#include "comm/tcp/socket.h"

namespace acp::tcp {

// An address of this machine (port 0) and the network interface that has it.
struct Interface {
  std::string name;  // "eth0"
  Address address;
};

// `wanted`: ACP_INTERFACE, the name of an interface or one of its addresses; of its addresses the one of the
// master's family is taken. Empty: the address from which the system would reach `master`. ConfigError lists
// the interfaces when `wanted` is none of them.
Interface choose_interface(const std::string& wanted, const Address& master);

// Whether an interface of this machine has this address.
bool is_own(const Address& address);

}  // namespace acp::tcp
