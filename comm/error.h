// The exceptions of the library: what went wrong, where, and what to do about it.
#pragma once

#include <stdexcept>
#include <string>

namespace acp {

// Base of everything that the library throws on purpose. what() is one line for a person.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A wrong option, specification, argument or model: the caller's input. Programs exit with 2.
class ConfigError : public Error {
 public:
  using Error::Error;
};

// A missing, truncated or corrupt file. Programs exit with 3.
class DataError : public Error {
 public:
  using Error::Error;
};

// A collective failed: a code of the backend, a deadline, ranks that disagree. Programs exit with 4.
class CommunicationError : public Error {
 public:
  using Error::Error;
};

// A particular other rank failed, vanished or never came. Programs exit with 4.
class PeerError : public CommunicationError {
 public:
  PeerError(int peer, const std::string& message) : CommunicationError(message), peer_(peer) {}
  int peer() const { return peer_; }

 private:
  int peer_;
};

}  // namespace acp
