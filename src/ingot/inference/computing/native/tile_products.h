// Products on the AMX tiles of x86 processors: matrices in registers, 16 rows of 64 bytes each.
//
//     c [rows x 16]  +=  a [rows x 16 groups]  times  b [16 groups x 16]        one instruction
//
// A group is a word of four bytes, as everywhere here: two bf16 or four int8 numbers that stand beside one
// another along the inputs. A panel is factor b as it is: 16 groups of its left or right 16 outputs, loaded
// 128 bytes apart. Rows lie in blocks of at most 16, which are factor a, tile after tile along the inputs:
//
//     bf16    | groups 0 ... 15: row 0, row 1, ... | groups 16 ... 31: row 0, row 1, ... | ...
//     int8    | groups 0 ... 15: high bytes of row 0, row 1, ..., then low bytes | ...
//
// Four sums are made at a time, because a sum waits some 52 cycles for itself, and each instruction takes 16:
//
//     bf16, one block of rows      one a, four b (two panels)     5 loads for 4 products
//     bf16, several                two a, two b  (one panel)      4 loads for 4 products
//     int8                         high and low, two b            4 loads for 4 products
//
// Tiles sum in an order of their own and take the smallest numbers for zero, so that vectors give other last
// bits. Hence every product of a kind that has tiles goes through them, of a single row too: whoever else is
// in a pass changes nothing. A single row loses nothing by it: 16 cycles for 1 KB of weights are several
// times what memory and the outer caches deliver, and its tiles are configured with one row. They are
// configured for each product, since its number of rows decides their shape: some hundred cycles beside ten
// thousands. Registers are given back after each, so that neither attention nor changes between processes
// carry them.

#pragma once

#include "products.h"

namespace ingot {

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__)

struct Bf16Tiles : Bf16Kind {
    static constexpr long ROWS = LANES, MULTIPLE = LANES;
    static void two_by_two() {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
};

struct Int8Tiles : Int8Kind {
    static constexpr long ROWS = LANES, MULTIPLE = LANES;
    static void two_by_two() {  // signed rows, unsigned weights
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        _tile_dpbsud(2, 5, 6);
        _tile_dpbsud(3, 5, 7);
    }
};

template <class K>
concept Tiled = K::MULTIPLE == LANES;

constexpr long TILE_CHUNK_BYTES = 1 << 20;  // of rows: half of the cache that these processors have per core

// This thread's tile registers: 0 to 3 are sums, 4 is rows, 6 and 7 are weights; 5 is weights where there is
// one block of rows, else rows.
class Registers {
public:
    Registers(long rows, bool one) {
        struct alignas(64) {
            uint8_t palette = 1, start = 0, unused[14] = {};
            uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            uint8_t rows[16] = {};
        } shape;
        for (long i = 0; i < 8; ++i) shape.rows[i] = i > 5 || (i == 5 && one) ? LANES : rows;
        asm volatile("" ::"r"(&shape) : "memory");  // the compiler is told of its first bytes only
        _tile_loadconfig(&shape);
    }
    ~Registers() { _tile_release(); }
    Registers(const Registers&) = delete;
    Registers& operator=(const Registers&) = delete;
};

struct Blocks {  // factor a: its first tile, words to the tile beside it and to the next along the inputs
    const uint32_t* at;
    long beside, deeper;
};

constexpr long TILE_BYTES = LANES * GROUP_BYTES;  // of a panel: 16 groups

constexpr long EARLIER = 2;  // so many tiles before they are met, weights are asked for

inline void fetch_tile(const char* panel) {
    asm("" : "+r"(panel));  // one register and 32 constants, not 32 registers
#pragma GCC unroll 32
    for (long i = 0; i < TILE_BYTES; i += 64) __builtin_prefetch(panel + i);
}

// Two tiles of rows meet one panel. Writes [2][rows][32] sums: rows `stride` numbers apart, the second tile's
// `below` numbers after the first's.
template <class K, class Number>
[[gnu::noinline]] void two_tiles(const char* panel, long tiles, Blocks rows, Number* to, long stride,
                                 long below) {
    asm volatile("" ::: "memory");  // the compiler does not know that tiles are loaded from memory
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long i = 0; i < tiles; ++i, rows.at += rows.deeper, panel += TILE_BYTES) {
        fetch_tile(panel + EARLIER * TILE_BYTES);
        _tile_loadd(4, rows.at, 64);
        _tile_loadd(6, panel, GROUP_BYTES);
        _tile_loadd(7, panel + GROUP_BYTES / 2, GROUP_BYTES);
        _tile_loadd(5, rows.at + rows.beside, 64);
        K::two_by_two();
    }
    const long bytes = stride * sizeof(Number);
    _tile_stored(0, to, bytes);
    _tile_stored(1, to + LANES, bytes);
    _tile_stored(2, to + below, bytes);
    _tile_stored(3, to + below + LANES, bytes);
}

