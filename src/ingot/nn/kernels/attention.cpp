// Causal attention and its gradient, in bf16 on AMX tiles.
//
// Scores are computed transposed, one row per key and one column per query, because then the maximum, sum,
// logsumexp and delta of 16 queries are plain vectors:
//
//     forward    s = k q^T     p = exp(s - max)         o^T = v^T p
//     backward   s = k q^T     p = exp(s - logsumexp)
//                g = v do^T    ds = p (g - delta)       delta = rowsum(do o)
//                dv = p do     dk = ds q                dq^T = k^T ds
//
// Scores never leave the caches (Dao et al. 2022, arXiv 2205.14135; backward: Dao 2023, arXiv 2307.08691,
// section 3.1). One thread does all the query heads that share a key head, so results do not depend on
// the number of threads.
//
// Letters: b batch, t tokens, e head width (a multiple of 32), h query heads, k key heads.

#include "tiles.h"

namespace {

constexpr long FORWARD_STRIPS = 4;  // keys that one pass of the softmax meets, in strips
constexpr long BLOCK_STRIPS = 8;    // queries and keys of one block of the gradient, in strips
constexpr long PAIR = 2 * TILE;     // bf16 numbers that stand for one strip of keys and one of queries
constexpr long SQUARE = 4 * SUM;    // their scores in fp32, tiles [2 of keys][2 of queries]
constexpr float HIDDEN = -1e30f;    // score of a key that comes after its query

struct View {  // a [b, h, t, e] tensor; steps in numbers, between neighbours along b, h and t
    bf16* at;
    long b, h, t;
};

struct Shape {
    long b, h, k, t, e;

    long strips() const { return (t + STRIP - 1) / STRIP; }
    long strip() const { return STRIP * e; }  // numbers in a strip
    long shared() const { return h / k; }     // query heads for each key head
    bool large() const { return b * k > 1 && b * h * t * t * e > 1 << 20; }  // enough to wake threads for
    float root() const { return 1 / __builtin_sqrtf(static_cast<float>(e)); }
    Rows rows(const View& x, long row, long head) const { return {x.at + row * x.b + head * x.h, x.t, t}; }
};

// Where a strip's score of (key, half of the queries) starts: 16 queries follow.
inline long cell(long key, long half) { return (key / 16 * 2 + half) * SUM + key % 16 * SIDE; }

// Which of a strip's 16 queries in this half see this key of the same strip.
inline __mmask16 seen(long key, long half) {
    return static_cast<__mmask16>(0xffffu << std::clamp(key - half * SIDE, 0L, 16L));
}

// ---- forward --------------------------------------------------------------------------------------------

struct Softmax {  // of 16 queries: the greatest score so far, and the sum of exp2(score - greatest)
    __m512 most = _mm512_set1_ps(HIDDEN), sum = _mm512_setzero_ps();

    // Turns scores of some strips of keys into probabilities, packed as pairs of keys. Returns the factor
    // by which all that was summed before has to shrink.
    __m512 take(const float* scores, long strips, long half, float scale, bf16* chances) {
        __m512 top = most;
        for (long key = 0; key < strips * STRIP; ++key)
            top = _mm512_max_ps(top, _mm512_load_ps(scores + cell(key, half)));
        const __m512 times = _mm512_set1_ps(scale), shift = _mm512_mul_ps(top, times);
        const __m512 fade = exp2(_mm512_fmsub_ps(most, times, shift));
        __m512 sums[2] = {_mm512_mul_ps(sum, fade), _mm512_setzero_ps()};
        for (long pair = 0; pair < strips * SIDE; ++pair) {
            const float* at = scores + cell(2 * pair, half);
            const __m512 left = exp2(_mm512_fmsub_ps(_mm512_load_ps(at), times, shift));
            const __m512 right = exp2(_mm512_fmsub_ps(_mm512_load_ps(at + SIDE), times, shift));
            sums[0] = _mm512_add_ps(sums[0], left);
            sums[1] = _mm512_add_ps(sums[1], right);
            _mm512_store_si512(chances + (pair / 16 * 2 + half) * TILE + pair % 16 * 32,
                               paired(joined(left, right)));
        }
        most = top;
        sum = _mm512_add_ps(sums[0], sums[1]);
        return fade;
    }
};

struct Forward {  // one key head of one row of the batch
    const Shape n;
    Scratch scratch{2 * (2 * n.strips() + 1) * n.strip() + 2 * FORWARD_STRIPS * PAIR +
                    4 * (FORWARD_STRIPS * SQUARE + n.strip())};
    bf16* const key = scratch.take<bf16>(n.strips() * n.strip());    // rows
    bf16* const value = scratch.take<bf16>(n.strips() * n.strip());  // pairs, transposed
    bf16* const query = scratch.take<bf16>(n.strip());               // rows, transposed
    bf16* const chances = scratch.take<bf16>(FORWARD_STRIPS * PAIR);
    float* const scores = scratch.take<float>(FORWARD_STRIPS * SQUARE);
    float* const mixed = scratch.take<float>(n.strip());  // [e / 16][2]
    const float scale = LOG2E * n.root();

