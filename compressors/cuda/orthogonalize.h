// Body of the batched orthogonalisation: one block a matrix, one launch for all of them.
//
// As on the CPU (orthogonalize.cpp): G = A A^T = L L^T in double, the basis is L^-1 A; where rows are too
// nearly dependent for that, Gram-Schmidt with every projection done twice, and unit vectors for what is left
// out. Sums have one order whatever the GPU, so ranks on unlike ones compute the same bits.
#pragma once

#include "compressors/cuda/block.h"
#include "compressors/cuda/kernels.h"
#include "compressors/cuda/numbers.h"

namespace acp::device {

struct OrthogonalizeBody {
  static constexpr int most_pairs = widest * (widest + 1) / 2, tile_numbers = 2048;
  static constexpr double tame = 1e4;  // largest condition for Cholesky's method

  struct Shared {
    double products[most_pairs];  // G, then L; of long sums: partial ones
    double inverse[most_pairs];   // L^-1
    double lengths[widest];
    float tile[tile_numbers + widest];  // some columns of all rows, with one place between the rows
    double sums[threads];
    float least[threads];  // of completing: the best place of each thread
    std::int64_t place[threads];
    int bad, good;
  };
  Batch<Basis> batch;

  ACP_HOST_DEVICE static int at(int k, int l) { return k * (k + 1) / 2 + l; }  // l <= k

  // Row and column of a pair.
  ACP_HOST_DEVICE static void rows_of(int pair, int& k, int& l) {
    k = static_cast<int>((std::sqrt(8.0F * static_cast<float>(pair) + 1.0F) - 1.0F) * 0.5F);
    while (at(k + 1, 0) <= pair) ++k;
    while (at(k, 0) > pair) --k;
    l = pair - at(k, 0);
  }

  template <class Block>
  ACP_HOST_DEVICE void operator()(Block& block, Shared& shared) const {
    const Basis& item = batch.items[batch.find(block.index())];
    multiply(block, shared, item);
    invert(block, shared, item.rank);
    if (shared.good != 0) {
      combine(block, shared, item);
    } else {
      gram_schmidt(block, shared, item);
    }
  }

  ACP_HOST_DEVICE static int width(int rank) { return tile_numbers / rank; }

  template <class Block>
  ACP_HOST_DEVICE static void load(Block& block, Shared& shared, const Basis& item, std::int64_t begin,
                                   int columns) {
    const int stride = width(item.rank) + 1;
    block.each([&](int t) {
      for (int i = t; i < item.rank * columns; i += threads) {
        const int k = i / columns, c = i % columns;
        shared.tile[k * stride + c] = item.vectors[k * item.length + begin + c];
      }
    });
  }

  // All products of two rows. With few rows, several threads share a pair: each has some of a tile's columns.
  template <class Block>
  ACP_HOST_DEVICE static void multiply(Block& block, Shared& shared, const Basis& item) {
    const int pairs = at(item.rank, 0), shares = most_of(1, threads / pairs), stride = width(item.rank) + 1;
    block.each([&](int t) {
      for (int i = t; i < pairs * shares; i += threads) shared.products[i] = 0;
    });
    for (std::int64_t begin = 0; begin < item.length; begin += width(item.rank)) {
      const int columns = static_cast<int>(least_of<std::int64_t>(width(item.rank), item.length - begin));
      load(block, shared, item, begin, columns);
      block.each([&](int t) {
        for (int i = t; i < pairs * shares; i += threads) {
          int k = 0, l = 0;
          rows_of(i % pairs, k, l);
          double sum = shared.products[i];
          for (int c = i / pairs; c < columns; c += shares) {
            sum = fused(static_cast<double>(shared.tile[k * stride + c]),
                        static_cast<double>(shared.tile[l * stride + c]), sum);
          }
          shared.products[i] = sum;
        }
      });
    }
    block.each([&](int t) {
      for (int i = t; i < pairs; i += threads) {
        for (int s = 1; s < shares; ++s) shared.products[i] += shared.products[s * pairs + i];
      }
    });
  }

