// The tile instructions of x86 processors in plain C++, for machines that have none.
//
// As Intel describes them in its manual for software developers (volume 2, LDTILECFG, TDPBF16PS, TDPBSUD):
// a product of bf16 sums the even and the odd numbers of its depth apart, adds the two, and then adds that to
// what the tile held, each time to the nearest with ties to even, and takes denormals for zero on the way in
// and out. Whatever a processor would refuse ends the program with a word about it.

#pragma once

#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace emulated {

struct Tile {
    long rows = 0, bytes = 0;  // of each row
    uint8_t at[16][64];
};

struct Registers {
    bool configured = false;
    Tile tile[8];
};

static thread_local Registers registers;
static std::atomic<long> configured_threads{0}, products{0};

inline void demand(bool holds, const char* otherwise) {
    if (holds) return;
    std::fprintf(stderr, "tiles: %s\n", otherwise);
    std::abort();
}

inline void release() {
    if (registers.configured) --configured_threads;
    registers.configured = false;
}

inline void configure(const void* from) {
    uint8_t word[64];
    std::memcpy(word, from, sizeof word);
    demand(word[0] == 1, "the palette is not 1");
    for (long i = 1; i < 16; ++i) demand(word[i] == 0, "reserved bytes are set, or a start row");
    for (long i = 32; i < 48; ++i) demand(word[i] == 0, "there are eight tiles");
    for (long i = 56; i < 64; ++i) demand(word[i] == 0, "there are eight tiles");
    release();
    for (long i = 0; i < 8; ++i) {
        Tile& tile = registers.tile[i];
        tile.bytes = word[16 + 2 * i] + 256 * word[17 + 2 * i], tile.rows = word[48 + i];
        demand(tile.bytes <= 64 && tile.rows <= 16, "a tile is too large");
        demand((tile.bytes == 0) == (tile.rows == 0), "a tile has rows without columns");
        std::memset(tile.at, 0, sizeof tile.at);
    }
    registers.configured = true;
    ++configured_threads;
}

inline Tile& tile(long number) {
    demand(registers.configured, "they are not configured");
    demand(number >= 0 && number < 8, "there are eight tiles");
    return registers.tile[number];
}

inline void zero(long number) { std::memset(tile(number).at, 0, sizeof(Tile::at)); }

inline void load(long number, const void* from, long stride) {
    zero(number);
    Tile& to = tile(number);
    for (long row = 0; row < to.rows; ++row)
        std::memcpy(to.at[row], static_cast<const char*>(from) + row * stride, to.bytes);
}

inline void keep(long number, void* to, long stride) {
    const Tile& from = tile(number);
    for (long row = 0; row < from.rows; ++row)
        std::memcpy(static_cast<char*>(to) + row * stride, from.at[row], from.bytes);
}

inline void demand_shapes(long c, long a, long b) {
    demand(c != a && c != b && a != b, "one stands for two factors of a product");
    demand(tile(a).rows > 0 && tile(b).rows > 0, "one is not configured");
    demand(tile(c).rows == tile(a).rows, "a product's rows are not its first factor's");
    demand(tile(c).bytes == tile(b).bytes, "a product's columns are not its second factor's");
    demand(tile(a).bytes == 4 * tile(b).rows, "the factors of a product are not of one depth");
    demand(tile(a).bytes % 4 == 0 && tile(b).bytes % 4 == 0, "words are cut");
    ++products;
}

inline float normal(float x) { return std::fabs(x) < FLT_MIN ? std::copysign(0.0f, x) : x; }

inline float number(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return normal(x);
}

inline void bf16_product(long c, long a, long b) {
    demand_shapes(c, a, b);
    Tile &sums = tile(c), &left = tile(a), &right = tile(b);
    for (long m = 0; m < left.rows; ++m) {
        float even[16] = {}, odd[16] = {}, held[16];
        uint32_t pairs[16], others[16];
        std::memcpy(pairs, left.at[m], sizeof pairs);
        for (long k = 0; k < right.rows; ++k) {
            std::memcpy(others, right.at[k], sizeof others);
            const float first = number(pairs[k] << 16), second = number(pairs[k] & 0xffff0000u);
            for (long n = 0; n < 16; ++n) {
                even[n] = normal(std::fma(first, number(others[n] << 16), even[n]));
                odd[n] = normal(std::fma(second, number(others[n] & 0xffff0000u), odd[n]));
            }
        }
        std::memcpy(held, sums.at[m], sizeof held);
        for (long n = 0; n < 16; ++n) held[n] = normal(normal(held[n]) + normal(even[n] + odd[n]));
        std::memcpy(sums.at[m], held, sums.bytes);
    }
}

inline void signed_unsigned_product(long c, long a, long b) {
    demand_shapes(c, a, b);
    Tile &sums = tile(c), &left = tile(a), &right = tile(b);
    for (long m = 0; m < left.rows; ++m) {
        uint32_t held[16];  // sums that overflow wrap around
        std::memcpy(held, sums.at[m], sizeof held);
        for (long k = 0; k < right.rows; ++k)
            for (long n = 0; n < 16; ++n)
                for (long i = 0; i < 4; ++i)
                    held[n] += int8_t(left.at[m][4 * k + i]) * int32_t(right.at[k][4 * n + i]);
        std::memcpy(sums.at[m], held, sums.bytes);
    }
}

}  // namespace emulated

// For tests: threads that did not give their registers back, and how much was computed.
extern "C" [[gnu::used]] inline long configured_threads() { return emulated::configured_threads; }
extern "C" [[gnu::used]] inline long tile_products() { return emulated::products; }

#undef __AMX_TILE__
#undef __AMX_BF16__
#undef __AMX_INT8__
#define __AMX_TILE__ 1
#define __AMX_BF16__ 1
#define __AMX_INT8__ 1

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_dpbsud
#define _tile_loadconfig(from) emulated::configure(from)
#define _tile_release() emulated::release()
#define _tile_zero(number) emulated::zero(number)
#define _tile_loadd(number, from, stride) emulated::load(number, from, stride)
#define _tile_stored(number, to, stride) emulated::keep(number, to, stride)
#define _tile_dpbf16ps(c, a, b) emulated::bf16_product(c, a, b)
#define _tile_dpbsud(c, a, b) emulated::signed_unsigned_product(c, a, b)
