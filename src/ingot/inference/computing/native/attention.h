// Attention of new tokens to the pages that their request holds.
//
//     scores = q k^T     p = exp(scores - greatest)     o = p v / sum(p)
//
// A block of four pages at a time, in the order of the text, with the greatest score so far kept and all
// that was summed before shrunk whenever it grows (Milakov and Gimelshein 2018, arXiv 1805.02867; Dao et al.
// 2022, arXiv 2205.14135). Blocks begin at fixed places, and a place that a query does not see adds exactly
// nothing: so a query's result does not depend on which queries are computed beside it.
//
// A page's keys, turned on their side, and its values, in groups of places, are panels of `products.h`.

#pragma once

#include "products.h"

namespace ingot {

constexpr long PAGE = 32;          // places
constexpr long BLOCK = 4;          // pages
constexpr long AHEAD = 2;          // pages that are asked for before they are needed
constexpr float HIDDEN = -1e30f;   // the greatest score before there is one
static_assert(PAGE == PANEL);

struct Scoring {
    float cap;                    // 0 is none
    const float *slopes, *sinks;  // [h] or null
    long window;                // 0 is none
};

struct Heads {  // sizes
    long shared, width;  // query heads for each key head; e
};

// Turns [32, n] words on their side: [n, 32].
inline void turn(const uint32_t* from, long n, uint32_t* to) {
    long first = 0;
#if defined(__AVX512F__)
    for (; first + LANES <= n; first += LANES)
        for (long half = 0; half < 2; ++half) {
            __m512i a[LANES];
            for (long i = 0; i < LANES; ++i) a[i] = _mm512_loadu_si512(from + (half * LANES + i) * n + first);
            turn(a);
            for (long i = 0; i < LANES; ++i)
                _mm512_storeu_si512(to + (first + i) * PAGE + half * LANES, a[i]);
        }
#endif
    for (; first < n; ++first)
        for (long i = 0; i < PAGE; ++i) to[first * PAGE + i] = from[i * n + first];
}

// A page's values [32, w] as groups of places in panels, which are `panel` words apart. Values of places from
// `seen` on count as zero.
inline void gather(FloatKind, const void* from, long width, long seen, uint32_t* to, long panel) {
    const auto* values = static_cast<const uint32_t*>(from);
    for (long i = 0; i < PAGE; ++i)
        for (long o = 0; o < width; o += PANEL) {
            uint32_t* at = to + o / PANEL * panel + i * PANEL;
            const long count = std::min(PANEL, width - o);
            if (i < seen) std::memcpy(at, values + i * width + o, count * 4);
            else std::memset(at, 0, count * 4);
        }
}

inline void gather(Bf16Kind, const void* from, long width, long seen, uint32_t* to, long panel) {
    const auto* values = static_cast<const bf16*>(from);
    for (long i = 0; i < PAGE; i += 2)
        for (long o = 0; o < width; o += LANES) {
            uint32_t* at = to + o / PANEL * panel + i / 2 * PANEL + o % PANEL;
            const bf16 *even = values + i * width + o, *odd = even + width;
            if (o + LANES <= width && i + 1 < seen) {
                store(at, __builtin_convertvector(load<Halves>(even), Words) |
                              __builtin_convertvector(load<Halves>(odd), Words) << 16);
                continue;
            }
            for (long j = 0; j < LANES && o + j < width; ++j)
                at[j] = (i < seen ? even[j] : 0) | (i + 1 < seen ? uint32_t(odd[j]) << 16 : 0);
        }
}

// The queries of one request that one thread computes at a time, for one key head.
template <class K>
class Attending {
public:
    // Query heads [t, h, e] that share a key head, scaled, of the tokens `first` to `last` of the pass.
    struct Queries {
        const float* at;
        long step, first, last, stored;  // stored: the place of the first of these tokens
        long head;                       // number of the first of these heads
    };

    Attending(Heads heads, Scoring scoring) : heads(heads), scoring(scoring) {}

    // Args: the request's pages; pools [p, k, PAGE, e]; where to put [t, h, w], rows `out_step` apart.
    void run(const Queries& queries, const int32_t* table, const char* keys, const char* values,
             long page_bytes, float* out, long out_step) {
        start(queries);
        const long end = queries.stored + (queries.last - queries.first);  // places that are seen
        long begin = 0;
        if (scoring.window) begin = std::max(0L, queries.stored - scoring.window + 1);
        for (long page = begin / (BLOCK * PAGE) * BLOCK; page * PAGE < end; page += BLOCK) {
            const long pages = std::min(BLOCK, (end - page * PAGE + PAGE - 1) / PAGE);
            meet(queries, table + page, page * PAGE, pages, end, keys, values, page_bytes);
        }
        for (long row = 0; row < rows; ++row) {
            const Floats share = all(1 / total[row]);
            float* to = out + row / heads.shared * out_step + row % heads.shared * heads.width;
            const float* from = sums.data() + row * width;
            for (long i = 0; i < heads.width; ++i) to[i] = from[i] * share[0];
        }
    }

private:
    void start(const Queries& queries) {
        rows = (queries.last - queries.first) * heads.shared;
        width = (heads.width + PANEL - 1) / PANEL * PANEL;
        groups = (heads.width + K::NUMBERS - 1) / K::NUMBERS;
        query.resize(rows * groups);
        sums.assign(rows * width, 0);
        most.assign(rows, HIDDEN);
        total.assign(rows, 0);
        scores.resize(K::ROWS * BLOCK * PAGE);
        mixed.resize(K::ROWS * width);
        chances.resize(rows * BLOCK * PAGE);
        key.resize(BLOCK * groups * PANEL);
        value.resize(BLOCK * PAGE * width);
        block = block_rows<K>(rows);
        for (long first = 0; first < rows; first += block) {
            const auto from = [&](long r) {
                const long row = first + r;
                return queries.at + row / heads.shared * queries.step + row % heads.shared * heads.width;
            };
            const Rows to{query.data(), nullptr, nullptr, groups};
            put(K{}, from, heads.width, to, first, std::min(block, rows - first));
        }
        if (scoring.sinks)
            for (long row = 0; row < rows; ++row)
                most[row] = scoring.sinks[queries.head + row % heads.shared], total[row] = 1;
    }