  // L^-1 of G, of rows as they are; shared.good: whether it can be used.
  template <class Block>
  ACP_HOST_DEVICE static void invert(Block& block, Shared& shared, int rank) {
    auto* const g = shared.products;
    block.each([&](int t) {
      if (t == 0) shared.bad = 0;
    });
    block.each([&](int t) {
      if (t >= rank) return;
      const double square = g[at(t, t)];
      if (!(square > 0) || !(square < 1e300)) shared.bad = 1;  // all that do write the same
      shared.lengths[t] = std::sqrt(square);
    });
    block.each([&](int t) {
      for (int pair = t; pair < at(rank, 0); pair += threads) {
        int k = 0, l = 0;
        rows_of(pair, k, l);
        g[pair] = k == l ? 1 : g[pair] / shared.lengths[k] / shared.lengths[l];
      }
    });
    for (int i = 0; i < rank; ++i) {
      block.each([&](int t) {
        if (t != 0) return;
        const double left = g[at(i, i)];
        if (!(left > 1 / (tame * tame))) shared.bad = 1;
        g[at(i, i)] = std::sqrt(left);
      });
      block.each([&](int t) {
        if (i + 1 + t < rank) g[at(i + 1 + t, i)] /= g[at(i, i)];
      });
      block.each([&](int t) {
        for (int pair = at(i + 1, 0) + t; pair < at(rank, 0); pair += threads) {
          int k = 0, l = 0;
          rows_of(pair, k, l);
          if (l > i) g[pair] -= g[at(k, i)] * g[at(l, i)];
        }
      });
    }
    // A thread a column of L^-1; its squares bound the condition.
    block.each([&](int t) {
      shared.sums[t] = 0;
      if (t >= rank) return;
      auto* const inverse = shared.inverse;
      double squares = 0;
      for (int k = t; k < rank; ++k) {
        double sum = k == t ? 1 : 0;
        for (int i = t; i < k; ++i) sum -= g[at(k, i)] * inverse[at(i, t)];
        inverse[at(k, t)] = sum / g[at(k, k)];
        squares += inverse[at(k, t)] * inverse[at(k, t)];
      }
      shared.sums[t] = squares;
    });
    block.each([&](int t) {
      if (t < rank) {
        for (int k = t; k < rank; ++k) shared.inverse[at(k, t)] /= shared.lengths[t];
      }
      if (t != 0) return;
      double sum = 0;
      for (int k = 0; k < rank; ++k) sum += shared.sums[k];
      shared.good = shared.bad == 0 && sum * rank < tame * tame ? 1 : 0;
    });
  }

  template <class Block>
  ACP_HOST_DEVICE static void combine(Block& block, Shared& shared, const Basis& item) {
    const int stride = width(item.rank) + 1;
    for (std::int64_t begin = 0; begin < item.length; begin += width(item.rank)) {
      const int columns = static_cast<int>(least_of<std::int64_t>(width(item.rank), item.length - begin));
      load(block, shared, item, begin, columns);
      block.each([&](int t) {
        for (int i = t; i < item.rank * columns; i += threads) {
          const int k = i / columns, c = i % columns;
          double sum = 0;
          for (int l = 0; l <= k; ++l) {
            sum = fused(shared.inverse[at(k, l)], static_cast<double>(shared.tile[l * stride + c]), sum);
          }
          item.basis[k * item.length + begin + c] = static_cast<float>(sum);
        }
      });
    }
  }

  // shared.sums[0] = product of two rows.
  template <class Block>
  ACP_HOST_DEVICE static void dot(Block& block, Shared& shared, const float* a, const float* b,
                                  std::int64_t n) {
    block.each([&](int t) {
      double sum = 0;
      for (std::int64_t i = t; i < n; i += threads)
        sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
      shared.sums[t] = sum;
    });
    fold(block, shared.sums);
  }

