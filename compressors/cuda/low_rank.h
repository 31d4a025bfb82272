// Bodies of the products of low-rank compression, for many matrices in one launch.
#pragma once

#include "compressors/cuda/block.h"
#include "compressors/cuda/kernels.h"
#include "compressors/cuda/numbers.h"

namespace acp::device {

inline constexpr int vectors = 8;  // at once
inline constexpr int warp = 32;    // neighbouring threads, who read neighbouring numbers
inline constexpr int warps = threads / warp;

// p = M Q: a block has 32 rows, 32 threads have four of them and every 32nd column.
struct TimesQBody {
  static constexpr int rows = 4, own = rows * warps;
  struct Shared {
    float sums[own * vectors][warp + 1];  // the place between keeps banks apart
  };
  Batch<Product> batch;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const int number = batch.find(block.index());
    const Product& item = batch.items[number];
    const std::int64_t begin = (block.index() - batch.first[number]) * own;
    for (int k = 0; k < item.r; k += vectors) {
      const int count = least_of(vectors, item.r - k);
      block.each([&](int t) {
        const int lane = t % warp, first = t / warp * rows;
        const float* const added = k == 0 ? item.added : nullptr;
        float sums[rows][vectors] = {};
        for (std::int64_t j = lane; j < item.m; j += warp) {
          float x[rows];
          for (int a = 0; a < rows; ++a) {
            const std::int64_t i = begin + first + a;
            x[a] = i < item.n ? item.matrix[i * item.m + j] : 0;
            if (added == nullptr || i >= item.n) continue;
            x[a] += added[i * item.m + j];
            item.matrix[i * item.m + j] = x[a];
          }
          for (int v = 0; v < vectors; ++v) {
            if (v >= count) continue;
            const float q = item.q[(k + v) * item.m + j];
            for (int a = 0; a < rows; ++a) sums[a][v] = fused(x[a], q, sums[a][v]);
          }
        }
        for (int a = 0; a < rows; ++a) {
          for (int v = 0; v < vectors; ++v) shared.sums[(first + a) * vectors + v][lane] = sums[a][v];
        }
      });
      block.each([&](int t) {
        const int v = t % vectors;
        const std::int64_t i = begin + t / vectors;
        if (v >= count || i >= item.n) return;
        float sum = 0;
        for (int lane = 0; lane < warp; ++lane) sum += shared.sums[t][lane];
        item.p[(k + v) * item.n + i] = sum;
      });
    }
  }
};
static_assert(TimesQBody::own * vectors == threads);

template <class Launch>
void times_q(std::span<const Product> parts, const Launch& launch) {
  in_batches(
      parts, [](const Product& part) { return divide_up(part.n, TimesQBody::own); },
      [&](const Batch<Product>& batch, std::int64_t blocks) { launch(blocks, TimesQBody{batch}); });
}

// q = M^T P: rows are cut into pieces, whose sums are added in order afterwards.
struct TimesP {
  Product what;
  float* pieces;  // r x m each, one after the other; q itself if there is one piece
};

struct TimesPBody {
  static constexpr int rows = 256, each = 4, columns = warp * each;  // of a block
  struct Shared {
    float p[rows][vectors];
    float sums[warps][vectors][columns];
  };
  Batch<TimesP> batch;

  ACP_HOST_DEVICE static std::int64_t pieces(std::int64_t n) { return (n + rows - 1) / rows; }
  ACP_HOST_DEVICE static std::int64_t across(std::int64_t m) { return (m + columns - 1) / columns; }

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const int number = batch.find(block.index());
    const Product& item = batch.items[number].what;
    const std::int64_t here = block.index() - batch.first[number], piece = here / across(item.m);
    const std::int64_t top = piece * rows, bottom = least_of(item.n, top + rows);
    const std::int64_t left = here % across(item.m) * columns;
    float* const out = batch.items[number].pieces + piece * item.r * item.m;
    for (int k = 0; k < item.r; k += vectors) {
      const int count = least_of(vectors, item.r - k);
      block.each([&](int t) {
        for (int v = 0; v < vectors; ++v) {
          shared.p[t][v] = v < count && top + t < bottom ? item.p[(k + v) * item.n + top + t] : 0;
        }
      });
      block.each([&](int t) {
        const int lane = t % warp, own = t / warp;
        const float* const added = k == 0 ? item.added : nullptr;
        float sums[each][vectors] = {};
        for (std::int64_t i = top + own; i < bottom; i += warps) {
          float x[each];
          for (int a = 0; a < each; ++a) {
            const std::int64_t j = left + a * warp + lane;
            x[a] = j < item.m ? item.matrix[i * item.m + j] : 0;
            if (added == nullptr || j >= item.m) continue;
            x[a] += added[i * item.m + j];
            item.matrix[i * item.m + j] = x[a];
          }
          for (int v = 0; v < vectors; ++v) {
            if (v >= count) continue;
            const float p = shared.p[i - top][v];
            for (int a = 0; a < each; ++a) sums[a][v] = fused(x[a], p, sums[a][v]);
          }
        }
        for (int a = 0; a < each; ++a) {
          for (int v = 0; v < vectors; ++v) shared.sums[own][v][a * warp + lane] = sums[a][v];
        }
      });
      block.each([&](int t) {
        for (int i = t; i < count * columns; i += threads) {
          const int v = i / columns, c = i % columns;
          if (left + c >= item.m) continue;
          float sum = 0;
          for (int w = 0; w < warps; ++w) sum += shared.sums[w][v][c];
          out[(k + v) * item.m + left + c] = sum;
        }
      });
    }
  }
};
static_assert(TimesPBody::rows == threads);

