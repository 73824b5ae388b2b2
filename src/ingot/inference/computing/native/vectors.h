// Vectors of 16 numbers, whatever the processor's own are: compilers cut them to its registers.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace ingot {

constexpr long LANES = 16;

using Floats = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32)));
using Bytes = int8_t __attribute__((vector_size(16)));
using bf16 = uint16_t;

template <class Vector, class Number>
inline Vector load(const Number* at) {
    Vector x;
    std::memcpy(&x, at, sizeof x);
    return x;
}

template <class Vector, class Number>
inline void store(Number* at, Vector x) {
    std::memcpy(at, &x, sizeof x);
}

inline Floats all(float x) { return Floats{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
inline Ints all(int32_t x) { return Ints{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
inline Words all(uint32_t x) { return Words{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats floats(Ints x) { return __builtin_convertvector(x, Floats); }

// The sum or the greatest of all lanes, always in the same order.
template <class Join>
inline float joined(Floats x, Join join) {
    float lane[LANES];
    store(lane, x);
    for (long width = LANES / 2; width > 0; width /= 2)
        for (long i = 0; i < width; ++i) lane[i] = join(lane[i], lane[i + width]);
    return lane[0];
}

inline float sum(Floats x) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)x);
#else
    return joined(x, [](float a, float b) { return a + b; });
#endif
}

inline float greatest(Floats x) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)x);
#else
    return joined(x, [](float a, float b) { return a > b ? a : b; });
#endif
}

inline Floats fused(Floats a, Floats b, Floats c) {  // a b + c
#if defined(__AVX512F__)
    return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
    return a * b + c;
#endif
}

// e^x, to about one unit in the last place; 0 below -87, and not a number where x is none.
inline Floats exponential(Floats x) {
    constexpr float TERMS[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 0.5f};
    const Floats rounding = all(12582912.0f);  // 1.5 2^23: what is added to it loses its fraction
#if defined(__AVX512F__)
    const Floats clamped = (Floats)_mm512_max_ps((__m512)all(-100.0f), (__m512)x);
#else
    const Floats clamped = x < all(-100.0f) ? all(-100.0f) : (x > all(88.0f) ? all(88.0f) : x);
#endif
    const Floats whole = fused(clamped, all(1.44269504f), rounding) - rounding;
    Floats rest = fused(whole, all(-0.693359375f), clamped);
    rest = fused(whole, all(2.12194440e-4f), rest);
    Floats y = all(1.9875691500e-4f);  // the series of Cephes' expf
    for (const float term : TERMS) y = fused(y, rest, all(term));
    y = fused(y, rest * rest, rest) + all(1.0f);
#if defined(__AVX512F__)
    const __mmask16 large = _mm512_cmp_ps_mask((__m512)x, (__m512)all(-87.0f), _CMP_NLT_UQ);
    return (Floats)_mm512_maskz_scalef_ps(large, (__m512)y, (__m512)whole);
#else
    const Floats made = (Floats)((Ints)y + (__builtin_convertvector(whole, Ints) << 23));
    const Floats sane = x < all(-87.0f) ? all(0.0f) : made;
    return x == x ? sane : x;
#endif
}

inline Floats tanh(Floats x) {
    const Floats small = x * x, e = exponential(all(-2.0f) * (x < all(0.0f) ? -x : x));
    const Floats far = (all(1.0f) - e) / (all(1.0f) + e);
    const Floats near = fused(x * small, fused(small, all(2 / 15.0f), all(-1 / 3.0f)), x);
    return small < all(4e-4f) ? near : (x < all(0.0f) ? -far : far);
}

// The normal distribution's share below x: Abramowitz and Stegun 1964, 7.1.26, wrong by 1e-7 at most.
inline Floats normal_share(Floats x) {
    const Floats a = (x < all(0.0f) ? -x : x) * all(0.70710678f);
    const Floats t = all(1.0f) / fused(all(0.3275911f), a, all(1.0f));
    Floats y = all(1.061405429f);
    for (const float term : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f})
        y = fused(y, t, all(term));
    const Floats half = all(0.5f) * y * t * exponential(-a * a);
    return x < all(0.0f) ? half : all(1.0f) - half;
}

inline Floats widened(Halves x) { return (Floats)(__builtin_convertvector(x, Words) << 16); }

inline Halves rounded(Floats x) {  // to bf16, to the nearest, ties to even
#if defined(__AVX512BF16__)
    return (Halves)_mm512_cvtneps_pbh((__m512)x);
#else
    const Words bits = (Words)x, odd = (bits >> 16) & all(1u);
    const Words made = (bits + all(0x7fffu) + odd) >> 16;
    return __builtin_convertvector(x == x ? made : all(0x7fc0u), Halves);
#endif
}

inline float widened(bf16 x) {
    const uint32_t bits = uint32_t(x) << 16;
    float y;
    std::memcpy(&y, &bits, sizeof y);
    return y;
}

#if defined(__AVX512F__)
// Turns 16 vectors of 16 words on their side.
inline void turn(__m512i* a) {
    __m512i b[LANES];
#pragma GCC unroll 16
    for (long i = 0; i < LANES; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
#pragma GCC unroll 16
    for (long i = 0; i < LANES; i += 4)
#pragma GCC unroll 2
        for (long j = 0; j < 2; ++j) {
            a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + j + 2]);
            a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + j + 2]);
        }
#pragma GCC unroll 2
    for (long i = 0; i < LANES; i += 8)
#pragma GCC unroll 4
        for (long j = 0; j < 4; ++j) {
            b[i + j] = _mm512_shuffle_i32x4(a[i + j], a[i + j + 4], 0x88);
            b[i + j + 4] = _mm512_shuffle_i32x4(a[i + j], a[i + j + 4], 0xdd);
        }
#pragma GCC unroll 8
    for (long j = 0; j < 8; ++j) {
        a[j] = _mm512_shuffle_i32x4(b[j], b[j + 8], 0x88);
        a[j + 8] = _mm512_shuffle_i32x4(b[j], b[j + 8], 0xdd);
    }
}
#endif

// Writes the words of `count` rows, `words[row][i]`, side by side: to[i * step + row], for the first i's.
inline void interleave(const Words* words, long count, long last, uint32_t* to, long step) {
    if (count == 1 && step == 1) {
        std::memcpy(to, words, last * 4);
        return;
    }
#if defined(__AVX512F__)
    if (count > 2) {
        __m512i a[LANES];
        for (long i = 0; i < LANES; ++i) a[i] = (__m512i)words[i];
        turn(a);
        const auto real = static_cast<__mmask16>((1u << count) - 1);
        for (long i = 0; i < last; ++i) _mm512_mask_storeu_epi32(to + i * step, real, a[i]);
        return;
    }
#endif
    for (long i = 0; i < last; ++i)
        for (long row = 0; row < count; ++row) to[i * step + row] = words[row][i];
}

}  // namespace ingot
