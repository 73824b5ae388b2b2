// Products of a few rows or of many with matrices that were packed for it once.
//
//     y[row, out] = sum over i of x[row, i] w[out, i]
//
// A packed matrix is a row of panels, 32 outputs each; a panel is a row of groups, each 128 bytes: for every
// output four bytes, which are one fp32 number, two bf16 numbers or four int8 numbers that stand beside one
// another along i. Rows are cut to groups of the same four bytes, too; the inner loop broadcasts them.
//
//     panel   | group 0: out 0 ... out 31 | group 1: out 0 ... out 31 | ...
//     rows    | group 0: row 0 ... row 11 | group 1: row 0 ... row 11 | ...      (blocks of so many rows)
//
// Every output has one sum, which meets the groups in their order: a row's result is the same bit for bit
// whatever rows stand beside it.
//
// Rows that meet int8 weights are rounded to 16 bits, high and low bytes apart, and multiplied as integers.
//
// Here are products by vectors, of any processor; `tile_products.h` has those by tiles, of the few that can.

#pragma once

#include <algorithm>
#include <vector>

#include "vectors.h"

namespace ingot {

constexpr long PANEL = 32;        // outputs
constexpr long GROUP_BYTES = 128;  // of a panel
constexpr long CHUNK_BYTES = 1 << 18;  // of rows that stay in the cache while panels pass by

enum Kind : long { FLOAT = 0, BF16 = 1, INT8 = 2 };

struct Matrix {  // [outs, inputs]; scale and bias stand in the order of the panels' outputs
    char* panels;
    float* scale;
    float* bias;
    long kind, outs, inputs;

    long numbers() const { return kind == FLOAT ? 1 : kind == BF16 ? 2 : 4; }  // of a group, for one output
    long groups() const { return (inputs + numbers() - 1) / numbers(); }
    long count() const { return (outs + PANEL - 1) / PANEL; }
    long panel_bytes() const { return (groups() + LANES - 1) / LANES * LANES * GROUP_BYTES; }  // whole tiles
};

// How rows meet a kind of matrix: rows of a block, integers that one number is cut to, numbers of a group for
// one output, and what the number of a row's groups is a multiple of.
struct FloatKind {
    static constexpr long ROWS = 12, PLANES = 1, NUMBERS = 1, MULTIPLE = 1;
    using Sum = Floats;
    static void add(Sum& sum, Words weights, Words x) { sum = fused((Floats)weights, (Floats)x, sum); }
};

struct Bf16Kind {
    static constexpr long ROWS = 12, PLANES = 1, NUMBERS = 2, MULTIPLE = 1;
    using Sum = Floats;
    static void add(Sum& sum, Words weights, Words x) {
#if defined(__AVX512BF16__)
        sum = (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights, (__m512bh)x);
#else
        sum = fused((Floats)(weights << 16), (Floats)(x << 16), sum);
        sum = fused((Floats)(weights & all(0xffff0000u)), (Floats)(x & all(0xffff0000u)), sum);
#endif
    }
};

struct Int8Kind {  // weights are kept as w + 128
    static constexpr long ROWS = 6, PLANES = 2, NUMBERS = 4, MULTIPLE = 1;
    using Sum = Ints;
    static void add(Sum& sum, Words weights, Words x) {
#if defined(__AVX512VNNI__)
        sum = (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, (__m512i)x);
#else
        for (int place = 0; place < 32; place += 8)
            sum += (Ints)((weights >> place) & all(255u)) * ((Ints)(x << (24 - place)) >> 24);
#endif
    }

