// Agreement by hash first, by full text only when the hashes differ; small transfers of bytes.
#include "acp/agreement.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <cstring>

#include "comm/error.h"

namespace acp {

namespace {

// FNV-1a, 64 bit.
std::int64_t hash(std::string_view text) {
  std::uint64_t h = 14695981039346656037ULL;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return static_cast<std::int64_t>(h);
}

at::Tensor to_tensor(std::string_view bytes) {
  at::Tensor t = at::empty({static_cast<std::int64_t>(bytes.size())}, at::kByte);
  if (!bytes.empty()) std::memcpy(t.data_ptr(), bytes.data(), bytes.size());
  return t;
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

std::string line_or_none(const std::vector<std::string>& lines, std::size_t index) {
  return index < lines.size() ? "\"" + lines[index] + "\""
                              : "nothing (it has " + std::to_string(lines.size()) + ")";
}

}  // namespace

std::vector<std::string> all_gather_bytes(Communicator& channel, std::string_view mine) {
  const auto size = static_cast<std::size_t>(channel.size());
  const at::Tensor counts = at::empty({channel.size()}, at::kLong);
  at::Tensor count = at::empty({1}, at::kLong);
  count.fill_(static_cast<std::int64_t>(mine.size()));
  perform(channel, Collective::all_gather(count, counts));
  const std::vector<std::int64_t> each(counts.const_data_ptr<std::int64_t>(),
                                       counts.const_data_ptr<std::int64_t>() + size);
  std::int64_t total = 0;
  for (const std::int64_t n : each) total += n;
  const at::Tensor all = at::empty({total}, at::kByte);
  perform(channel, Collective::all_gather_v(to_tensor(mine), all, each));
  std::vector<std::string> result;
  const char* at = static_cast<const char*>(all.const_data_ptr());
  for (const std::int64_t n : each) {
    result.emplace_back(at, static_cast<std::size_t>(n));
    at += n;
  }
  return result;
}

std::string broadcast_bytes(Communicator& channel, std::string_view bytes, int root) {
  at::Tensor count = at::empty({1}, at::kLong);
  count.fill_(static_cast<std::int64_t>(bytes.size()));
  perform(channel, Collective::broadcast(count, root));
  const std::int64_t n = count.item<std::int64_t>();
  const at::Tensor data = channel.rank() == root ? to_tensor(bytes) : at::empty({n}, at::kByte);
  perform(channel, Collective::broadcast(data, root));
  return {static_cast<const char*>(data.const_data_ptr()), static_cast<std::size_t>(n)};
}

void check_agreement(Communicator& channel, std::string_view what, const std::vector<std::string>& lines) {
  if (channel.size() == 1) return;
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  const at::Tensor mine = at::empty({2}, at::kLong);
  mine.data_ptr<std::int64_t>()[0] = hash(text);
  mine.data_ptr<std::int64_t>()[1] = static_cast<std::int64_t>(text.size());
  const at::Tensor all = at::empty({2 * channel.size()}, at::kLong);
  perform(channel, Collective::all_gather(mine, all));
  const std::int64_t* hashes = all.const_data_ptr<std::int64_t>();
  bool equal = true;
  for (int r = 1; r < channel.size(); ++r) {
    equal = equal && hashes[2 * r] == hashes[0] && hashes[2 * r + 1] == hashes[1];
  }
  if (equal) return;

  const std::vector<std::string> texts = all_gather_bytes(channel, text);
  const std::vector<std::string> first = split_lines(texts[0]);
  for (std::size_t r = 1; r < texts.size(); ++r) {
    const std::vector<std::string> other = split_lines(texts[r]);
    for (std::size_t i = 0; i < std::max(first.size(), other.size()); ++i) {
      if (i < first.size() && i < other.size() && first[i] == other[i]) continue;
      throw ConfigError("ranks differ: " + std::string(what) + " " + std::to_string(i) + " is " +
                        line_or_none(first, i) + " on rank 0 and " + line_or_none(other, i) + " on rank " +
                        std::to_string(r) + "; build the same model with the same options on every rank");
    }
  }
}

}  // namespace acp
