// The interfaces of this machine, from the system.
#include "comm/tcp/interface.h"

#include <ifaddrs.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>
#include <vector>

#include "comm/error.h"

namespace acp::tcp {

namespace {

std::vector<Interface> interfaces() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) throw std::system_error(errno, std::generic_category(), "getifaddrs");
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(list, &::freeifaddrs);
  std::vector<Interface> found;
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || (i->ifa_flags & IFF_UP) == 0) continue;
    if (i->ifa_addr->sa_family == AF_INET) {
      found.push_back({i->ifa_name, Address(i->ifa_addr, sizeof(sockaddr_in))});
    } else if (i->ifa_addr->sa_family == AF_INET6) {
      const auto* v6 = reinterpret_cast<const sockaddr_in6*>(i->ifa_addr);
      // A link-local address means nothing to another machine without that machine's own scope.
      if (!IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr)) {
        found.push_back({i->ifa_name, Address(i->ifa_addr, sizeof(sockaddr_in6))});
      }
    }
  }
  return found;
}

// Connecting a datagram socket sends nothing, but chooses the route.
Address route_to(const Address& master) {
  const Fd fd(::socket(master.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), master.get(), master.length()) != 0) {
    throw CommunicationError("there is no route to the master " + master.text() + ": " + error_text(errno) +
                             "; check MASTER_ADDR, or choose a network interface with ACP_INTERFACE");
  }
  Address address = Address::local_of(fd.get());
  address.set_port(0);
  return address;
}

}  // namespace

Interface choose_interface(const std::string& wanted, const Address& master) {
  const std::vector<Interface> all = interfaces();
  if (wanted.empty()) {
    const Address address = route_to(master);
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const Interface& i) { return i.address.same_host(address); });
    // 127.0.1.1 and its like lie on the loopback interface without being listed.
    return {found != all.end() ? found->name : address.is_loopback() ? "lo" : "?", address};
  }
  const Interface* best = nullptr;
  for (const Interface& i : all) {
    if (i.address.host() == wanted) return i;
    if (i.name == wanted && (best == nullptr || i.address.family() == master.family())) {
      if (best == nullptr || best->address.family() != master.family()) best = &i;
    }
  }
  if (best != nullptr) return *best;
  std::string known;
  for (const Interface& i : all)
    known += (known.empty() ? "" : ", ") + i.name + " (" + i.address.host() + ")";
  throw ConfigError("ACP_INTERFACE=\"" + wanted +
                    "\" is no network interface of this machine, nor an address of one; there are: " + known);
}

bool is_own(const Address& address) {
  if (address.is_loopback()) return true;
  const std::vector<Interface> all = interfaces();
  return std::any_of(all.begin(), all.end(),
                     [&](const Interface& i) { return i.address.same_host(address); });
}

}  // namespace acp::tcp