    void take_keys(const Rows& keys, const Rows& values) {
        for (long s = 0; s < n.strips(); ++s) {
            pack_rows(keys, s, n.e, key + s * n.strip());
            pack_pairs_transposed(values, s, n.e, value + s * n.strip());
        }
    }

    void attend(const Rows& queries, long s, const Rows& to, float* logsumexp) {
        Softmax softmax[2];
        pack_rows_transposed(queries, s, n.e, query);
        for (long first = 0; first <= s; first += FORWARD_STRIPS) {
            const long count = std::min(FORWARD_STRIPS, s + 1 - first);
            for (long i = 0; i < count; ++i)
                multiply(scores + i * SQUARE, 2 * SUM, {key + (first + i) * n.strip(), n.e * SIDE, TILE},
                         {query, TILE, 2 * TILE}, n.e / 32, false);
            if (first + count > s) hide(scores + (count - 1) * SQUARE);
            for (long half = 0; half < 2; ++half) {
                const __m512 fade = softmax[half].take(scores, count, half, scale, chances);
                for (long row = 0; first > 0 && row < n.e; ++row) {
                    float* at = mixed + cell(row, half);
                    _mm512_store_ps(at, _mm512_mul_ps(_mm512_load_ps(at), fade));
                }
            }
            for (long column = 0; column < n.e / 16; column += 2)
                multiply(mixed + column * 2 * SUM, 2 * SUM,
                         {value + first * n.strip() + column * TILE, TILE, n.strip()},
                         {chances, TILE, 2 * TILE}, count, first > 0);
        }
        __m512 share[2];
        for (long half = 0; half < 2; ++half) {
            const auto [most, sum] = softmax[half];
            const long row = s * STRIP + half * SIDE, last = std::clamp(n.t - row, 0L, SIDE);
            share[half] = _mm512_div_ps(_mm512_set1_ps(1), sum);
            const __m512 total = _mm512_fmadd_ps(most, _mm512_set1_ps(scale), log2(sum));
            _mm512_mask_storeu_ps(logsumexp + row, static_cast<__mmask16>((1u << last) - 1),
                                  _mm512_div_ps(total, _mm512_set1_ps(LOG2E)));
        }
        unpack_transposed(mixed, share, s, n.e, to);
    }

    static void hide(float* scores) {
        for (long key = 0; key < STRIP; ++key)
            for (long half = 0; half < 2; ++half) {
                float* at = scores + cell(key, half);
                const __m512 hidden = _mm512_set1_ps(HIDDEN);
                _mm512_store_ps(at, _mm512_mask_load_ps(hidden, seen(key, half), at));
            }
    }
};

// ---- backward -------------------------------------------------------------------------------------------

struct Backward {  // one key head of one row of the batch, a block of queries and a block of keys at a time
    const Shape n;
    const long block = std::clamp(n.strips(), 1L, BLOCK_STRIPS);
    Scratch scratch{2 * ((3 * n.strips() + 4 * block) * n.strip() + (2 * block + 1) * block * PAIR) +
                    4 * ((2 * n.strips() + block) * n.strip() + 2 * block * STRIP + 4 * SQUARE)};
    bf16* const key = scratch.take<bf16>(n.strips() * n.strip());          // rows, for s
    bf16* const key_columns = scratch.take<bf16>(n.strips() * n.strip());  // pairs, transposed, for dq^T
    bf16* const value = scratch.take<bf16>(n.strips() * n.strip());        // rows, for g
    bf16* const query = scratch.take<bf16>(block * n.strip());             // rows, transposed, for s
    bf16* const query_pairs = scratch.take<bf16>(block * n.strip());       // pairs, for dk
    bf16* const gift = scratch.take<bf16>(block * n.strip());              // do: rows, transposed, for g
    bf16* const gift_pairs = scratch.take<bf16>(block * n.strip());        // do: pairs, for dv
    bf16* const chances = scratch.take<bf16>(block * block * PAIR);        // p, strips [queries][keys][2]
    bf16* const slopes = scratch.take<bf16>(block * block * PAIR);         // ds, strips [queries][keys][2]
    bf16* const slope_pairs = scratch.take<bf16>(block * PAIR);            // ds of one strip of queries
    float* const to_key = scratch.take<float>(n.strips() * n.strip());     // strips [2][e / 16]
    float* const to_value = scratch.take<float>(n.strips() * n.strip());   // strips [2][e / 16]
    float* const to_query = scratch.take<float>(block * n.strip());        // strips [e / 16][2]
    float* const total = scratch.take<float>(block * STRIP);               // logsumexp in powers of two
    float* const delta = scratch.take<float>(block * STRIP);
    float* const scores = scratch.take<float>(4 * SQUARE);  // s and g of one strip of keys and of the next
    bool add = false;  // whether to_key and to_value hold sums already

