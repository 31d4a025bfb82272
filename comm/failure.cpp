// Failures as values: from exceptions, to exceptions, and with the place where they happened.
#include "comm/failure.h"

#include <c10/util/Exception.h>

#include <algorithm>

#include "comm/error.h"

namespace acp {

namespace {

std::string one_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

std::string origin_prefix(std::string_view backend, int rank) {
  std::string text =
      "[";  // one += at a time: g++ 12 at -O3 sees an overflow in "[" + std::string that is none
  text += backend;
  text += "] rank ";
  text += std::to_string(rank);
  text += ": ";
  return text;
}

}  // namespace

Failure Failure::of(const std::exception_ptr& error) noexcept {
  Failure failure;
  try {
    if (!error) {
      failure.text = "aborted without a reason";
      return failure;
    }
    try {
      std::rethrow_exception(error);
    } catch (const PeerError& e) {
      failure = {Kind::peer, e.peer(), one_line(e.what())};
    } catch (const ConfigError& e) {
      failure = {Kind::config, -1, one_line(e.what())};
    } catch (const DataError& e) {
      failure = {Kind::data, -1, one_line(e.what())};
    } catch (const c10::Error& e) {
      failure.text = one_line(e.what_without_backtrace());
    } catch (const std::exception& e) {
      failure.text = one_line(e.what());
    } catch (...) {
      failure.text = "an exception of an unknown class";
    }
  } catch (...) {  // no memory for the text: the kind has to do
  }
  return failure;
}

std::exception_ptr Failure::exception() const {
  switch (kind) {
    case Kind::peer:
      return std::make_exception_ptr(PeerError(peer, text));
    case Kind::config:
      return std::make_exception_ptr(ConfigError(text));
    case Kind::data:
      return std::make_exception_ptr(DataError(text));
    case Kind::communication:
      break;
  }
  return std::make_exception_ptr(CommunicationError(text));
}

void Failure::raise() const {
  std::rethrow_exception(exception());
}

Failure stopped_by(int origin, std::string_view text) {
  // The peer's text starts with "[backend] rank ORIGIN: ", which the new sentence says already.
  const std::string mark = "] rank " + std::to_string(origin) + ": ";
  if (const auto at = text.find(mark); text.starts_with('[') && at != text.npos && at < text.find(' ')) {
    text.remove_prefix(at + mark.size());
  }
  return {Failure::Kind::peer, origin,
          "stopped by rank " + std::to_string(origin) + " (" + std::string(text) + ")"};
}

Failure during(Failure failure, std::string_view backend, int rank, const Collective& op) {
  const std::string prefix = origin_prefix(backend, rank);
  if (!failure.text.starts_with(prefix)) failure.text = prefix + failure.text + " during " + describe(op);
  return failure;
}

}  // namespace acp
