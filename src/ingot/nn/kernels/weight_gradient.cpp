// The gradient of a linear layer's weight, in bf16 on the AMX tiles of x86 processors:
//
//     out [o x i fp32]  =  g^T x,   g [t x o bf16] the gradient of the output, x [t x i bf16] the input
//
// The depth of this product runs along the tokens, across the rows of both factors, so both must be packed;
// what is packed stays in the caches of the core that uses it, a rectangle of the output at a time:
//
//                          i: up to 768 columns
//                     +---------------------------+
//         384 tokens  |  x in pairs, 576 KB       |    b: packed for every block of tokens
//                     +---------------------------+
//      +---------+    +---------------------------+
//      | g^T     |    |  c, fp32, as tiles        |    a: packed for every 32 rows of the output
//      | 24 KB   |    |  up to 384 rows           |
//      +---------+    +---------------------------+
//
// Packing and multiplying take turns; mixed more finely they take half as long again (probably because loads
// of tiles sweep whole pages and meet, in their low address bits, the stores that have just been made).
// Every sum runs over the tokens in their order, in fp32, so results do not depend on the number of threads.
//
// Letters: t tokens, o outputs, i inputs.

#include "tiles.h"

namespace {

constexpr long BLOCK = 2 * TILE;           // bf16 numbers in 32 x 32
constexpr long SQUARE = 4 * SUM;           // fp32 numbers in 32 x 32
constexpr long DEEPEST = 12;               // strips of tokens that are packed together
constexpr long TALLEST = 12, WIDEST = 24;  // of a rectangle, in strips
constexpr long LINE = 64;                  // bytes that travel together

long strips(long count) { return (count + STRIP - 1) / STRIP; }

struct Matrix {  // `step` numbers from one row to the next
    const bf16* at;
    long step, rows, columns;

    const bf16* strip(long row, long column) const { return at + (row * step + column) * STRIP; }
};

// ---- packing: what lies past the edges is zeros -----------------------------------------------------------

// 32 rows of 32 columns, transposed: for factor a. Eight columns at a time, and as many rows in each lane of
// 128 bits, so that no number has to leave its lane.
inline void block_transposed(const bf16* at, long step, bf16* to) {
    for (long column = 0; column < STRIP; column += 8) {
        __m512i r[8], s[8];
        for (long i = 0; i < 8; ++i) {
            const auto eight = [&](long row) {
                return _mm_loadu_si128((const __m128i*)(at + row * step + column));
            };
            r[i] = _mm512_inserti32x4(_mm512_castsi128_si512(eight(i)), eight(i + 8), 1);
            r[i] = _mm512_inserti32x4(r[i], eight(i + 16), 2);
            r[i] = _mm512_inserti32x4(r[i], eight(i + 24), 3);
        }
        for (long i = 0; i < 4; ++i) {
            s[i] = _mm512_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
            s[i + 4] = _mm512_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
        }
        for (long half = 0; half < 8; half += 4, to += 4 * 32) {
            const __m512i a = _mm512_unpacklo_epi32(s[half], s[half + 1]);
            const __m512i b = _mm512_unpackhi_epi32(s[half], s[half + 1]);
            const __m512i c = _mm512_unpacklo_epi32(s[half + 2], s[half + 3]);
            const __m512i d = _mm512_unpackhi_epi32(s[half + 2], s[half + 3]);
            _mm512_store_si512(to, _mm512_unpacklo_epi64(a, c));
            _mm512_store_si512(to + 32, _mm512_unpackhi_epi64(a, c));
            _mm512_store_si512(to + 64, _mm512_unpacklo_epi64(b, d));
            _mm512_store_si512(to + 96, _mm512_unpackhi_epi64(b, d));
        }
    }
}

// 32 rows of 32 columns in pairs of rows: for factor b. The left tile gets columns 0 to 3, 8 to 11, 16 to 19
// and 24 to 27, the right one the others: `unpack` puts that right, once for all tokens.
inline void block_pairs(const bf16* at, long step, bf16* to) {
    for (long pair = 0; pair < SIDE; ++pair, at += 2 * step, to += 32) {
        const __m512i even = _mm512_loadu_si512(at), odd = _mm512_loadu_si512(at + step);
        _mm512_store_si512(to, _mm512_unpacklo_epi16(even, odd));
        _mm512_store_si512(to + TILE, _mm512_unpackhi_epi16(even, odd));
    }
}

// The block at a row and a column, both counted in strips.
template <class Order>
inline void pack(const Matrix& x, long row, long column, Order order, bf16* to) {
    const long rows = std::min(STRIP, x.rows - row * STRIP);
    const long columns = std::min(STRIP, x.columns - column * STRIP);
    const bf16* at = x.strip(row, column);
    if (rows == STRIP && columns == STRIP) return order(at, x.step, to);
    alignas(64) bf16 whole[STRIP * STRIP] = {};
    const __mmask32 inside = ~0u >> (STRIP - columns);
    for (long i = 0; i < rows; ++i)
        _mm512_store_si512(whole + i * STRIP, _mm512_maskz_loadu_epi16(inside, at + i * x.step));
    order(whole, STRIP, to);
}

// Asks memory for what is packed next, a few lines at a time.
class Ahead {
  public:
    Ahead(const bf16* at, long step, long rows, long columns)
        : at((const char*)at), step(step * sizeof(bf16)), bytes(columns * sizeof(bf16)), rows(rows) {}

