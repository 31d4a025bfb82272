// Agreement by hash first, by full text only when the hashes differ.
#include "acp/agreement.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "acp/hash.h"
#include "comm/error.h"

namespace acp {

namespace {

at::Tensor to_tensor(std::string_view bytes) {
  at::Tensor t = at::empty({static_cast<std::int64_t>(bytes.size())}, at::kByte);
  if (!bytes.empty()) std::memcpy(t.data_ptr(), bytes.data(), bytes.size());
  return t;
}

Collective labelled(Collective op, std::string label) {
  op.label = std::move(label);
  return op;
}

std::vector<std::int64_t> all_gather_number(Communicator& channel, std::int64_t mine, const char* label) {
  const at::Tensor all = at::empty({channel.size()}, at::kLong);
  perform(channel, labelled(Collective::all_gather(at::full({1}, mine, at::kLong), all), label));
  return {all.const_data_ptr<std::int64_t>(), all.const_data_ptr<std::int64_t>() + all.numel()};
}

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// What each rank has at the first place where not all have the same: "a" on rank 0, "b" on ranks 1 and 3.
std::string describe_difference(std::string_view what, const std::vector<std::vector<std::string>>& ranks) {
  const auto line = [](const std::vector<std::string>& lines, std::size_t i) {
    return i < lines.size() ? "\"" + lines[i] + "\""
                            : "nothing (" + std::to_string(lines.size()) + " in all)";
  };
  std::size_t place = 0;
  const auto same = [&](const auto& lines) { return line(lines, place) == line(ranks[0], place); };
  while (std::ranges::all_of(ranks, same)) ++place;

  std::vector<std::pair<std::string, std::vector<std::size_t>>> versions;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const std::string text = line(ranks[r], place);
    auto version = std::ranges::find(versions, text, [](const auto& v) { return v.first; });
    if (version == versions.end()) version = versions.insert(versions.end(), {text, {}});
    version->second.push_back(r);
  }
  std::string message = "the ranks differ: " + std::string(what) + " " + std::to_string(place) + " is ";
  for (std::size_t v = 0; v < versions.size(); ++v) {
    const auto& [text, members] = versions[v];
    message += (v == 0 ? "" : ", ") + text + (members.size() == 1 ? " on rank " : " on ranks ");
    for (std::size_t i = 0; i < members.size(); ++i) {
      message += (i == 0 ? "" : i + 1 < members.size() ? ", " : " and ") + std::to_string(members[i]);
    }
  }
  return message + "; build the same with the same options on every rank";
}

}  // namespace

std::vector<std::string> all_gather_bytes(Communicator& channel, std::string_view mine) {
  const auto counts = all_gather_number(channel, static_cast<std::int64_t>(mine.size()), "sizes");
  std::int64_t total = 0;
  for (const std::int64_t n : counts) total += n;
  const at::Tensor all = at::empty({total}, at::kByte);
  perform(channel, Collective::all_gather_v(to_tensor(mine), all, counts));
  std::vector<std::string> result;
  const char* at = static_cast<const char*>(all.const_data_ptr());
  for (const std::int64_t n : counts) {
    result.emplace_back(at, static_cast<std::size_t>(n));
    at += n;
  }
  return result;
}

std::string broadcast_bytes(Communicator& channel, std::string_view bytes, int root) {
  if (root < 0 || root >= channel.size()) {
    throw ConfigError("broadcast: root " + std::to_string(root) + " is not one of the " +
                      std::to_string(channel.size()) + " ranks");
  }
  const at::Tensor count = at::full({1}, static_cast<std::int64_t>(bytes.size()), at::kLong);
  perform(channel, labelled(Collective::broadcast(count, root), "size"));
  const std::int64_t n = *count.const_data_ptr<std::int64_t>();
  const at::Tensor data = channel.rank() == root ? to_tensor(bytes) : at::empty({n}, at::kByte);
  perform(channel, Collective::broadcast(data, root));
  return {static_cast<const char*>(data.const_data_ptr()), static_cast<std::size_t>(n)};
}

void check_agreement(Communicator& channel, std::string_view what, const std::vector<std::string>& lines) {
  if (channel.size() == 1) return;
  std::string text;
  for (std::string line : lines) {
    std::ranges::replace(line, '\n', ' ');
    text += line + "\n";
  }
  const auto hash = static_cast<std::int64_t>(Hash().add(text).value());
  const auto hashes = all_gather_number(channel, hash, "hashes to compare");
  if (std::ranges::all_of(hashes, [&](std::int64_t h) { return h == hashes[0]; })) return;

  std::vector<std::vector<std::string>> ranks;
  for (const std::string& other : all_gather_bytes(channel, text)) ranks.push_back(split_lines(other));
  throw ConfigError(describe_difference(what, ranks));
}

void together(Communicator& channel, const std::function<void()>& work) {
  std::exception_ptr error;
  std::string report;  // one letter for the class, then the message; empty: no failure
  const auto fail = [&](char kind, std::string message) {
    error = std::current_exception();
    report = kind + std::move(message);
  };
  try {
    work();
  } catch (const ConfigError& e) {
    fail('c', e.what());
  } catch (const DataError& e) {
    fail('d', e.what());
  } catch (const CommunicationError& e) {
    fail('n', e.what());
  } catch (const c10::Error& e) {
    fail('e', e.what_without_backtrace());
  } catch (const std::exception& e) {
    fail('e', e.what());
  }
  const std::vector<std::string> reports = all_gather_bytes(channel, report);
  if (error) std::rethrow_exception(error);
  for (std::size_t r = 0; r < reports.size(); ++r) {
    if (reports[r].empty()) continue;
    const std::string message = "rank " + std::to_string(r) + ": " + reports[r].substr(1);
    if (reports[r][0] == 'c') throw ConfigError(message);
    if (reports[r][0] == 'd') throw DataError(message);
    if (reports[r][0] == 'n') throw CommunicationError(message);
    throw Error(message);
  }
}

}  // namespace acp
