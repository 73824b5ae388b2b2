// GELU, x times the normal distribution's share below x, and its gradient, in bf16.
//
// Both are next to trivial for large |x|, so only the rest of them has to be known, for a = |x| up to 6.2:
//
//     gelu(x)  = max(x, 0) - a share(a)              share(a) = Phi(-a)
//     gelu'(x) = slope(a), or 1 - slope(a) if x > 0  slope(a) = Phi(-a) - a phi(a)
//
// They are smooth and fade with their derivatives: the first terms of Taylor's series at the nearest of 32
// points, kept in registers, nearly always suffice to find the number of bf16 that is nearest to the truth.

#include <array>
#include <cmath>

#include "tiles.h"

namespace {

constexpr long GROUP = 32;   // bf16 numbers in a vector
constexpr long POINTS = 32;
constexpr float EACH = 5;   // points in one unit of a

struct Series {  // terms[k][i]: of the power k of the distance from point i, in steps
    alignas(64) float terms[4][POINTS];
};

// A function by its value and three derivatives, all divided by phi(a).
template <class Function>
Series series(Function function) {
    Series made;
    for (long i = 0; i < POINTS; ++i) {
        const double a = i / double(EACH), phi = std::exp(-a * a / 2) / std::sqrt(2 * M_PI);
        double factor = phi;  // of the power k: phi / (EACH^k k!)
        const std::array<double, 4> derivatives = function(a, std::erfc(a / M_SQRT2) / 2 / phi);
        for (long k = 0; k < 4; factor /= EACH * ++k) made.terms[k][i] = derivatives[k] * factor;
    }
    return made;
}

const Series SHARE = series([](double a, double share) {
    return std::array<double, 4>{share, -1, a, 1 - a * a};
});
const Series SLOPE = series([](double a, double share) {
    const double z = a * a;
    return std::array<double, 4>{share - a, z - 2, a * (4 - z), 4 - 7 * z + z * z};
});

// A series at 16 places.
inline __m512 sum(const Series& series, __m512 a) {
    const __m512 rounding = _mm512_set1_ps(12582912);  // 1.5 2^23: what is added to it loses its fraction
    const __m512 steps = _mm512_mul_ps(a, _mm512_set1_ps(EACH)), moved = _mm512_add_ps(steps, rounding);
    const __m512 off = _mm512_sub_ps(steps, _mm512_sub_ps(moved, rounding));
    const auto term = [&](long k) {
        const float* at = series.terms[k];
        return _mm512_permutex2var_ps(_mm512_load_ps(at), (__m512i)moved, _mm512_load_ps(at + 16));
    };
    __m512 y = _mm512_fmadd_ps(term(3), off, term(2));
    y = _mm512_fmadd_ps(y, off, term(1));
    return _mm512_fmadd_ps(y, off, term(0));
}

struct Numbers {  // of a group: those at even places, those at odd ones
    __m512 even, odd;
};

inline Numbers load(const bf16* at) {
    const __m512i both = _mm512_loadu_si512(at), upper = _mm512_set1_epi32(0xffff0000);
    return {(__m512)_mm512_slli_epi32(both, 16), (__m512)_mm512_and_si512(both, upper)};
}

inline void store(bf16* at, Numbers x) { _mm512_storeu_si512(at, paired(joined(x.even, x.odd))); }

// |x|, not beyond the last point; not a number if x is none.
inline __m512 distance(__m512 x) {
    return _mm512_min_ps(_mm512_set1_ps((POINTS - 1) / EACH), _mm512_abs_ps(x));
}

inline __m512 gelu(__m512 x) {
    const __m512 a = distance(x);
    return _mm512_fnmadd_ps(a, sum(SHARE, a), _mm512_max_ps(x, _mm512_setzero_ps()));
}

inline __m512 gelu_gradient(__m512 x) {
    const __m512 slope = sum(SLOPE, distance(x));
    const __mmask16 positive = static_cast<__mmask16>(~_mm512_movepi32_mask((__m512i)x));
    return _mm512_mask_sub_ps(slope, positive, _mm512_set1_ps(1), slope);
}

// Calls `group` with the start of every 32 numbers, and `rest` with what is left over.
template <class Group, class Rest>
void each(long count, int threads, Group group, Rest rest) {
    const long groups = count / GROUP;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long i = 0; i < groups; ++i) group(i * GROUP);
    if (count % GROUP != 0) rest(groups * GROUP, count % GROUP);
}

inline Numbers gelu(Numbers x) { return {gelu(x.even), gelu(x.odd)}; }

inline Numbers gelu_gradient(Numbers given, Numbers x) {
    return {_mm512_mul_ps(given.even, gelu_gradient(x.even)), _mm512_mul_ps(given.odd, gelu_gradient(x.odd))};
}

}  // namespace

extern "C" void gelu(const bf16* x, bf16* y, long count, int threads) {
    each(
        count, threads, [&](long i) { store(y + i, gelu(load(x + i))); },
        [&](long i, long left) {
            bf16 part[GROUP] = {};
            std::copy_n(x + i, left, part);
            store(part, gelu(load(part)));
            std::copy_n(part, left, y + i);
        });
}

extern "C" void gelu_gradient(const bf16* given, const bf16* x, bf16* to, long count, int threads) {
    each(
        count, threads, [&](long i) { store(to + i, gelu_gradient(load(given + i), load(x + i))); },
        [&](long i, long left) {
            bf16 part[GROUP] = {}, gift[GROUP] = {};
            std::copy_n(x + i, left, part);
            std::copy_n(given + i, left, gift);
            store(part, gelu_gradient(load(gift), load(part)));
            std::copy_n(part, left, to + i);
        });
}
