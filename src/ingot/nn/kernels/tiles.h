// Matrices of bf16 on the AMX tiles of x86 processors: how they are packed, multiplied and unpacked.
//
// A tile is a small matrix in a register: 16 rows of 64 bytes. One instruction adds a product to it:
//
//     c [16 x 16 fp32]  +=  a [16 x 32 bf16]  times  b [32 x 16 bf16]
//
// where b lies as 16 rows of *pairs*: its row p holds b[2p, 0], b[2p+1, 0], b[2p, 1], b[2p+1, 1] and so on.
// Whatever is to be multiplied is packed first, as a sequence of such tiles of 1 KB each, so that one small
// function (`multiply`) makes every product. The rows of a head come and go in strips of 32:
//
//     packed as              tiles of a strip    for
//     rows                   [2][e / 32]         factor a, depth along e
//     rows, transposed       [e / 32][2]         factor b, depth along e
//     pairs                  [e / 16]            factor b, depth along t
//     pairs, transposed      [e / 16]            factor a, depth along t, one row per column
//
// Letters: t tokens, e head width (a multiple of 32).

#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

namespace {

using bf16 = uint16_t;

constexpr long SIDE = 16;          // rows of a tile; also fp32 numbers in a vector
constexpr long STRIP = 32;         // tokens that two tiles hold
constexpr long TILE = SIDE * 32;   // bf16 numbers in a tile
constexpr long SUM = SIDE * SIDE;  // fp32 numbers in a tile
constexpr float LOG2E = 1.44269504f;

struct Rows {  // the [t, e] matrix of one head; `step` numbers from one token to the next
    bf16* at;
    long step, count;
};

// ---- vectors ------------------------------------------------------------------------------------------

// 2^x to 3e-6 of itself, a quarter of a thousandth of bf16's own steps.
inline __m512 exp2(__m512 x) {
    const __m512 part = _mm512_reduce_ps(x, 0x09);  // x - floor(x)
    __m512 y = _mm512_set1_ps(0.01353417f);
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(0.05201146f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(0.24144276f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(0.69300383f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(1.00000259f));
    return _mm512_scalef_ps(y, x);  // y 2^floor(x)
}

// log2(x): a parabola on the mantissa, then one step of Newton's method on 2^y = x.
inline __m512 log2(__m512 x) {
    const __m512 part = _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
    __m512 y = _mm512_set1_ps(0.15824864f);
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(-1.05187474f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(3.04788374f));
    y = _mm512_fmadd_ps(y, part, _mm512_set1_ps(-2.15362052f));
    const __m512 ratio = _mm512_mul_ps(part, exp2(_mm512_sub_ps(_mm512_setzero_ps(), y)));
    y = _mm512_fmadd_ps(_mm512_sub_ps(ratio, _mm512_set1_ps(1)), _mm512_set1_ps(LOG2E), y);
    return _mm512_add_ps(y, _mm512_getexp_ps(x));
}

// Two rows of fp32 as one row of bf16, first `left`, then `right`.
inline __m512i joined(__m512 left, __m512 right) { return (__m512i)_mm512_cvtne2ps_pbh(right, left); }

// left[0], right[0], left[1], right[1] ... of two rows of 16 that follow one another.
inline __m512i paired(__m512i both) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                                           23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, both);
}

// A 16 x 16 matrix of 32-bit numbers, transposed: by ones, twos, fours and eights.
inline void transpose(__m512i r[16]) {
    __m512i s[16];
    for (int i = 0; i < 16; i += 2) {
        s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; ++j) {
            r[i + 2 * j] = _mm512_unpacklo_epi64(s[i + j], s[i + j + 2]);
            r[i + 2 * j + 1] = _mm512_unpackhi_epi64(s[i + j], s[i + j + 2]);
        }
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 4; ++j) {
            s[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
            s[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
        }
    for (int j = 0; j < 8; ++j) {
        r[j] = _mm512_shuffle_i32x4(s[j], s[j + 8], 0x88);
        r[j + 8] = _mm512_shuffle_i32x4(s[j], s[j + 8], 0xdd);
    }
}

// ---- packing: rows past the end are zeros ---------------------------------------------------------------

inline void store(bf16* to, const __m512i r[16]) {
    for (int i = 0; i < 16; ++i) _mm512_store_si512(to + 32 * i, r[i]);
}

// 16 rows of 32 numbers as they are: for a factor a whose depth runs along e.
inline void take_rows(const Rows& x, long row, long column, __m512i r[16]) {
    for (long i = 0; i < 16; ++i) {
        const bf16* at = x.at + (row + i) * x.step + column;
        r[i] = row + i < x.count ? _mm512_loadu_si512(at) : _mm512_setzero_si512();
    }
}

// 32 rows of 16 numbers, two and two interleaved: for a factor b whose depth runs along t.
inline void take_pairs(const Rows& x, long row, long column, __m512i r[16]) {
    for (long i = 0; i < 16; ++i) {
        const bf16* at = x.at + (row + 2 * i) * x.step + column;
        __m256i left = _mm256_setzero_si256(), right = left;
        if (row + 2 * i < x.count) left = _mm256_loadu_si256((const __m256i*)at);
        if (row + 2 * i + 1 < x.count) right = _mm256_loadu_si256((const __m256i*)(at + x.step));
        r[i] = paired(_mm512_inserti64x4(_mm512_castsi256_si512(left), right, 1));
    }
}

// A strip as factor a with depth e: tiles [2 of t][e / 32].
inline void pack_rows(const Rows& x, long strip, long e, bf16* to) {
    __m512i r[16];
    for (long half = 0; half < 2; ++half)
        for (long column = 0; column < e; column += 32, to += TILE) {
            take_rows(x, strip * STRIP + half * SIDE, column, r);
            store(to, r);
        }
}

// A strip as factor b with depth e: tiles [e / 32][2 of t]. Numbers travel in pairs, so 32 bits are moved.
inline void pack_rows_transposed(const Rows& x, long strip, long e, bf16* to) {
    __m512i r[16];
    for (long column = 0; column < e; column += 32)
        for (long half = 0; half < 2; ++half, to += TILE) {
            take_rows(x, strip * STRIP + half * SIDE, column, r);
            transpose(r);
            store(to, r);
        }
}

// A strip as factor b with depth t: tiles [e / 16].
inline void pack_pairs(const Rows& x, long strip, long e, bf16* to) {
    __m512i r[16];
    for (long column = 0; column < e; column += 16, to += TILE) {
        take_pairs(x, strip * STRIP, column, r);
        store(to, r);
    }
}

// A strip as factor a with depth t: tiles [e / 16], one row per column of x.
inline void pack_pairs_transposed(const Rows& x, long strip, long e, bf16* to) {
    __m512i r[16];
    for (long column = 0; column < e; column += 16, to += TILE) {
        take_pairs(x, strip * STRIP, column, r);
        transpose(r);
        store(to, r);
    }
}

// ---- unpacking ------------------------------------------------------------------------------------------

// Sums [e / 16][2 of t], transposed and times `factor` (one for each query), into the rows of a strip.
inline void unpack_transposed(const float* sums, const __m512 factor[2], long strip, long e, const Rows& to) {
    for (long half = 0; half < 2; ++half)
        for (long column = 0; column < e; column += 32) {
            __m512i r[16];
            for (long i = 0; i < 16; ++i) {
                const float* at = sums + ((column / 16 + i / 8) * 2 + half) * SUM + (2 * i % 16) * SIDE;
                r[i] = paired(joined(_mm512_mul_ps(_mm512_load_ps(at), factor[half]),
                                     _mm512_mul_ps(_mm512_load_ps(at + SIDE), factor[half])));
            }
            transpose(r);
            const long row = strip * STRIP + half * SIDE, last = std::min(SIDE, to.count - row);
            for (long i = 0; i < last; ++i) _mm512_storeu_si512(to.at + (row + i) * to.step + column, r[i]);
        }
}

// Sums [2 of t][e / 16], times `factor`, into the rows of a strip.
inline void unpack(const float* sums, float factor, long strip, long e, const Rows& to) {
    const __m512 times = _mm512_set1_ps(factor);
    const long row = strip * STRIP, last = std::min(STRIP, to.count - row);
    for (long i = 0; i < last; ++i)
        for (long column = 0; column < e; column += 32) {
            const float* at = sums + (i / 16 * (e / 16) + column / 16) * SUM + i % 16 * SIDE;
            _mm512_storeu_si512(to.at + (row + i) * to.step + column,
                                joined(_mm512_mul_ps(_mm512_load_ps(at), times),
                                       _mm512_mul_ps(_mm512_load_ps(at + SUM), times)));
        }
}

// rowsum(x * y) of 16 rows.
inline __m512 row_products(const Rows& x, const Rows& y, long row, long e) {
    __m512i left[16], right[16], sums[16];
    for (int i = 0; i < 16; ++i) sums[i] = _mm512_setzero_si512();
    for (long column = 0; column < e; column += 32) {
        take_rows(x, row, column, left);
        take_rows(y, row, column, right);
        for (int i = 0; i < 16; ++i)
            sums[i] = (__m512i)_mm512_dpbf16_ps((__m512)sums[i], (__m512bh)left[i], (__m512bh)right[i]);
    }
    transpose(sums);
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < 16; ++i) sum = _mm512_add_ps(sum, (__m512)sums[i]);
    return sum;
}

// ---- products -------------------------------------------------------------------------------------------

struct Factor {  // where its first tile is, the tile beside it, and the next tile along the depth
    const bf16* at;
    long beside, deeper;
};

// c[i][j] (+)= sum over `depth` tiles of a[i] b[j], for i and j of 0 and 1; `below` is from c[0] to c[1].
inline void multiply(float* c, long below, Factor a, Factor b, long depth, bool add) {
    asm volatile("" ::: "memory");  // the compiler does not know that tiles are loaded from memory
    if (add) {
        _tile_loadd(0, c, 64);
        _tile_loadd(1, c + SUM, 64);
        _tile_loadd(2, c + below, 64);
        _tile_loadd(3, c + below + SUM, 64);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (long i = 0; i < depth; ++i, a.at += a.deeper, b.at += b.deeper) {
        _tile_loadd(4, a.at, 64);
        _tile_loadd(6, b.at, 64);
        _tile_loadd(7, b.at + b.beside, 64);
        _tile_loadd(5, a.at + a.beside, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, 64);
    _tile_stored(1, c + SUM, 64);
    _tile_stored(2, c + below, 64);
    _tile_stored(3, c + below + SUM, 64);
}

struct Tiles {  // this thread's tile registers: eight of 16 rows of 64 bytes
    Tiles() {
        struct alignas(64) {
            uint8_t palette = 1, start = 0, reserved[14] = {};
            uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } config;
        _tile_loadconfig(&config);
    }
    ~Tiles() { _tile_release(); }
};

// Memory that a thread keeps between calls, handed out piece by piece.
class Scratch {
  public:
    explicit Scratch(long bytes) {
        struct Free {
            void operator()(char* memory) const { ::operator delete(memory, std::align_val_t(4096)); }
        };
        thread_local std::unique_ptr<char, Free> kept;
        thread_local long size = 0;
        if (size < bytes) {
            kept.reset(static_cast<char*>(::operator new(bytes, std::align_val_t(4096))));
            size = bytes;
        }
        next = kept.get();
    }

    template <class Number>
    Number* take(long count) {  // a multiple of 64 bytes
        Number* taken = reinterpret_cast<Number*>(next);
        next += count * sizeof(Number);
        return taken;
    }

  private:
    char* next;
};

}  // namespace
