// See torch_forms.h.
#include "benchmarks/acp-compress/torch_forms.h"

#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <memory>
#include <set>

#include "compressors/registry.h"

namespace acp::programs {

namespace {

// What a formulation works on, alive as long as its functions.
struct Work {
  at::Tensor gradient, error, code, scale, other, result;
  bool memory = false, bare = false;
  std::int64_t step = 0;

  at::Tensor input() const { return memory && !bare ? error + gradient : gradient; }
  void keep(const at::Tensor& y, const at::Tensor& sent) {
    if (memory) error = y - sent;
  }
};
using Shared = std::shared_ptr<Work>;

at::Tensor signs(const at::Tensor& code) {
  return code.to(at::kFloat) * 2 - 1;
}

TorchForm topk(const Shared& w, const Values& values) {
  const auto n = w->gradient.numel();
  const auto k = std::max<std::int64_t>(
      1, static_cast<std::int64_t>(static_cast<double>(n) * values.number("ratio", 0, 1)));
  return {[w, k] {
            const auto y = w->input().view(-1);
            w->other = std::get<1>(y.abs().topk(k, 0, true, false));
            w->code = y.index_select(0, w->other);
            if (w->memory) w->error = y.index_fill(0, w->other, 0).view_as(w->gradient);
          },
          [w] {
            w->result = at::zeros({w->gradient.numel()}, w->gradient.options())
                            .scatter_(0, w->other, w->code)
                            .view_as(w->gradient);
          }};
}

TorchForm threshold(const Shared& w, const Values& values) {
  const double least = values.number("value", 0, 1e30);
  return {[w, least] {
            const auto y = w->input().view(-1);
            w->other = y.abs().ge(least).nonzero().view(-1);
            w->code = y.index_select(0, w->other);
            if (w->memory) w->error = y.index_fill(0, w->other, 0).view_as(w->gradient);
          },
          [w] {
            w->result = at::zeros({w->gradient.numel()}, w->gradient.options())
                            .scatter_(0, w->other, w->code)
                            .view_as(w->gradient);
          }};
}

TorchForm random_k(const Shared& w, const Values& values) {
  const auto n = w->gradient.numel();
  const auto k = std::max<std::int64_t>(
      1, static_cast<std::int64_t>(static_cast<double>(n) * values.number("ratio", 0, 1)));
  return {[w, n, k] {
            const auto y = w->input().view(-1);
            w->other = at::randperm(n, w->gradient.options().dtype(at::kLong)).narrow(0, 0, k);
            w->code = y.index_select(0, w->other);
            if (w->memory) w->error = y.index_fill(0, w->other, 0).view_as(w->gradient);
          },
          [w] {
            w->result = at::zeros({w->gradient.numel()}, w->gradient.options())
                            .scatter_(0, w->other, w->code)
                            .view_as(w->gradient);
          }};
}

TorchForm signum(const Shared& w, const Values& values) {
  const double keep = values.number("momentum", 0, 1);
  return {[w, keep] {
            w->scale =
                w->scale.defined() ? w->scale.mul_(keep).add_(w->gradient, 1 - keep) : w->gradient.clone();
            w->code = (w->scale >= 0).to(at::kByte);
          },
          [w] { w->result = signs(w->code); }};
}

TorchForm sign(const Shared& w, const Values&) {
  return {[w] { w->code = (w->input() >= 0).to(at::kByte); }, [w] { w->result = signs(w->code); }};
}

TorchForm ef_sign(const Shared& w, const Values&) {
  return {[w] {
            const auto y = w->input();
            w->scale = y.abs().mean();
            w->code = (y >= 0).to(at::kByte);
            w->keep(y, w->scale * signs(w->code));
          },
          [w] { w->result = w->scale * signs(w->code); }};
}

TorchForm one_bit(const Shared& w, const Values&) {
  const auto decode = [w] { return at::where(w->code.to(at::kBool), w->scale, w->other); };
  return {[w, decode] {
            const auto y = w->input();
            const auto negative = y < 0;
            const auto count = negative.sum();
            w->scale = at::where(negative, y, 0).sum() / count.clamp_min(1);
            w->other = at::where(negative, 0, y).sum() / (y.numel() - count).clamp_min(1);
            w->code = negative.to(at::kByte);
            w->keep(y, decode());
          },
          [w, decode] { w->result = decode(); }};
}

TorchForm tern_grad(const Shared& w, const Values& values) {
  const double clip = values.number("clip", 0, 1e6);
  return {[w, clip] {
            const auto y = w->input();
            const auto bound = clip * y.std(/*unbiased=*/false);
            const auto g = at::minimum(at::maximum(y, -bound), bound);
            w->scale = g.abs().max();
            w->code = (g.sign() * (at::rand_like(g) * w->scale < g.abs())).to(at::kChar);
            w->keep(y, w->scale * w->code.to(at::kFloat));
          },
          [w] { w->result = w->scale * w->code.to(at::kFloat); }};
}

// Whole buckets, the last one filled up with zeros.
at::Tensor buckets(const at::Tensor& x, std::int64_t width) {
  const auto n = x.numel(), rest = (width - n % width) % width;
  return at::constant_pad_nd(x.reshape(-1), {0, rest}).view({-1, width});
}

TorchForm qsgd(const Shared& w, const Values& values) {
  const auto bucket = values.integer("bucket", 0, std::int64_t{1} << 32);
  const auto width = bucket == 0 ? w->gradient.numel() : bucket;
  const auto bits = values.integer("bits", 2, 8), given = values.integer("levels", 0, 32767);
  const auto levels = static_cast<double>(given == 0 ? (1 << (bits - 1)) - 1 : given);
  const bool nearest = values.text("rounding") == "nearest";
  const auto decode = [w, levels] {
    const auto all = w->scale / levels * w->code.to(at::kFloat);
    return all.view(-1).narrow(0, 0, w->gradient.numel()).view_as(w->gradient);
  };
  return {[=] {
            const auto y = w->input(), x = buckets(y, width);
            w->scale = x.norm(2, {1}, /*keepdim=*/true);
            const auto level = levels / w->scale.clamp_min(1e-30) * x.abs();
            const auto draws = nearest ? at::full_like(x, 0.5) : at::rand_like(x);
            w->code = (x.sign() * (level + draws).floor()).to(levels > 127 ? at::kShort : at::kChar);
            w->keep(y, decode());
          },
          [=] { w->result = decode(); }};
}

TorchForm cgx(const Shared& w, const Values& values) {
  const auto width = values.integer("bucket", 1, std::int64_t{1} << 32);
  const auto top = static_cast<double>((1 << values.integer("bits", 1, 8)) - 1);
  const bool nearest = values.text("rounding") == "nearest";
  const auto decode = [w] {
    const auto all = w->other + w->scale * w->code.to(at::kFloat);
    return all.view(-1).narrow(0, 0, w->gradient.numel()).view_as(w->gradient);
  };
  return {[=] {
            const auto y = w->input(), x = buckets(y, width);
            w->other = x.amin({1}, true);
            w->scale = (x.amax({1}, true) - w->other) / top;
            const auto level = (x - w->other) / w->scale.clamp_min(1e-10);
            const auto draws = nearest ? at::full_like(x, 0.5) : at::rand_like(x);
            w->code = (level + draws).floor().clamp_max(top).to(at::kByte);
            w->keep(y, decode());
          },
          [=] { w->result = decode(); }};
}

TorchForm natural(const Shared& w, const Values& values) {
  const bool nearest = values.text("rounding") == "nearest";
  const auto decode = [w] {
    const auto code = w->code.to(at::kInt);
    return at::ldexp(at::where(code >= 128, -1.0F, 1.0F), (code & 127) - 110) * (code & 127).ne(0);
  };
  return {[=] {
            const auto y = w->input();
            const auto [mantissa, exponent] = at::frexp(y.abs());  // mantissa in [0.5, 1)
            const auto draws = nearest ? at::full_like(y, 0.5) : at::rand_like(y);
            const auto up = (mantissa * 2 - 1 > draws).to(at::kInt);
            const auto level = (exponent + 109 + up).clamp(0, 127);
            w->code = (level + at::where(y < 0, 128, 0)).to(at::kByte);
            w->keep(y, decode());
          },
          [=] { w->result = decode(); }};
}

TorchForm half(const Shared& w, at::ScalarType type) {
  return {[w, type] {
            const auto y = w->input();
            w->code = y.to(type);
            w->keep(y, w->code.to(at::kFloat));
          },
          [w] { w->result = w->code.to(at::kFloat); }};
}

at::Tensor basis(const at::Tensor& x) {
  return std::get<0>(at::linalg_qr(x));
}

// `scale` is Q and `other` is P, n x r and m x r.
TorchForm acp_sgd(const Shared& w, const Values& values) {
  const auto r = std::min(values.integer("rank", 1, 1'000'000), w->gradient.size(0));
  w->scale = at::randn({w->gradient.size(1), r}, w->gradient.options());
  return {[w] {
            const auto x = w->input();
            const bool sends_p = w->step++ % 2 == 0;
            if (sends_p) {
              w->scale = basis(w->scale);
              w->other = at::mm(x, w->scale);
            } else {
              w->other = basis(w->other);
              w->scale = at::mm(x.t(), w->other);
            }
            w->keep(x, at::mm(w->other, w->scale.t()));
          },
          [w] { w->result = at::mm(w->other, w->scale.t()); }};
}

TorchForm power_sgd(const Shared& w, const Values& values) {
  const auto r = std::min(values.integer("rank", 1, 1'000'000), w->gradient.size(0));
  w->scale = at::randn({w->gradient.size(1), r}, w->gradient.options());
  return {[w] {
            const auto x = w->input();
            w->code = x;
            w->other = basis(at::mm(x, basis(w->scale)));
            w->scale = at::mm(x.t(), w->other);
          },
          [w] {
            w->result = at::mm(w->other, w->scale.t());
            w->keep(w->code, w->result);
          }};
}

using Make = std::function<TorchForm(const Shared&, const Values&)>;

const std::map<std::string, Make>& forms() {
  static const std::map<std::string, Make> table{
      {"topk", topk},
      {"threshold", threshold},
      {"randomk", random_k},
      {"signsgd", sign},
      {"signum", signum},
      {"efsignsgd", ef_sign},
      {"onebit", one_bit},
      {"terngrad", tern_grad},
      {"qsgd", qsgd},
      {"cgx", cgx},
      {"natural", natural},
      {"acpsgd", acp_sgd},
      {"powersgd", power_sgd},
      {"fp16", [](const Shared& w, const Values&) { return half(w, at::kHalf); }},
      {"bf16", [](const Shared& w, const Values&) { return half(w, at::kBFloat16); }}};
  return table;
}

// The keys whose values a form follows; with others than the defaults elsewhere there is none.
const std::map<std::string, std::set<std::string>>& followed() {
  static const std::map<std::string, std::set<std::string>> table{
      {"topk", {"ratio"}},
      {"terngrad", {"clip"}},
      {"qsgd", {"bits", "bucket", "levels", "rounding"}},
      {"threshold", {"value"}},
      {"randomk", {"ratio"}},
      {"cgx", {"bits", "bucket", "rounding", "min_size", "vectors"}},
      {"natural", {"rounding"}},
      {"signum", {"momentum"}},
      {"acpsgd", {"rank", "min_rate"}},
      {"powersgd", {"rank", "min_rate"}}};
  return table;
}

bool follows(const MethodSpec& spec) {
  const auto keys = followed().find(spec.name);
  for (const auto& [key, value] : spec.values) {
    if (keys == followed().end() || !keys->second.contains(key)) return false;
  }
  return true;
}

}  // namespace

std::optional<TorchForm> torch_form(const std::string& spec, const std::string& memory,
                                    const at::Tensor& gradient, bool bare) {
  const auto parts = parse_spec(spec);
  const auto found = forms().find(parts[0].name);
  if (parts.size() != 1 || found == forms().end() || memory == "dgc" || !follows(parts[0]))
    return std::nullopt;
  const auto work = std::make_shared<Work>();
  work->gradient = gradient;
  work->memory = memory == "residual";
  work->bare = bare;
  if (work->memory) work->error = at::zeros_like(gradient);
  return found->second(work, Values(parts[0], find_method(parts[0].name).keys));
}

}  // namespace acp::programs