// One tile of rows meets two panels. Writes [rows][64] sums, rows `stride` numbers apart.
[[gnu::noinline]] inline void one_tile(const char* panel, const char* second, long tiles, Blocks rows,
                                       float* to, long stride) {
    asm volatile("" ::: "memory");
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long i = 0; i < tiles; ++i, rows.at += rows.deeper, panel += TILE_BYTES, second += TILE_BYTES) {
        // Behind a panel's end follows its successor, two panels on.
        const long ahead = EARLIER * TILE_BYTES + (i + EARLIER < tiles ? 0 : second - panel);
        fetch_tile(panel + ahead);
        fetch_tile(second + ahead);
        _tile_loadd(4, rows.at, 64);
        _tile_loadd(5, panel, GROUP_BYTES);
        _tile_loadd(6, panel + GROUP_BYTES / 2, GROUP_BYTES);
        _tile_loadd(7, second, GROUP_BYTES);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(5, second + GROUP_BYTES / 2, GROUP_BYTES);
        _tile_dpbf16ps(1, 4, 6);
        _tile_dpbf16ps(2, 4, 7);
        _tile_dpbf16ps(3, 4, 5);
    }
    const long bytes = stride * sizeof(float);
    _tile_stored(0, to, bytes);
    _tile_stored(1, to + LANES, bytes);
    _tile_stored(2, to + 2 * LANES, bytes);
    _tile_stored(3, to + 3 * LANES, bytes);
}

// What the sums [2][16][32] of a block of int8 rows stand for.
inline void unscale(const int32_t* sums, const Rows& x, long first, long rows, const float* out_scale,
                    float* out, long stride) {
    for (long r = 0; r < rows; ++r, sums += PANEL, out += stride)
        for (long o = 0; o < PANEL; o += LANES)
            store(out + o, Int8Tiles::meant(load<Ints>(sums + o), load<Ints>(sums + LANES * PANEL + o),
                                            x.centres + 2 * (first + r),
                                            load<Floats>(out_scale + o) * all(x.scale[first + r])));
}

template <Tiled K>
inline bool one_block(K, const Rows& x, long rows) {
    return K::PLANES == 1 && rows <= x.block;
}

// All rows times the panels `first` to `last`, as `multiply` of `products.h`.
template <Tiled K, class Take>
inline void multiply(K kind, const Matrix& w, const Rows& x, long rows, long first, long last, long,
                     Take take) {
    constexpr long MOST = 2, STRIDE = MOST * PANEL, PLANES = K::PLANES;
    alignas(64) float out[2 * LANES * STRIDE];
    const long block = x.block, bytes = w.panel_bytes(), tiles = x.groups / LANES;
    const bool one = one_block(kind, x, rows);
    const long step = PLANES == 1 && !one ? 2 * block : block;  // rows at a time
    const long chunk = std::max(1L, TILE_CHUNK_BYTES / (4 * PLANES * x.groups) / step) * step;
    for (long from = 0; from < rows; from += chunk)
        for (long panel = first; panel < last; panel += MOST) {
            const long to = std::min(rows, from + chunk), count = std::min(MOST, last - panel);
            const char* at = w.panels + panel * bytes;
            for (long row = from; row < to; row += step) {
                const uint32_t* words = x.at + row * PLANES * x.groups;
                if constexpr (PLANES == 2) {
                    alignas(64) int32_t sums[2 * LANES * PANEL];
                    for (long p = 0; p < count; ++p) {
                        two_tiles<K>(at + p * bytes, tiles, {words, block * LANES, 2 * block * LANES}, sums,
                                     PANEL, LANES * PANEL);
                        unscale(sums, x, row, std::min(block, to - row), w.scale + (panel + p) * PANEL,
                                out + p * PANEL, STRIDE);
                    }
                } else if (one) {  // the last panel alone is met twice
                    one_tile(at, at + (count - 1) * bytes, tiles, {words, 0, block * LANES}, out, STRIDE);
                } else {  // the last tile alone is taken twice
                    const long beside = row + block < rows ? block * x.groups : 0;
                    for (long p = 0; p < count; ++p)
                        two_tiles<K>(at + p * bytes, tiles, {words, beside, block * LANES}, out + p * PANEL,
                                     STRIDE, block * STRIDE);
                }
                for (long r = 0; r < std::min(step, to - row); ++r)
                    take(row + r, panel, count, out + r * STRIDE);
            }
        }
}

template <Tiled K>
inline Registers registers(K kind, const Rows& x, long rows) {
    return {x.block, one_block(kind, x, rows)};
}

using Bf16Products = Bf16Tiles;
using Int8Products = Int8Tiles;
#else
using Bf16Products = Bf16Kind;
using Int8Products = Int8Kind;
#endif

struct NoRegisters {
    ~NoRegisters() {}
};

// What a thread holds for as long as it multiplies these rows: vectors need nothing.
template <class K>
inline NoRegisters registers(K, const Rows&, long) {
    return {};
}

// Calls `work` with what multiplies rows with a kind of matrix best here, as a type.
template <class Work>
inline void with_products(long kind, Work work) {
    if (kind == FLOAT) work(FloatKind{});
    else if (kind == BF16) work(Bf16Products{});
    else work(Int8Products{});
}

}  // namespace ingot