  template <class Block>
  ACP_HOST_DEVICE static void project_out(Block& block, Shared& shared, const Basis& item, int k) {
    float* const row = item.basis + k * item.length;
    for (int pass = 0; pass < 2; ++pass) {
      for (int l = 0; l < k; ++l) {
        const float* const other = item.basis + l * item.length;
        dot(block, shared, row, other, item.length);
        block.each([&](int t) {
          const auto part = static_cast<float>(shared.sums[0]);
          for (std::int64_t i = t; i < item.length; i += threads) {
            const float product = part * other[i];
            row[i] -= product;
          }
        });
      }
    }
  }

  template <class Block>
  ACP_HOST_DEVICE static void divide(Block& block, float* row, std::int64_t n, double by) {
    block.each([&](int t) {
      for (std::int64_t i = t; i < n; i += threads)
        row[i] = static_cast<float>(static_cast<double>(row[i]) / by);
    });
  }

  template <class Block>
  ACP_HOST_DEVICE static double norm(Block& block, Shared& shared, const float* row, std::int64_t n) {
    dot(block, shared, row, row, n);
    const double result = std::sqrt(shared.sums[0]);
    block.each([](int) {});  // before the sums are written again
    return result;
  }

  template <class Block>
  ACP_HOST_DEVICE static void gram_schmidt(Block& block, Shared& shared, const Basis& item) {
    for (int k = 0; k < item.rank; ++k) {
      const float* const in = item.vectors + k * item.length;
      float* const row = item.basis + k * item.length;
      // Divided by the largest number, squares neither overflow nor vanish.
      block.each([&](int t) {
        float largest = 0;
        for (std::int64_t i = t; i < item.length; i += threads) {
          largest = magnitude(in[i]) >= infinite ? as_float(infinite) : most_of(largest, std::fabs(in[i]));
        }
        shared.least[t] = largest;
      });
      block.each([&](int t) {
        if (t != 0) return;
        float largest = 0;
        for (int i = 0; i < threads; ++i) largest = most_of(largest, shared.least[i]);
        shared.lengths[0] = static_cast<double>(largest);
      });
      const auto largest = static_cast<float>(shared.lengths[0]);
      bool accepted = largest > 0 && magnitude(largest) < infinite;
      if (accepted) {
        block.each([&](int t) {
          for (std::int64_t i = t; i < item.length; i += threads) row[i] = in[i] / largest;
        });
        const double before = norm(block, shared, row, item.length);
        project_out(block, shared, item, k);
        const double left = norm(block, shared, row, item.length);
        accepted = left > 1e-6 * before;
        if (accepted) divide(block, row, item.length, left);
      }
      if (!accepted) complete(block, shared, item, k);
    }
  }

  // The unit vector that the rows before cover least, its lowest number first.
  template <class Block>
  ACP_HOST_DEVICE static void complete(Block& block, Shared& shared, const Basis& item, int k) {
    float* const row = item.basis + k * item.length;
    block.each([&](int t) {
      float least = 3e38F;
      std::int64_t place = 0;
      for (std::int64_t i = t; i < item.length; i += threads) {
        float covered = 0;
        for (int l = 0; l < k; ++l) {
          const float number = item.basis[l * item.length + i], square = number * number;
          covered += square;
        }
        if (covered < least) {
          least = covered;
          place = i;
        }
        row[i] = 0;
      }
      shared.least[t] = least;
      shared.place[t] = place;
    });
    block.each([&](int t) {
      if (t != 0) return;
      int best = 0;
      for (int i = 1; i < threads; ++i) {
        const bool better = shared.least[i] < shared.least[best] ||
                            (shared.least[i] == shared.least[best] && shared.place[i] < shared.place[best]);
        if (better) best = i;
      }
      row[shared.place[best]] = 1;
    });
    project_out(block, shared, item, k);
    divide(block, row, item.length, norm(block, shared, row, item.length));
  }
};

template <class Launch>
void orthogonalize(std::span<const Basis> parts, const Launch& launch) {
  in_batches(
      parts, [](const Basis& part) -> std::int64_t { return part.rank > 0 ? 1 : 0; },
      [&](const Batch<Basis>& batch, std::int64_t blocks) { launch(blocks, OrthogonalizeBody{batch}); });
}

}  // namespace acp::device