struct AddPiecesBody {
  using Shared = Nothing;
  Batch<TimesP> batch;

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared&) const {
    const int number = batch.find(block.index());
    const auto& [item, some] = batch.items[number];
    const std::int64_t size = item.r * item.m, begin = (block.index() - batch.first[number]) * threads;
    const std::int64_t count = TimesPBody::pieces(item.n);
    float* const q = item.q;
    const float* const from = some;
    block.each([&](int t) {
      const std::int64_t i = begin + t;
      if (i >= size) return;
      float sum = 0;
      for (std::int64_t piece = 0; piece < count; ++piece) sum += from[piece * size + i];
      q[i] = sum;
    });
  }
};

inline std::size_t project_scratch(const Product& part) {
  const auto pieces = TimesPBody::pieces(part.n);
  return pieces > 1 ? static_cast<std::size_t>(pieces * part.r * part.m) * sizeof(float) : 0;
}
inline std::size_t project_scratch(std::span<const Product> parts) {
  std::size_t bytes = 0;
  for (const auto& part : parts) bytes += project_scratch(part);
  return bytes;
}

template <class Launch>
void times_p(std::span<const Product> parts, std::byte* scratch, const Launch& launch) {
  constexpr std::size_t at_once = Batch<TimesP>::capacity;
  for (std::size_t from = 0; from < parts.size(); from += at_once) {
    TimesP items[at_once];
    const auto count = least_of(at_once, parts.size() - from);
    for (std::size_t k = 0; k < count; ++k) {
      const auto& part = parts[from + k];
      const auto bytes = project_scratch(part);
      items[k] = {part, bytes > 0 ? reinterpret_cast<float*>(scratch) : part.q};
      scratch += bytes;
    }
    const std::span<const TimesP> some(items, count);
    in_batches(
        some,
        [](const TimesP& item) { return TimesPBody::pieces(item.what.n) * TimesPBody::across(item.what.m); },
        [&](const Batch<TimesP>& batch, std::int64_t blocks) { launch(blocks, TimesPBody{batch}); });
    in_batches(
        some,
        [](const TimesP& item) {
          return item.pieces == item.what.q ? 0 : divide_up(item.what.r * item.what.m, threads);
        },
        [&](const Batch<TimesP>& batch, std::int64_t blocks) { launch(blocks, AddPiecesBody{batch}); });
  }
}

// M = P Q^T, or += or -=: a block has 32 rows and 128 columns, a thread four of each. The CPU's arithmetic:
// sums of eight vectors in order, products and sums rounded one by one.
struct OuterBody {
  static constexpr int side = 4, rows = side * warps, columns = side * warp;
  using Shared = Nothing;
  Batch<Product> batch;
  Write write;

  ACP_HOST_DEVICE static std::int64_t across(std::int64_t m) { return (m + columns - 1) / columns; }

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared&) const {
    const int number = batch.find(block.index());
    const Product& item = batch.items[number];
    const std::int64_t here = block.index() - batch.first[number], top = here / across(item.m) * rows;
    const std::int64_t left = here % across(item.m) * columns;
    block.each([&](int t) {
      const std::int64_t i = top + t / warp * side, j = left + t % warp;
      float value[side][side];
      for (int a = 0; a < side; ++a) {
        for (int b = 0; b < side; ++b) {
          const bool there = write != Write::set && i + a < item.n && j + b * warp < item.m;
          value[a][b] = there ? item.matrix[(i + a) * item.m + j + b * warp] : 0;
        }
      }
      for (int k = 0; k < item.r; k += vectors) {
        float sum[side][side] = {};
        for (int v = k; v < least_of(k + vectors, item.r); ++v) {
          float p[side], q[side];
          for (int a = 0; a < side; ++a) p[a] = i + a < item.n ? item.p[v * item.n + i + a] : 0;
          for (int b = 0; b < side; ++b) q[b] = j + b * warp < item.m ? item.q[v * item.m + j + b * warp] : 0;
          for (int a = 0; a < side; ++a) {
            for (int b = 0; b < side; ++b) {
              const float product = p[a] * q[b];
              sum[a][b] = v == k ? product : sum[a][b] + product;
            }
          }
        }
        for (int a = 0; a < side; ++a) {
          for (int b = 0; b < side; ++b) {
            if (write == Write::subtract) {
              value[a][b] -= sum[a][b];
            } else {
              value[a][b] = write == Write::set && k == 0 ? sum[a][b] : value[a][b] + sum[a][b];
            }
          }
        }
      }
      for (int a = 0; a < side; ++a) {
        for (int b = 0; b < side; ++b) {
          if (i + a < item.n && j + b * warp < item.m)
            item.matrix[(i + a) * item.m + j + b * warp] = value[a][b];
        }
      }
    });
  }
};

template <class Launch>
void outer(std::span<const Product> parts, Write write, const Launch& launch) {
  in_batches(
      parts,
      [](const Product& part) { return divide_up(part.n, OuterBody::rows) * OuterBody::across(part.m); },
      [&](const Batch<Product>& batch, std::int64_t blocks) {
        launch(blocks, OuterBody{batch, write});
      });
}

}  // namespace acp::device