    // What the sums of both planes stand for.
    static Floats meant(Ints high, Ints low, const int32_t* centres, Floats factor) {
        return fused(floats(high - all(centres[0])), all(256.0f), floats(low - all(centres[1]))) * factor;
    }
};

// Rows of activations in the form that a kind of matrix meets.
struct Rows {
    uint32_t* at;      // in blocks of `block_rows`, the last may have fewer
    float* scale;      // int8: [rows]
    int32_t* centres;  // int8: [rows][2], 128 times the sum of each plane
    long groups;
    long block = 0;  // for tiles: rows of every block, the last with zeros where it has fewer
};

template <class K>
inline long row_words(long inputs) {
    constexpr long NUMBERS = K::NUMBERS * K::MULTIPLE;
    return (inputs + NUMBERS - 1) / NUMBERS * K::MULTIPLE * K::PLANES;
}

// Rows are cut to blocks of about the same size.
template <class K>
inline long block_rows(long rows) {
    const long blocks = std::max(1L, (rows + K::ROWS - 1) / K::ROWS);
    return std::max(1L, (rows + blocks - 1) / blocks);
}

// The words of so many rows, the last block filled up.
template <class K>
inline long all_words(long rows, long inputs) {
    const long block = block_rows<K>(rows);
    return (rows + block - 1) / block * block * row_words<K>(inputs);
}

// 16 groups of one row, of each plane. `into` is what int8 multiplies with before it rounds.
inline void cut(FloatKind, const float* from, float, Words* planes) { planes[0] = load<Words>(from); }
inline void cut(Bf16Kind, const float* from, float, Words* planes) {
    const Halves both[2] = {rounded(load<Floats>(from)), rounded(load<Floats>(from + LANES))};
    std::memcpy(planes, both, sizeof both);
}
inline void cut(Int8Kind, const float* from, float into, Words* planes) {
    const Floats rounding = all(12582912.0f);
    Bytes high[4], low[4];
    for (long i = 0; i < 4; ++i) {
        const Floats scaled = fused(load<Floats>(from + i * LANES), all(into), rounding) - rounding;
        const Ints whole = __builtin_convertvector(scaled, Ints), top = (whole + all(128)) >> 8;
        high[i] = __builtin_convertvector(top, Bytes);
        low[i] = __builtin_convertvector(whole - (top << 8), Bytes);
    }
    std::memcpy(planes, high, sizeof high);
    std::memcpy(planes + 1, low, sizeof low);
}

// The scale of a row that is rounded to 16 bits; returns what to multiply with before rounding.
inline float scale_row(const float* from, long inputs, float& scale) {
    Floats most = all(0.0f), check = all(0.0f);
    float top = 0, wrong = 0;
    long i = 0;
    for (; i + LANES <= inputs; i += LANES) {
        const Floats x = load<Floats>(from + i);
        most = larger(most, larger(x, -x));
        check += x * all(0.0f);  // not a number where one of them is none or infinite
    }
    for (; i < inputs; ++i) top = std::max(top, std::fabs(from[i])), wrong += from[i] * 0;
    top = std::max(top, greatest(most)), wrong += sum(check);
    scale = wrong == 0 ? top / 32512 : wrong;
    return wrong == 0 && top > 0 ? 32512 / top : 0;
}

// Puts a block of rows into the form that a kind of matrix meets.
//
// Args: rows `first` to `first + count`, which are one block; row(r) is where the r-th of them is.
template <class K, class Row>
inline void put(K, Row row, long inputs, const Rows& x, long first, long count) {
    constexpr long PLANES = K::PLANES, STEP = LANES * K::NUMBERS;
    uint32_t* const to = x.at + first * PLANES * x.groups;
    float into[K::ROWS] = {};
    Ints sums[K::ROWS][PLANES] = {};
    if constexpr (PLANES == 2)
        for (long r = 0; r < count; ++r) into[r] = scale_row(row(r), inputs, x.scale[first + r]);
    for (long i = 0, g = 0; i < inputs; i += STEP, g += LANES) {
        Words words[PLANES][LANES] = {};
        for (long r = 0; r < count; ++r) {
            const float* from = row(r) + i;
            alignas(64) float near[STEP];
            if (i + STEP > inputs) {
                std::memset(near, 0, sizeof near);
                std::memcpy(near, from, (inputs - i) * sizeof(float));
                from = near;
            }
            Words planes[PLANES];
            cut(K{}, from, into[r], planes);
            for (long plane = 0; plane < PLANES; ++plane) {
                words[plane][r] = planes[plane];
                if constexpr (PLANES == 2)
                    for (int place = 0; place < 32; place += 8)
                        sums[r][plane] += (Ints)(planes[plane] << (24 - place)) >> 24;
            }
        }
        const long groups = std::min(LANES, x.groups - g);
        for (long plane = 0; plane < PLANES; ++plane)
            if constexpr (K::MULTIPLE == LANES)  // rows of 64 bytes, as they are
                std::memcpy(to + (g * PLANES + plane * LANES) * x.block, words[plane], x.block * 64);
            else interleave(words[plane], count, groups, to + (g * PLANES + plane) * count, PLANES * count);
    }
    if constexpr (PLANES == 2)
        for (long r = 0; r < count; ++r)
            for (long plane = 0; plane < PLANES; ++plane) {
                int32_t total = 0;
                for (long lane = 0; lane < LANES; ++lane) total += sums[r][plane][lane];
                x.centres[2 * (first + r) + plane] = 128 * total;
            }
}

// R rows meet P panels. Writes out[r * stride + 32 * panel + output].
template <class K, int R, int P>
[[gnu::noinline]] void tile(const char* panels, long panel_bytes, long groups, const uint32_t* x,
                            const float* scale, const int32_t* centres, const float* out_scale, float* out,
                            long stride) {
    constexpr long PLANES = K::PLANES, EARLIER = 32;  // groups
    typename K::Sum sums[P][2][PLANES][R] = {};
    for (long g = 0; g < groups; ++g, x += PLANES * R) {
        // Asked for so much earlier; behind a panel's end follows its successor, P panels on.
        const long ahead = EARLIER * GROUP_BYTES + (g + EARLIER < groups ? 0 : (P - 1) * panel_bytes);
#pragma GCC unroll 4
        for (long p = 0; p < P; ++p) {
            const char* at = panels + p * panel_bytes + g * GROUP_BYTES;
            __builtin_prefetch(at + ahead);
            __builtin_prefetch(at + ahead + GROUP_BYTES / 2);
            const Words left = load<Words>(at), right = load<Words>(at + GROUP_BYTES / 2);
#pragma GCC unroll 2
            for (long plane = 0; plane < PLANES; ++plane)
#pragma GCC unroll 12
                for (long r = 0; r < R; ++r) {
                    const Words each = all(x[plane * R + r]);
                    K::add(sums[p][0][plane][r], left, each);
                    K::add(sums[p][1][plane][r], right, each);
                }
        }
    }
#pragma GCC unroll 12
    for (long r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (long p = 0; p < P; ++p)
#pragma GCC unroll 2
            for (long half = 0; half < 2; ++half) {
                float* to = out + r * stride + p * PANEL + half * LANES;
                if constexpr (PLANES == 1) {
                    store(to, sums[p][half][0][r]);
                } else {
                    const Floats factor = load<Floats>(out_scale + p * PANEL + half * LANES) * all(scale[r]);
                    store(to, K::meant(sums[p][half][0][r], sums[p][half][1][r], centres + 2 * r, factor));
                }
            }
}

// The same for a number of rows and panels known only now.
template <class K, int R = K::ROWS>
inline void tiles(long rows, long panels, const char* at, long panel_bytes, const Rows& x, long row,
                  const float* out_scale, float* out, long stride) {
    if constexpr (R > 1)
        if (rows < R) return tiles<K, R - 1>(rows, panels, at, panel_bytes, x, row, out_scale, out, stride);
    const uint32_t* words = x.at + row * K::PLANES * x.groups;
    const float* scale = K::PLANES > 1 ? x.scale + row : nullptr;
    const int32_t* centres = K::PLANES > 1 ? x.centres + 2 * row : nullptr;
    const auto run = [&]<int P>() {
        tile<K, R, P>(at, panel_bytes, x.groups, words, scale, centres, out_scale, out, stride);
        panels -= P, at += P * panel_bytes, out += P * PANEL;
        if (K::PLANES > 1) out_scale += P * PANEL;
    };
    if constexpr (R == 1 || R * K::PLANES == 2)
        while (panels >= 4) run.template operator()<4>();
    if constexpr (R * K::PLANES <= 4)
        while (panels >= 2) run.template operator()<2>();
    while (panels > 0) run.template operator()<1>();
}

// All rows times the panels `first` to `last`. `take(row, panel, count, values)` gets a row's outputs of a
// few panels, 32 values each, in steps of `unit` panels.
template <class K, class Take>
inline void multiply(K, const Matrix& w, const Rows& x, long rows, long first, long last, long unit,
                     Take take) {
    constexpr long MOST = 4;
    alignas(64) float out[K::ROWS * MOST * PANEL];
    const long bytes = std::max(1L, 4 * K::PLANES * x.groups);
    const long block = block_rows<K>(rows), chunk = std::max(1L, CHUNK_BYTES / bytes / block) * block;
    for (long from = 0; from < rows; from += chunk) {
        const long to = std::min(rows, from + chunk);
        const long step = std::max(unit, to - from <= 2 ? MOST : 1);
        for (long panel = first; panel < last; panel += step) {
            const long count = std::min(step, last - panel);
            const float* scale = w.scale ? w.scale + panel * PANEL : nullptr;
            for (long row = from; row < to; row += block) {
                const long here = std::min(block, to - row);
                tiles<K>(here, count, w.panels + panel * w.panel_bytes(), w.panel_bytes(), x, row, scale, out,
                         MOST * PANEL);
                for (long r = 0; r < here; ++r) take(row + r, panel, count, out + r * MOST * PANEL);
            }
        }
    }
}

// Calls `work` with the kind of a matrix as a type.
template <class Work>
inline void with_kind(long kind, Work work) {
    if (kind == FLOAT) work(FloatKind{});
    else if (kind == BF16) work(Bf16Kind{});
    else work(Int8Kind{});
}

// Writes rows of a matrix into panels that were zero before. Row r becomes output
// first + r % 32 + r / 32 * 32 * spread: so two matrices can take turns, panel by panel.
inline void pack(const Matrix& to, const void* from, const float* scale, const float* bias, long rows,
                 long first, long spread) {
    const long bytes = to.inputs * 4 / to.numbers();  // of a row
    const uint32_t moved = to.kind == INT8 ? 0x80808080u : 0;
#pragma omp parallel for schedule(static)
    for (long r = 0; r < rows; ++r) {
        const long out = first + r % PANEL + r / PANEL * PANEL * spread;
        char* panel = to.panels + out / PANEL * to.panel_bytes() + out % PANEL * 4;
        const char* row = static_cast<const char*>(from) + r * bytes;
        for (long i = 0; i < bytes; i += 4) {
            uint32_t word = 0;
            std::memcpy(&word, row + i, std::min(4L, bytes - i));
            word ^= moved;
            std::memcpy(panel + i / 4 * GROUP_BYTES, &word, 4);
        }
        if (scale) to.scale[out] = scale[r];
        if (bias) to.bias[out] = bias[r];
    }
}

}  // namespace ingot