    void take_keys(const Rows& keys, const Rows& values) {
        for (long s = 0; s < n.strips(); ++s) {
            pack_rows(keys, s, n.e, key + s * n.strip());
            pack_pairs_transposed(keys, s, n.e, key_columns + s * n.strip());
            pack_rows(values, s, n.e, value + s * n.strip());
        }
    }

    // One query head. The last block of queries meets all keys: it writes the sums that others add to.
    void pass(const Rows& queries, const Rows& gifts, const Rows& outputs, const float* logsumexp,
              const Rows& to) {
        for (long from = (n.strips() - 1) / block * block; from >= 0; from -= block, add = true) {
            const long count = std::min(block, n.strips() - from);
            for (long s = 0; s < count; ++s) take_queries(queries, gifts, outputs, logsumexp, from, s);
            for (long first = 0; first <= from; first += block) {
                const bool diagonal = first == from;
                const long met = std::min(block, n.strips() - first);
                for (long s = 0; s < count; ++s) meet(first, s, diagonal ? s + 1 : met, diagonal);
                for (long i = 0; i < met; ++i) gather(first, i, diagonal ? i : 0, count);
            }
            const __m512 root[2] = {_mm512_set1_ps(n.root()), _mm512_set1_ps(n.root())};
            for (long s = 0; s < count; ++s)
                unpack_transposed(to_query + s * n.strip(), root, from + s, n.e, to);
        }
    }

    void take_queries(const Rows& queries, const Rows& gifts, const Rows& outputs, const float* logsumexp,
                      long from, long s) {
        pack_rows_transposed(queries, from + s, n.e, query + s * n.strip());
        pack_pairs(queries, from + s, n.e, query_pairs + s * n.strip());
        pack_rows_transposed(gifts, from + s, n.e, gift + s * n.strip());
        pack_pairs(gifts, from + s, n.e, gift_pairs + s * n.strip());
        for (long i = 0; i < STRIP; i += SIDE) {
            const long row = (from + s) * STRIP + i, last = std::clamp(n.t - row, 0L, SIDE);
            const auto real = static_cast<__mmask16>((1u << last) - 1);
            const __m512 sums = _mm512_maskz_loadu_ps(real, logsumexp + row);
            _mm512_store_ps(total + s * STRIP + i, _mm512_mul_ps(sums, _mm512_set1_ps(LOG2E)));
            _mm512_store_ps(delta + s * STRIP + i, row_products(gifts, outputs, row, n.e));
        }
    }

    // Strip s of the queries meets `last` strips of keys: p, ds and dq.
    void meet(long first, long s, long last, bool diagonal) {
        const auto score = [&](long i) {
            float* at = scores + i % 2 * 2 * SQUARE;
            multiply(at, 2 * SUM, {key + (first + i) * n.strip(), n.e * SIDE, TILE},
                     {query + s * n.strip(), TILE, 2 * TILE}, n.e / 32, false);
            multiply(at + SQUARE, 2 * SUM, {value + (first + i) * n.strip(), n.e * SIDE, TILE},
                     {gift + s * n.strip(), TILE, 2 * TILE}, n.e / 32, false);
        };
        score(0);
        for (long i = 0; i < last; ++i) {
            if (i + 1 < last) score(i + 1);  // ahead, so that tiles and vectors work at the same time
            soften(s, i, diagonal && i == s);
        }
        for (long column = 0; column < n.e / 16; column += 2)
            multiply(to_query + s * n.strip() + column * 2 * SUM, 2 * SUM,
                     {key_columns + first * n.strip() + column * TILE, TILE, n.strip()},
                     {slope_pairs, TILE, 2 * TILE}, last, first > 0);
    }