    // All rows meet a block of pages, whose first place is `place`.
    void meet(const Queries& queries, const int32_t* table, long place, long pages, long end,
              const char* keys, const char* values, long page_bytes) {
        constexpr long CUTS = PAGE / K::NUMBERS, VALUES = BLOCK * CUTS * PANEL;  // of a panel of values
        for (long page = 0; page < pages; ++page) {
            const long at = table[page] * page_bytes, next = place + (page + AHEAD) * PAGE;
            if (next < end) fetch(keys, values, table[page + AHEAD] * page_bytes);
            turn(reinterpret_cast<const uint32_t*>(keys + at), groups, key.data() + page * groups * PANEL);
            gather(K{}, values + at, heads.width, end - place - page * PAGE,
                   value.data() + page * CUTS * PANEL, VALUES);
        }
        const auto* key_panels = reinterpret_cast<const char*>(key.data());
        const auto* value_panels = reinterpret_cast<const char*>(value.data());
        const Rows asking{query.data(), nullptr, nullptr, groups};
        const Rows mixing{chances.data(), nullptr, nullptr, pages * CUTS};
        for (long row = 0; row < rows; row += block) {
            const long here = std::min(block, rows - row);
            tiles<K>(here, pages, key_panels, groups * GROUP_BYTES, asking, row, nullptr, scores.data(),
                     BLOCK * PAGE);
            for (long r = 0; r < here; ++r)
                soften(queries, row + r, place, pages * PAGE, scores.data() + r * BLOCK * PAGE);
            const auto chances_of = [&](long r) { return scores.data() + r * BLOCK * PAGE; };
            put(K{}, chances_of, pages * PAGE, mixing, row, here);
            tiles<K>(here, width / PANEL, value_panels, VALUES * 4, mixing, row, nullptr, mixed.data(),
                     width);
            for (long i = 0; i < here * width; i += LANES) {
                float* held = sums.data() + row * width + i;
                store(held, load<Floats>(held) + load<Floats>(mixed.data() + i));
            }
        }
    }

    // Asks for a page before it is needed.
    void fetch(const char* keys, const char* values, long at) const {
        const long bytes = PAGE * groups * 4;
        for (long i = 0; i < bytes; i += 64) {
            __builtin_prefetch(keys + at + i);
            __builtin_prefetch(values + at + i);
        }
    }

    // A row's scores become probabilities.
    void soften(const Queries& queries, long row, long place, long places, float* at) {
        const long own = queries.stored + row / heads.shared;  // the query's place
        const bool plain = !scoring.window && !scoring.slopes && scoring.cap == 0;
        const bool whole = plain && own >= place + places - 1;  // it sees all of them
        Floats top = all(HIDDEN);
        for (long i = 0; i < places; i += LANES) {
            Floats x = load<Floats>(at + i);
            if (!whole) {
                x = judged(x, queries.head + row % heads.shared, own - place - i);
                store(at + i, x);
            }
            top = larger(top, x);
        }
        const float before = most[row], now = std::max(before, greatest(top));
        const float fade = before == now ? 1 : exponential(all(before - now))[0];
        Floats added = all(0.0f);
        for (long i = 0; i < places; i += LANES) {
            const Floats p = exponential(load<Floats>(at + i) - all(now));  // hidden ones are 0
            store(at + i, p);
            added += p;
        }
        total[row] = total[row] * fade + sum(added);
        most[row] = now;
        if (fade != 1)
            for (long i = 0; i < width; i += LANES) {
                float* held = sums.data() + row * width + i;
                store(held, load<Floats>(held) * all(fade));
            }
    }

    // Scores of 16 places after all that the layer asks for; `distance` is that of the first.
    Floats judged(Floats x, long head, long distance) const {
        const Ints far = all(int32_t(distance)) - steps;
        if (scoring.cap != 0) x = all(scoring.cap) * tanh(x * all(1 / scoring.cap));
        if (scoring.slopes) x -= all(scoring.slopes[head]) * floats(far);
        auto seen = far >= all(0);
        if (scoring.window) seen &= far < all(int32_t(scoring.window));
        return seen ? x : all(2 * HIDDEN);
    }

    const Ints steps = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

    Heads heads;
    Scoring scoring;
    long rows = 0, block = 1, width = 0, groups = 0;
    std::vector<uint32_t> query, chances, key, value;
    std::vector<float> sums, most, total, scores, mixed;
};

}  // namespace ingot