    long lines() const { return rows * ((bytes + LINE - 1) / LINE); }
    void ask(long lines) {
        for (; lines > 0 && rows > 0; --lines) {
            _mm_prefetch(at + next, _MM_HINT_T1);
            next += LINE;
            if (next < bytes) continue;
            next = 0, at += step, --rows;
        }
    }

  private:
    const char* at;
    long step, bytes, rows, next = 0;
};

// ---- products ---------------------------------------------------------------------------------------------

// One square (+)= sum over `depth` blocks of a b; meanwhile `errand` does something else.
template <class Errand>
inline void multiply(float* c, const bf16* a, const bf16* b, long depth, bool add, Errand errand) {
    asm volatile("" ::: "memory");  // the compiler does not know that tiles are loaded from memory
    if (add) {
        _tile_loadd(0, c, 64);
        _tile_loadd(1, c + SUM, 64);
        _tile_loadd(2, c + 2 * SUM, 64);
        _tile_loadd(3, c + 3 * SUM, 64);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (long i = 0; i < depth; ++i, a += BLOCK, b += BLOCK) {
        _tile_loadd(4, a, 64);
        _tile_stream_loadd(6, b, 64);  // a stays in the nearest cache, b passes through it
        _tile_stream_loadd(7, b + TILE, 64);
        _tile_loadd(5, a + TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        errand();
    }
    _tile_stored(0, c, 64);
    _tile_stored(1, c + SUM, 64);
    _tile_stored(2, c + 2 * SUM, 64);
    _tile_stored(3, c + 3 * SUM, 64);
}

struct Output {  // [o, i], both in numbers
    float* at;
    long o, i;
};

// A square, with its columns in order again.
inline void unpack(const float* c, const Output& out, long row, long column) {
    const __m512i near = _mm512_set_epi32(23, 22, 21, 20, 7, 6, 5, 4, 19, 18, 17, 16, 3, 2, 1, 0);
    const __m512i far = _mm512_add_epi32(near, _mm512_set1_epi32(8));
    const __mmask32 inside = ~0u >> (STRIP - std::min(STRIP, out.i - column));
    const __mmask16 first = static_cast<__mmask16>(inside), second = static_cast<__mmask16>(inside >> SIDE);
    for (long k = 0; k < std::min(STRIP, out.o - row); ++k) {
        const float* at = c + k / SIDE * 2 * SUM + k % SIDE * SIDE;
        const __m512 left = _mm512_load_ps(at), right = _mm512_load_ps(at + SUM);
        float* to = out.at + (row + k) * out.i + column;
        _mm512_mask_storeu_ps(to, first, _mm512_permutex2var_ps(left, near, right));
        _mm512_mask_storeu_ps(to + SIDE, second, _mm512_permutex2var_ps(left, far, right));
    }
}

struct Span {  // in strips
    long first, count;
};

Span share(long count, long parts, long part) {
    const long first = count * part / parts;
    return {first, count * (part + 1) / parts - first};
}

void rectangle(const Matrix& g, const Matrix& x, const Output& out, Span o, Span i) {
    const long all = strips(g.rows), squares = o.count * i.count;
    Scratch scratch(2 * (1 + i.count) * DEEPEST * BLOCK + 4 * squares * SQUARE);
    bf16* a = scratch.take<bf16>(DEEPEST * BLOCK);
    bf16* b = scratch.take<bf16>(i.count * DEEPEST * BLOCK);
    float* c = scratch.take<float>(squares * SQUARE);
    for (long first = 0, deep, next; first < all; first += deep) {
        deep = std::min(DEEPEST, all - first);
        next = std::min(DEEPEST, all - first - deep);
        for (long token = 0; token < deep; ++token)
            for (long column = 0; column < i.count; ++column)
                pack(x, first + token, i.first + column, block_pairs, b + (column * DEEPEST + token) * BLOCK);
        Ahead wide(x.strip(first + deep, i.first), x.step, next * STRIP, i.count * STRIP);
        const long widely = wide.lines() / (squares * deep) + 1;
        for (long row = 0; row < o.count; ++row) {
            for (long token = 0; token < deep; ++token)
                pack(g, first + token, o.first + row, block_transposed, a + token * BLOCK);
            const bool last = row + 1 == o.count;
            Ahead tall(last ? g.strip(first + deep, o.first) : g.strip(first, o.first + row + 1), g.step,
                       (last ? next : deep) * STRIP, STRIP);
            const long tally = tall.lines() / (i.count * deep) + 1;
            for (long column = 0; column < i.count; ++column) {
                float* square = c + (row * i.count + column) * SQUARE;
                multiply(square, a, b + column * DEEPEST * BLOCK, deep, first > 0, [&] {
                    wide.ask(widely);
                    tall.ask(tally);
                });
                if (next == 0) unpack(square, out, (o.first + row) * STRIP, (i.first + column) * STRIP);
            }
        }
    }
}

}  // namespace

// Steps from row to row in numbers; `out` has no gaps.
extern "C" void weight_gradient(const bf16* g, long g_step, const bf16* x, long x_step, float* out, long t,
                                long o, long i, int threads) {
    const long columns = (strips(i) + WIDEST - 1) / WIDEST;
    long rows = (strips(o) + TALLEST - 1) / TALLEST;
    while (rows < strips(o) && rows * columns % threads != 0) ++rows;
#pragma omp parallel num_threads(threads)
    {
        Tiles tiles;
#pragma omp for schedule(static)
        for (long n = 0; n < rows * columns; ++n)
            rectangle({g, g_step, t, o}, {x, x_step, t, i}, {out, o, i}, share(strips(o), rows, n / columns),
                      share(strips(i), columns, n % columns));
    }
}