    // Scores of strip i of the keys and strip s of the queries become p and ds, as rows (factors a with
    // depth along the queries); ds also as pairs of keys (factor b with depth along the keys).
    void soften(long s, long i, bool hide) {
        const float* at = scores + i % 2 * 2 * SQUARE;
        bf16 *chance = chances + (s * block + i) * PAIR, *slope = slopes + (s * block + i) * PAIR;
        const __m512 scale = _mm512_set1_ps(LOG2E * n.root());
        for (long row = 0; row < STRIP; row += 2) {
            __m512 p[2][2], ds[2][2];
            for (long next = 0; next < 2; ++next) {
                for (long half = 0; half < 2; ++half) {
                    const float* score = at + cell(row + next, half);
                    const __m512 shift = _mm512_load_ps(total + s * STRIP + half * SIDE);
                    const __m512 mean = _mm512_load_ps(delta + s * STRIP + half * SIDE);
                    p[next][half] = exp2(_mm512_fmsub_ps(_mm512_load_ps(score), scale, shift));
                    if (hide) p[next][half] = _mm512_maskz_mov_ps(seen(row + next, half), p[next][half]);
                    const __m512 gain = _mm512_load_ps(score + SQUARE);
                    ds[next][half] = _mm512_mul_ps(p[next][half], _mm512_sub_ps(gain, mean));
                }
                _mm512_store_si512(chance + (row + next) * 32, joined(p[next][0], p[next][1]));
                _mm512_store_si512(slope + (row + next) * 32, joined(ds[next][0], ds[next][1]));
            }
            for (long half = 0; half < 2; ++half)
                _mm512_store_si512(slope_pairs + i * PAIR + half * TILE + row / 2 * 32,
                                   paired(joined(ds[0][half], ds[1][half])));
        }
    }

    // Strip i of the keys gathers dk and dv from the queries' strips `start` to `stop`.
    void gather(long first, long i, long start, long stop) {
        const long at = (start * block + i) * PAIR, sums = (first + i) * n.strip();
        for (long column = 0; column < n.e / 16; column += 2) {
            const long pairs = start * n.strip() + column * TILE;
            multiply(to_value + sums + column * SUM, n.e * SIDE, {chances + at, TILE, block * PAIR},
                     {gift_pairs + pairs, TILE, n.strip()}, stop - start, add);
            multiply(to_key + sums + column * SUM, n.e * SIDE, {slopes + at, TILE, block * PAIR},
                     {query_pairs + pairs, TILE, n.strip()}, stop - start, add);
        }
    }
};

}  // namespace

// Args: q, k, v and, to be written, o; and the logsumexp of the scaled scores, [b, h, t] fp32.
extern "C" void attend(const Shape* shape, const View* x, float* logsumexp, int threads) {
    const Shape n = *shape;
#pragma omp parallel num_threads(threads) if (n.large())
    {
        Tiles tiles;
#pragma omp for schedule(static)
        for (long i = 0; i < n.b * n.k; ++i) {
            const long row = i / n.k, k = i % n.k;
            Forward work{n};
            work.take_keys(n.rows(x[1], row, k), n.rows(x[2], row, k));
            for (long h = k * n.shared(); h < (k + 1) * n.shared(); ++h)
                for (long s = 0; s < n.strips(); ++s)
                    work.attend(n.rows(x[0], row, h), s, n.rows(x[3], row, h),
                                logsumexp + (row * n.h + h) * n.t);
        }
    }
}

// Args: q, k, v, o, do and, to be written, dq, dk, dv; and what `attend` wrote to logsumexp.
extern "C" void attend_gradient(const Shape* shape, const View* x, const float* logsumexp, int threads) {
    const Shape n = *shape;
#pragma omp parallel num_threads(threads) if (n.large())
    {
        Tiles tiles;
#pragma omp for schedule(static)
        for (long i = 0; i < n.b * n.k; ++i) {
            const long row = i / n.k, k = i % n.k;
            Backward work{n};
            work.take_keys(n.rows(x[1], row, k), n.rows(x[2], row, k));
            for (long h = k * n.shared(); h < (k + 1) * n.shared(); ++h)
                work.pass(n.rows(x[0], row, h), n.rows(x[4], row, h), n.rows(x[3], row, h),
                          logsumexp + (row * n.h + h) * n.t, n.rows(x[5], row, h));
            for (long s = 0; s < n.strips(); ++s) {
                unpack(work.to_key + s * n.strip(), n.root(), s, n.e, n.rows(x[6], row, k));
                unpack(work.to_value + s * n.strip(), 1, s, n.e, n.rows(x[7], row, k));
            }
        }
    }
}
